"""CQL types, given as short strings, and the encoding of Python values as them.

    cql_type("map<text, list<int>>").encode({"a": [1, 2]})

A `bytes` is sent as it is whatever the type, so that a test can send what is no value of the type.
Read the other way: timestamps are naive and in UTC, as the driver has them.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, timezone
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple
from uuid import UUID

from .wire import NULL, blob, integer, short

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]

_EPOCH = datetime(1970, 1, 1)
_MILLISECOND = timedelta(milliseconds=1)


class CqlType(NamedTuple):
    """One type: its name, its [option] on the wire, and how its values are written and read."""

    name: str
    option: bytes
    write: Encode
    read: Decode

    def encode(self, value: Any) -> bytes | None:
        """The value without its length; None stays None."""
        if value is None or isinstance(value, bytes):
            return value
        return self.write(value)

    def decode(self, data: bytes | None) -> Any:
        """The value, None for null."""
        return None if data is None else self.read(data)


def _packed(form: str) -> tuple[Encode, Decode]:
    code = struct.Struct(">" + form)
    return code.pack, lambda data: code.unpack(data)[0]


def _write_timestamp(value: datetime | int) -> bytes:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(timezone.utc).replace(tzinfo=None)
        value = (value - _EPOCH) // _MILLISECOND
    return struct.pack(">q", value)


def _read_timestamp(data: bytes) -> datetime:
    return _EPOCH + int.from_bytes(data, "big", signed=True) * _MILLISECOND


def _write_date(value: date) -> bytes:
    return struct.pack(">I", (value - _EPOCH.date()).days + 2**31)


def _read_date(data: bytes) -> date:
    return _EPOCH.date() + timedelta(days=int.from_bytes(data, "big") - 2**31)


def _write_varint(value: int) -> bytes:
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)


def _read_varint(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


_TEXT: tuple[Encode, Decode] = (str.encode, bytes.decode)
_UUID: tuple[Encode, Decode] = (lambda value: value.bytes, lambda data: UUID(bytes=data))
_SIMPLE: dict[str, tuple[int, tuple[Encode, Decode]]] = {
    "ascii": (0x01, _TEXT),
    "bigint": (0x02, _packed("q")),
    "blob": (0x03, (bytes, bytes)),
    "boolean": (0x04, _packed("?")),
    "counter": (0x05, _packed("q")),
    "double": (0x07, _packed("d")),
    "float": (0x08, _packed("f")),
    "int": (0x09, _packed("i")),
    "timestamp": (0x0B, (_write_timestamp, _read_timestamp)),
    "uuid": (0x0C, _UUID),
    "text": (0x0D, _TEXT),
    "varchar": (0x0D, _TEXT),
    "varint": (0x0E, (_write_varint, _read_varint)),
    "timeuuid": (0x0F, _UUID),
    "inet": (0x10, (lambda v: ip_address(v).packed, lambda data: str(ip_address(data)))),
    "date": (0x11, (_write_date, _read_date)),
    "smallint": (0x13, _packed("h")),
    "tinyint": (0x14, _packed("b")),
}


def _fields(data: bytes) -> Iterator[bytes | None]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4
        yield None if size < 0 else data[at : at + size]
        at += max(size, 0)


def _sequence(code: int, of: CqlType, build: Callable[[Iterable[Any]], Any]) -> CqlType:
    name = {0x20: "list", 0x22: "set"}[code]

    def write(values: Iterable[Any]) -> bytes:
        items = [blob(of.encode(value)) for value in values]
        return integer(len(items)) + b"".join(items)

    def read(data: bytes) -> Any:
        return build(of.decode(field) for field in _fields(data[4:]))

    return CqlType(f"{name}<{of.name}>", short(code) + of.option, write, read)


def _map(keys: CqlType, values: CqlType) -> CqlType:
    def write(pairs: dict[Any, Any]) -> bytes:
        body = b"".join(
            blob(keys.encode(key)) + blob(values.encode(value)) for key, value in pairs.items()
        )
        return integer(len(pairs)) + body

    def read(data: bytes) -> dict[Any, Any]:
        fields = _fields(data[4:])
        return {keys.decode(key): values.decode(value) for key, value in zip(fields, fields)}

    option = short(0x21) + keys.option + values.option
    return CqlType(f"map<{keys.name}, {values.name}>", option, write, read)


def _tuple(of: list[CqlType]) -> CqlType:
    def write(values: tuple[Any, ...]) -> bytes:
        return b"".join(blob(each.encode(value)) for each, value in zip(of, values))

    def read(data: bytes) -> tuple[Any, ...]:
        return tuple(each.decode(field) for each, field in zip(of, _fields(data)))

    option = short(0x31) + short(len(of)) + b"".join(each.option for each in of)
    return CqlType(f"tuple<{', '.join(each.name for each in of)}>", option, write, read)


def _split(text: str) -> list[str]:
    """Splits at the commas that are in no angle brackets."""
    depth, start, parts = 0, 0, []
    for at, character in enumerate(text):
        depth += (character == "<") - (character == ">")
        if character == "," and not depth:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


@cache
def cql_type(name: str) -> CqlType:
    """The type of that name; `ValueError` for one that is not known here."""
    name = name.strip().lower()
    simple = _SIMPLE.get(name)
    if simple:
        code, (write, read) = simple
        return CqlType(name, short(code), write, read)
    outer, bracket, rest = name.partition("<")
    outer = outer.strip()
    if bracket and rest.endswith(">"):
        inner = [cql_type(part) for part in _split(rest[:-1])]
        if outer == "frozen" and len(inner) == 1:
            return inner[0]
        if outer == "list" and len(inner) == 1:
            return _sequence(0x20, inner[0], list)
        if outer == "set" and len(inner) == 1:
            return _sequence(0x22, inner[0], set)
        if outer == "map" and len(inner) == 2:
            return _map(*inner)
        if outer == "tuple":
            return _tuple(inner)
    raise ValueError(f"no CQL type that the scripted server knows: {name!r}")


Columns = tuple[tuple[str, str], ...]
"""(name, type) of each column."""


@lru_cache(maxsize=4096)
def column_specs(columns: Columns) -> bytes:
    """The column specifications of a metadata, where the table is given globally."""
    parts = []
    for name, kind in columns:
        data = name.encode()
        parts.append(short(len(data)) + data + cql_type(kind).option)
    return b"".join(parts)


def encode_row(columns: Columns, row: Iterable[Any]) -> bytes:
    """One row; `ValueError` when it has not one value per column."""
    values = tuple(row)
    if len(values) != len(columns):
        raise ValueError(f"{len(values)} values for {len(columns)} columns")
    parts = []
    for (_, kind), value in zip(columns, values):
        data = cql_type(kind).encode(value)
        parts.append(NULL if data is None else integer(len(data)) + data)
    return b"".join(parts)
