"""Retries with the real driver: what may be tried again is, with its first timestamp; no more."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.policies import FallthroughRetryPolicy
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import BatchStatement, SimpleStatement
from hypothesis import given, settings
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, RetryEvent, execute_concurrent_with_args
from cassconc.testing import ManualClock
from tests.integration.error_kinds import ERRORS
from tests.integration.helpers import (
    INSERT,
    LIMIT,
    SELECT,
    Listener,
    connected,
    done,
    executing,
    failure_of,
    in_flight,
    name_of,
    profile_of,
    serving,
    settle,
    user,
)
from tests.protocol import ScriptedCluster, ScriptedServer, ServerRequest
from tests.protocol.errors import ErrorKind
from tests.waits import eventually

AT_ONCE = Retry(delay=0)
USING_TIMESTAMP = INSERT + " USING TIMESTAMP ?"


def idempotent(text: str) -> SimpleStatement:
    """A statement that may be tried again."""
    return SimpleStatement(text, is_idempotent=True)


def prepared(session: Any, text: str) -> Any:
    """A prepared statement that may be tried again."""
    statement = session.prepare(text)
    statement.is_idempotent = True
    return statement


@pytest.fixture
def retrying(session: Any) -> Iterator[CassandraExecutor]:
    """An executor on `session` that tries again, without delay."""
    with executing(session, retry=AT_ONCE) as executor:
        yield executor


def failing(
    times: int, kind: ErrorKind = "overloaded", then: Callable[[ServerRequest], object] = done
) -> tuple[list[ServerRequest], Callable[[ServerRequest], None]]:
    """A list of requests, and a handler that fills it and fails the first of them."""
    requests: list[ServerRequest] = []

    def answer(request: ServerRequest) -> None:
        requests.append(request)
        if len(requests) <= times:
            request.error(kind)
        else:
            then(request)

    return requests, answer


# -- what is tried again

TRANSIENT: list[ErrorKind] = [
    "overloaded", "unavailable", "read_timeout", "write_timeout", "is_bootstrapping",
]  # fmt: skip
LASTING = [kind for kind, _, _ in ERRORS if kind not in (*TRANSIENT, "protocol_error")]


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_may_be_over_is_tried_again(
    server: ScriptedServer, retrying: CassandraExecutor, kind: ErrorKind, parts: str
) -> None:
    """An idempotent statement that fails for a while succeeds in the end."""
    requests, server.on_request = failing(3, kind)
    future = retrying.submit(idempotent("INSERT 1"))
    assert future.result(LIMIT).all() == []
    assert len(requests) == 4
    assert {request.text for request in requests} == {"INSERT 1"}
    assert retrying.stats().retried == 3
    assert retrying.stats().succeeded == 1


@pytest.mark.parametrize("kind", LASTING)
def test_what_will_not_be_over_is_not(
    server: ScriptedServer, session: Any, retrying: CassandraExecutor, kind: ErrorKind
) -> None:
    """Other failures end the call at once."""
    requests, server.on_request = failing(99, kind)
    failure_of(retrying.submit(idempotent("INSERT 1")))
    settle(session)
    assert len(requests) == 1


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_is_not_idempotent_is_never_tried_again(
    server: ScriptedServer, session: Any, retrying: CassandraExecutor, kind: ErrorKind
) -> None:
    """Whatever kind of statement it is; and the error says why."""
    requests, server.on_request = failing(99, kind)
    insert = session.prepare(INSERT)
    batch = BatchStatement()
    batch.add(insert, (1, "Ann"))
    statements = ["INSERT 1", SimpleStatement("INSERT 1"), insert.bind((1, "Ann")), batch]
    for statement in statements:
        error: Any = failure_of(retrying.submit(statement))
        assert any("not marked as idempotent" in note for note in error.__notes__)
        assert error.attempts == (error,)
    failure_of(retrying.submit(insert, 1, "Ann"))
    settle(session)
    assert len(requests) == len(statements) + 1


def test_time_outs_are_tried_again(server: ScriptedServer, session: Any) -> None:
    """A request without answer is sent again after its limit; a late answer is not taken for it."""
    clock = ManualClock()
    with executing(session, retry=AT_ONCE, clock=clock) as executor:
        select = prepared(session, SELECT)
        future = executor.submit(select, 1)
        for attempt in range(3):
            late = server.next_request()
            assert not future.done()
            clock.advance(LIMIT)
            last = server.next_request()
            late.rows(rows=[(-1, "late")])
            settle(session)
            assert not future.done(), attempt
            clock.advance(LIMIT)
        last = server.next_request()
        last.rows(rows=[(1, "Ann")])
        assert future.result(LIMIT).one() == (1, "Ann")
        assert executor.stats().retried == 6
        for owed in server.unanswered:
            owed.void()
        settle(session)
        assert in_flight(session) == 0


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_lost_connections_are_got_over(server: ScriptedServer, session: Any, reset: bool) -> None:
    """All calls of a lost connection are sent again on the next one, and succeed."""
    retry = Retry(delay=0.01, attempts=100, budget=10_000)
    with executing(session, concurrency=200, retry=retry) as executor:
        select = prepared(session, SELECT)
        futures = [executor.submit(select, n) for n in range(500)]
        server.requests(200)
        listener = Listener()
        session.cluster.register_listener(listener)
        server.on_request = user
        server.drop_all(reset=reset)
        listener.wait_for("up", server.address)
        for n, future in enumerate(futures):
            assert future.result(LIMIT).one() == (n, name_of(n))


def test_no_host_is_got_over(server: ScriptedServer, session: Any) -> None:
    """Nor is a node lost for good that is away for a while."""
    seen: set[type] = set()
    retry = Retry(
        delay=0.01,
        max_delay=0.05,
        attempts=1000,
        on_retry=lambda event: seen.add(type(event.exception)),
    )
    with executing(session, retry=retry) as executor:
        server.refuse_connections()
        server.drop_all()
        future = executor.submit(idempotent("SELECT 1"))
        eventually(lambda: NoHostAvailable in seen)
        server.on_request = done
        server.accept_connections()
        assert future.result(LIMIT).all() == []
        assert seen <= {NoHostAvailable, ConnectionShutdown}


# -- timestamps


def statements_of(session: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Idempotent statements of all kinds, with parameters."""
    insert = prepared(session, INSERT)
    batch = BatchStatement()
    batch.add(insert, (1, "Ann"))
    batch.is_idempotent = True
    return {
        "simple": (idempotent("INSERT 1"), ()),
        "parameters": (idempotent("INSERT %s"), (1,)),
        "prepared": (insert, (1, "Ann")),
        "bound": (insert.bind((1, "Ann")), ()),
        "batch": (batch, ()),
        "read": (prepared(session, SELECT), (1,)),
    }


KINDS = ["simple", "parameters", "prepared", "bound", "batch", "read"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_retry_has_the_first_timestamp(
    server: ScriptedServer, session: Any, retrying: CassandraExecutor, kind: str, parts: str
) -> None:
    """On the wire all attempts of a call are the same, with one timestamp; other calls have own."""
    statement, given_values = statements_of(session)[kind]
    timestamps = []
    for _ in range(2):
        requests, server.on_request = failing(4)
        retrying.submit(statement, *given_values).result(LIMIT)
        assert len(requests) == 5
        first = requests[0]
        for request in requests[1:]:
            assert request.timestamp == first.timestamp
            assert (request.opcode, request.text) == (first.opcode, first.text)
            assert request.values == first.values
            assert request.batch == first.batch
            assert request.consistency == first.consistency
        timestamps.append(first.timestamp)
    requests, server.on_request = failing(0)
    retrying.submit("SELECT 1").result(LIMIT)
    timestamps.append(requests[0].timestamp)
    assert None not in timestamps
    assert timestamps == sorted(set(timestamps))  # type: ignore[type-var]


def test_timestamps_of_many_at_once(server: ScriptedServer, session: Any) -> None:
    """Each of many calls that fail and are sent by whichever thread keeps its own timestamp."""
    timestamps: dict[int, list[Any]] = defaultdict(list)

    def answer(request: ServerRequest) -> None:
        number = request.parameters[0]
        timestamps[number].append(request.timestamp)
        if len(timestamps[number]) <= number % 4:
            request.error("overloaded")
        else:
            user(request)

    server.on_request = answer
    retry = Retry(delay=0.002, budget=10_000)
    with executing(session, concurrency=50, retry=retry) as executor:
        select = prepared(session, SELECT)
        for n, result in enumerate(executor.map(select, range(400), buffersize=100)):
            assert result.one() == (n, name_of(n))
    for n in range(400):
        assert len(timestamps[n]) == n % 4 + 1
        assert len(set(timestamps[n])) == 1
    assert len({each[0] for each in timestamps.values()}) == 400


def test_a_retry_does_not_overwrite_what_came_between(server: ScriptedServer, session: Any) -> None:
    """A write that was sent after the first attempt is newer than the second one."""
    clock = ManualClock()
    with executing(session, retry=Retry(delay=1, total_time=None), clock=clock) as executor:
        old = executor.submit(idempotent("INSERT 'old'"))
        server.next_request().error("overloaded")
        settle(session)
        executor.submit(idempotent("INSERT 'new'"))
        new = server.next_request()
        new.void()
        clock.advance(1)
        again = server.next_request()
        assert again.text == "INSERT 'old'"
        assert again.timestamp is not None
        assert new.timestamp is not None
        assert again.timestamp < new.timestamp
        again.void()
        old.result(LIMIT)


def test_a_users_listener_and_timestamps(server: ScriptedServer, session: Any) -> None:
    """A timestamp that a listener of the user sets is what all attempts have."""
    requests, server.on_request = failing(3)

    def on_request(response: Any) -> None:
        response.message.timestamp = 7

    session.add_request_init_listener(on_request)
    with executing(session, retry=AT_ONCE) as executor:
        executor.submit(idempotent("INSERT 1")).result(LIMIT)
    assert [request.timestamp for request in requests] == [7] * 4


def test_the_listener_goes_with_the_executor(server: ScriptedServer, session: Any) -> None:
    """What listens for timestamps is taken back when the executor is gone."""
    server.on_request = done
    before = len(session._request_init_callbacks)
    for _ in range(3):
        with CassandraExecutor(session, retry=AT_ONCE) as executor:
            executor.submit(idempotent("INSERT 1")).result(LIMIT)
        del executor

    def is_gone() -> bool:
        gc.collect()
        return len(session._request_init_callbacks) == before

    eventually(is_gone)  # when the clock has let go of it


# -- timestamps of the server

WITHOUT = {
    "a read": ("SELECT id, name FROM ks.t WHERE id = ?", (1,), True),
    "a read in small letters": ("  select id, name from ks.t where id = ?", (1,), True),
    "a write": (INSERT, (1, "Ann"), False),
    "a write with a timestamp": (USING_TIMESTAMP, (1, "Ann", 5), True),
    "a write with TTL and timestamp": (
        INSERT + " USING TTL ? AND TIMESTAMP ?", (1, "Ann", 9, 5), True,
    ),
    "a write with timestamp and TTL": (
        INSERT + " USING TIMESTAMP ? AND TTL ?", (1, "Ann", 5, 9), True,
    ),
    "an update with a timestamp": (
        "UPDATE ks.t USING TIMESTAMP ? SET name = ? WHERE id = ?", (5, "Ann", 1), True,
    ),
    "a write with a TTL": (INSERT + " USING TTL ?", (1, "Ann", 9), False),
    "a deletion": ("DELETE FROM ks.t WHERE id = ?", (1,), False),
    "words in a text": (
        "INSERT INTO ks.t (id, name) VALUES (?, ' using timestamp ')", (1,), False,
    ),
    "words in a name": (
        'INSERT INTO ks.t (id, " USING TIMESTAMP ") VALUES (?, ?)', (1, "Ann"), False,
    ),
    "words in a comment": ("INSERT INTO ks.t (id) VALUES (1) -- USING TIMESTAMP", (), False),
    "words in a longer comment": (
        "INSERT /* USING TIMESTAMP */ INTO ks.t (id) VALUES (1)", (), False,
    ),
    "a read in a comment": ("/* SELECT */ INSERT INTO ks.t (id) VALUES (1)", (), False),
}  # fmt: skip


@pytest.mark.parametrize(("text", "given_values", "again"), WITHOUT.values(), ids=WITHOUT)
def test_without_timestamps_of_the_client(
    server: ScriptedServer, session: Any, text: str, given_values: tuple[Any, ...], again: bool
) -> None:
    """Where the server sets them, only reads, and what has a timestamp of its own, is retried."""
    session.use_client_timestamp = False
    requests, server.on_request = failing(1)
    with executing(session, retry=AT_ONCE) as executor:
        future = executor.submit(prepared(session, text), *given_values)
        if again:
            future.result(LIMIT)
        else:
            error: Any = failure_of(future)
            assert any("timestamp" in note for note in error.__notes__)
        settle(session)
    assert [request.timestamp for request in requests] == [None] * (1 + again)


def test_a_batch_without_timestamps_of_the_client(server: ScriptedServer, session: Any) -> None:
    """A batch is not tried again where the server sets the timestamps."""
    session.use_client_timestamp = False
    requests, server.on_request = failing(1)
    with executing(session, retry=AT_ONCE) as executor:
        statement, _ = statements_of(session)["batch"]
        assert isinstance(failure_of(executor.submit(statement)), OverloadedErrorMessage)
        settle(session)
    assert len(requests) == 1


# -- how often, and what of it is told


def test_the_final_error_carries_the_attempts(server: ScriptedServer, session: Any) -> None:
    """The last failure has those before it, in order, and notes that count them."""
    kinds: list[ErrorKind] = ["overloaded", "unavailable", "read_timeout", "overloaded"]
    server.on_request = lambda r: r.error(kinds.pop(0))
    with executing(session, retry=Retry(delay=0, attempts=4)) as executor:
        error: Any = failure_of(executor.submit(idempotent("INSERT 1")))
        assert [type(each).__name__ for each in error.attempts] == [
            "OverloadedErrorMessage", "Unavailable", "ReadTimeout", "OverloadedErrorMessage",
        ]  # fmt: skip
        assert error.attempts[-1] is error
        assert error.__notes__[0] == "call INSERT 1"
        assert error.__notes__[1].startswith("attempt 4; before it: 1 OverloadedErrorMessage")
        assert executor.stats().failed == {"OverloadedErrorMessage": 1}
        assert executor.stats().retried == 3
    assert not kinds


def test_a_lasting_failure_after_others(server: ScriptedServer, session: Any) -> None:
    """A retry that fails for good ends the call with that failure, and all attempts."""
    kinds: list[ErrorKind] = ["overloaded", "overloaded", "invalid"]
    server.on_request = lambda r: r.error(kinds.pop(0))
    with executing(session, retry=AT_ONCE) as executor:
        error: Any = failure_of(executor.submit(idempotent("INSERT 1")))
    assert isinstance(error, InvalidRequest)
    assert [type(each).__name__ for each in error.attempts] == [
        "OverloadedErrorMessage", "OverloadedErrorMessage", "InvalidRequest",
    ]  # fmt: skip


def test_attempts_of_shared_exceptions(server: ScriptedServer, session: Any) -> None:
    """Of calls that a lost connection ends at once, each has its own attempts, or none."""
    with executing(session, retry=Retry(attempts=1)) as executor:
        plain = executor.with_options(retry=None)
        others = [plain.submit(idempotent("INSERT 2")) for _ in range(5)]
        futures = [executor.submit(idempotent("INSERT 1")) for _ in range(5)]
        server.requests(10)
        server.drop_all()
        for future in futures:
            error: Any = failure_of(future)
            assert error.attempts == (error,)
        for future in others:
            assert not hasattr(failure_of(future), "attempts")


def test_the_hook_is_told(server: ScriptedServer, session: Any) -> None:
    """`on_retry` hears of each retry: call, attempt, exception and delay, on no driver thread."""
    events: list[tuple[RetryEvent, threading.Thread]] = []
    retry = Retry(
        delay=0.002, on_retry=lambda event: events.append((event, threading.current_thread()))
    )
    _, server.on_request = failing(3)
    with executing(session, retry=retry) as executor:
        executor.submit(idempotent("INSERT 1")).result(LIMIT)
        eventually(lambda: len(events) == 3)
    assert [event.attempt for event, _ in events] == [1, 2, 3]
    for event, thread in events:
        assert event.call.statement.query_string == "INSERT 1"
        assert isinstance(event.exception, OverloadedErrorMessage)
        assert 0 <= event.delay <= 0.002 * 2**event.attempt
        assert thread.name.startswith("cassconc-helper")


def test_views_may_differ(server: ScriptedServer, session: Any) -> None:
    """`with_options(retry=...)` turns retries on, or off, for the calls of one view."""
    server.on_request = lambda r: r.error("overloaded")
    with executing(session) as executor:
        view = executor.with_options(retry=Retry(delay=0, attempts=3))
        failure_of(executor.submit(idempotent("INSERT 1")))
        failure_of(view.submit(idempotent("INSERT 1")))
        failure_of(view.with_options(retry=None).submit(idempotent("INSERT 1")))
        settle(session)
    assert server.statistics().requests == 1 + 3 + 1


def test_the_drop_ins_do_not_retry(server: ScriptedServer, session: Any) -> None:
    """They keep the driver's rules: a failure is a failure."""
    server.on_request = lambda r: r.error("overloaded")
    select = prepared(session, SELECT)
    results = execute_concurrent_with_args(session, select, [(1,)], raise_on_first_error=False)
    assert isinstance(results[0].result_or_exc, OverloadedErrorMessage)
    assert server.statistics().requests == 1


# -- together with other things


class OnceAgain(FallthroughRetryPolicy):  # type: ignore[misc]
    """A retry policy of the driver that asks the same host once more."""

    def on_request_error(self, query: Any, cl: Any, error: Any, retry_num: int) -> Any:
        """As the class says."""
        return (self.RETRY if retry_num == 0 else self.RETHROW), None


def test_the_drivers_retries_come_first(server: ScriptedServer) -> None:
    """Each attempt has the driver's own retries, of which none draws another timestamp."""
    requests, server.on_request = failing(5)
    with connected(server, profile=profile_of(retry_policy=OnceAgain())) as session:
        with executing(session, retry=AT_ONCE) as executor:
            executor.submit(idempotent("INSERT 1")).result(LIMIT)
            assert executor.stats().retried == 2
    assert len(requests) == 6
    assert len({request.timestamp for request in requests}) == 1


def test_unprepared_in_a_retry(server: ScriptedServer, session: Any) -> None:
    """A node that failed, and forgot its statements, is told them again by the driver."""

    def fail_and_forget(request: ServerRequest) -> None:
        server.on_request = user
        server.forget()
        request.error("overloaded")

    with executing(session, retry=AT_ONCE) as executor:
        select = prepared(session, SELECT)
        server.on_request = fail_and_forget
        assert executor.submit(select, 1).result(LIMIT).one() == (1, name_of(1))
    assert server.statistics().automatic["UNPREPARED"] == 1


def test_a_retry_asks_another_node() -> None:
    """Attempts are new requests, for which the load balancing policy is asked again."""
    nodes: list[str] = []

    def answer(request: ServerRequest) -> None:
        nodes.append(request.node.address)
        if len(nodes) < 3:
            request.error("overloaded")
        else:
            request.void()

    with ScriptedCluster(3, on_request=answer) as server, connected(server) as session:
        with executing(session, retry=AT_ONCE) as executor:
            executor.submit(idempotent("INSERT 1")).result(LIMIT)
        assert sorted(nodes) == sorted(server.addresses)


def test_a_retry_of_a_later_page(server: ScriptedServer, session: Any) -> None:
    """A page is a request like the first one: where that may be tried again, it is."""

    def answer(request: ServerRequest) -> None:
        if request.paging_state is None:
            request.rows(rows=[(0, "")], paging_state=b"1")
        else:
            pages.append(request)
            if len(pages) < 3:
                request.error("overloaded")
            else:
                request.rows(rows=[(1, "")])

    pages: list[ServerRequest] = []
    server.on_request = answer
    with executing(session, retry=AT_ONCE) as executor:
        result = executor.submit(prepared(session, SELECT), 1).result(LIMIT)
        assert [row.id for row in result] == [0, 1]
    assert [page.paging_state for page in pages] == [b"1"] * 3


def test_waiting_for_a_retry_holds_no_place(server: ScriptedServer, session: Any) -> None:
    """While one call waits to be tried again, others use its place; `cancel` does not catch it."""
    clock = ManualClock()
    retry = Retry(delay=1000, max_delay=1000, total_time=None)
    with executing(session, concurrency=1, retry=retry, clock=clock) as executor:
        first = executor.submit(idempotent("INSERT 1"))
        server.next_request().error("overloaded")
        for n in range(5):
            second = executor.submit(f"SELECT {n}")
            request = server.next_request()
            assert request.text == f"SELECT {n}"
            request.void()
            second.result(LIMIT)
        assert not first.cancel()
        assert executor.stats().waiting_for_retry == 1
        executor.shutdown(wait=False, cancel_futures=True)
        assert isinstance(failure_of(first), OverloadedErrorMessage)


def test_shutdown_waits_for_retries(server: ScriptedServer, session: Any) -> None:
    """`shutdown(wait=True)` returns when what was to be tried again has succeeded."""
    _, server.on_request = failing(50)
    executor = CassandraExecutor(session, 10, retry=Retry(delay=0.001, attempts=60, budget=1000))
    futures = [executor.submit(idempotent("INSERT 1")) for _ in range(30)]
    executor.shutdown(wait=True)
    assert not wait(futures, 0).not_done
    assert [future.exception() for future in futures] == [None] * 30


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[ScriptedServer, Any, Any]]:
    """A server, a session on it, and a statement, for all examples of a property."""
    with serving(5) as (server, session):
        yield server, session, prepared(session, SELECT)


@given(
    failures=st.lists(st.integers(0, 4), max_size=30),
    concurrency=st.integers(1, 8),
    buffersize=st.none() | st.integers(1, 10),
    attempts=st.integers(1, 6),
)
@settings(max_examples=60)
def test_each_is_sent_as_often_as_it_fails(
    shared: tuple[ScriptedServer, Any, Any],
    failures: list[int],
    concurrency: int,
    buffersize: int | None,
    attempts: int,
) -> None:
    """In a map each call is sent until it succeeds, or to its last attempt; the order is kept."""
    server, session, select = shared
    sent: dict[int, int] = defaultdict(int)

    def answer(request: ServerRequest) -> None:
        number = request.parameters[0]
        sent[number] += 1
        if sent[number] <= failures[number]:
            request.error("overloaded")
        else:
            user(request)

    server.on_request = answer
    retry = Retry(delay=0, attempts=attempts, budget=1000)
    with CassandraExecutor(session, concurrency, retry=retry) as executor:
        results = list(
            executor.map(
                select, range(len(failures)), buffersize=buffersize, return_exceptions=True
            )
        )
    for n, (result, times) in enumerate(zip(results, failures)):
        if times < attempts:
            assert result.one() == (n, name_of(n))
        else:
            assert isinstance(result, OverloadedErrorMessage)
            assert len(result.attempts) == attempts  # type: ignore[attr-defined]
        assert sent[n] == min(times + 1, attempts)
    assert len(results) == len(failures)


def test_time_limits_are_each_attempts_own(server: ScriptedServer, session: Any) -> None:
    """The last attempt's time-out is the call's error, with all attempts."""
    clock = ManualClock()
    with executing(session, retry=Retry(attempts=3, delay=0), clock=clock) as executor:
        future = executor.with_options(timeout=2.0).submit(idempotent("SELECT 1"))
        for _ in range(3):
            server.next_request()
            clock.advance(1.9)
            assert not future.done()
            clock.advance(0.1)
        error: Any = failure_of(future)
    assert [type(each) for each in error.attempts] == [OperationTimedOut] * 3
