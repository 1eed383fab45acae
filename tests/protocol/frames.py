"""Frames and, for protocol v5, the checksummed segments around them: bytes in, bytes out.

No I/O, no threads, no state but that of a `FrameReader`. The bodies of frames are made and read
elsewhere: `messages`, `results`, `errors`, `values`, on the notations of `wire`.

    reader = FrameReader()
    for frame in reader.feed(data):
        socket.sendall(encode_frame(frame.version, frame.stream, Opcode.READY))
"""

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from .wire import FrameError

__all__ = [
    "HEADER_SIZE",
    "MAX_PAYLOAD",
    "RESPONSE",
    "Frame",
    "FrameError",
    "FrameReader",
    "Opcode",
    "encode_frame",
    "encode_segment",
    "encode_segments",
    "segment_header",
]

HEADER_SIZE: Final = 9
MAX_BODY: Final = 256 * 1024 * 1024
MAX_PAYLOAD: Final = 128 * 1024 - 1
RESPONSE: Final = 0x80
"""The direction bit in the first byte of a frame."""

_HEADER = struct.Struct(">BBhBi")
_SEGMENT_HEADER_SIZE: Final = 6
_CRC32_START: Final = zlib.crc32(b"\xfa\x2d\x55\xca")


class Opcode(IntEnum):
    """What a frame says."""

    ERROR = 0x00
    STARTUP = 0x01
    READY = 0x02
    AUTHENTICATE = 0x03
    OPTIONS = 0x05
    SUPPORTED = 0x06
    QUERY = 0x07
    RESULT = 0x08
    PREPARE = 0x09
    EXECUTE = 0x0A
    REGISTER = 0x0B
    EVENT = 0x0C
    BATCH = 0x0D
    AUTH_CHALLENGE = 0x0E
    AUTH_RESPONSE = 0x0F
    AUTH_SUCCESS = 0x10


class Frame(NamedTuple):
    """One frame; `version` is without the direction bit."""

    version: int
    flags: int
    stream: int
    opcode: int
    body: bytes


def encode_frame(
    version: int,
    stream: int,
    opcode: int,
    body: bytes = b"",
    *,
    flags: int = 0,
    direction: int = RESPONSE,
    length: int | None = None,
) -> bytes:
    """One frame as it is on the wire; `length` declares another body length than the true one."""
    size = len(body) if length is None else length
    return _HEADER.pack(version | direction, flags, stream, opcode, size) + body


def _crc24_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1974F0B
        table.append(crc)
    return tuple(table)


_CRC24_TABLE = _crc24_table()


def _crc24(data: bytes) -> int:
    crc = 0x875060
    for byte in data:
        crc = (crc << 8 & 0xFFFFFF) ^ _CRC24_TABLE[crc >> 16 ^ byte]
    return crc


@lru_cache(maxsize=4096)
def segment_header(size: int, self_contained: bool) -> bytes:
    """The six bytes before a payload: its size, whether it stands alone, and their CRC24."""
    word = (size | self_contained << 17).to_bytes(3, "little")
    return word + _crc24(word).to_bytes(3, "little")


def _crc32(payload: bytes) -> bytes:
    return zlib.crc32(payload, _CRC32_START).to_bytes(4, "little")


def encode_segment(payload: bytes, self_contained: bool = True) -> bytes:
    """One segment; a payload over `MAX_PAYLOAD` does not fit."""
    return segment_header(len(payload), self_contained) + payload + _crc32(payload)


def encode_segments(message: bytes) -> bytes:
    """One or more whole frames as one segment, or as many as they need."""
    if len(message) <= MAX_PAYLOAD:
        return segment_header(len(message), True) + message + _crc32(message)
    parts = range(0, len(message), MAX_PAYLOAD)
    return b"".join(encode_segment(message[at : at + MAX_PAYLOAD], False) for at in parts)


class _Pile:
    """Bytes that wait until there are `need` of them: joined once, however many parts came."""

    __slots__ = ("have", "need", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.have = 0
        self.need = 0

    def push(self, data: bytes) -> bytes:
        """All that waited and `data`, or nothing as long as that is too little."""
        if not self.have:
            if len(data) >= self.need:
                return data
        elif self.have + len(data) >= self.need:
            self.parts.append(data)
            joined = b"".join(self.parts)
            self.parts.clear()
            self.have = 0
            return joined
        if data:
            self.parts.append(data)
            self.have += len(data)
        return b""

    def keep(self, data: bytes, need: int) -> None:
        """Puts back what was too little."""
        self.need = need
        if data:
            self.parts.append(data)
            self.have = len(data)


class FrameReader:
    """Cuts the bytes of one direction of one connection into frames. Not thread-safe.

    `start_segments` may be called while `feed` is being iterated: what follows the frame just
    yielded is then taken for segments.
    """

    __slots__ = ("_frames", "_raw", "_segmented")

    def __init__(self) -> None:
        self._frames = _Pile()
        self._raw = _Pile()
        self._segmented = False

    def start_segments(self) -> None:
        """From here on the frames are in segments."""
        self._segmented = True

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes; raises `FrameError` for what cannot be one."""
        return self._unwrap(data) if self._segmented else self._cut(data)

    def _cut(self, data: bytes) -> Iterator[Frame]:
        data = self._frames.push(data)
        if not data:
            return
        plain = not self._segmented
        at, end, need = 0, len(data), HEADER_SIZE
        while end - at >= HEADER_SIZE:
            version, flags, stream, opcode, size = _HEADER.unpack_from(data, at)
            if not 0 <= size <= MAX_BODY:
                raise FrameError(f"a frame with a body of {size} bytes")
            stop = at + HEADER_SIZE + size
            if stop > end:
                need = HEADER_SIZE + size
                break
            body = data[at + HEADER_SIZE : stop]
            at = stop
            yield Frame(version & 0x7F, flags, stream, opcode, body)
            if plain and self._segmented:
                self._frames.keep(b"", HEADER_SIZE)
                yield from self._unwrap(data[at:])
                return
        self._frames.keep(data[at:], need)

    def _unwrap(self, data: bytes) -> Iterator[Frame]:
        data = self._raw.push(data)
        if not data:
            return
        at, end, need = 0, len(data), _SEGMENT_HEADER_SIZE
        while end - at >= _SEGMENT_HEADER_SIZE:
            start = at + _SEGMENT_HEADER_SIZE
            header = data[at:start]
            word = int.from_bytes(header[:3], "little")
            size, alone = word & MAX_PAYLOAD, bool(word >> 17 & 1)
            if header != segment_header(size, alone):
                raise FrameError(f"a segment header with a wrong checksum: {header.hex()}")
            stop = start + size + 4
            if stop > end:
                need = stop - at
                break
            payload = data[start : stop - 4]
            if data[stop - 4 : stop] != _crc32(payload):
                raise FrameError("a segment with a wrong checksum")
            at = stop
            yield from self._cut(payload)
            if alone and self._frames.have:
                raise FrameError("a self-contained segment that ends within a frame")
        self._raw.keep(data[at:], need)
