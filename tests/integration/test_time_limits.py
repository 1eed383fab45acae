"""Promise 17 with the real driver: a request has the driver's time limit, and no other harm."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import zip_longest
from typing import Any

import pytest
from cassandra import OperationTimedOut
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    FallthroughRetryPolicy,
    RetryPolicy,
)
from cassandra.query import SimpleStatement

from cassconc import CassandraExecutor, execute_concurrent, execute_concurrent_with_args
from cassconc.testing import ManualClock
from tests.integration.helpers import (
    INSERT,
    LIMIT,
    SELECT,
    Connection,
    Timed,
    asked,
    connected,
    done,
    executing,
    failure_of,
    in_flight,
    name_of,
    profile_of,
    settle,
    user,
)
from tests.protocol import ScriptedCluster, ScriptedServer, ServerRequest
from tests.waits import Background, eventually

SHORT = 0.4  # seconds; a tenth of it and 50 ms are what it may be exceeded by
LONG = 60.0


class Narrow(Connection):  # type: ignore[misc]
    """A connection of 200 streams, so that they are soon used again."""

    max_in_flight = 200


class RetryOnSameHost(FallthroughRetryPolicy):  # type: ignore[misc]
    """Asks the same host again, once, whatever it answered."""

    def on_request_error(self, query: Any, cl: Any, error: Any, retry_num: int) -> Any:
        """As the class says."""
        return (self.RETRY if retry_num == 0 else self.RETHROW), None


# -- where the limit comes from


@contextmanager
def of_the_default_profile(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit in the default profile."""
    with connected(server, profile=profile_of(request_timeout=SHORT)) as session:
        with executing(session) as executor:
            yield executor


@contextmanager
def of_a_profile_by_name(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit in another profile, given by name."""
    profiles = {"short": profile_of(request_timeout=SHORT)}
    with connected(server, profiles=profiles) as session, executing(session) as executor:
        yield executor.with_options(execution_profile="short")


@contextmanager
def of_a_profile_object(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit in a profile that has no name."""
    with connected(server, profiles={"other": profile_of()}) as session:
        clone = session.execution_profile_clone_update("other", request_timeout=SHORT)
        with executing(session) as executor:
            yield executor.with_options(execution_profile=clone)


@contextmanager
def of_the_option(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit as an option of the request."""
    with connected(server) as session, executing(session) as executor:
        yield executor.with_options(timeout=SHORT)


@contextmanager
def of_the_option_before_the_profile(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit as an option, and another one in the profile."""
    profiles = {"long": profile_of(request_timeout=LONG)}
    with connected(server, profiles=profiles) as session, executing(session) as executor:
        yield executor.with_options(timeout=SHORT).with_options(execution_profile="long")


@contextmanager
def of_a_session_without_profiles(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit of a session in legacy mode."""
    with connected(server, legacy=True) as session, executing(session) as executor:
        session.default_timeout = SHORT
        yield executor


@contextmanager
def with_speculative_executions(server: ScriptedServer) -> Iterator[CassandraExecutor]:
    """A limit in a profile with speculative executions."""
    policy = ConstantSpeculativeExecutionPolicy(0.1, 3)
    profile = profile_of(request_timeout=SHORT, speculative_execution_policy=policy)
    with connected(server, profile=profile) as session, executing(session) as executor:
        yield executor


SOURCES = [
    of_the_default_profile,
    of_a_profile_by_name,
    of_a_profile_object,
    of_the_option,
    of_the_option_before_the_profile,
    of_a_session_without_profiles,
    with_speculative_executions,
]
Source = Callable[[ScriptedServer], AbstractContextManager[CassandraExecutor]]


@pytest.mark.parametrize("source", SOURCES, ids=[each.__name__ for each in SOURCES])
def test_a_request_ends_at_its_limit(source: Source) -> None:
    """A request without an answer ends at the limit that the driver would have set, in time."""
    with ScriptedServer() as server, source(server) as executor:
        statement = SimpleStatement("SELECT 1", is_idempotent=True)
        with Timed() as timed:
            error = failure_of(executor.submit(statement))
        assert isinstance(error, OperationTimedOut)
        timed.assert_limit(SHORT)


def test_a_thousand_requests_end_at_their_limit() -> None:
    """The limit is kept for all of many requests, and each ends with an error of its own."""
    with ScriptedServer() as server, connected(server) as session:
        with executing(session, 1000) as executor:
            view = executor.with_options(timeout=1.0)
            futures = [view.submit("SELECT 1") for _ in range(1000)]
            with Timed() as timed:  # the last one was sent just now, the others before it
                errors = [failure_of(future) for future in futures]
    assert {type(error) for error in errors} == {OperationTimedOut}
    assert len(set(map(id, errors))) == 1000
    assert timed.seconds <= 1.15 + timed.lateness


def test_the_drop_ins_have_the_limits_of_the_profile() -> None:
    """`execute_concurrent` and its kin end what has no answer at the limit of their profile."""
    profiles = {"short": profile_of(request_timeout=SHORT)}
    with ScriptedServer() as server, connected(server, profiles=profiles) as session:
        with Timed() as timed, pytest.raises(OperationTimedOut):
            execute_concurrent(session, [("SELECT 1", None)] * 3, execution_profile="short")
        timed.assert_limit(SHORT)
        clone = session.execution_profile_clone_update("short")
        with Timed() as timed:
            results = execute_concurrent_with_args(
                session,
                "SELECT %s",
                [(n,) for n in range(3)],
                raise_on_first_error=False,
                results_generator=True,
                execution_profile=clone,
            )
            outcomes = [(each.success, type(each.result_or_exc)) for each in results]
        assert outcomes == [(False, OperationTimedOut)] * 3
        timed.assert_limit(SHORT)


def test_a_session_without_profiles_may_change_its_limit(version: int) -> None:
    """`session.default_timeout` counts as it is when a request is sent, `None` is no limit."""
    clock = ManualClock()
    with ScriptedServer(protocol_versions=[version]) as server:
        with connected(server, legacy=True) as session, executing(session, clock=clock) as executor:
            usual = executor.submit("SELECT 1")
            session.default_timeout = 3.0
            short = executor.submit("SELECT 1")
            session.default_timeout = None
            unlimited = executor.submit("SELECT 1")
            own = executor.with_options(timeout=5.0).submit("SELECT 1")
            server.requests(4)
            futures = [usual, short, unlimited, own]
            ended = []
            for seconds in (2.9, 0.1, 1.9, 0.1, 4.9, 0.1, 100.0):
                clock.advance(seconds)
                ended.append([future.done() for future in futures])
            assert ended == [
                [False, False, False, False],
                [False, True, False, False],
                [False, True, False, False],
                [False, True, False, True],
                [False, True, False, True],
                [True, True, False, True],
                [True, True, False, True],
            ]
            server.unanswered[2].rows([("one", "int")], [(1,)])
            assert unlimited.result(LIMIT).one().one == 1


# -- what the limit is


def test_the_error_is_that_of_the_driver(server: ScriptedServer, session: Any) -> None:
    """It says the same as the driver's own: which host was asked, and what to do about it."""
    with pytest.raises(OperationTimedOut) as caught:
        session.execute("SELECT 1", timeout=0.05)
    with executing(session) as executor:
        error: Any = failure_of(executor.with_options(timeout=0.05).submit("SELECT 1"))
    assert type(error) is OperationTimedOut
    assert error.errors == caught.value.errors
    assert error.last_host is caught.value.last_host
    assert str(error).startswith(f"errors={error.errors}, last_host={error.last_host}")


def test_limits_of_views_are_apart(server: ScriptedServer, session: Any) -> None:
    """Calls of several views end each at its own limit, whatever the order in which they began."""
    clock = ManualClock()
    with executing(session, clock=clock) as executor:
        limits = [5.0, 1, 3.0, None, 0.25, math.inf, 2]
        futures = [executor.with_options(timeout=limit).submit("SELECT 1") for limit in limits]
        server.requests(len(limits))
        for now in (0.24, 0.25, 0.99, 1.0, 1.99, 2.0, 2.99, 3.0, 4.99, 5.0, 100.0):
            clock.advance(now - clock.monotonic())
            ended = [future.done() for future in futures]
            assert ended == [limit is not None and limit <= now for limit in limits], now
        for request in server.unanswered:
            request.void()
        assert [type(future.exception(LIMIT)) for future in (futures[3], futures[5])] == [
            type(None)
        ] * 2


def test_no_limit_is_no_limit(server: ScriptedServer, session: Any) -> None:
    """With `timeout=None` a request waits for its answer, however long."""
    clock = ManualClock()
    with executing(session, clock=clock) as executor:
        future = executor.with_options(timeout=None).submit("SELECT 1")
        request = server.next_request()
        clock.advance(100)
        assert not future.done()
        request.rows([("one", "int")], [(1,)])
        assert future.result(LIMIT).one().one == 1


def test_a_limit_of_nothing_ends_at_once(server: ScriptedServer, session: Any) -> None:
    """`timeout=0` is a limit, too, as it is for the driver."""
    with executing(session) as executor:
        error = failure_of(executor.with_options(timeout=0).submit("SELECT 1"))
    assert isinstance(error, OperationTimedOut)


def test_what_timed_out_leaves_its_place(server: ScriptedServer, session: Any) -> None:
    """The next call is sent when the one before it ran into its limit, its answer still owed."""
    clock = ManualClock()
    with executing(session, concurrency=1, clock=clock) as executor:
        futures = [executor.submit(f"SELECT {n}") for n in range(3)]
        for n in range(3):
            assert server.next_request().text == f"SELECT {n}"
            clock.advance(LIMIT)
            assert isinstance(failure_of(futures[n]), OperationTimedOut)
        assert server.statistics().unanswered == 3
        assert executor.stats().failed == {"OperationTimedOut": 3}


def test_each_page_has_the_limit_again(server: ScriptedServer, session: Any) -> None:
    """A later page may take as long as the first one, from its own send; then it has timed out."""
    clock = ManualClock()
    with executing(session, clock=clock) as executor:
        future = executor.submit("SELECT id FROM ks.t")
        clock.advance(0.9 * LIMIT)
        server.next_request().rows([("id", "int")], [(0,)], paging_state=b"1")
        result = future.result(LIMIT)
        for page, state in ((1, b"2"), (2, b"3")):
            with in_background(result.fetch_next_page):
                request = server.next_request()
                clock.advance(0.9 * LIMIT)
                request.rows([("id", "int")], [(page,)], paging_state=state)
            assert result.current_rows == [(page,)]
        with in_background(result.fetch_next_page) as outcome:
            late = server.next_request()
            clock.advance(0.9 * LIMIT)
            assert not outcome
            clock.advance(0.1 * LIMIT)
        assert isinstance(outcome[0], OperationTimedOut)
        late.rows([("id", "int")], [(-1,)], paging_state=b"wrong")
        settle(session)
        assert (result.current_rows, result.paging_state) == ([(2,)], b"3")
        with in_background(result.fetch_next_page) as outcome:
            again = server.next_request()
            assert again.paging_state == b"3"
            again.rows([("id", "int")], [(3,)])
        assert outcome == [None]
        assert (result.current_rows, result.has_more_pages) == ([(3,)], False)
        assert in_flight(session) == 0


@contextmanager
def in_background(code: Callable[[], object]) -> Iterator[list[object]]:
    """Run `code` on another thread and wait for it; gives what it returned or raised."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(code())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield outcome
    thread.join(LIMIT)
    assert not thread.is_alive(), "still waits"


# -- late answers


def test_a_late_answer_harms_nobody(server: ScriptedServer) -> None:
    """Its stream comes back with it, and every other request gets its own answer."""
    clock = ManualClock()
    with connected(server, connection_class=Narrow) as session:
        with executing(session, concurrency=120, clock=clock) as executor:
            select = session.prepare(SELECT)
            silent: list[ServerRequest] = []
            late = iter(silent)

            def answer(request: ServerRequest) -> None:
                if request.parameters[0] % 7 == 0:
                    silent.append(request)
                else:
                    user(request)

            def answer_late_ones_too(request: ServerRequest) -> None:
                for owed in late:
                    user(owed)
                    break
                user(request)

            server.on_request = answer
            futures = [executor.submit(select, n) for n in range(700)]
            eventually(lambda: sum(future.done() for future in futures) == 600)
            settle(session)
            assert in_flight(session) == len(silent) == 100
            clock.advance(LIMIT)
            for n, future in enumerate(futures):
                if n % 7 == 0:
                    assert isinstance(failure_of(future), OperationTimedOut)
                else:
                    assert future.result(0).one() == (n, name_of(n))
            assert in_flight(session) == 100
            server.on_request = answer_late_ones_too
            more = [executor.submit(select, n) for n in range(1000, 1700)]
            for n, future in enumerate(more, 1000):
                assert future.result(LIMIT).one() == (n, name_of(n))
            assert in_flight(session) == 0
            assert server.statistics().requests == 1400


LATE: dict[str, Callable[[ServerRequest], object]] = {
    "nothing": done,
    "rows": user,
    "more pages": lambda r: r.rows(rows=[(-1, "wrong")], paging_state=b"more"),
    "overloaded": lambda r: r.error("overloaded"),
    "read time-out": lambda r: r.error("read_timeout", received_responses=1),
    "unavailable": lambda r: r.error("unavailable"),
    "unprepared": lambda r: r.error("unprepared"),
    "invalid": lambda r: r.error("invalid"),
    "a changed keyspace": lambda r: r.set_keyspace("ks"),
    "a changed schema": lambda r: r.schema_change("CREATED", "TABLE", "ks", "t"),
    "twice": lambda r: r.respond(8, b"\0\0\0\1") and r.settle(),
}


@pytest.mark.parametrize("answer", LATE.values(), ids=LATE)
def test_a_late_answer_of_any_kind(
    server: ScriptedServer, answer: Callable[[ServerRequest], object], parts: str
) -> None:
    """Whatever it says, nothing is sent because of it, and its stream comes back."""
    clock = ManualClock()
    profile = profile_of(retry_policy=RetryOnSameHost())
    with connected(server, profile=profile) as session:
        with executing(session, clock=clock) as executor:
            select = session.prepare(SELECT)
            future = executor.submit(select, 1)
            request = server.next_request()
            clock.advance(LIMIT)
            assert isinstance(failure_of(future), OperationTimedOut)
            server.on_request = user
            answer(request)
            eventually(lambda: in_flight(session) == 0)
            settle(session)
            assert executor.submit(select, 2).result(LIMIT).one() == (2, name_of(2))
            settle(session)
            if parts == "private":  # else the driver's retry policy decides, unheard
                assert server.statistics().requests == 2
            assert isinstance(failure_of(future), OperationTimedOut)


def test_a_limit_after_a_retry_of_the_driver(server: ScriptedServer) -> None:
    """What the driver sent a second time ends as well, and takes no other request's answer.

    The driver's own time-out frees the stream of another request here, whose answer is lost.
    """
    clock = ManualClock()
    profile = profile_of(retry_policy=RetryOnSameHost())
    with connected(server, profile=profile) as session:
        with executing(session, clock=clock) as executor:
            select = session.prepare(SELECT)
            futures = [executor.submit(select, n) for n in range(20)]
            first = server.requests(20)
            for request in first:
                request.error("overloaded")
            second = server.requests(20)
            others = [executor.submit(select, n) for n in range(100, 120)]
            third = server.requests(20)
            assert sorted(asked(second)) == list(range(20))  # the driver has two threads for it
            clock.advance(LIMIT)  # for all; the others were just sent in the same instant
            assert {type(failure_of(each)) for each in futures + others} == {OperationTimedOut}
            fresh = [executor.submit(select, n) for n in range(200, 260)]
            for pair in zip_longest(second + third, server.requests(60)):
                for request in filter(None, pair):
                    user(request)
            for n, future in enumerate(fresh, 200):
                assert future.result(LIMIT).one() == (n, name_of(n))
            settle(session)
            assert in_flight(session) == 0


def test_the_time_out_tells_what_other_hosts_have_answered() -> None:
    """As the driver's: the errors of the hosts that were asked before the one that is silent."""
    with ScriptedCluster(2) as server, connected(server, profile=profile_of(
        retry_policy=RetryPolicy(), request_timeout=SHORT
    )) as session, executing(session) as executor:  # fmt: skip

        def answer(request: ServerRequest) -> None:
            asked_first.setdefault(request.text, request.node)
            if request.node == asked_first[request.text]:
                request.error("overloaded")

        asked_first: dict[str, Any] = {}
        server.on_request = answer
        told = []
        for text, code in (
            ("SELECT 1", executor.submit),
            ("SELECT 2", lambda text: Background(session.execute_async(text).result)),
        ):
            error: Any = None
            try:
                code(text).result()
            except OperationTimedOut as raised:
                error = raised
            told.append([type(each).__name__ for each in error.errors.values()])
        assert told[0] == told[1] == ["OverloadedErrorMessage"]


def test_late_answers_to_speculative_executions() -> None:
    """Executions on several hosts end together at the limit; each host's stream comes back."""
    clock = ManualClock()
    policy = ConstantSpeculativeExecutionPolicy(0.01, 2)
    profile = profile_of(speculative_execution_policy=policy)
    with ScriptedCluster(3) as server, connected(server, profile=profile) as session:
        with executing(session, clock=clock) as executor:
            statement = SimpleStatement("SELECT 1", is_idempotent=True)
            future = executor.submit(statement)
            requests = server.requests(3)
            assert {each.node for each in requests} == set(server.nodes)
            clock.advance(LIMIT)
            assert isinstance(failure_of(future), OperationTimedOut)
            assert in_flight(session) == 3
            for n, request in enumerate(requests):
                request.rows([("n", "int")], [(n,)])
                eventually(lambda left=2 - n: in_flight(session) == left)  # type: ignore[misc]
            assert isinstance(failure_of(future), OperationTimedOut)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_streams_come_back_with_their_connection(
    server: ScriptedServer, session: Any, reset: bool
) -> None:
    """What never gets its late answer holds no stream of the connection that comes next."""
    clock = ManualClock()
    with executing(session, clock=clock) as executor:
        futures = [executor.submit("SELECT 1") for _ in range(50)]
        server.requests(50)
        clock.advance(LIMIT)
        assert {type(failure_of(future)) for future in futures} == {OperationTimedOut}
        assert in_flight(session) == 50
        server.drop_all(reset=reset)
        server.on_request = done
        eventually(lambda: len(server.connections) == 2 and pool_is_open(session))
        insert = session.prepare(INSERT)
        for n in range(50):
            executor.submit(insert, n, "").result(LIMIT)
        eventually(lambda: in_flight(session) == 0)


def pool_is_open(session: Any) -> bool:
    """Whether the session has an open connection to each of its hosts."""
    states = session.get_pool_state().values()
    return bool(states) and all(each["open_count"] > 0 for each in states)


def test_answer_and_limit_at_once(server: ScriptedServer, session: Any) -> None:
    """Of an answer and the limit at the same moment one counts, and no stream is lost."""
    clock = ManualClock()
    with executing(session, concurrency=1000, clock=clock) as executor:
        select = session.prepare(SELECT)
        for start in range(0, 2000, 200):
            numbers = range(start, start + 200)
            futures = [executor.submit(select, n) for n in numbers]
            requests = server.requests(200)
            together = threading.Barrier(2, timeout=LIMIT)

            def answer(requests: list[ServerRequest] = requests, together: Any = together) -> None:
                together.wait()
                for request in requests:
                    user(request)

            with in_background(answer):
                together.wait()
                clock.advance(LIMIT)
            for n, future in zip(numbers, futures):
                error = future.exception(LIMIT)
                if error is None:
                    assert future.result().one() == (n, name_of(n))
                else:
                    assert isinstance(error, OperationTimedOut)
        settle(session)
        assert in_flight(session) == 0
        counts = executor.stats()
        assert counts.succeeded + counts.failed.get("OperationTimedOut", 0) == 2000
