"""The one question that starting a node has in CQL, asked without a driver."""

from __future__ import annotations

import socket
import struct

# Of the native protocol, version 4: https://github.com/apache/cassandra/blob/trunk/doc/
_REQUEST, _RESPONSE = 0x04, 0x84
_STARTUP, _READY, _AUTHENTICATE, _QUERY, _RESULT = 0x01, 0x02, 0x03, 0x07, 0x08
_HEADER = struct.Struct(">BBhBi")  # version, flags, stream, opcode, length of the body
_ONE, _WITHOUT_METADATA = 1, 0x02


def schema_version(address: str, port: int) -> bytes:
    """The version of the schema that a node has; OSError while it cannot be asked.

    The bytes of a UUID, or none of a node that wants a password.
    """
    with socket.create_connection((address, port), timeout=2) as connection:
        startup = b"".join(map(_string, ("CQL_VERSION", "3.0.0")))
        opcode, _ = _ask(connection, _STARTUP, struct.pack(">h", 1) + startup)
        if opcode == _AUTHENTICATE:
            return b""
        _expect(opcode, _READY)
        query = b"SELECT schema_version FROM system.local"
        parameters = struct.pack(">hB", _ONE, _WITHOUT_METADATA)
        opcode, body = _ask(connection, _QUERY, struct.pack(">i", len(query)) + query + parameters)
        _expect(opcode, _RESULT)
    # kind, flags, number of columns, number of rows, length of the value: five ints before it
    return body[20:36]


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _ask(connection: socket.socket, opcode: int, body: bytes) -> tuple[int, bytes]:
    connection.sendall(_HEADER.pack(_REQUEST, 0, 0, opcode, len(body)) + body)
    version, _, _, opcode, length = _HEADER.unpack(_read(connection, _HEADER.size))
    if version != _RESPONSE:
        raise OSError(f"this is no answer of a Cassandra node: version {version:#x}")
    return opcode, _read(connection, length)


def _read(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise ConnectionError("the node closed the connection")
        data += more
    return data


def _expect(opcode: int, expected: int) -> None:
    if opcode != expected:
        raise OSError(f"the node answered with opcode {opcode:#x}, not {expected:#x}")
