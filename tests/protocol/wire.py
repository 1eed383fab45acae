"""The primitive notations of the native protocol (its chapter 3), written and read.

Writers are functions that return `bytes`; reading is done by `Reader`, a cursor over one body.
"""

import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias

_SHORT = struct.Struct(">H")
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")

NULL: Final = b"\xff\xff\xff\xff"


class FrameError(ValueError):
    """What the other side sent is not the protocol."""


class Unset(Enum):
    """The type of `UNSET`: a bound value that the client left out on purpose."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
Value: TypeAlias = bytes | Literal[Unset.UNSET] | None


short = _SHORT.pack
integer = _INT.pack
long = _LONG.pack


def string(text: str) -> bytes:
    """A [string]: 2 bytes of length."""
    data = text.encode()
    return _SHORT.pack(len(data)) + data


def long_string(text: str) -> bytes:
    """A [long string]: 4 bytes of length."""
    data = text.encode()
    return _INT.pack(len(data)) + data


def string_list(texts: Iterable[str]) -> bytes:
    """A [string list]."""
    parts = [string(text) for text in texts]
    return _SHORT.pack(len(parts)) + b"".join(parts)


def string_multimap(pairs: Mapping[str, Iterable[str]]) -> bytes:
    """A [string multimap]."""
    body = b"".join(string(key) + string_list(texts) for key, texts in pairs.items())
    return _SHORT.pack(len(pairs)) + body


def blob(data: bytes | None) -> bytes:
    """A [bytes]: 4 bytes of length, negative for null."""
    return NULL if data is None else _INT.pack(len(data)) + data


def short_blob(data: bytes) -> bytes:
    """A [short bytes]: 2 bytes of length."""
    return _SHORT.pack(len(data)) + data


def blob_map(pairs: Mapping[str, bytes | None]) -> bytes:
    """A [bytes map]."""
    body = b"".join(string(key) + blob(data) for key, data in pairs.items())
    return _SHORT.pack(len(pairs)) + body


def inet_address(address: str) -> bytes:
    """An [inetaddr]: one byte of length, then the address."""
    packed = ip_address(address).packed
    return bytes((len(packed),)) + packed


def inet(address: str, port: int) -> bytes:
    """An [inet]: address and port."""
    return inet_address(address) + _INT.pack(port)


class Reader:
    """A cursor over one body. Reading past its end raises `FrameError`."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.at
        self.at = stop = start + count
        if count < 0 or stop > len(self.data):
            raise FrameError(f"{count} bytes wanted at {start} of a body of {len(self.data)}")
        return self.data[start:stop]

    def byte(self) -> int:
        """A [byte]."""
        return self.take(1)[0]

    def short(self) -> int:
        """A [short]."""
        return int.from_bytes(self.take(2), "big")

    def integer(self) -> int:
        """An [int]."""
        return int.from_bytes(self.take(4), "big", signed=True)

    def long(self) -> int:
        """A [long]."""
        return int.from_bytes(self.take(8), "big", signed=True)

    def string(self) -> str:
        """A [string]."""
        return self.take(self.short()).decode()

    def long_string(self) -> str:
        """A [long string]."""
        return self.take(self.integer()).decode()

    def string_list(self) -> list[str]:
        """A [string list]."""
        return [self.string() for _ in range(self.short())]

    def string_map(self) -> dict[str, str]:
        """A [string map]."""
        return {self.string(): self.string() for _ in range(self.short())}

    def blob(self) -> bytes | None:
        """A [bytes]; None for null."""
        size = self.integer()
        return None if size < 0 else self.take(size)

    def short_blob(self) -> bytes:
        """A [short bytes]."""
        return self.take(self.short())

    def blob_map(self) -> dict[str, bytes | None]:
        """A [bytes map]."""
        return {self.string(): self.blob() for _ in range(self.short())}

    def value(self) -> Value:
        """A [value]: like a [bytes], where -2 means not set."""
        size = self.integer()
        if size >= 0:
            return self.take(size)
        if size == -1:
            return None
        if size == -2:
            return UNSET
        raise FrameError(f"a value of length {size}")
