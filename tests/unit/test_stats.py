"""Accounting: `executor.stats()` says what became of every statement, at any moment."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, Callable, Dict, List, Tuple

import pytest
from cassandra import InvalidRequest
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import SimpleStatement
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, Stats
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.driver import DriverSession
from tests.waits import LIMIT, Background

SELECT = SimpleStatement("SELECT %s", is_idempotent=True)


def total(stats: Stats) -> int:
    """Return the sum that is to be `submitted`."""
    return (
        stats.queued
        + stats.in_flight
        + stats.waiting_for_retry
        + stats.succeeded
        + sum(stats.failed.values())
        + stats.cancelled
    )


def counted(executor: CassandraExecutor, **expected: Any) -> None:
    """Check the statistics: what is not expected is 0, and `submitted` is the sum."""
    stats = executor.stats()
    values: Dict[str, Any] = dict.fromkeys(Stats._fields, 0)
    values.update(failed={}, submitted=total(stats))
    assert stats._asdict() == {**values, **expected}
    assert stats.submitted == total(stats)


def test_each_state_is_counted(session: ScriptedSession, clock: ManualClock) -> None:
    """A call is counted once, where it is now."""
    executor = CassandraExecutor(session, concurrency=2, clock=clock, retry=Retry(delay=1.0))
    counted(executor, submitted=0)
    futures = [executor.submit(SELECT, n) for n in range(4)]
    counted(executor, submitted=4, in_flight=2, queued=2)
    session.requests[0].succeed()
    counted(executor, in_flight=2, queued=1, succeeded=1)
    futures[3].cancel()
    counted(executor, in_flight=2, queued=0, succeeded=1, cancelled=1)
    session.requests[1].fail(InvalidRequest("wrong"))
    counted(executor, in_flight=1, succeeded=1, cancelled=1, failed={"InvalidRequest": 1})
    session.requests[2].fail(OverloadedErrorMessage(0x1001, "busy", None))
    counted(executor, waiting_for_retry=1, succeeded=1, cancelled=1, failed={"InvalidRequest": 1})
    clock.advance(1.0)
    Background(lambda: session.wait_for(4)).result()
    counted(
        executor, in_flight=1, retried=1, succeeded=1, cancelled=1, failed={"InvalidRequest": 1}
    )
    session.requests[3].succeed()
    counted(
        executor, submitted=4, retried=1, succeeded=2, cancelled=1, failed={"InvalidRequest": 1}
    )


def test_failures_are_counted_by_type(session: ScriptedSession, clock: ManualClock) -> None:
    """Each kind of exception has its own number, by its name; time-outs as well."""
    executor = CassandraExecutor(session, clock=clock)
    for n in range(6):
        executor.submit("SELECT %s", n)
    for request, error in zip(session.pending, [KeyError(), KeyError(), ValueError()]):
        request.fail(error)
    counted(executor, in_flight=3, failed={"KeyError": 2, "ValueError": 1})
    clock.advance(10.0)
    counted(executor, failed={"KeyError": 2, "ValueError": 1, "OperationTimedOut": 3})


def test_what_can_not_be_sent_is_counted_as_failed() -> None:
    """A call whose `execute_async` raises was submitted, and has failed."""

    def respond(request: ScriptedRequest) -> None:
        raise OSError("no route")

    executor = CassandraExecutor(ScriptedSession(respond))
    executor.submit("SELECT 1")
    counted(executor, submitted=1, failed={"OSError": 1})


@pytest.mark.parametrize(
    "take",
    [
        lambda executor, bound: executor.submit(bound, 1),
        lambda executor, bound: executor.starmap(bound, [(1,)]),
        lambda executor, bound: executor.submit(5),
        lambda executor, bound: executor.execute_concurrent([5]),
    ],
)
def test_what_is_refused_is_not_counted(
    session: ScriptedSession, take: Callable[..., object]
) -> None:
    """Bad input, and calls after `shutdown`, were never submitted."""
    executor = CassandraExecutor(session)
    with pytest.raises(TypeError):
        take(executor, session.prepare("SELECT 1").bind(()))
    counted(executor, submitted=0)
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit("SELECT 1")
    counted(executor, submitted=0)


def test_callables_are_not_counted(session: ScriptedSession) -> None:
    """Statements only."""
    with CassandraExecutor(session) as executor:
        executor.submit(len, "a").result(LIMIT)
        list(executor.map(len, ["a", "b"]))
        assert isinstance(executor.submit(int, "x").exception(LIMIT), ValueError)
        counted(executor, submitted=0)


def test_later_pages_are_not_counted() -> None:
    """A result with many pages is one statement, also while a page is fetched."""
    session = DriverSession()
    executor = CassandraExecutor(session)
    future = executor.submit("SELECT n")
    session.requests[0].rows([(1,)], ["n"], paging_state=b"1")
    fetching = Background(future.result(0).fetch_next_page)
    session.wait_for(2)
    counted(executor, submitted=1, succeeded=1)
    session.requests[1].answer(InvalidRequest("wrong"))
    with pytest.raises(InvalidRequest):
        fetching.result()
    counted(executor, submitted=1, succeeded=1)


def test_views_are_counted_together(session: ScriptedSession) -> None:
    """The numbers are those of the executor, whichever view is asked."""
    executor = CassandraExecutor(session, concurrency=1)
    view = executor.with_options(timeout=1)
    executor.submit("SELECT 1")
    view.submit("SELECT 2")
    counted(executor, submitted=2, in_flight=1, queued=1)
    counted(view, submitted=2, in_flight=1, queued=1)


def test_executors_are_counted_apart(session: ScriptedSession) -> None:
    """Two executors on one session know nothing of each other."""
    first, second = CassandraExecutor(session), CassandraExecutor(session)
    first.submit("SELECT 1")
    counted(first, submitted=1, in_flight=1)
    counted(second, submitted=0)


def test_what_an_abort_drops_is_cancelled(session: ScriptedSession) -> None:
    """Calls of a `map` that are never sent because of a failure, or a `close`, are cancelled."""
    executor = CassandraExecutor(session, concurrency=2)
    results = executor.map("SELECT %s", range(10))
    session.requests[0].fail(InvalidRequest("wrong"))
    session.requests[1].succeed()
    counted(executor, submitted=10, succeeded=1, failed={"InvalidRequest": 1}, cancelled=8)
    with pytest.raises(InvalidRequest):
        next(results)
    others: Any = executor.map("SELECT %s", range(10))
    session.pending[0].succeed()
    next(others)
    others.close()
    counted(
        executor,
        submitted=20,
        succeeded=2,
        failed={"InvalidRequest": 1},
        cancelled=15,
        in_flight=2,
    )


def test_what_shutdown_cancels(session: ScriptedSession) -> None:
    """`cancel_futures` counts what it cancels, and leaves what is in flight where it is."""
    executor = CassandraExecutor(session, concurrency=1)
    for _ in range(3):
        executor.submit("SELECT 1")
    executor.shutdown(wait=False, cancel_futures=True)
    counted(executor, submitted=3, in_flight=1, cancelled=2)


def test_a_snapshot_does_not_change(session: ScriptedSession) -> None:
    """What was returned is the caller's: it neither changes nor changes anything."""
    executor = CassandraExecutor(session)
    executor.submit("SELECT 1")
    before = executor.stats()
    before.failed["mine"] = 7
    session.pending[0].fail(KeyError())
    assert (before.in_flight, before.failed) == (1, {"mine": 7})
    counted(executor, submitted=1, failed={"KeyError": 1})


def test_snapshots_are_consistent_under_way() -> None:
    """While several threads submit, fail and cancel, each snapshot adds up and only grows."""
    session = ScriptedSession(request_timeout=None)

    def respond(request: ScriptedRequest) -> None:
        if request.number % 3 == 0:
            request.fail(KeyError())
        else:
            request.succeed()

    session.respond = respond
    executor = CassandraExecutor(session, concurrency=3)
    barrier = threading.Barrier(5)
    count = 300

    def work() -> None:
        barrier.wait(LIMIT)
        for n in range(count):
            future = executor.submit("SELECT 1")
            if n % 5 == 0:
                future.cancel()

    workers = [Background(work) for _ in range(4)]
    barrier.wait(LIMIT)
    last = executor.stats()
    while total(last) < 4 * count or last.queued or last.in_flight:
        stats = executor.stats()
        assert stats.submitted == total(stats)
        assert 0 <= stats.in_flight <= 3
        assert stats.queued >= 0
        for name in ("submitted", "succeeded", "cancelled"):
            assert getattr(stats, name) >= getattr(last, name)
        last = stats
        if not any(worker._thread.is_alive() for worker in workers):
            break
    for worker in workers:
        worker.result()
    executor.shutdown()
    stats = executor.stats()
    assert stats.submitted == total(stats) == 4 * count
    assert stats.queued == stats.in_flight == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["submit", "map", "succeed", "fail", "cancel", "close"]),
        st.integers(0, 20),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 4))
def test_the_numbers_are_those_of_a_plain_count(
    steps: List[Tuple[str, int]], concurrency: int
) -> None:
    """After every step the numbers are what counting futures and requests by hand gives."""
    session = ScriptedSession(request_timeout=None)
    executor = CassandraExecutor(session, concurrency)
    futures: List[Future[Any]] = []
    maps: List[Any] = []
    submitted = failed = 0
    for what, number in steps:
        note(f"{what} {number}")
        pending = session.pending
        if what == "submit":
            futures.append(executor.submit("SELECT 1"))
            submitted += 1
        elif what == "map":
            maps.append(executor.map("SELECT %s", range(number), return_exceptions=number % 2 == 0))
            submitted += number
        elif what == "succeed" and pending:
            pending[number % len(pending)].succeed()
        elif what == "fail" and pending:
            pending[number % len(pending)].fail(InvalidRequest("wrong"))
            failed += 1
        elif what == "cancel" and futures:
            futures[number % len(futures)].cancel()
        elif what == "close" and maps:
            maps.pop(number % len(maps)).close()
        stats = executor.stats()
        answered = sum(request.done for request in session.requests)
        assert stats.submitted == total(stats) == submitted
        assert stats.in_flight == len(session.pending) <= concurrency
        assert stats.failed == ({"InvalidRequest": failed} if failed else {})
        assert stats.succeeded == answered - failed
        assert stats.queued == 0 or stats.in_flight == concurrency
        assert stats.cancelled >= sum(future.cancelled() for future in futures)
        if submitted == len(futures):
            assert stats.cancelled == sum(future.cancelled() for future in futures)
            assert stats.queued == sum(
                not future.running() and not future.done() for future in futures
            )
