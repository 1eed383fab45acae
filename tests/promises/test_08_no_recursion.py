"""Promise 8: a hundred thousand calls that end at once, and driver threads that never block."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, TimeoutError, wait
from types import SimpleNamespace
from typing import Any, Callable, List

import pytest
from cassandra.cluster import Session
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock, ScriptedSession, on_driver_thread
from tests.immediate import ImmediateSession
from tests.parts import needs
from tests.waits import LIMIT, Background, occurs, outcome

MANY = 100_000
DEEP = 150  # frames; pytest itself needs some fifty


def failing_every(step: int) -> Callable[[Any], Any]:
    """Return what answers requests, with a failure each so many times; 0 is never."""
    numbers = itertools.count(1)
    return lambda parameters: OSError() if step and next(numbers) % step == 0 else []


# No recursion


@pytest.mark.parametrize("ends", ["succeed", "fail", "raise", "succeed and fail"])
@pytest.mark.parametrize("concurrency", [1, 100])
def test_what_waits_is_sent_without_recursion(ends: str, concurrency: int) -> None:
    """All calls wait behind one; when that ends, each one that is sent ends at once.

    Inside `execute_async`, on a thread of the driver, with a result or a failure.
    """
    respond = {"succeed": failing_every(0), "succeed and fail": failing_every(2)}
    session = ImmediateSession(
        respond.get(ends, failing_every(1)), raises=ends == "raise", held=True
    )
    executor = CassandraExecutor(session, concurrency)
    futures = [executor.submit("SELECT 1") for _ in range(MANY // 4)]
    session.release()
    assert len(wait(futures, 6 * LIMIT).done) == MANY // 4
    assert session.sent == MANY // 4
    assert session.depth < DEEP
    failed = sum(future.exception() is not None for future in futures)
    expected = {"succeed": 0, "succeed and fail": MANY // 8 - 1}
    assert failed == expected.get(ends, MANY // 4 - 1)


def test_a_hundred_thousand_futures_of_submit() -> None:
    """`submit` of calls that end inside it, again and again on one thread."""
    session = ImmediateSession(failing_every(3))
    executor = CassandraExecutor(session, 10)
    futures = [executor.submit("SELECT 1") for _ in range(MANY)]
    assert sum(future.exception(LIMIT) is None for future in futures) == MANY - MANY // 3
    assert session.depth < DEEP


@pytest.mark.parametrize(
    "run",
    [
        lambda executor, items: executor.starmap("SELECT 1", items),
        lambda executor, items: executor.starmap("SELECT 1", items, buffersize=100),
        lambda executor, items: executor.starmap("SELECT 1", items, buffersize=1),
        lambda executor, items: executor.starmap("SELECT 1", items, buffersize=9, ordered=False),
    ],
    ids=["whole", "buffersize", "buffersize 1", "unordered"],
)
def test_a_hundred_thousand_results_of_a_map(run: Callable[..., Any]) -> None:
    """A `map` whose calls end inside `execute_async`."""
    session = ImmediateSession()
    executor = CassandraExecutor(session, 10)
    assert sum(1 for _ in run(executor, (() for _ in range(MANY)))) == MANY
    assert session.depth < DEEP


def test_a_hundred_thousand_failures_of_a_map() -> None:
    """The same with failures, which are yielded."""
    session = ImmediateSession(failing_every(1))
    executor = CassandraExecutor(session, 10)
    items = (() for _ in range(MANY))
    results = executor.starmap("SELECT 1", items, buffersize=100, return_exceptions=True)
    assert sum(isinstance(result, OSError) for result in results) == MANY
    assert session.depth < DEEP


@pytest.mark.parametrize(
    "run",
    [
        lambda session, pairs: execute_concurrent(session, pairs),
        lambda session, pairs: execute_concurrent(session, pairs, results_generator=True),
        lambda session, pairs: execute_concurrent_async(session, pairs).result(10 * LIMIT),
        lambda session, pairs: execute_concurrent_with_args(
            session, "SELECT 1", (given for _, given in pairs), raise_on_first_error=False
        ),
    ],
    ids=["list", "generator", "async", "with_args"],
)
def test_a_hundred_thousand_calls_of_the_drop_ins(run: Callable[..., Any]) -> None:
    """The functions of `cassandra.concurrent`: the driver's own recurse there."""
    session = ImmediateSession()
    results = run(session, (("SELECT 1", None) for _ in range(MANY)))
    assert sum(result.success for result in results) == MANY
    assert session.depth < DEEP


def test_a_chain_of_callbacks() -> None:
    """Each callback submits the next call, which ends at once: no stack grows.

    As it is with a loop that submits again what has failed, when no node can be reached.
    """
    session = ImmediateSession()
    executor = CassandraExecutor(session, 1)
    left = iter(range(5000))
    over = threading.Event()

    def submit(future: Future[Any]) -> None:
        if next(left, None) is None:
            over.set()
        else:
            executor.submit("SELECT 1").add_done_callback(submit)

    executor.submit("SELECT 1").add_done_callback(submit)
    occurs(over, "the chain has come to its end")
    assert session.depth < DEEP


@pytest.mark.parametrize("how", ["cancel", "shutdown", "close"])
def test_a_hundred_thousand_that_are_never_sent(how: str) -> None:
    """All that waits is cancelled at once: by `cancel`, by `shutdown`, by the end of a `map`."""
    session = ImmediateSession(held=True)
    executor = CassandraExecutor(session, 1)
    if how == "close":
        results = executor.starmap("SELECT 1", [()] * MANY, timeout=0)
        with pytest.raises(TimeoutError):
            next(results)
    else:
        futures = [executor.submit("SELECT 1") for _ in range(MANY)]
        if how == "shutdown":
            executor.shutdown(wait=False, cancel_futures=True)
        for future in futures[1:]:
            assert future.cancel()
    session.release()
    Background(executor.shutdown).result()
    assert (session.sent, executor.stats().cancelled) == (1, MANY - 1)


def test_time_runs_out_for_many_at_once(clock: ManualClock) -> None:
    """Ten thousand calls in flight, and as many that wait, run into their limits."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 10_000, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(20_000)]
    for _ in range(2):
        clock.advance(10)
        session.wait_for(20_000)
    assert len(wait(futures, LIMIT).done) == 20_000


# A driver thread never blocks in a send

FULL = 32767  # streams of a connection


class _Pool:
    """A pool of one connection; a test sets how many of its streams are used.

    And how many others use up between a look at the pool and what is done then.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.others = 0

    def get_connections(self) -> List[Any]:
        connection = SimpleNamespace(
            in_flight=self.in_flight, max_request_id=FULL, is_closed=False, is_defunct=False
        )
        self.in_flight += self.others
        return [connection]


class _Session(ScriptedSession, Session):  # type: ignore[misc]
    """A kind of the driver's session; it complains of a send that blocks on a driver thread."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = _Pool()
        self._pools = {"127.0.0.1": self.pool}

    def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        if on_driver_thread() and self.pool.in_flight >= FULL:
            self.complain("a send waits for a free stream")
        return super().execute_async(*args, **kwargs)


def test_where_no_stream_is_free_another_thread_sends() -> None:
    """The pool is used up when an answer comes: the next call is sent by another thread."""
    session = _Session()
    executor = CassandraExecutor(session, concurrency=1, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(10)]
    session.pool.in_flight = FULL
    for number in range(10):
        session.wait_for(number + 1)[number].succeed()
    assert [outcome(future) for future in futures] == [None] * 10
    assert threading.current_thread() not in {request.thread for request in session.requests[1:]}
    assert session.misplaced == []


@needs("streams")
def test_where_streams_are_free_the_driver_thread_sends() -> None:
    """The call that an answer admits is sent at once, on the thread that has brought the answer."""
    session = _Session()
    executor = CassandraExecutor(session, concurrency=1, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(10)]
    for number in range(10):
        session.requests[number].succeed()
    assert [outcome(future) for future in futures] == [None] * 10
    assert {request.thread for request in session.requests} == {threading.current_thread()}


def test_streams_are_left_for_those_who_send_at_the_same_time() -> None:
    """Others use up a thousand streams just after a look at the pool: no driver thread waits."""
    session = _Session()
    executor = CassandraExecutor(session, concurrency=1, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(10)]
    session.pool.others = 1000
    for number in range(10):
        session.pool.in_flight = FULL - 1000
        session.wait_for(number + 1)[number].succeed()
    assert [outcome(future) for future in futures] == [None] * 10
    assert session.misplaced == []


@given(used=st.lists(st.sampled_from([0, 20_000, 31_700, FULL]), min_size=1, max_size=80))
def test_a_driver_thread_never_waits_for_a_stream(used: List[int]) -> None:
    """Others use the session, too: whatever they leave free from one answer to the next.

    Streams are used up by other executors and by `session.execute`, thousands at a time.
    """
    session = _Session()
    executor = CassandraExecutor(session, concurrency=1, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(len(used) + 1)]
    for number, streams in enumerate(used):
        session.pool.in_flight = streams
        session.wait_for(number + 1)[number].succeed()
    session.pool.in_flight = 0
    session.wait_for(len(used) + 1)[len(used)].succeed()
    note(str(session.history))
    assert [outcome(future) for future in futures] == [None] * len(futures)
    assert session.misplaced == []


@pytest.mark.parametrize(
    "pools",
    [None, {"127.0.0.1": object()}, [], "no dict", {"127.0.0.1": SimpleNamespace()}],
    ids=repr,
)
def test_where_the_pools_can_not_be_looked_at_another_thread_sends(pools: Any) -> None:
    """The session's pools are not what is expected: a driver thread sends nothing."""
    session = _Session()
    session._pools = pools
    executor = CassandraExecutor(session, concurrency=1, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(3)]
    session.pool.in_flight = FULL
    for number in range(3):
        session.wait_for(number + 1)[number].succeed()
    assert [outcome(future) for future in futures] == [None] * 3
    assert session.misplaced == []


@needs("streams")
def test_a_session_in_a_wrapper_does_not_block_a_driver_thread() -> None:
    """A session that hides the driver's: its pools can't be seen, so another thread sends."""

    class Traced:
        def __init__(self, session: Any) -> None:
            self._session = session

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    session = _Session()
    executor = CassandraExecutor(Traced(session), concurrency=1, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(3)]
    session.pool.in_flight = FULL
    for number in range(3):
        session.wait_for(number + 1)[number].succeed()
    assert [outcome(future) for future in futures] == [None] * 3
    assert session.misplaced == []


def test_the_thread_of_the_clock_sends_nothing(
    session: ScriptedSession, clock: ManualClock
) -> None:
    """A send that blocks there would hold up all time limits: another thread sends."""
    executor = CassandraExecutor(session, concurrency=1, clock=clock)
    for _ in range(2):
        executor.submit("SELECT 1")
    clock.advance(10)
    assert session.wait_for(2)[1].thread is not threading.current_thread()


def test_a_send_that_blocks_on_a_helper_thread_holds_up_no_answer() -> None:
    """While a helper thread waits for a stream, answers are delivered and callbacks run."""
    session = _Session()
    entered, released = threading.Event(), threading.Event()
    executor = CassandraExecutor(session, concurrency=2, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(3)]
    called = threading.Event()
    futures[1].add_done_callback(lambda future: called.set())
    session.pool.in_flight = FULL

    def block(request: Any) -> None:
        entered.set()
        occurs(released, "a stream is free")

    session.respond = block
    session.requests[0].succeed()
    occurs(entered, "the third call is being sent")
    session.requests[1].succeed()
    occurs(called, "the callback of the second call has run")
    released.set()
    session.requests[2].succeed()
    assert [outcome(future) for future in futures] == [None] * 3
