"""The scripted server, with real driver and bare socket: large, torn and wrong messages."""

import io
import sys
import threading
from collections.abc import Callable

import pytest
from cassandra import OperationTimedOut
from cassandra.segment import SegmentCodec

from tests.integration.bare_client import BareClient
from tests.integration.helpers import COLUMNS, INSERT, LIMIT, serving
from tests.protocol import (
    FrameReader,
    Opcode,
    ScriptedServer,
    ServerRequest,
    encode_frame,
    encode_segments,
)
from tests.protocol.frames import MAX_PAYLOAD


@pytest.mark.parametrize("size", [131_000, 131_071, 300_000, 3_000_000])
def test_large_bodies(version: int, size: int) -> None:
    """Bodies that need several segments go through both ways, each segment whole (see below)."""
    with serving(version) as (server, session):
        insert = session.prepare(INSERT)
        future = session.execute_async(insert, (1, "x" * size))
        request = server.next_request()
        assert request.values[1] == b"x" * size
        pieces = [MAX_PAYLOAD + 10] * (size // MAX_PAYLOAD)
        request.rows([("name", "text")], [("y" * size,)], pieces=pieces)
        assert future.result().one().name == "y" * size


def test_torn_answers(version: int) -> None:
    """An answer that comes in pieces is the answer.

    With v5 no piece ends within a segment's header: the driver loses such a beginning (tried with
    3.29.0, 3.30.1 and Scylla's 3.29.12; known as PYTHON-1337, "CRC mismatch on header").
    """
    least = 6 if version >= 5 else 1
    with serving(version) as (server, session):
        server.on_request = lambda request: request.rows(
            COLUMNS, [(1, "Ann")], pieces=[int(request.text or 0)] * 4
        )
        for size in range(least, 24):
            assert session.execute(str(size)).one() == (1, "Ann")
        server.on_request = lambda request: request.rows(
            [("name", "text")], [("y" * 300_000,)], pieces=[least, 100_000, 100_000]
        )
        assert session.execute("x").one().name == "y" * 300_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/net/tcp")
def test_pieces_are_read_apart() -> None:
    """Each piece is sent only after the client has read the one before."""
    with ScriptedServer() as server, BareClient(server, 4) as client:
        client.query("x")
        request = server.next_request()
        thread = threading.Thread(target=lambda: request.void(pieces=[1, 3, 5]))
        thread.start()
        assert [len(client.socket.recv(100)) for _ in range(4)] == [1, 3, 5, 4]
        thread.join(LIMIT)


def test_torn_requests(version: int) -> None:
    """A request that comes in pieces is understood; one that never ends is none."""
    with ScriptedServer() as server:
        with BareClient(server, version) as client:
            client.query("whole")
            assert server.next_request().text == "whole"
            client.ask(Opcode.OPTIONS, b"", cut=5)
        server.wait_until(lambda now: now.connections_open == 0)
        assert server.statistics().requests == 1
        assert not server.errors


def test_several_frames_in_one_segment() -> None:
    """Answers that share a segment reach each their request."""
    with serving(5) as (server, session):
        futures = [session.execute_async("x") for _ in range(5)]
        requests = server.requests(5)
        frames = [encode_frame(5, each.stream, Opcode.RESULT, b"\0\0\0\1") for each in requests]
        requests[0].connection.send_frames(frames)
        for future in futures:
            future.result()
        assert server.statistics().unanswered == 5


def test_hostile_frames(version: int) -> None:
    """Wrong streams and second answers go through; what breaks the framing ends the connection."""
    with serving(version) as (server, session):
        future = session.execute_async("x")
        request = server.next_request()
        request.connection.send_frame(request.stream + 77, Opcode.RESULT, b"\0\0\0\1")
        assert request.void(stream=request.stream + 78)
        assert request.void()
        assert request.void()
        assert request.answers == 3
        future.result()


BROKEN: dict[str, Callable[[ServerRequest], object]] = {
    "negative length": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, length=-1),
    "unknown opcode": lambda r: r.connection.send_frame(r.stream, 0x66, b"?"),
    "garbage version": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, version=0x33),
    "short body": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, b"\0\0"),
    "unknown result": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, b"\0\0\0\x99"),
    "bad header checksum": lambda r: r.connection.send_segment(b"x" * 20, corrupt="header"),
    "bad payload checksum": lambda r: r.connection.send_segment(b"x" * 20, corrupt="payload"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_frames(version: int, how: str) -> None:
    """What cannot be a frame fails the request, and the driver ends the connection."""
    if "checksum" in how and version < 5:
        pytest.skip("v4 has no checksums")
    with serving(version) as (server, session):
        future = session.execute_async("x")
        request = server.next_request()
        BROKEN[how](request)
        with pytest.raises(Exception) as caught:
            future.result()
        assert not isinstance(caught.value, OperationTimedOut)
        server.wait_until(lambda _: not request.connection.is_open)


def test_huge_length(version: int) -> None:
    """A frame that announces more than ever comes keeps the driver waiting."""
    with serving(version) as (server, session):
        future = session.execute_async("x", timeout=0.05)
        request = server.next_request()
        request.connection.send_frame(request.stream, Opcode.RESULT, b"\0\0\0\1", length=2**31 - 1)
        with pytest.raises(OperationTimedOut):
            future.result()


@pytest.mark.parametrize("size", [0, 1, 5000, 131_071, 131_072, 400_000])
def test_segments_are_the_drivers(size: int) -> None:
    """Segments are made bit by bit as the driver makes them, and read back from any pieces."""
    frame = encode_frame(5, 3, Opcode.RESULT, bytes(size))
    mine, theirs = encode_segments(frame), io.BytesIO()
    SegmentCodec().encode(theirs, frame)
    assert mine == theirs.getvalue()
    for step in (1, 7, 1000, 10**6) if size < 6000 else (4096, 10**6):
        reader = FrameReader()
        reader.start_segments()
        found = [
            each for at in range(0, len(mine), step) for each in reader.feed(mine[at : at + step])
        ]
        assert [(each.stream, len(each.body)) for each in found] == [(3, size)]
