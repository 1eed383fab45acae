"""Promise 12: `Future.cancel()` works on what was not sent yet, and notifies at once."""

from __future__ import annotations

import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    CancelledError,
    _base,
    as_completed,
    wait,
)
from typing import Any, Callable, List, Set

import pytest
from cassandra import OperationTimedOut
from hypothesis import given
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry
from cassconc.testing import ScriptedRequest, ScriptedSession, echo
from tests.stage import CQL, Boom, Stage, idempotent, staged, value
from tests.waits import LIMIT, Background, occurs, together


def test_what_was_sent_cannot_be_cancelled(session: ScriptedSession) -> None:
    """`cancel` returns False for a call that is in flight, and its answer counts."""
    executor = CassandraExecutor(session, concurrency=1)
    future = executor.submit("SELECT 1")
    assert not future.cancel()
    session.pending[0].succeed([(1,)], ["one"])
    assert future.result(0).one().one == 1


def test_what_waits_is_cancelled_and_never_sent(session: ScriptedSession) -> None:
    """`cancel` returns True for a call that waits for its turn, and it is never sent."""
    executor = CassandraExecutor(session, concurrency=1)
    first, second = executor.submit("SELECT 1"), executor.submit("SELECT 2")
    assert second.cancel()
    assert second.cancel()
    assert second.cancelled()
    assert second.done()
    with pytest.raises(CancelledError):
        second.result(0)
    session.pending[0].succeed()
    assert first.done()
    assert len(session.requests) == 1


# At every point


def test_cancel_while_execute_async_runs() -> None:
    """A call that is being sent was sent: `cancel` returns False."""
    answers: List[bool] = []

    def respond(request: ScriptedRequest) -> None:
        answers.append(futures[1].cancel())

    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, 0), stage.executor.submit(CQL, 1)]
        stage.session.respond = respond
        stage.answer(0)
        assert answers == [False]
        stage.session.respond = None
        stage.answer(1)
        assert value(futures[1].result(0)) == 1


def test_cancel_of_what_has_ended() -> None:
    """After success, failure or time-out `cancel` returns False and the outcome stays."""
    with staged(3) as stage:
        done, failed, late = [stage.executor.submit(CQL, i) for i in range(3)]
        stage.answer(0)
        stage.fail(1)
        stage.clock.advance(10)
        assert not any(future.cancel() for future in (done, failed, late))
        assert not any(future.cancelled() for future in (done, failed, late))
        assert value(done.result(0)) == 0
        assert isinstance(failed.exception(0), Boom)
        assert isinstance(late.exception(0), OperationTimedOut)


def test_cancel_while_a_call_waits_for_its_retry() -> None:
    """It was sent before: `cancel` returns False, and the retry goes on."""
    with staged(1, retry=Retry(delay=1)) as stage:
        future = stage.executor.submit(idempotent("A"))
        stage.session.requests[0].fail(OperationTimedOut())
        assert stage.executor.stats().waiting_for_retry == 1
        assert not future.cancel()
        assert future.running()
        stage.clock.advance(1)
        assert not future.cancel()
        stage.session.wait_for(2)[1].succeed()
        assert future.exception(LIMIT) is None


def test_cancel_while_a_retry_waits_for_its_turn() -> None:
    """The same holds when the retry is due and there is no room for it yet."""
    with staged(1, retry=Retry(delay=0)) as stage:
        future = stage.executor.submit(idempotent("A"))
        stage.executor.submit(CQL, "other")
        stage.session.requests[0].fail(OperationTimedOut())
        stage.clock.advance(0)
        assert not future.cancel()
        stage.answer("other")
        stage.session.wait_for(3)[2].succeed()
        assert future.exception(LIMIT) is None


def test_cancel_after_shutdown() -> None:
    """What waits when the executor is shut down can still be cancelled."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(3)]
        stage.executor.shutdown(wait=False)
        assert [future.cancel() for future in futures] == [False, True, True]
        stage.answer(0)
        assert stage.sent == [0]


def test_shutdown_returns_when_the_rest_was_cancelled() -> None:
    """`shutdown(wait=True)` does not wait for what was cancelled meanwhile."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(3)]
        shutting = Background(stage.executor.shutdown)
        for future in futures[1:]:
            assert future.cancel()
        stage.answer(0)
        shutting.result()
        assert stage.sent == [0]


# Who is told


def test_waiters_are_told_at_once(session: ScriptedSession) -> None:
    """`wait` and `as_completed` return a cancelled future while nothing else has ended."""
    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit("SELECT 1"), executor.submit("SELECT 2")]
    completed = as_completed(futures, timeout=10)
    futures[1].cancel()
    assert next(completed) is futures[1]
    assert wait(futures, timeout=10, return_when="FIRST_COMPLETED").done == {futures[1]}
    session.pending[0].succeed()


@pytest.mark.parametrize(
    "first",
    [
        lambda futures: next(as_completed(futures, LIMIT)),
        lambda futures: next(iter(wait(futures, LIMIT, return_when=FIRST_COMPLETED).done)),
    ],
    ids=["as_completed", "wait"],
)
def test_threads_that_wait_already_are_told(
    first: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wait` and `as_completed` in another thread return when a future of theirs is cancelled.

    1. The thread has told both futures that it waits.
    2. One of them is cancelled.
    """
    begins = threading.Event()
    install = _base._create_and_install_waiters  # type: ignore[attr-defined]

    def install_and_tell(*args: Any) -> Any:
        waiter = install(*args)
        begins.set()
        return waiter

    monkeypatch.setattr(_base, "_create_and_install_waiters", install_and_tell)
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, 0), stage.executor.submit(CQL, 1)]
        told = Background(lambda: first(futures))
        occurs(begins, "the thread waits")
        assert futures[1].cancel()
        assert told.result() is futures[1]


@pytest.mark.parametrize("mode", [FIRST_COMPLETED, ALL_COMPLETED])
def test_threads_that_wait_are_woken(mode: str) -> None:
    """`wait` in another thread returns, whether it begins before `cancel` or after it."""
    for _ in range(100):
        with staged(1) as stage:
            sent, waiting = stage.executor.submit(CQL, 0), stage.executor.submit(CQL, 1)
            watched = {waiting} if mode == ALL_COMPLETED else {sent, waiting}

            def told(watched: Set[Any] = watched) -> bool:
                return len(wait(watched, LIMIT, return_when=mode).done) == 1

            assert together(told, waiting.cancel) == [True, True]


def test_threads_that_wait_for_the_result_are_woken() -> None:
    """`result()` in another thread raises `CancelledError`, whenever the call is cancelled."""
    for _ in range(100):
        with staged(1) as stage:
            stage.executor.submit(CQL, 0)
            waiting = stage.executor.submit(CQL, 1)

            def told(waiting: Any = waiting) -> bool:
                with pytest.raises(CancelledError):
                    waiting.result(LIMIT)
                return True

            assert together(told, waiting.cancel) == [True, True]


def test_done_callbacks_are_called() -> None:
    """Cancelling runs the done-callbacks, once each, also those that are added later."""
    with staged(1) as stage:
        stage.executor.submit(CQL, 0)
        waiting = stage.executor.submit(CQL, 1)
        called: List[Any] = []
        both = threading.Event()
        waiting.add_done_callback(called.append)
        waiting.add_done_callback(lambda future: both.set())
        assert waiting.cancel()
        assert waiting.cancel()
        occurs(both, "the callbacks were called")
        late = threading.Event()
        waiting.add_done_callback(lambda future: late.set())
        occurs(late, "a late callback is called")
        assert called == [waiting]


def test_asyncio_cancels_what_waits() -> None:
    """Cancelling the `asyncio` future that wraps a waiting call cancels the call."""
    import asyncio

    with staged(1) as stage:
        sent, waiting = stage.executor.submit(CQL, 0), stage.executor.submit(CQL, 1)

        async def cancel() -> List[bool]:
            wrapped = [asyncio.wrap_future(sent), asyncio.wrap_future(waiting)]
            for future in wrapped:
                future.cancel()
            await asyncio.gather(*wrapped, return_exceptions=True)
            return [future.cancelled() for future in wrapped]

        assert asyncio.run(cancel()) == [True, True]
        assert waiting.cancelled()
        assert not sent.done()


# In done-callbacks, and many


def test_cancel_in_a_done_callback() -> None:
    """A done-callback may cancel others: what waits is cancelled, what was sent is not."""
    with staged(2) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(5)]
        outcomes: List[bool] = []
        over = threading.Event()

        def cancel_all(_: object) -> None:
            outcomes.extend(future.cancel() for future in futures)
            over.set()

        futures[0].add_done_callback(cancel_all)
        stage.answer(0)
        occurs(over, "the callback has run")
        assert outcomes == [False, False, False, True, True]
        stage.answer(1, 2)
        assert stage.sent == [0, 1, 2]


def test_a_chain_of_cancels() -> None:
    """Each cancelled future's callback cancels the next: a thousand of them need no deep stack."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(1001)]
        over = threading.Event()
        futures[-1].add_done_callback(lambda _: over.set())
        for number, future in enumerate(futures[1:-1], 2):
            future.add_done_callback(lambda _, n=number: futures[n].cancel())  # type: ignore[misc]
        futures[1].cancel()
        occurs(over, "the last one is cancelled")
        stage.answer(0)
        assert stage.sent == [0]


def test_cancel_of_many() -> None:
    """50,000 waiting calls are cancelled one by one, and nothing of them is sent or in the way."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(50_001)]
        last = stage.executor.submit(CQL, "last")
        assert sum(future.cancel() for future in futures) == 50_000
        stats = stage.executor.stats()
        assert (stats.cancelled, stats.queued, stats.in_flight) == (50_000, 1, 1)
        stage.answer(0)
        assert stage.sent == [0, "last"]
        stage.answer("last")
        assert value(last.result(0)) == "last"


def test_a_cancelled_call_leaves_its_turn_to_the_next() -> None:
    """When room is made, those that were cancelled are passed over, and one call is sent."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(6)]
        for number in (1, 2, 4):
            assert futures[number].cancel()
        stage.answer(0)
        assert stage.sent == [0, 3]
        stage.answer(3)
        assert stage.sent == [0, 3, 5]


# Against admission


def test_cancel_races_with_admission() -> None:
    """Of `cancel` and the sending of a call exactly one wins, on two threads at the same time."""
    won = [0, 0]
    for _ in range(300):
        with staged(1) as stage:
            futures = [stage.executor.submit(CQL, i) for i in range(2)]

            def admit(stage: Stage = stage) -> bool:
                stage.answer(0)
                return True

            _, cancelled = together(admit, futures[1].cancel)
            assert futures[1].cancelled() is cancelled
            assert stage.sent == ([0] if cancelled else [0, 1])
            if not cancelled:
                stage.answer(1)
                assert value(futures[1].result(0)) == 1
            won[cancelled] += 1
    assert sum(won) == 300


def test_many_cancels_race_with_many_answers() -> None:
    """Three threads cancel 3,000 calls from three sides while one answers what is sent."""
    with staged(5) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(3000)]

        def cancel(order: slice) -> Set[int]:
            return {id(future) for future in futures[order] if future.cancel()}

        def answer() -> Set[int]:
            for _ in range(500):
                for request in stage.session.pending[:1]:
                    stage.answer(request.parameters[0])
            return set()

        cancelled = together(
            lambda: cancel(slice(None, None, -1)),
            lambda: cancel(slice(None, None, 2)),
            lambda: cancel(slice(1, None, 2)),
            answer,
        )
        # a call that was asked to be cancelled while its answer came is ended by a helper thread
        stage.session.respond = echo
        stage.answer_all()
        assert not wait(futures, LIMIT).not_done
        sent = set(stage.sent)
        for number, future in enumerate(futures):
            assert future.cancelled() is (number not in sent), f"call {number}"
            assert any(id(future) in each for each in cancelled) is future.cancelled()
        stats = stage.executor.stats()
        assert stats.succeeded + stats.cancelled == stats.submitted == 3000


def test_cancel_races_with_cancel() -> None:
    """Several threads that cancel one call are all told so, and its callback runs once."""
    for _ in range(100):
        with staged(1) as stage:
            stage.executor.submit(CQL, 0)
            future = stage.executor.submit(CQL, 1)
            called: List[Any] = []
            over = threading.Event()
            future.add_done_callback(called.append)
            future.add_done_callback(lambda _: over.set())  # noqa: B023
            assert together(*[future.cancel] * 4) == [True] * 4
            occurs(over, "the callbacks were called")
            assert called == [future]
            assert stage.executor.stats().cancelled == 1


@given(
    steps=st.lists(st.tuples(st.sampled_from(["cancel", "answer"]), st.integers(0, 9))),
    concurrency=st.integers(1, 4),
)
def test_cancel_at_any_moment(steps: List[Any], concurrency: int) -> None:
    """Whenever it is called: True and never sent, or False and sent before."""
    with staged(concurrency) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(10)]
        cancelled: Set[int] = set()
        for step, number in steps:
            if step == "answer":
                for request in stage.session.pending[number : number + 1]:
                    stage.answer(request.parameters[0])
                continue
            sent = number in stage.sent
            assert futures[number].cancel() is not sent
            assert futures[number].cancelled() is not sent
            cancelled.update([number] * (not sent))
        stage.answer_all()
        assert stage.sent == [i for i in range(10) if i not in cancelled]
