"""Issue 5: what a server does under way: drops the keyspace, forgets statements, is overloaded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from cassandra import DriverException, InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from cassconc import CassandraExecutor, Retry, TooManyErrors
from tests.integration.helpers import (
    INSERT,
    LIMIT,
    USERS,
    connected,
    done,
    executing,
    failure_of,
    settle,
)
from tests.parts import needs
from tests.protocol import Opcode, ScriptedServer, ServerRequest
from tests.protocol.results import prepared as prepared_body
from tests.waits import eventually

GONE = "Keyspace ks does not exist"


class Dropping:
    """Answers until so many writes were done; from then on the keyspace is not there."""

    def __init__(self, server: ScriptedServer, after: int) -> None:
        self._server = server
        self._after = after
        self._lock = threading.Lock()
        self.written: list[int] = []  # guarded by _lock

    def __call__(self, request: ServerRequest) -> None:
        """Answer a request."""
        if request.opcode == "PREPARE":
            request.error("invalid", GONE)
            return
        with self._lock:
            self.written.append(request.parameters[0])
            drops = len(self.written) == self._after
        if drops:
            self._server.hand_over = {"PREPARE"}
            self._server.forget()
        request.void()


def consume(results: Iterator[Any]) -> tuple[list[int], Counter[str]]:
    """Return which were written, and how many failed, by type."""
    written, failed = [], Counter[str]()
    for number, result in enumerate(results):
        if isinstance(result, Exception):
            failed[type(result).__name__] += 1
        else:
            written.append(number)
    return written, failed


# -- the keyspace is dropped


@pytest.mark.parametrize("retry", [None, Retry(delay=0.01)], ids=["no retry", "retry"])
def test_a_keyspace_is_dropped_under_way(
    server: ScriptedServer, session: Any, retry: Retry | None
) -> None:
    """What was written is told, all else fails with the server's words, once: it will not be over.

    The node has forgotten the statement, and refuses to prepare it again.
    """
    insert = session.prepare(INSERT)
    insert.is_idempotent = True
    server.on_request = dropping = Dropping(server, after=200)
    with executing(session, 20, retry=retry) as executor:
        results = executor.starmap(
            insert, ((n, "x") for n in range(500)), buffersize=50, return_exceptions=True
        )
        written, failed = consume(results)
        assert written == sorted(dropping.written)
        assert failed == {"InvalidRequest": 500 - len(written)}
        stats = executor.stats()
        assert (stats.succeeded, stats.retried, stats.cancelled) == (len(written), 0, 0)


def test_a_keyspace_is_dropped_and_the_first_failure_ends_the_map(
    server: ScriptedServer, session: Any
) -> None:
    """Without `return_exceptions` what comes before is yielded; what was never sent is counted."""
    insert = session.prepare(INSERT)
    server.on_request = dropping = Dropping(server, after=100)
    with executing(session, 10) as executor:
        results = executor.starmap(insert, ((n, "x") for n in range(500)), buffersize=20)
        got: list[Any] = []
        with pytest.raises(InvalidRequest, match=GONE) as caught:
            got.extend(results)
        assert caught.value.call.position == len(got)
        assert set(range(len(got))) <= set(dropping.written)
        eventually(lambda: executor.stats().in_flight == 0)
        stats = executor.stats()
        assert stats.submitted == stats.succeeded + sum(stats.failed.values()) + stats.cancelled
        assert stats.succeeded == len(dropping.written)


def test_a_keyspace_is_dropped_within_an_error_budget(server: ScriptedServer, session: Any) -> None:
    """The budget ends the map soon, and its exception adds up to what was taken."""
    insert = session.prepare(INSERT)
    server.on_request = dropping = Dropping(server, after=100)
    taken = 0

    def rows() -> Iterator[tuple[int, str]]:
        nonlocal taken
        for n in range(10_000):
            taken += 1
            yield n, "x"

    with executing(session, 10) as executor:
        with pytest.raises(TooManyErrors) as caught:
            consume(executor.starmap(insert, rows(), buffersize=20, max_errors=5))
        error = caught.value
        assert error.taken == taken == error.succeeded + error.failed + error.never_sent
        assert error.succeeded == len(dropping.written)
        assert 6 <= error.failed <= 6 + 10


def test_the_keyspace_of_the_session_is_dropped(version: int) -> None:
    """New connections cannot have it: every call ends, and they work again when it is back."""
    with ScriptedServer(protocol_versions=[version], types=USERS) as server:
        with connected(server, keyspace="ks") as session, executing(session, 10) as executor:
            insert = session.prepare(INSERT)
            server.hand_over = {"USE"}
            server.on_request = lambda r: r.error("invalid", GONE) if is_use(r) else r.void()
            server.drop_all()
            futures = [executor.submit(insert, n, "x") for n in range(100)]
            for future in futures:
                error = future.exception(LIMIT)
                assert error is None or isinstance(error, (NoHostAvailable, ConnectionException))
            server.hand_over = set()
            server.on_request = done
            eventually(lambda: executor.submit(insert, 1, "x").exception(LIMIT) is None)


def is_use(request: ServerRequest) -> bool:
    """Whether a request asks for a keyspace."""
    return (request.text or "").upper().startswith("USE")


# -- a statement is not known any more


def test_statements_are_forgotten_again_and_again(server: ScriptedServer, session: Any) -> None:
    """A schema that changes under way costs no call, no order, and nothing is written twice."""
    insert = session.prepare(INSERT)
    written: Counter[int] = Counter()

    def answer(request: ServerRequest) -> None:
        written[request.parameters[0]] += 1
        if written.total() % 50 == 0:
            server.forget(once=written.total() % 100 == 0)
        request.void()

    server.on_request = answer
    with executing(session, 20) as executor:
        results = executor.starmap(insert, ((n, "x") for n in range(2000)), buffersize=100)
        assert sum(1 for _ in results) == 2000
    assert written == Counter(range(2000))
    assert server.statistics().automatic["UNPREPARED"] >= 20


def test_a_statement_gets_another_id(server: ScriptedServer, session: Any) -> None:
    """A changed table may give it another id: the driver gives up, and each call has its error."""
    insert = session.prepare(INSERT)
    insert.is_idempotent = True
    server.hand_over = {"PREPARE"}

    def answer(request: ServerRequest) -> None:
        body = prepared_body(request.version, b"another id", (("id", "int"), ("name", "text")))
        request.respond(Opcode.RESULT, body)

    server.on_request = answer
    server.forget()
    with executing(session, 5, retry=Retry(delay=0.01)) as executor:
        futures = [executor.submit(insert, n, "x") for n in range(50)]
        errors: list[Any] = [failure_of(future) for future in futures]
        assert all(isinstance(error, DriverException) for error in errors)
        assert len(set(map(id, errors))) == 50
        assert [error.call.parameters[0] for error in errors] == list(range(50))
        assert executor.stats().retried == 0


@needs("give_up")
def test_a_statement_that_is_never_known(server: ScriptedServer, session: Any) -> None:
    """A node that prepares it again and again and never knows it: the time limit ends the calls."""
    insert = session.prepare(INSERT)
    server.hand_over = {"UNPREPARED"}
    server.on_request = lambda request: request.error("unprepared")
    with executing(session, 5) as executor:
        view = executor.with_options(timeout=0.3)
        futures = [view.submit(insert, n, "x") for n in range(5)]
        assert {type(failure_of(future)) for future in futures} == {OperationTimedOut}
        settle(session)
        before = server.statistics().requests
        settle(session)
        assert server.statistics().requests == before, "it is still being asked"
        server.on_request = done
        assert executor.submit(insert, 1, "x").exception(LIMIT) is None


# -- the server is overloaded


class Overloaded:
    """Answers what it is asked later than what comes after it, and refuses what is too much."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[ServerRequest] = []  # guarded by _lock
        self.refused = 0  # guarded by _lock

    def __call__(self, request: ServerRequest) -> None:
        """Answer a request."""
        with self._lock:
            refuses = len(self._waiting) >= self._most
            if refuses:
                self.refused += 1
                answered = self._waiting[: self._most // 2]
            else:
                self._waiting.append(request)
                answered = []
            del self._waiting[: len(answered)]
        if refuses:
            request.error("overloaded")
        for each in answered:
            each.void()

    def release(self) -> None:
        """Answer what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.void()


def test_an_overloaded_server_loses_nothing(server: ScriptedServer, session: Any) -> None:
    """With a retry all is written, each is refused as often as it is tried again, no more."""
    insert = session.prepare(INSERT)
    insert.is_idempotent = True
    server.on_request = overloaded = Overloaded(most=10)
    over = threading.Event()

    def release() -> None:
        while not over.wait(0.02):
            overloaded.release()

    threading.Thread(target=release, daemon=True).start()
    retry = Retry(attempts=100, delay=0.01, max_delay=0.1)
    try:
        with executing(session, 30, retry=retry) as executor:
            results = executor.starmap(insert, ((n, "x") for n in range(500)), buffersize=100)
            assert sum(1 for _ in results) == 500
            stats = executor.stats()
    finally:
        over.set()
    assert (stats.succeeded, stats.failed, stats.cancelled) == (500, {}, 0)
    assert stats.retried == overloaded.refused > 0
    assert server.statistics().requests == 500 + stats.retried


def test_an_overloaded_server_without_retry(server: ScriptedServer, session: Any) -> None:
    """Each refusal is told, and the others are written."""
    insert = session.prepare(INSERT)
    server.on_request = lambda request: (
        request.error("overloaded") if request.parameters[0] % 3 == 0 else request.void()
    )
    with CassandraExecutor(session, 30) as executor:
        results = executor.starmap(
            insert, ((n, "x") for n in range(300)), buffersize=100, return_exceptions=True
        )
        written, failed = consume(results)
    assert written == [n for n in range(300) if n % 3]
    assert failed == {"OverloadedErrorMessage": 100}


def test_retries_do_not_multiply_the_load(server: ScriptedServer, session: Any) -> None:
    """A server that refuses everything is asked once per call, and the budget's worth beyond."""
    insert = session.prepare(INSERT)
    insert.is_idempotent = True
    server.on_request = lambda request: request.error("overloaded")
    retry = Retry(attempts=1000, delay=0.001, max_delay=0.001, total_time=1.0, budget=20)
    with executing(session, 30, retry=retry) as executor:
        results = executor.starmap(
            insert, ((n, "x") for n in range(200)), buffersize=200, return_exceptions=True
        )
        _, failed = consume(results)
        stats = executor.stats()
    assert failed == {"OverloadedErrorMessage": 200}
    # ten a second come back to the budget, over the second that all may take, on a busy machine
    assert stats.retried <= 20 + 10 * 4
    assert server.statistics().requests == 200 + stats.retried
