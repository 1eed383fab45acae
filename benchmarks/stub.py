"""A server in a process of its own that answers prepared statements as fast as Python can.

It speaks protocol v4 well enough for the driver, does nothing with what it gets, and answers an
INSERT with nothing and a SELECT with one row. `python benchmarks/stub.py` prints its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.protocol import results, system
from tests.protocol.automatic import supported, unsupported
from tests.protocol.errors import error
from tests.protocol.frames import HEADER_SIZE, Frame, Opcode, encode_frame
from tests.protocol.messages import parse
from tests.protocol.statements import guess, statement_id

VERSION = 4
_EXECUTE = int(Opcode.EXECUTE)
_RESULT = b"\x84\x00"  # version 4, no flags; then comes the stream


class Stub(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, port: int) -> None:
        self.node = system.describe(["127.0.0.1"], port)[0]
        self.buffer = bytearray()
        self.answers: dict[bytes, bytes] = {}  # by prepared id: what follows the stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer all requests that are complete."""
        buffer, start, out = self.buffer, 0, []
        buffer += data
        while len(buffer) - start >= HEADER_SIZE:
            end = start + HEADER_SIZE + int.from_bytes(buffer[start + 5 : start + 9], "big")
            if len(buffer) < end:
                break
            if buffer[start + 4] == _EXECUTE:
                size = int.from_bytes(buffer[start + 9 : start + 11], "big")
                answer = self.answers[bytes(buffer[start + 11 : start + 11 + size])]
                out.append(_RESULT + buffer[start + 2 : start + 4] + answer)
            else:
                out.append(self.answer(bytes(buffer[start:end])))
            start = end
        del buffer[:start]
        if out:
            self.transport.write(b"".join(out))

    def answer(self, data: bytes) -> bytes:
        """Answer what is no EXECUTE."""
        version = data[0] & 0x7F
        frame = Frame(version, data[1], int.from_bytes(data[2:4], "big"), data[4], data[9:])
        if version != VERSION:
            text = unsupported(version, (VERSION,))
            return encode_frame(VERSION, frame.stream, Opcode.ERROR, error("protocol_error", text))
        message = parse(frame)
        opcode, body = Opcode.RESULT, results.VOID
        if message.opcode is Opcode.OPTIONS:
            opcode, body = Opcode.SUPPORTED, supported((VERSION,))
        elif message.opcode in (Opcode.STARTUP, Opcode.REGISTER):
            opcode, body = Opcode.READY, b""
        elif message.opcode is Opcode.PREPARE:
            body = self.prepare(message.text or "")
        elif message.text and system.is_system(message.text):
            found = system.select(message.text, self.node, [self.node], {})
            body = results.rows(found.columns, found.rows)
        return encode_frame(VERSION, frame.stream, opcode, body)

    def prepare(self, text: str) -> bytes:
        """Know a statement, and say what it takes and returns."""
        statement, prepared_id = guess(text, {}), statement_id(text)
        body = results.VOID
        if statement.result:
            row = [1 if kind == "int" else "value" for _, kind in statement.result]
            body = results.rows(statement.result, [row])
        self.answers[prepared_id] = encode_frame(VERSION, 0, Opcode.RESULT, body)[4:]
        return results.prepared(
            VERSION,
            prepared_id,
            statement.bind,
            statement.result,
            statement.partition_key,
            keyspace=statement.keyspace,
            table=statement.table,
        )


async def serve() -> None:
    """Serve until standard input ends; each line of it is answered with the CPU seconds used."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(port), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    print(port, flush=True)

    def listen() -> None:
        for _ in sys.stdin:
            print(time.process_time(), flush=True)

    await loop.run_in_executor(None, listen)


@contextlib.contextmanager
def running() -> Iterator[tuple[int, Callable[[], float]]]:
    """Run a stub in a process of its own; yield its port, and what tells the CPU it has used."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def cpu_seconds() -> float:
        stdin.write("\n")
        stdin.flush()
        return float(stdout.readline())

    with process:
        try:
            yield int(stdout.readline()), cpu_seconds
        finally:
            stdin.close()


if __name__ == "__main__":
    asyncio.run(serve())
