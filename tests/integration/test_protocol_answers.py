"""The scripted server, tried with the real driver: errors, and when it answers."""

import threading
from queue import Queue
from typing import Any

import pytest
from cassandra import (
    OperationTimedOut,
    ReadFailure,
    WriteType,
)
from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement

from tests.integration.error_kinds import ERRORS
from tests.integration.helpers import INSERT, LIMIT, connected, done, serving
from tests.protocol import ALL_KINDS, ScriptedServer, ServerRequest
from tests.protocol.errors import ErrorKind, error

# -- errors


@pytest.mark.parametrize(("kind", "expected", "info"), ERRORS, ids=[each[0] for each in ERRORS])
def test_errors(
    version: int, kind: ErrorKind, expected: type[BaseException], info: dict[str, Any]
) -> None:
    """Each error of the protocol is the driver's own exception, with its fields."""
    with serving(version) as (server, session):
        server.on_request = lambda request: request.error(kind, "so it goes", **info)
        with pytest.raises(expected) as caught:
            session.execute("x")
        assert kind == "already_exists" or "so it goes" in str(caught.value)
        for name, value in info.items():
            if name == "write_type":
                value = WriteType.name_to_value[value]
            assert kind == "cas_write_unknown" or getattr(caught.value, name) == value


def test_all_errors_are_tried() -> None:
    """The table above has every kind, but for that which the driver answers by itself."""
    assert {each[0] for each in ERRORS} == set(ALL_KINDS) - {"unprepared"}


def test_error_fields() -> None:
    """Reasons of failures by address reach v5 clients; a field that a kind has not is refused."""
    with serving(5) as (server, session):
        codes = {"127.0.0.2": 1, "127.0.0.3": 0}
        server.on_request = lambda request: request.error("read_failure", error_code_map=codes)
        with pytest.raises(ReadFailure) as caught:
            session.execute("x")
        assert caught.value.error_code_map == codes
    with pytest.raises(TypeError, match="overloaded has no field table"):
        error("overloaded", table="t")


def test_unprepared(version: int) -> None:
    """A statement that the node forgot is prepared again by the driver, also for a batch."""
    with serving(version, on_request=done) as (server, session):
        insert = session.prepare(INSERT)
        server.forget()
        session.execute(insert, (1, "Ann"))
        server.forget(INSERT, once=True)
        batch = BatchStatement()
        batch.add(insert, (2, "Bob"))
        session.execute(batch)
        session.execute(batch)
        counts = server.statistics()
        assert (counts.automatic["UNPREPARED"], counts.automatic["PREPARE"]) == (2, 3)
        assert counts.requests == 3


# -- when, and whether, it is answered


def test_out_of_order(version: int) -> None:
    """Answers in any order, from any thread, reach the requests that they are for."""
    with serving(version) as (server, session):
        futures = [session.execute_async(f"SELECT {n}") for n in range(50)]
        requests = server.requests(50)
        assert [request.text for request in requests] == [f"SELECT {n}" for n in range(50)]
        assert [request.number for request in requests] == list(range(1, 51))
        statistics = server.statistics()
        assert (statistics.unanswered, statistics.max_unanswered) == (50, 50)
        assert statistics.max_unanswered_per_connection == 50

        def answer(some: list[ServerRequest]) -> None:
            for request in some:
                request.rows([("n", "int")], [(request.number - 1,)])

        backwards = requests[::-1]
        threads = [threading.Thread(target=answer, args=(backwards[at::4],)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert [future.result().one().n for future in futures] == list(range(50))
        assert server.unanswered == []
        assert server.statistics().max_unanswered == 50


def test_silence(version: int) -> None:
    """Without an answer the driver times out; the late answer then harms nobody."""
    with serving(version) as (server, session):
        future = session.execute_async("x", timeout=0.05)
        request = server.next_request()
        request.silence()
        with pytest.raises(OperationTimedOut):
            future.result()
        assert request.silent
        assert server.unanswered == [request]
        request.void()
        server.on_request = done
        session.execute("y")


def test_heartbeats() -> None:
    """Heartbeats are answered while requests are not."""
    with ScriptedServer() as server:
        often = {"idle_heartbeat_interval": 0.02, "idle_heartbeat_timeout": LIMIT}
        with connected(server, **often) as session:
            future = session.execute_async("x")
            request = server.next_request()
            before = server.statistics().automatic["OPTIONS"]
            server.wait_until(lambda now: now.automatic["OPTIONS"] > before + 2)
            request.void()
            future.result()


def test_hang(version: int) -> None:
    """A server that hangs answers nothing at all, and everything when it resumes."""
    with serving(version) as (server, session):
        server.hang()
        futures = [session.execute_async(f"{n}") for n in range(3)]
        for request in server.requests(3):
            assert request.void()
        assert server.statistics().unanswered == 3
        with pytest.raises((OperationTimedOut, NoHostAvailable)):
            with connected(server, connect_timeout=0.05):
                pass
        server.resume()
        for future in futures:
            future.result()
        server.hang()
        lost = session.execute_async("lost", timeout=0.05)
        server.next_request().void()
        with pytest.raises(OperationTimedOut):
            lost.result()
        server.resume(discard=True)
        assert [request.text for request in server.unanswered] == ["lost"]


def test_handed_over() -> None:
    """What the server answers by itself can be given to the test, by kind."""
    with serving(5, on_request=done) as (server, session):
        server.hand_over = {"PREPARE"}
        server.on_request = None
        prepared: Queue[Any] = Queue()
        thread = threading.Thread(target=lambda: prepared.put(session.prepare(INSERT)))
        thread.start()
        request = server.next_request()
        assert (request.opcode, request.automatic_kind) == ("PREPARE", "PREPARE")
        request.automatic()
        assert len(prepared.get(timeout=LIMIT).column_metadata) == 2
        thread.join(LIMIT)
    with ScriptedServer(hand_over=["STARTUP"]) as server:
        server.on_request = lambda request: request.error("bad_credentials")
        with pytest.raises(NoHostAvailable):
            with connected(server):
                pass
