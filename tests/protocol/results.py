"""The bodies of answers and events: plain values in, bytes out."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import md5
from typing import Any
from uuid import UUID

from .values import Columns, column_specs, encode_row
from .wire import blob, blob_map, inet, integer, short, short_blob, string, string_list

_GLOBAL_TABLE = 0x0001
_MORE_PAGES = 0x0002
_NO_METADATA = 0x0004
_METADATA_CHANGED = 0x0008

TRACING, CUSTOM_PAYLOAD, WARNING = 0x02, 0x04, 0x08

VOID = integer(1)


def prelude(
    warnings: Sequence[str] | None = None,
    custom_payload: Mapping[str, bytes | None] | None = None,
    tracing_id: UUID | None = None,
) -> tuple[int, bytes]:
    """The flags of an answer's frame, and what comes before its body."""
    flags, start = 0, b""
    if tracing_id is not None:
        flags |= TRACING
        start += tracing_id.bytes
    if warnings is not None:
        flags |= WARNING
        start += string_list(warnings)
    if custom_payload is not None:
        flags |= CUSTOM_PAYLOAD
        start += blob_map(custom_payload)
    return flags, start


def rows(
    columns: Columns,
    data: Iterable[Iterable[Any]],
    *,
    keyspace: str = "ks",
    table: str = "t",
    paging_state: bytes | None = None,
    skip_metadata: bool = False,
    changed_metadata_id: bytes | None = None,
) -> bytes:
    """A RESULT of rows; `changed_metadata_id` (v5) says that the metadata is not as prepared."""
    flags, head, tail = 0, b"", b""
    if paging_state is not None:
        flags |= _MORE_PAGES
        head = blob(paging_state)
    if skip_metadata:
        flags |= _NO_METADATA
    else:
        flags |= _GLOBAL_TABLE
        if changed_metadata_id is not None:
            flags |= _METADATA_CHANGED
            head += short_blob(changed_metadata_id)
        tail = string(keyspace) + string(table) + column_specs(columns)
    encoded = [encode_row(columns, row) for row in data]
    start = integer(2) + integer(flags) + integer(len(columns)) + head + tail
    return start + integer(len(encoded)) + b"".join(encoded)


def set_keyspace(keyspace: str) -> bytes:
    """The RESULT of a USE."""
    return integer(3) + string(keyspace)


def metadata_id(columns: Columns) -> bytes:
    """The id of a result metadata (v5)."""
    return md5(column_specs(columns), usedforsecurity=False).digest()


def prepared(
    version: int,
    statement_id: bytes,
    bind: Columns,
    result: Columns = (),
    partition_key: Sequence[int] = (),
    *,
    keyspace: str = "ks",
    table: str = "t",
) -> bytes:
    """The RESULT of a PREPARE."""
    where = string(keyspace) + string(table)
    body = integer(4) + short_blob(statement_id)
    if version >= 5:
        body += short_blob(metadata_id(result))
    body += integer(_GLOBAL_TABLE) + integer(len(bind)) + integer(len(partition_key))
    body += b"".join(map(short, partition_key)) + where + column_specs(bind)
    if not result:
        return body + integer(_NO_METADATA) + integer(0)
    return body + integer(_GLOBAL_TABLE) + integer(len(result)) + where + column_specs(result)


def _schema_change(
    change: str, target: str, keyspace: str, name: str | None, arguments: Sequence[str]
) -> bytes:
    body = string(change) + string(target) + string(keyspace)
    if target != "KEYSPACE":
        body += string(name or "")
    if target in ("FUNCTION", "AGGREGATE"):
        body += string_list(arguments)
    return body


def schema_change(
    change: str, target: str, keyspace: str, name: str | None = None, arguments: Sequence[str] = ()
) -> bytes:
    """The RESULT of a statement that changed the schema."""
    return integer(5) + _schema_change(change, target, keyspace, name, arguments)


def schema_event(
    change: str, target: str, keyspace: str, name: str | None = None, arguments: Sequence[str] = ()
) -> bytes:
    """A SCHEMA_CHANGE event."""
    return string("SCHEMA_CHANGE") + _schema_change(change, target, keyspace, name, arguments)


def node_event(kind: str, change: str, address: str, port: int) -> bytes:
    """A STATUS_CHANGE (UP, DOWN) or TOPOLOGY_CHANGE (NEW_NODE, REMOVED_NODE) event."""
    return string(kind) + string(change) + inet(address, port)
