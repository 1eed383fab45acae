"""Promise 17: a request has the time limit that the driver would have given it."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import ExecutionProfile
from cassandra.policies import ConstantSpeculativeExecutionPolicy
from cassandra.query import SimpleStatement
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, execute_concurrent
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.driver import DriverSession
from tests.parts import needs
from tests.waits import LIMIT, Background


def ends_at(clock: ManualClock, future: Any, limit: float) -> None:
    """Check that a future that was sent just now ends at its limit, and not before."""
    clock.advance(limit * 0.999)
    assert not future.done(), f"it ended before its limit of {limit} s"
    clock.advance(limit * 0.002)
    assert future.done(), f"it has not ended at its limit of {limit} s"
    assert type(future.exception(0)) is OperationTimedOut


@pytest.mark.parametrize("limit", [0.01, 0.2, 1.0, 10.0, 3_600.0])
def test_the_limit_is_that_of_the_profile(clock: ManualClock, limit: float) -> None:
    """Without an option, a request ends at the `request_timeout` of its execution profile."""
    executor = CassandraExecutor(ScriptedSession(request_timeout=limit), clock=clock)
    ends_at(clock, executor.submit("SELECT 1"), limit)


@pytest.mark.parametrize("limit", [0.01, 0.3, 7, 100.0])
def test_the_limit_is_that_of_the_option(clock: ManualClock, limit: float) -> None:
    """The option `timeout` wins over the profile, and views of the view inherit it."""
    executor = CassandraExecutor(DriverSession(request_timeout=10.0), clock=clock)
    view = executor.with_options(timeout=limit)
    ends_at(clock, view.submit("SELECT 1"), limit)
    ends_at(clock, view.with_options(trace=True).submit("SELECT 1"), limit)
    ends_at(clock, executor.submit("SELECT 1"), 10.0)


def test_a_view_with_another_profile_has_its_limit(clock: ManualClock) -> None:
    """The profile that a view names, or is given, sets its limit."""
    session = DriverSession()
    session.profiles["slow"] = ExecutionProfile(
        request_timeout=100.0,
        load_balancing_policy=next(iter(session.profiles.values())).load_balancing_policy,
    )
    executor = CassandraExecutor(session, clock=clock)
    ends_at(clock, executor.with_options(execution_profile="slow").submit("SELECT 1"), 100.0)
    own = session.execution_profile_clone_update("slow", request_timeout=3.0)
    ends_at(clock, executor.with_options(execution_profile=own).submit("SELECT 1"), 3.0)


@pytest.mark.parametrize("limit", [4.0, 10.0, 30.0])
def test_a_session_without_profiles_has_its_default_timeout(
    clock: ManualClock, limit: float
) -> None:
    """In legacy mode the limit is the session's `default_timeout`."""
    session = DriverSession(legacy=True)
    session.default_timeout = limit
    ends_at(clock, CassandraExecutor(session, clock=clock).submit("SELECT 1"), limit)


def test_a_session_without_profiles_may_have_no_limit(clock: ManualClock) -> None:
    """In legacy mode a `default_timeout` of None is no limit."""
    session = DriverSession(legacy=True)
    session.default_timeout = None
    future = CassandraExecutor(session, clock=clock).submit("SELECT 1")
    clock.advance(1000.0)
    assert not future.done()


@pytest.mark.parametrize(("profile", "options"), [(None, {}), (10.0, {"timeout": None})])
def test_none_is_no_limit(
    clock: ManualClock, profile: Optional[float], options: Dict[str, Any]
) -> None:
    """`None`, of the profile or as an option, lets a request wait for ever; its answer counts."""
    session = ScriptedSession(request_timeout=profile)
    future = CassandraExecutor(session, clock=clock).with_options(**options).submit("SELECT 1")
    clock.advance(1000.0)
    assert not future.done()
    session.pending[0].succeed([(1,)], ["one"])
    assert future.result(0).one() == (1,)


def test_the_exception_is_what_the_driver_would_raise(clock: ManualClock) -> None:
    """It tells which host did not answer, in the driver's words."""
    session, drivers = [DriverSession(hosts=["one", "two"]) for _ in range(2)]
    response = drivers.execute_async("SELECT 1", timeout=10.0)
    response._on_timeout()
    expected = response._final_exception
    future = CassandraExecutor(session, clock=clock).submit("SELECT 1")
    clock.advance(10.0)
    error = future.exception(0)
    assert isinstance(error, OperationTimedOut)
    assert error.errors == expected.errors
    assert error.last_host is session.hosts[0]
    assert expected.last_host is drivers.hosts[0]
    assert str(error) == str(expected)


def test_waiting_for_its_turn_is_not_counted(session: ScriptedSession, clock: ManualClock) -> None:
    """The limit starts when a call is sent, however long it waited before."""
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    executor.with_options(timeout=None).submit("SELECT 1")
    second = executor.submit("SELECT 2")
    clock.advance(1000.0)
    session.pending[0].succeed()
    ends_at(clock, second, 10.0)


def test_a_call_that_has_timed_out_makes_room(session: ScriptedSession, clock: ManualClock) -> None:
    """Who waits is sent when the call before it has reached its limit."""
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    futures = [executor.submit(f"SELECT {n}") for n in range(3)]
    for sent in range(1, 4):
        assert len(session.wait_for(sent)) == sent
        clock.advance(10.0)
    assert [type(future.exception(LIMIT)) for future in futures] == [OperationTimedOut] * 3


@pytest.mark.parametrize("ending", ["succeed", "fail"])
def test_a_late_answer_changes_nothing(
    session: ScriptedSession, clock: ManualClock, ending: str
) -> None:
    """What comes after the limit is not heard any more, and its place is not freed twice."""
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    first = executor.submit("SELECT 1")
    clock.advance(10.0)
    late = session.requests[0]
    seconds = [executor.submit("SELECT 2"), executor.submit("SELECT 3")]
    late.succeed() if ending == "succeed" else late.fail(ValueError())
    assert type(first.exception(0)) is OperationTimedOut
    assert len(session.requests) == 2
    assert not any(future.done() for future in seconds)
    assert executor.stats().in_flight == 1


def test_an_answer_at_the_last_moment_counts(session: ScriptedSession, clock: ManualClock) -> None:
    """A call whose answer comes before its limit has that answer, whatever the time says later."""
    future = CassandraExecutor(session, clock=clock).submit("SELECT 1")
    clock.advance(9.999)
    session.pending[0].succeed([(1,)], ["one"])
    clock.advance(100.0)
    assert future.result(0).one() == (1,)


def test_the_limit_holds_while_the_driver_is_still_sending(clock: ManualClock) -> None:
    """A call may reach its limit before `execute_async` has returned, and its answer is late."""

    # 1. execute_async is called  2. the limit is reached  3. it is answered  4. it returns
    def respond(request: ScriptedRequest) -> None:
        clock.advance(10.0)
        request.succeed()

    executor = CassandraExecutor(ScriptedSession(respond), clock=clock)
    future = executor.submit("SELECT 1")
    assert type(future.exception(LIMIT)) is OperationTimedOut
    assert executor.stats().in_flight == 0


@needs("give_up")
def test_a_late_answer_gives_its_stream_back(clock: ManualClock) -> None:
    """The stream of a request that has timed out is used by nobody else until its answer comes."""
    session = DriverSession()
    executor = CassandraExecutor(session, clock=clock)
    executor.submit("SELECT 1")
    clock.advance(10.0)
    assert session.connection().in_flight == 1
    assert session.connection().orphaned_request_ids == {session.requests[0].stream}
    executor.submit("SELECT 2")
    assert session.requests[1].stream != session.requests[0].stream
    for request in session.requests:
        request.rows([(1,)], ["one"])
    assert session.connection().in_flight == 0
    assert not session.connection().orphaned_request_ids


def test_the_stream_of_another_request_is_not_taken(clock: ManualClock) -> None:
    """A time-out after a retry on the same host does no harm to who has the first stream now.

    The driver's own `_on_timeout` drops that other request: its answer is lost.
    """
    session = DriverSession()
    executor = CassandraExecutor(session, clock=clock)
    slow = executor.submit("SELECT 1")
    session.requests[0].read_timeout()  # 1. the driver is going to try it again
    other = executor.with_options(timeout=None).submit("SELECT 2")  # 2. on the stream of the first
    assert session.requests[1].stream == session.requests[0].stream
    session.run_tasks()  # 3. now it is sent again, on another stream
    assert len(session.requests) == 3
    clock.advance(10.0)  # 4. and is not answered
    assert type(slow.exception(0)) is OperationTimedOut
    session.requests[1].rows([(2,)], ["two"])
    assert other.result(0).one() == (2,)


@needs("give_up")
def test_what_has_timed_out_is_not_sent_again_by_the_driver(clock: ManualClock) -> None:
    """The driver's retry policy does nothing more for a call that has ended."""
    session = DriverSession()
    future = CassandraExecutor(session, clock=clock).submit("SELECT 1")
    clock.advance(10.0)
    session.requests[0].read_timeout()
    session.run_tasks()
    assert len(session.requests) == 1
    assert type(future.exception(0)) is OperationTimedOut


def test_the_limit_holds_with_speculative_executions(clock: ManualClock) -> None:
    """A request that the driver sends to several hosts has one limit, from the first of them."""
    policy = ConstantSpeculativeExecutionPolicy(delay=0.5, max_attempts=5)
    session = DriverSession(hosts=["one", "two"], speculative_execution_policy=policy)
    executor = CassandraExecutor(session, clock=clock)
    future = executor.submit(SimpleStatement("SELECT 1", is_idempotent=True))
    assert session.timers == 1, "the speculative execution needs one"
    ends_at(clock, future, 10.0)


def page(session: DriverSession, number: int, more: bool) -> None:
    """Answer a request with a page of one row."""
    state = b"%d" % number if more else None
    session.wait_for(number).rows([(number,)], ["n"], paging_state=state)


def test_each_page_has_the_full_limit_from_its_own_send(clock: ManualClock) -> None:
    """A later page may be asked for long after the first one, and then has all of its limit."""
    session = DriverSession()
    future = CassandraExecutor(session, clock=clock).submit("SELECT n")
    page(session, 1, True)
    rows = future.result(0)
    for number in (2, 3):
        clock.advance(1000.0)
        fetching = Background(rows.fetch_next_page)
        session.wait_for(number)
        clock.advance(9.99)
        page(session, number, True)
        fetching.result()
        assert rows.one() == (number,)
    clock.advance(1000.0)
    fetching = Background(rows.fetch_next_page)
    session.wait_for(4)
    clock.advance(9.99)
    assert fetching._thread.is_alive()
    clock.advance(0.02)
    with pytest.raises(OperationTimedOut):
        fetching.result()


def test_a_page_that_timed_out_can_be_asked_for_again(clock: ManualClock) -> None:
    """The late answer of the first attempt is not taken for a page, and no row comes twice."""
    session = DriverSession()
    future = CassandraExecutor(session, clock=clock).with_options(timeout=5).submit("SELECT n")
    page(session, 1, True)
    rows = future.result(0)
    seen = [next(iter(rows))]
    fetching = Background(rows.fetch_next_page)
    late = session.wait_for(2)
    clock.advance(5.0)
    with pytest.raises(OperationTimedOut):
        fetching.result()
    assert rows.has_more_pages
    again = Background(rows.fetch_next_page)
    session.wait_for(3)
    late.rows([("late",)], ["n"], paging_state=b"late")
    page(session, 3, False)
    again.result()
    seen += list(rows)
    assert seen == [(1,), (3,)]
    assert not rows.has_more_pages


def test_the_drop_ins_have_the_limit_of_their_profile() -> None:
    """`execute_concurrent` ends a request that is not answered by the profile's limit."""
    session = DriverSession(request_timeout=0.01)
    running = Background(
        lambda: execute_concurrent(session, [("SELECT 1", None)], raise_on_first_error=False)
    )
    [(success, error)] = running.result()
    assert not success
    assert type(error) is OperationTimedOut


# What happens: a call is sent with a time limit, a call is answered, time passes.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.none() | st.integers(1, 30)),
        st.tuples(st.just("answer"), st.integers(0, 30)),
        st.tuples(st.just("pass"), st.integers(0, 12)),
    ),
    max_size=40,
)


@given(STEPS)
def test_each_call_ends_at_its_own_limit(steps: List[Tuple[str, Optional[int]]]) -> None:
    """With many limits at once, what has not been answered ends at its time, nothing else does."""
    session, clock = ScriptedSession(), ManualClock()
    executor = CassandraExecutor(session, clock=clock)
    futures: List[Any] = []
    ends: List[float] = []  # when each call reaches its limit; it was answered: infinity
    for what, number in steps:
        if what == "send":
            futures.append(executor.with_options(timeout=number).submit("SELECT 1"))
            ends.append(math.inf if number is None else clock.monotonic() + number)
        elif what == "answer" and number is not None and number < len(futures):
            if not futures[number].done():
                session.requests[number].succeed()
                ends[number] = math.inf
        elif what == "pass" and number is not None:
            clock.advance(number)
        note(f"{what} {number}: it is {clock.monotonic()}")
        timed_out = [f.done() and isinstance(f.exception(0), OperationTimedOut) for f in futures]
        assert timed_out == [end <= clock.monotonic() for end in ends]


def test_the_limit_is_kept_on_every_way_in(clock: ManualClock) -> None:
    """`submit`, `map`, `starmap` and `execute_concurrent` all have it."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, clock=clock)
    ways: List[Callable[[], Any]] = [
        lambda: executor.map("SELECT %s", [1], return_exceptions=True),
        lambda: executor.starmap("SELECT %s", [(1,)], return_exceptions=True),
        lambda: executor.execute_concurrent([("SELECT %s", (1,))], return_exceptions=True),
    ]
    results = [way() for way in ways]
    clock.advance(10.0)
    assert [type(next(result)) for result in results] == [OperationTimedOut] * 3
