"""The bodies of ERROR answers: every error of the protocol, with all its fields.

The fields have the driver's names. What is not given has a plausible default.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from .wire import inet_address, integer, short, short_blob, string, string_list

ErrorKind: TypeAlias = Literal[
    "server_error",
    "protocol_error",
    "bad_credentials",
    "unavailable",
    "overloaded",
    "is_bootstrapping",
    "truncate_error",
    "write_timeout",
    "read_timeout",
    "read_failure",
    "function_failure",
    "write_failure",
    "cdc_write_failure",
    "cas_write_unknown",
    "syntax_error",
    "unauthorized",
    "invalid",
    "config_error",
    "already_exists",
    "unprepared",
]

CODES: Final[Mapping[str, int]] = {
    "server_error": 0x0000,
    "protocol_error": 0x000A,
    "bad_credentials": 0x0100,
    "unavailable": 0x1000,
    "overloaded": 0x1001,
    "is_bootstrapping": 0x1002,
    "truncate_error": 0x1003,
    "write_timeout": 0x1100,
    "read_timeout": 0x1200,
    "read_failure": 0x1300,
    "function_failure": 0x1400,
    "write_failure": 0x1500,
    "cdc_write_failure": 0x1600,
    "cas_write_unknown": 0x1700,
    "syntax_error": 0x2000,
    "unauthorized": 0x2100,
    "invalid": 0x2200,
    "config_error": 0x2300,
    "already_exists": 0x2400,
    "unprepared": 0x2500,
}

_COUNTED: Final[Mapping[str, Any]] = {
    "consistency": 0x0001,
    "received_responses": 0,
    "required_responses": 1,
}
_FAILED: Final[Mapping[str, Any]] = {**_COUNTED, "failures": 1, "error_code_map": None}
_FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "unavailable": {"consistency": 0x0001, "required_replicas": 1, "alive_replicas": 0},
    "write_timeout": {**_COUNTED, "write_type": "SIMPLE", "contentions": 0},
    "read_timeout": {**_COUNTED, "data_retrieved": False},
    "read_failure": {**_FAILED, "data_retrieved": False},
    "write_failure": {**_FAILED, "write_type": "SIMPLE"},
    "function_failure": {"keyspace": "ks", "function": "f", "arg_types": ()},
    "cas_write_unknown": _COUNTED,
    "already_exists": {"keyspace": "ks", "table": ""},
    "unprepared": {"statement_id": b""},
}


def error(kind: ErrorKind, message: str | None = None, *, version: int = 4, **info: Any) -> bytes:
    """The body of an ERROR.

    Arguments:
        kind: its name in `CODES`.
        message: the text; without it, one is made from the kind.
        version: the protocol version: failures are a number in v4 and a map in v5, and only v5 has
            contentions.
        info: the fields of that kind, by the names that the driver gives them: `consistency`,
            `required_replicas`, `alive_replicas`, `received_responses`, `required_responses`,
            `data_retrieved`, `write_type` (a string), `contentions` (only for CAS), `failures` (a
            number), `error_code_map` (address to code), `keyspace`, `function`, `arg_types`,
            `table`, `statement_id`. Others are a `TypeError`.
    """
    defaults = _FIELDS.get(kind, {})
    unknown = set(info) - set(defaults)
    if unknown:
        raise TypeError(f"{kind} has no field {', '.join(sorted(unknown))}")
    fields = {**defaults, **info}
    text = f"scripted {kind}" if message is None else message
    return integer(CODES[kind]) + string(text) + _fields(kind, fields, version)


def _fields(kind: str, fields: Mapping[str, Any], version: int) -> bytes:
    if kind == "unavailable":
        counts = integer(fields["required_replicas"]) + integer(fields["alive_replicas"])
        return short(fields["consistency"]) + counts
    if kind == "function_failure":
        name = string(fields["keyspace"]) + string(fields["function"])
        return name + string_list(fields["arg_types"])
    if kind == "already_exists":
        return string(fields["keyspace"]) + string(fields["table"])
    if kind == "unprepared":
        return short_blob(fields["statement_id"])
    body = b""
    if "received_responses" in fields:
        body += short(fields["consistency"])
        body += integer(fields["received_responses"]) + integer(fields["required_responses"])
    if "failures" in fields:
        body += _failures(fields["failures"], fields["error_code_map"], version)
    if "data_retrieved" in fields:
        body += bytes((bool(fields["data_retrieved"]),))
    if "write_type" in fields:
        body += string(fields["write_type"])
    if version >= 5 and kind == "write_timeout" and fields["write_type"] == "CAS":
        body += short(fields["contentions"])
    return body


def _failures(count: int, codes: Mapping[str, int] | None, version: int) -> bytes:
    if version < 5:
        return integer(len(codes) if codes is not None else count)
    if codes is None:
        codes = {f"127.0.0.{host + 1}": 0 for host in range(count)}
    return integer(len(codes)) + b"".join(
        inet_address(address) + short(code) for address, code in codes.items()
    )


class ScriptedError(Exception):
    """Raised by a function that declares statements: the PREPARE is answered with this error."""

    def __init__(self, kind: ErrorKind, message: str | None = None, **info: Any) -> None:
        super().__init__(kind, message)
        self.kind: ErrorKind = kind
        self.message = message
        self.info = info


ALL_KINDS: Final[Sequence[str]] = tuple(CODES)
