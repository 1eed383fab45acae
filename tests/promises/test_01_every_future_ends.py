"""Promise 1: every future ends. Nothing that anyone's code does leaves one pending for ever."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import Future, TimeoutError, wait
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable, List, Optional, Set
from unittest.mock import Mock

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.query import SimpleStatement
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.immediate import ImmediateSession
from tests.stage import statements
from tests.waits import LIMIT, Background, end_all, eventually, occurs, outcome

IDEMPOTENT = SimpleStatement("SELECT 1", is_idempotent=True)


# Whatever becomes of the requests

# What becomes of a request, and with what its future ends while the session is open.
FATES = {
    "succeeds": None,
    "fails": InvalidRequest,
    "succeeds inside execute_async": None,
    "fails inside execute_async": InvalidRequest,
    "makes execute_async raise": InvalidRequest,
    "succeeds twice": None,
    "fails, then succeeds": InvalidRequest,
    "is never answered": OperationTimedOut,
}


def act_at_once(fate: str, request: ScriptedRequest) -> None:
    """Do what happens to a request inside `execute_async`."""
    if fate == "succeeds inside execute_async":
        request.succeed()
    elif fate == "fails inside execute_async":
        request.fail(InvalidRequest("scripted"))
    elif fate == "makes execute_async raise":
        raise InvalidRequest("scripted")


def act_later(fate: str, request: ScriptedRequest) -> None:
    """Do what happens to a request when its turn to be answered has come."""
    if fate in ("fails", "fails, then succeeds"):
        request.fail(InvalidRequest("scripted"))
    if fate in ("succeeds", "succeeds twice"):
        request.succeed()
    if fate in ("succeeds twice", "fails, then succeeds"):
        request.succeed()


@given(
    fates=st.lists(st.sampled_from(list(FATES)), min_size=1, max_size=12),
    picks=st.lists(st.integers(0, 11), max_size=12),
    concurrency=st.integers(1, 4),
    shut_down=st.booleans(),
)
def test_each_future_ends_as_its_request_did(
    fates: List[str], picks: List[int], concurrency: int, shut_down: bool
) -> None:
    """Whatever becomes of the requests, in whatever order: each future ends, and rightly so.

    What is in flight when the session is shut down ends with `ConnectionShutdown`, and what waits
    with that or with the driver's refusal.
    """
    clock = ManualClock()
    is_over = False

    def respond(request: ScriptedRequest) -> None:
        act_at_once(fate_of(request), request)
        if is_over:
            act_later(fate_of(request).partition(",")[0], request)

    def fate_of(request: ScriptedRequest) -> str:
        return fates[int(request.statement.query_string)]

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, concurrency, clock=clock)
    futures = [executor.submit(str(number)) for number in range(len(fates))]
    for pick in picks:
        pending = session.pending
        if pending:
            request = pending[pick % len(pending)]
            act_later(fate_of(request), request)
    expected: List[Set[Any]] = [{FATES[fate]} for fate in fates]
    if shut_down:
        for number, future in enumerate(futures):
            if not future.done():
                expected[number] = {ConnectionShutdown}
                if not future.running():
                    expected[number].add(NoHostAvailable)
        session.shutdown()
    is_over = True
    for request in session.pending:
        act_later(fate_of(request), request)
    errors = end_all(futures, clock)
    note(str(session.history))
    for error, possible in zip(errors, expected):
        assert (error if error is None else type(error)) in possible


@pytest.mark.parametrize("second", ["answer", "time limit"])
def test_of_two_outcomes_at_once_one_ends_the_call_and_one_call_follows(second: str) -> None:
    """Two threads end a call at the same moment: it ends once, and one more call is sent."""

    def end_it_too() -> None:
        both.wait(LIMIT)
        if second == "answer":
            request.fail(InvalidRequest("scripted"))
        else:
            clock.advance(10)

    for _ in range(100):
        clock, session, both = ManualClock(), ScriptedSession(), threading.Barrier(2)
        executor = CassandraExecutor(session, concurrency=1, clock=clock)
        first = executor.submit("SELECT 1")
        for _ in range(2):
            executor.with_options(timeout=None).submit("SELECT 2")
        request = session.pending[0]
        other = Background(end_it_too)
        both.wait(LIMIT)
        request.succeed()
        other.result()
        outcome(first)
        second_request = session.wait_for(2)[1]
        stats = executor.stats()
        assert (stats.in_flight, stats.queued) == (1, 1)
        second_request.succeed()
        session.wait_for(3)[2].succeed()


# A session that is shut down


@pytest.mark.parametrize("timeout", [None, 10.0])
def test_what_a_shut_down_session_forgets_ends(
    session: ScriptedSession, clock: ManualClock, timeout: Any
) -> None:
    """`session.shutdown()` answers nothing; within a second all ends, with or without limits."""
    executor = CassandraExecutor(session, 100, clock=clock).with_options(timeout=timeout)
    futures = [executor.submit("SELECT 1") for _ in range(150)]
    session.shutdown()
    clock.advance(1)
    errors = [outcome(future) for future in futures]
    assert {type(error) for error in errors[:100]} == {ConnectionShutdown}
    assert {type(error) for error in errors[100:]} <= {ConnectionShutdown, NoHostAvailable}


@pytest.mark.parametrize("buffersize", [None, 3])
def test_a_consumer_is_told_that_the_session_is_shut_down(buffersize: Any) -> None:
    """A `map` that waits for a result when the session is shut down raises."""

    def shut_down() -> bool:
        if not session.is_shutdown:
            session.shutdown()
        clock.advance(0.25)
        return True

    clock = ManualClock(on_wait=shut_down)
    session = ScriptedSession()
    executor = CassandraExecutor(session, 2, clock=clock).with_options(timeout=None)
    results = executor.starmap("SELECT 1", [()] * 10, buffersize=buffersize)
    with pytest.raises(ConnectionShutdown):
        next(results)


@pytest.mark.parametrize(
    "run",
    [
        lambda session: execute_concurrent(session, [("SELECT 1", None)] * 5, 2),
        lambda session: list(
            execute_concurrent_with_args(session, "SELECT 1", [None] * 5, 2, results_generator=True)
        ),
        lambda session: execute_concurrent_async(
            session, [("SELECT 1", None)] * 5, 2, raise_on_first_error=True
        ).result(LIMIT),
    ],
    ids=["list", "generator", "async"],
)
def test_the_drop_ins_end_when_the_session_is_shut_down(run: Callable[[Any], Any]) -> None:
    """The functions of `cassandra.concurrent` end, too, when the session is shut down."""
    session = ScriptedSession(request_timeout=None)
    running = Background(lambda: run(session))
    session.wait_for(2)
    session.shutdown()
    with pytest.raises(ConnectionShutdown):
        running.result()


# Errors that are hard to handle


class _NeedsKeyword(Exception):
    def __new__(cls, *, code: int) -> _NeedsKeyword:
        return super().__new__(cls)

    def __init__(self, *, code: int) -> None:
        super().__init__(code)


@dataclass(frozen=True)
class _Frozen(Exception):
    code: int


class _OddNotes(Exception):
    def __init__(self) -> None:
        self.__notes__ = ("a tuple",)


ODD_ERRORS: List[Callable[[], Exception]] = [
    lambda: _NeedsKeyword(code=1),
    lambda: _Frozen(1),
    lambda: _OddNotes(),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "scripted"),
    lambda: OSError(111, "refused"),
]


@pytest.mark.parametrize("make", ODD_ERRORS)
@pytest.mark.parametrize("inside", [False, True])
def test_one_error_of_any_kind_ends_all_calls_that_get_it(
    make: Callable[[], Exception], inside: bool, clock: ManualClock
) -> None:
    """Also an exception that can't be copied or changed ends every call that it is given to."""
    error = make()

    def respond(request: ScriptedRequest) -> None:
        if inside:
            raise error

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, 2, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(4)]
    for _ in range(2):
        for request in session.pending:
            request.fail(error)
    assert {type(outcome(future)) for future in futures} == {type(error)}


def test_an_error_whose_attributes_raise_ends_its_call() -> None:
    """An exception with a property of the name `call` that raises does not stop a `map`."""

    class Odd(Exception):
        @property
        def call(self) -> str:
            raise RuntimeError("not now")

    def answer() -> bool:
        for request in session.pending:
            with suppress(RuntimeError):
                request.fail(Odd())
            return True
        return False

    session = ScriptedSession()
    executor = CassandraExecutor(session, 1, clock=ManualClock(answer))
    options: Any = {"max_errors": 5}
    results = Background(lambda: list(executor.starmap("SELECT 1", [()] * 3, **options)))
    assert [type(error) for error in results.result()] == [Odd] * 3


def test_a_statement_whose_text_raises_ends(session: ScriptedSession, clock: ManualClock) -> None:
    """The note of a failed call shows its statement; where that raises, the call ends still."""

    class Odd(SimpleStatement):  # type: ignore[misc]
        @property
        def query_string(self) -> str:
            if self.sent:
                raise RuntimeError("not now")
            return "SELECT 1"

        sent = False

    executor = CassandraExecutor(session, clock=clock)
    statement = Odd("SELECT 1")
    future = executor.submit(statement)
    Odd.sent = True
    session.pending[0].fail(InvalidRequest("scripted"))
    assert isinstance(outcome(future), InvalidRequest)


# Sending that goes wrong


class _Interrupt(BaseException):
    """Like `SystemExit`, and like the time-outs of gevent and eventlet: no `Exception`."""


class _Interrupts:
    """Raises one `KeyboardInterrupt` at the n-th point at which Python looks for signals.

    Only points in the package itself count. The interrupt does not leave the `with` block.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.struck: Optional[str] = None  # where

    def _profile(self, frame: Any, event: str, argument: Any) -> None:
        package = frame.f_globals.get("__package__")
        if package == "cassconc" and event in ("call", "c_return"):
            self._count -= 1
            if self._count == 0:
                sys.setprofile(None)
                self.struck = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt

    def __enter__(self) -> _Interrupts:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        sys.setprofile(None)
        return kind is KeyboardInterrupt


def test_an_interrupt_while_a_call_is_sent_harms_no_other_call(clock: ManualClock) -> None:
    """Ctrl-C strikes in `submit`: it is raised there, and everything else goes on."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 0:
            raise KeyboardInterrupt

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    with pytest.raises(KeyboardInterrupt):
        executor.submit("SELECT 1")
    future = executor.submit("SELECT 2")
    session.requests[1].succeed()
    assert outcome(future) is None
    assert executor.stats().in_flight == 0


def test_what_a_helper_thread_can_not_send_holds_up_nothing(clock: ManualClock) -> None:
    """`execute_async` raises no `Exception`, on a helper thread: the calls behind it are sent.

    1. The first call runs into its time limit, so that a helper thread sends the second one.
    2. That raises inside `execute_async`.
    3. The third one is to be sent, and the fourth, when the third has run into its limit.
    """

    def respond(request: ScriptedRequest) -> None:
        if request.number == 1:
            raise _Interrupt

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(4)]
    errors = end_all(futures, clock)
    assert [type(error) for error in errors] == [
        OperationTimedOut, _Interrupt, OperationTimedOut, OperationTimedOut
    ]  # fmt: skip


def test_what_can_not_be_sent_does_not_hit_the_driver_thread(
    session: ScriptedSession, clock: ManualClock
) -> None:
    """What `execute_async` raises ends its call; the driver thread that sent it lives on."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 1:
            raise _Interrupt

    session.respond = respond
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(2)]
    session.pending[0].succeed()
    assert isinstance(outcome(futures[1]), _Interrupt)


def test_an_interrupt_in_the_middle_of_many_harms_no_other_call() -> None:
    """Of a thousand calls that end inside `execute_async` one raises no `Exception`.

    The others succeed, although most of them are sent by a helper thread.
    """

    class Session(ImmediateSession):
        def execute_async(self, *args: Any, **kwargs: Any) -> Any:
            if self.sent == 500:
                self.sent += 1
                raise _Interrupt
            return super().execute_async(*args, **kwargs)

    session = Session(held=True)
    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit("SELECT 1") for _ in range(1000)]
    session.release()
    errors = [outcome(future) for future in futures]
    assert [type(error) for error in errors if error is not None] == [_Interrupt]


@pytest.mark.parametrize("queued", [False, True])
def test_an_interrupt_anywhere_in_submit_loses_nothing(queued: bool) -> None:
    """Ctrl-C strikes at any point inside `submit`: what was accepted ends, and so does the next.

    Python looks for signals when a function begins and when a builtin has returned, so one is
    raised at each such point in turn.
    """
    for strike in itertools.count(1):
        session = ScriptedSession()
        executor = CassandraExecutor(session, concurrency=1, clock=ManualClock())
        if queued:
            executor.submit("SELECT 0")
        with _Interrupts(strike) as interrupts:
            executor.submit("SELECT 1")
        following = executor.submit("SELECT 2")
        for _ in range(100):
            for request in session.pending:
                request.succeed()
            if following.done():
                break
            wait([following], LIMIT / 100)  # for a helper thread, which sends what is left over
        assert following.done(), f"an interrupt at {interrupts.struck} has lost the next call"
        Background(executor.shutdown).result()
        if interrupts.struck is None:
            assert strike > 20, "it did not strike anywhere"
            break


def test_callbacks_that_can_not_be_added_end_the_call(clock: ManualClock) -> None:
    """`add_callbacks` raises: nobody will hear of the answer, so the future ends with that."""
    session = Mock()
    session.execute_async.return_value.add_callbacks.side_effect = ZeroDivisionError
    executor = CassandraExecutor(session, 1, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(2)]
    assert [type(outcome(future)) for future in futures] == [ZeroDivisionError] * 2


def test_an_answer_that_makes_no_result_ends_the_call(clock: ManualClock) -> None:
    """The result can't be made of the answer: the future ends with the error."""
    session = Mock()
    session.execute_async.return_value = response = Mock(spec=["add_callbacks", "clear_callbacks"])
    executor = CassandraExecutor(session, 1, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(2)]
    for _ in range(2):
        call = response.add_callbacks.call_args
        call.args[0]([(1,)], *call.kwargs["callback_args"])
    assert [type(outcome(future)) for future in futures] == [AttributeError] * 2


def test_a_mock_with_one_response_for_all_calls_ends_them_all(clock: ManualClock) -> None:
    """A bare mock gives one response object to all calls: each future has its own answer."""
    session = Mock()
    response = session.execute_async.return_value
    executor = CassandraExecutor(session, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(10)]
    for number, call in reversed(list(enumerate(response.add_callbacks.call_args_list))):
        call.args[0]([number], *call.kwargs["callback_args"])
    assert [future.result(LIMIT).current_rows for future in futures] == [[n] for n in range(10)]


# Time limits that nothing stops


def test_time_limits_hold_where_the_session_can_not_be_asked(clock: ManualClock) -> None:
    """`session.is_shutdown` raises, such as that of a proxy on another thread: calls end."""

    class Session(ScriptedSession):
        @property
        def is_shutdown(self) -> bool:
            if self.history.events:
                raise RuntimeError("working outside of the context")
            return False

        @is_shutdown.setter
        def is_shutdown(self, value: bool) -> None:
            pass

        def send(self, response: Any, options: Any, parameters: Any = None) -> None:
            self.history.note("sent")

    executor = CassandraExecutor(Session(), clock=clock)
    future = executor.submit("SELECT 1")
    clock.advance(20)
    assert isinstance(outcome(future), OperationTimedOut)


def _raise(*args: Any) -> None:
    raise RuntimeError("scripted")


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"clear_callbacks": _raise},
        {"clear_callbacks": lambda: None, "attempted_hosts": ["127.0.0.1"]},
    ],
    ids=["no clear_callbacks", "clear_callbacks raises", "hosts are strings"],
)
def test_time_limits_hold_whatever_the_response_is(parts: Any, clock: ManualClock) -> None:
    """A response has `add_callbacks`; whatever else it has or has not, its calls end in time."""

    class Session:
        default_timeout = 10.0

        def execute_async(self, *args: Any, **kwargs: Any) -> Any:
            return SimpleNamespace(add_callbacks=lambda *args, **kwargs: None, **parts)

    executor = CassandraExecutor(Session(), 2, clock=clock).with_options(timeout=1)
    futures = [executor.submit("SELECT 1") for _ in range(5)]
    errors = end_all(futures, clock)
    assert {type(error) for error in errors} == {OperationTimedOut}


def test_time_limits_hold_after_a_thread_could_not_be_started() -> None:
    """The clock's thread can't be started once: later calls have their limits all the same."""

    class Clock(ManualClock):
        is_tired = True

        def call_at(self, when: float, action: Callable[[], None]) -> Any:
            if self.is_tired:
                self.is_tired = False
                raise RuntimeError("can't start new thread")
            return super().call_at(when, action)

    clock = Clock()
    executor = CassandraExecutor(ScriptedSession(), clock=clock)
    outcome(executor.submit("SELECT 1"))
    future = executor.submit("SELECT 2")
    clock.advance(20)
    assert isinstance(outcome(future), OperationTimedOut)


def test_an_answer_after_the_time_limit_changes_nothing(
    session: ScriptedSession, clock: ManualClock
) -> None:
    """What was ended by its time limit has ended; the late answer disturbs neither it nor others.

    A call that blocks inside `execute_async` beyond its limit ends as well.
    """
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    futures = [executor.submit(f"SELECT {number}") for number in range(3)]
    clock.advance(10)
    assert isinstance(outcome(futures[0]), OperationTimedOut)
    late, second = session.wait_for(2)
    late.succeed([(0,)], ["late"])
    assert statements(session.requests) == ["SELECT 0", "SELECT 1"]
    second.succeed([(1,)], ["one"])
    assert futures[1].result(LIMIT).one().one == 1
    assert isinstance(outcome(futures[0]), OperationTimedOut)


def test_a_call_that_blocks_while_it_is_sent_ends_at_its_limit(clock: ManualClock) -> None:
    """`execute_async` waits for a free stream beyond the time limit: who waits is told."""
    entered, released = threading.Event(), threading.Event()

    def respond(request: ScriptedRequest) -> None:
        if request.number == 0:
            entered.set()
            released.wait(2 * LIMIT)

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    submitting = Background(lambda: executor.submit("SELECT 1"))
    occurs(entered, "the first call is being sent")
    second = executor.submit("SELECT 2")
    clock.advance(10)
    session.wait_for(2)[1].succeed()
    assert outcome(second) is None
    released.set()
    assert isinstance(outcome(submitting.result()), OperationTimedOut)


# Retries


class _BlockedFirst:
    """A session whose first `execute_async` blocks until `released` is set."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.sent_again = threading.Event()
        self.session = ScriptedSession(self._respond)
        self.clock = ManualClock()
        self.executor = CassandraExecutor(self.session, clock=self.clock, retry=Retry(delay=1))
        self.submitting = Background(self._submit)
        occurs(self.entered, "the first attempt is being sent")
        self.clock.advance(10)  # the first attempt runs into its limit; its retry is to come

    def _submit(self) -> Future[Any]:
        return self.executor.submit(IDEMPOTENT)

    def _respond(self, request: ScriptedRequest) -> None:
        if request.number == 0:
            self.entered.set()
            self.released.wait(2 * LIMIT)
        else:
            self.sent_again.set()


def test_a_retry_is_sent_after_a_first_send_that_came_back_late() -> None:
    """A retry is sent although the first `execute_async` came back after its time limit.

    1. The first attempt blocks inside `execute_async`.
    2. It runs into its time limit, and a retry is decided on.
    3. `execute_async` of the first attempt returns.
    4. The time of the retry has come.
    """
    play = _BlockedFirst()
    play.released.set()
    future = play.submitting.result()
    play.clock.advance(1)
    occurs(play.sent_again, "the retry was sent")
    play.session.requests[1].succeed()
    assert outcome(future) is None


def test_an_answer_while_a_call_waits_for_its_retry_ends_it_once() -> None:
    """The first send came back late, and its answer comes before the retry: nothing is left.

    Whether the answer counts or the retry is sent, the executor comes to its end.
    """
    play = _BlockedFirst()
    play.released.set()
    future = play.submitting.result()
    play.session.requests[0].succeed()
    play.clock.advance(1)
    if not future.done():
        occurs(play.sent_again, "the retry was sent")
        play.session.requests[1].succeed()
    assert outcome(future) is None
    Background(play.executor.shutdown).result()


def test_a_retry_is_sent_while_the_first_send_blocks() -> None:
    """A retry is sent although the first `execute_async` has not come back yet."""
    play = _BlockedFirst()
    play.clock.advance(1)
    try:
        occurs(play.sent_again, "the retry was sent")
        play.session.requests[1].succeed()
    finally:
        play.released.set()
    assert outcome(play.submitting.result()) is None


def test_a_retry_whose_delay_can_not_be_computed_ends_the_call(
    session: ScriptedSession, clock: ManualClock
) -> None:
    """A `Retry` of the user's whose `wait` raises: the call ends, and those behind it."""

    class Broken(Retry):
        def wait(self, attempt: int) -> float:
            raise ZeroDivisionError

    executor = CassandraExecutor(session, 1, clock=clock, retry=Broken())
    futures = [executor.submit(IDEMPOTENT) for _ in range(2)]
    errors = end_all(futures, clock)
    assert all(errors), errors


def test_a_call_that_waits_for_its_retry_ends_when_the_session_is_shut_down(
    session: ScriptedSession, clock: ManualClock
) -> None:
    """A retry that comes after `session.shutdown()` fails like all else, and is not repeated."""
    executor = CassandraExecutor(session, clock=clock, retry=Retry(delay=1))
    future = executor.submit(IDEMPOTENT)
    session.pending[0].fail(OperationTimedOut())
    session.shutdown()
    clock.advance(1)
    ends = (ConnectionShutdown, NoHostAvailable, OperationTimedOut)
    assert isinstance(outcome(future), ends)
    assert len(session.requests) <= 2


@pytest.mark.parametrize("method", ["result", "exception"])
@pytest.mark.parametrize("waiting", [1, 3])
def test_who_waits_in_result_is_told(session: ScriptedSession, method: str, waiting: int) -> None:
    """Threads that wait in `result` or `exception` come back when the call ends, all of them.

    Neither those that gave up nor the limits that they gave are in their way.
    """
    future = CassandraExecutor(session).submit("SELECT 1")
    for limit in (0, -1, 0.001):
        with pytest.raises(TimeoutError):
            getattr(future, method)(limit)
    threads = [
        Background(lambda limit=limit: getattr(future, method)(limit))  # type: ignore[misc]
        for limit in [None, 1e12, 60.0][:waiting]
    ]
    eventually(lambda: len(future.signals) == waiting)  # type: ignore[attr-defined]
    session.pending[0].fail(InvalidRequest("wrong"))
    for thread in threads:
        if method == "exception":
            assert type(thread.result()) is InvalidRequest
        else:
            with pytest.raises(InvalidRequest):
                thread.result()


@pytest.mark.parametrize("limit", [0.0, 1e-9, 1e-6])
def test_the_shortest_wait_ends(session: ScriptedSession, limit: float) -> None:
    """A wait whose time is up before it has begun ends, as often as somebody asks.

    `SimpleQueue.get(timeout)` of Python 3.10 to 3.12 does not always: it stops for ever once in
    some ten thousand times.
    """
    future = CassandraExecutor(session).submit("SELECT 1")
    for _ in range(30_000):
        with pytest.raises(TimeoutError):
            future.result(limit)
