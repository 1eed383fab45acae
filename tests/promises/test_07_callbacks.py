"""Promise 7: done-callbacks run in order, hold up nothing, and may raise anything."""

from __future__ import annotations

import threading
from concurrent.futures import Future, as_completed, wait
from typing import Any, Callable, List

import pytest
from cassandra import InvalidRequest
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, execute_concurrent_async
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.exits import run_python
from tests.waits import LIMIT, Background, occurs, outcome

Callback = Callable[["Future[Any]"], None]


class _Blocked:
    """A callback that blocks until it is released."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.has_ended = False

    def __call__(self, future: Future[Any]) -> None:
        self.entered.set()
        occurs(self.released, "the callback may go on")
        self.has_ended = True


# Order, and what they raise

ACTIONS = ["nothing", "raises", "raises SystemExit", "adds one"]


@given(
    actions=st.lists(
        st.lists(st.sampled_from(ACTIONS), max_size=6), min_size=1, max_size=4, unique_by=id
    ),
    before=st.integers(0, 6),
    ends=st.sampled_from(["succeeds", "fails", "is cancelled"]),
)
def test_callbacks_of_a_future_run_in_the_order_in_which_they_were_added(
    actions: List[List[str]], before: int, ends: str
) -> None:
    """Added before or after the end, raising, adding others: each runs once, in its turn."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 1 if ends == "is cancelled" else 10)
    if ends == "is cancelled":
        executor.submit("SELECT 0")
    log: List[List[Any]] = [[] for _ in actions]

    def callback(future_number: int, number: Any, action: str) -> Callback:
        def run(future: Future[Any]) -> None:
            assert future.done()
            log[future_number].append(number)
            if action == "raises":
                raise ZeroDivisionError
            if action == "raises SystemExit":
                raise SystemExit
            if action == "adds one":
                future.add_done_callback(callback(future_number, (number, "added"), "nothing"))

        return run

    futures = [executor.submit("SELECT 1") for _ in actions]
    for number in range(before):
        for index, future in enumerate(futures):
            if number < len(actions[index]):
                future.add_done_callback(callback(index, number, actions[index][number]))
    for request in session.pending[: len(futures)]:
        if ends == "succeeds":
            request.succeed()
        elif ends == "fails":
            request.fail(InvalidRequest("scripted"))
    if ends == "is cancelled":
        for future in futures:
            assert future.cancel()
        session.pending[0].succeed()
    for index, future in enumerate(futures):
        for number in range(before, len(actions[index])):
            future.add_done_callback(callback(index, number, actions[index][number]))
    Background(executor.shutdown).result()
    note(str(session.history))
    for index, entries in enumerate(log):
        given_ones = [entry for entry in entries if isinstance(entry, int)]
        added = [entry[0] for entry in entries if isinstance(entry, tuple)]
        assert given_ones == list(range(len(actions[index])))
        assert added == [n for n, action in enumerate(actions[index]) if action == "adds one"]


def test_a_callback_that_is_added_by_a_callback_comes_after_those_that_were_there(
    session: ScriptedSession,
) -> None:
    """The new one goes to the end of the queue of its future."""
    log: List[str] = []
    over = threading.Event()

    def last(future: Future[Any]) -> None:
        log.append("added")
        over.set()

    def first(future: Future[Any]) -> None:
        future.add_done_callback(last)
        log.append("first")

    future = CassandraExecutor(session).submit("SELECT 1")
    future.add_done_callback(first)
    future.add_done_callback(lambda future: log.append("second"))
    session.pending[0].succeed()
    occurs(over, "the callback that was added has run")
    assert log == ["first", "second", "added"]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("late", [False, True])
def test_what_a_callback_raises_is_logged_and_the_next_one_runs(
    error: type, late: bool, session: ScriptedSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, before the future's end or after: one record with the traceback."""

    def fails(future: Future[Any]) -> None:
        raise error("of the callback")

    executor = CassandraExecutor(session)
    future = executor.submit("SELECT 1")
    ran: List[str] = []
    if late:
        session.pending[0].succeed()
    future.add_done_callback(fails)
    future.add_done_callback(lambda future: ran.append("next"))
    if not late:
        session.pending[0].succeed()
    Background(executor.shutdown).result()
    assert ran == ["next"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is error
    assert outcome(future) is None


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_the_future_of_the_drop_ins_has_the_same_rule(error: type) -> None:
    """A callback of the future of `execute_concurrent_async` raises: the next one runs."""

    def fails(future: Future[Any]) -> None:
        raise error("of the callback")

    session = ScriptedSession()
    over = threading.Event()
    future = execute_concurrent_async(session, [("SELECT 1", None)])
    future.add_done_callback(fails)
    future.add_done_callback(lambda future: over.set())
    session.wait_for(1)[0].succeed()
    occurs(over, "the next callback has run")


def test_a_callback_of_a_future_that_has_ended_runs_now(session: ScriptedSession) -> None:
    """As in the standard: at once, on the thread that adds it."""
    future = CassandraExecutor(session).submit("SELECT 1")
    session.pending[0].succeed()
    threads: List[threading.Thread] = []
    future.add_done_callback(lambda future: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


# Callbacks that block


def end_by_success(request: ScriptedRequest, future: Future[Any], clock: ManualClock) -> None:
    """It succeeds."""
    request.succeed()


def end_by_failure(request: ScriptedRequest, future: Future[Any], clock: ManualClock) -> None:
    """It fails."""
    request.fail(InvalidRequest("scripted"))


def end_by_time(request: ScriptedRequest, future: Future[Any], clock: ManualClock) -> None:
    """It runs into its time limit."""
    clock.advance(10)


@pytest.mark.parametrize("end", [end_by_success, end_by_failure, end_by_time])
def test_ending_a_future_does_not_wait_for_callbacks(
    end: Callable[..., None], session: ScriptedSession, clock: ManualClock
) -> None:
    """Who ends it comes back, and who waits for it is told, while its callback blocks."""
    executor = CassandraExecutor(session, clock=clock)
    blocked = _Blocked()
    future = executor.submit("SELECT 1")
    future.add_done_callback(blocked)
    waiting = Background(lambda: wait([future], LIMIT).done)
    completed = Background(lambda: next(as_completed([future], LIMIT)))
    end(session.pending[0], future, clock)
    occurs(blocked.entered, "the callback runs")
    assert waiting.result() == {future}
    assert completed.result() is future
    outcome(future)
    assert not blocked.has_ended
    blocked.released.set()
    Background(executor.shutdown).result()
    assert blocked.has_ended


def test_cancelling_does_not_wait_for_callbacks(session: ScriptedSession) -> None:
    """The same for `cancel`."""
    executor = CassandraExecutor(session, concurrency=1)
    executor.submit("SELECT 0")
    blocked = _Blocked()
    future = executor.submit("SELECT 1")
    future.add_done_callback(blocked)
    assert Background(future.cancel).result()
    occurs(blocked.entered, "the callback runs")
    assert not blocked.has_ended
    blocked.released.set()


def test_callbacks_may_wait_for_each_other(session: ScriptedSession) -> None:
    """Each callback waits for that of the future after it, and they are all let go in the end.

    1. A hundred futures end, the first one first, each with a callback.
    2. A callback ends when the next future's has ended, so the last one must run meanwhile.
    """
    executor = CassandraExecutor(session, concurrency=100)
    ended = [threading.Event() for _ in range(101)]
    ended[100].set()
    log: List[int] = []

    def callback(number: int) -> Callback:
        def run(future: Future[Any]) -> None:
            occurs(ended[number + 1], f"callback {number + 1} has ended")
            log.append(number)
            ended[number].set()

        return run

    for number in range(100):
        executor.submit("SELECT 1").add_done_callback(callback(number))
    for request in session.pending:
        request.succeed()
    occurs(ended[0], "all callbacks have ended")
    assert log == list(reversed(range(100)))


def test_blocked_callbacks_hold_up_no_new_ones(session: ScriptedSession) -> None:
    """However many callbacks block already, the callback of a further future runs."""
    executor = CassandraExecutor(session)
    all_blocked = [_Blocked() for _ in range(50)]
    try:
        for number, blocked in enumerate(all_blocked):
            executor.submit("SELECT 1").add_done_callback(blocked)
            session.requests[number].succeed()
            occurs(blocked.entered, f"callback {number} runs")
    finally:
        for blocked in all_blocked:
            blocked.released.set()
    Background(executor.shutdown).result()
    assert all(blocked.has_ended for blocked in all_blocked)


def test_a_blocked_callback_holds_up_no_call(session: ScriptedSession, clock: ManualClock) -> None:
    """While it blocks, calls are sent, answered, tried and timed out; maps are iterated."""
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    blocked = _Blocked()
    executor.submit("SELECT 1").add_done_callback(blocked)
    session.pending[0].succeed()
    occurs(blocked.entered, "the callback runs")
    try:
        futures = [executor.submit("SELECT 2") for _ in range(3)]
        session.pending[0].succeed()
        clock.advance(10)
        session.wait_for(4)[3].fail(InvalidRequest("scripted"))
        assert [bool(outcome(future)) for future in futures] == [False, True, True]
        results = executor.starmap("SELECT 3", [()])
        session.wait_for(5)[4].succeed()
        assert len(list(results)) == 1
    finally:
        blocked.released.set()


@pytest.mark.parametrize("kind", ["statement", "drop-in"])
def test_a_callback_may_wait_for_what_another_future_brings(
    kind: str, session: ScriptedSession
) -> None:
    """A callback waits for a call that is answered later, and whose own callback it needs."""
    executor = CassandraExecutor(session, concurrency=1)
    over = threading.Event()
    seen: List[Any] = []

    def callback(future: Future[Any]) -> None:
        inner = executor.submit("SELECT 'inner'")
        called = threading.Event()
        inner.add_done_callback(lambda future: called.set())
        occurs(called, "the inner callback has run")
        seen.append(outcome(inner))
        over.set()

    future: Future[Any]
    if kind == "statement":
        future = executor.submit("SELECT 'outer'")
    else:
        future = execute_concurrent_async(session, [("SELECT 'outer'", None)])
    future.add_done_callback(callback)
    session.wait_for(1)[0].succeed()
    session.wait_for(2)[1].succeed()
    occurs(over, "the callback has ended")
    assert seen == [None]


def test_callbacks_run_although_a_thread_could_not_be_started() -> None:
    """No helper thread can be started when a future ends: its callback runs all the same, later.

    Threads can be started again soon after; the program ends then, and that does not hang.
    """
    code = """
start = threading.Thread.start
def refuse(thread):
    if thread.name.startswith("cassconc"):
        raise RuntimeError("can't start new thread")
    start(thread)

session = ScriptedSession()
executor = CassandraExecutor(session, clock=ManualClock())
executor.submit("SELECT 1").add_done_callback(lambda future: print("called back"))
threading.Thread.start = refuse
session.pending[0].succeed()
threading.Thread.start = start
executor.shutdown()
print("shut down")
"""
    printed = [line for line in run_python(code) if line in ("called back", "shut down")]
    assert printed == ["called back", "shut down"]
