"""A client of the scripted server without a driver, that sees every read apart."""

from __future__ import annotations

import socket
from typing import Any

from tests.integration.helpers import LIMIT
from tests.protocol import FrameReader, Opcode, ScriptedServer, encode_frame, encode_segments
from tests.protocol.statements import statement_id
from tests.protocol.wire import long_string


def query_body(text: str, version: int, flags: int = 0) -> bytes:
    """The body of a QUERY with consistency ONE, as far as the flags."""
    size = 4 if version >= 5 else 1
    return long_string(text) + b"\x00\x01" + flags.to_bytes(size, "big")


class BareClient:
    """A connection, after its handshake; it is closed at the end of a `with`."""

    def __init__(self, server: ScriptedServer, version: int) -> None:
        self.version = version
        self.socket = socket.create_connection((server.address, server.port), LIMIT)
        self.reader = FrameReader()
        self.segmented = False
        self.ask(Opcode.STARTUP, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0")
        assert self.answer().opcode == Opcode.READY
        if version >= 5:
            self.segmented = True
            self.reader.start_segments()

    def __enter__(self) -> BareClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, opcode: Opcode, body: bytes, *, cut: int | None = None) -> None:
        """Sends a request, or its first `cut` bytes."""
        data = encode_frame(self.version, 1, opcode, body, direction=0)
        data = encode_segments(data) if self.segmented else data
        self.socket.sendall(data[:cut])

    def query(self, text: str) -> None:
        """Sends a QUERY."""
        self.ask(Opcode.QUERY, query_body(text, self.version))

    def execute(self, text: str) -> None:
        """Sends an EXECUTE that asks for no metadata."""
        statement = statement_id(text)
        body = len(statement).to_bytes(2, "big") + statement
        if self.version >= 5:
            body += b"\x00\x00" + b"\x00\x01" + b"\x00\x00\x00\x02"
        else:
            body += b"\x00\x01" + b"\x02"
        self.ask(Opcode.EXECUTE, body)

    def answer(self) -> Any:
        """Receives one frame."""
        while True:
            data = self.socket.recv(65536)
            assert data, "the server ended the connection"
            for frame in self.reader.feed(data):
                return frame
