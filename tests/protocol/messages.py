"""Reading the bodies of requests: what a client asks, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from .frames import Frame, Opcode
from .wire import FrameError, Reader, Value

_TRACING, _CUSTOM_PAYLOAD, _COMPRESSED = 0x02, 0x04, 0x01

_VALUES = 0x01
_SKIP_METADATA = 0x02
_PAGE_SIZE = 0x04
_PAGING_STATE = 0x08
_SERIAL_CONSISTENCY = 0x10
_TIMESTAMP = 0x20
_NAMES = 0x40
_KEYSPACE = 0x80
_NOW_IN_SECONDS = 0x100


@dataclass(frozen=True)
class BatchItem:
    """One statement of a batch: its text, or the id of a prepared one, and its bound values."""

    text: str | None
    statement_id: bytes | None
    values: Sequence[Value]


@dataclass
class Message:
    """One request. What its kind does not have is left at the default.

    `options` are those of a STARTUP, `events` those of a REGISTER, `token` that of an
    AUTH_RESPONSE.
    """

    opcode: Opcode
    tracing: bool = False
    custom_payload: dict[str, bytes | None] = field(default_factory=dict)
    text: str | None = None
    statement_id: bytes | None = None
    result_metadata_id: bytes | None = None
    values: list[Value] = field(default_factory=list)
    names: list[str] | None = None
    consistency: int | None = None
    serial_consistency: int | None = None
    skip_metadata: bool = False
    page_size: int | None = None
    paging_state: bytes | None = None
    timestamp: int | None = None
    keyspace: str | None = None
    now_in_seconds: int | None = None
    batch_type: int | None = None
    batch: list[BatchItem] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    token: bytes | None = None


def parse(frame: Frame) -> Message:
    """What a request frame says; `FrameError` for an unknown opcode or a body that ends early."""
    try:
        message = Message(Opcode(frame.opcode))
    except ValueError:
        raise FrameError(f"unknown opcode {frame.opcode:#04x}") from None
    if frame.flags & _COMPRESSED:
        raise FrameError("a compressed frame, although no compression was offered")
    body = Reader(frame.body)
    message.tracing = bool(frame.flags & _TRACING)
    if frame.flags & _CUSTOM_PAYLOAD:
        message.custom_payload = body.blob_map()
    read = _READERS.get(message.opcode)
    if read is None:
        raise FrameError(f"{message.opcode.name} is not a request")
    read(body, message, frame.version)
    if body.at != len(body.data):
        raise FrameError(f"{len(body.data) - body.at} bytes too many in {message.opcode.name}")
    return message


def _flags(body: Reader, version: int) -> int:
    return body.integer() if version >= 5 else body.byte()


def _parameters(body: Reader, message: Message, version: int) -> None:
    message.consistency = body.short()
    flags = _flags(body, version)
    if flags & _VALUES:
        count = body.short()
        if flags & _NAMES:
            pairs = [(body.string(), body.value()) for _ in range(count)]
            message.names = [name for name, _ in pairs]
            message.values = [value for _, value in pairs]
        else:
            message.values = [body.value() for _ in range(count)]
    message.skip_metadata = bool(flags & _SKIP_METADATA)
    if flags & _PAGE_SIZE:
        message.page_size = body.integer()
    if flags & _PAGING_STATE:
        message.paging_state = body.blob()
    _trailer(body, message, flags)


def _trailer(body: Reader, message: Message, flags: int) -> None:
    if flags & _SERIAL_CONSISTENCY:
        message.serial_consistency = body.short()
    if flags & _TIMESTAMP:
        message.timestamp = body.long()
    if flags & _KEYSPACE:
        message.keyspace = body.string()
    if flags & _NOW_IN_SECONDS:
        message.now_in_seconds = body.integer()


def _query(body: Reader, message: Message, version: int) -> None:
    message.text = body.long_string()
    _parameters(body, message, version)


def _execute(body: Reader, message: Message, version: int) -> None:
    message.statement_id = body.short_blob()
    if version >= 5:
        message.result_metadata_id = body.short_blob()
    _parameters(body, message, version)


def _prepare(body: Reader, message: Message, version: int) -> None:
    message.text = body.long_string()
    if version >= 5 and body.integer() & 0x01:
        message.keyspace = body.string()


def _batch(body: Reader, message: Message, version: int) -> None:
    message.batch_type = body.byte()
    for _ in range(body.short()):
        text = statement_id = None
        if body.byte():
            statement_id = body.short_blob()
        else:
            text = body.long_string()
        values = [body.value() for _ in range(body.short())]
        message.batch.append(BatchItem(text, statement_id, values))
    message.consistency = body.short()
    _trailer(body, message, _flags(body, version))


def _startup(body: Reader, message: Message, version: int) -> None:
    message.options = body.string_map()


def _register(body: Reader, message: Message, version: int) -> None:
    message.events = body.string_list()


def _auth_response(body: Reader, message: Message, version: int) -> None:
    message.token = body.blob()


def _nothing(body: Reader, message: Message, version: int) -> None:
    pass


_READERS = {
    Opcode.STARTUP: _startup,
    Opcode.OPTIONS: _nothing,
    Opcode.QUERY: _query,
    Opcode.PREPARE: _prepare,
    Opcode.EXECUTE: _execute,
    Opcode.REGISTER: _register,
    Opcode.BATCH: _batch,
    Opcode.AUTH_RESPONSE: _auth_response,
}
