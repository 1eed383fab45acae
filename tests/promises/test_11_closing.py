"""Promise 11: closing, dropping, `timeout` and an interrupt abort a `map` as a failure does."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import TimeoutError
from typing import Any, Callable, Dict, Iterator, List

import pytest
from cassandra import OperationTimedOut

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ScriptedRequest, ScriptedSession, echo
from tests.stage import CQL, Boom, Stage, Taken, failure, idempotent, staged, value, values
from tests.tracing import InterruptAtLine
from tests.waits import LIMIT, Background, eventually, occurs


class Dropped:
    """Holds the only reference to an iterator; each way to get rid of it has a name."""

    def __init__(self, results: Iterator[Any]) -> None:
        self.results: Any = results

    def close(self) -> None:
        """Close it."""
        self.results.close()

    def drop(self) -> None:
        """Drop it."""
        self.results = None
        gc.collect()

    def drop_in_a_cycle(self) -> None:
        """Drop it where only the garbage collector finds it."""
        cycle: Dict[str, Any] = {"results": self.results}
        cycle["cycle"] = cycle
        self.results = None
        del cycle
        gc.collect()

    def close_on_another_thread(self) -> None:
        """Close it where it was not iterated."""
        Background(self.close).result()


WAYS = pytest.mark.parametrize(
    "way", [Dropped.close, Dropped.drop, Dropped.drop_in_a_cycle, Dropped.close_on_another_thread]
)
KINDS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"buffersize": 6},
        {"ordered": False},
        {"return_exceptions": True},
        {"ordered": False, "buffersize": 6, "return_exceptions": True},
        {"max_errors": 3},
        {"with_calls": True},
    ],
    ids=str,
)


def is_aborted(stage: Stage, in_flight: List[int], taken: Taken) -> None:
    """Check that a map sends and takes nothing more, and that what is in flight goes on."""
    before, count = stage.sent, taken.count
    stats = stage.executor.stats()
    assert (stats.queued, stats.in_flight) == (0, len(in_flight))
    stage.answer(*in_flight)
    stage.clock.advance(100)
    assert stage.sent == before, "something was sent afterwards"
    assert taken.count == count, "something was taken afterwards"
    assert stage.executor.stats().in_flight == 0


# Closing and dropping


@KINDS
@WAYS
def test_an_iterator_that_is_closed_or_dropped_aborts(
    way: Callable[[Dropped], None], options: Dict[str, Any]
) -> None:
    """From the first `next` on: nothing more is sent or taken; what is in flight goes on."""
    with staged(2) as stage:
        taken = Taken(range(20))
        dropped = Dropped(stage.executor.map(CQL, taken, **options))
        stage.answer(0)
        next(dropped.results)
        way(dropped)
        is_aborted(stage, [1, 2], taken)


@KINDS
@WAYS
def test_an_iterator_that_was_never_asked_does_not_abort(
    way: Callable[[Dropped], None], options: Dict[str, Any]
) -> None:
    """Closing or dropping what nobody asked for anything: what was taken is still run."""
    with staged(2) as stage:
        taken = Taken(range(20))
        dropped = Dropped(stage.executor.map(CQL, taken, **options))
        way(dropped)
        stage.answer_all()
        assert stage.sent == list(range(options.get("buffersize", 20)))
        assert stage.executor.stats().succeeded == len(stage.sent)


def test_leaving_the_loop_aborts() -> None:
    """`break` drops the iterator of a `for` loop."""
    with staged(2) as stage:
        taken = Taken(range(20))
        stage.play()
        for result in stage.executor.map(CQL, taken):
            if value(result) == 3:
                break
        is_aborted(stage, [4, 5], taken)


def test_closing_twice_or_at_the_end_does_nothing() -> None:
    """`close` may be called again, and when all results were yielded."""
    with staged(2) as stage:
        stage.play()
        results: Any = stage.executor.map(CQL, range(3))
        assert values(results) == [0, 1, 2]
        results.close()
        results.close()
        assert next(results, None) is None


def test_closing_one_map_leaves_the_others_alone() -> None:
    """Other maps and futures go on, and have the room that is left."""
    with staged(2) as stage:
        closed: Any = stage.executor.map(CQL, range(10))
        other = stage.executor.map(CQL, range(100, 104))
        future = stage.executor.submit(CQL, 200)
        stage.answer(0)
        next(closed)
        closed.close()
        stage.answer(1, 2)
        assert stage.sent == [0, 1, 2, 100, 101]
        stage.play()
        assert values(other) == [100, 101, 102, 103]
        stage.answer_all()
        assert value(future.result(LIMIT)) == 200


def test_closing_ends_what_waits_for_a_retry() -> None:
    """A call that has failed and would be tried again is not sent any more."""
    with staged(2, retry=Retry(delay=1)) as stage:
        results: Any = stage.executor.execute_concurrent(
            [(idempotent(text), None) for text in "ABC"]
        )
        stage.session.requests[1].fail(OperationTimedOut())
        stage.session.requests[0].succeed()
        next(results)
        results.close()
        assert stage.executor.stats().waiting_for_retry == 0
        stage.clock.advance(100)
        assert len(stage.sent) == 3


def test_failures_after_closing_harm_nobody() -> None:
    """What was in flight may fail after the map was closed; the next call is sent as ever."""
    with staged(2) as stage:
        results: Any = stage.executor.map(CQL, range(10))
        stage.answer(0)
        next(results)
        results.close()
        stage.fail(1, 2)
        future = stage.executor.submit(CQL, "next")
        stage.answer("next")
        assert value(future.result(0)) == "next"


def test_dropping_a_map_with_thousands_waiting() -> None:
    """20,000 waiting calls are gone when `close` returns."""
    with staged(2) as stage:
        results: Any = stage.executor.map(CQL, range(20_000))
        stage.answer(0)
        next(results)
        results.close()
        stats = stage.executor.stats()
        assert (stats.queued, stats.cancelled) == (0, 19_997)


def test_who_waits_in_another_map_is_not_woken_for_nothing() -> None:
    """Closing one map from the wait of another one: that one still gets its own result."""
    with staged(2) as stage:
        first: Any = stage.executor.map(CQL, range(10))
        stage.answer(0)
        next(first)

        def on_wait() -> bool:
            first.close()
            echo(stage.session.pending[0])
            return True

        stage.clock.on_wait = on_wait
        assert values(stage.executor.map(CQL, range(100, 103))) == [100, 101, 102]


# The timeout


@KINDS
def test_timeout_aborts(options: Dict[str, Any]) -> None:
    """When the time is up and the result is not there, `next` raises, and the map has ended."""
    with staged(2, request_timeout=None) as stage:
        taken = Taken(range(20))
        results = stage.executor.map(CQL, taken, timeout=5, **options)
        stage.answer(0)
        next(results)
        stage.clock.advance(5)
        with pytest.raises(TimeoutError):
            next(results)
        assert next(results, "the end") == "the end"
        is_aborted(stage, [1, 2], taken)


def test_timeout_is_reached_while_the_consumer_waits() -> None:
    """Who waits for a result is woken when the time is up, and not before."""
    with staged(2, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(20), timeout=5)
        moments: List[float] = []

        def on_wait() -> bool:
            moments.append(stage.clock.monotonic())
            stage.clock.advance(1)
            return True

        stage.clock.on_wait = on_wait
        with pytest.raises(TimeoutError):
            next(results)
        assert moments == [0, 1, 2, 3, 4]
        is_aborted(stage, [0, 1], Taken([]))


def test_timeout_counts_from_the_call() -> None:
    """Time that passes before the first `next` counts, and that which the input takes, too."""
    with staged(2, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(20), timeout=5)
        stage.clock.advance(5)
        with pytest.raises(TimeoutError):
            next(results)
        results = stage.executor.map(
            CQL, Taken(range(5), lambda count: stage.clock.advance(1)), timeout=5
        )
        with pytest.raises(TimeoutError):
            next(results)


def test_timeout_is_for_the_whole_map() -> None:
    """It does not start anew with each result."""
    with staged(1, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(20), timeout=5)
        for number in range(4):
            stage.clock.advance(1)
            stage.answer(number)
            assert value(next(results)) == number
        stage.clock.advance(1)
        with pytest.raises(TimeoutError):
            next(results)


def test_timeout_is_looked_at_only_in_next() -> None:
    """Nothing occurs at the time itself: without `next`, calls are sent as before."""
    with staged(1, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(4), timeout=5)
        stage.clock.advance(100)
        stage.answer(0, 1)
        assert stage.sent == [0, 1, 2]
        assert [value(next(results)), value(next(results))] == [0, 1]
        with pytest.raises(TimeoutError):
            next(results)
        stage.answer(2)
        assert stage.sent == [0, 1, 2]


@pytest.mark.parametrize("ordered", [True, False])
def test_what_is_there_is_yielded_even_late(ordered: bool) -> None:
    """A result that is there when it is asked for is yielded, however late that is."""
    with staged(5, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(5), timeout=0, ordered=ordered)
        stage.answer(*range(5))
        stage.clock.advance(1000)
        assert values(results) == [0, 1, 2, 3, 4]


def test_a_result_that_comes_as_the_time_is_up_is_yielded() -> None:
    """Who waits finds the result and the end of the time at once: the result counts."""
    with staged(1, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(5), timeout=5)

        def on_wait() -> bool:
            stage.answer(0)
            stage.clock.advance(5)
            return True

        stage.clock.on_wait = on_wait
        assert value(next(results)) == 0


def test_a_failure_that_is_there_is_raised_even_late() -> None:
    """The failure of a call comes before the time that is up."""
    with staged(2, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(5), timeout=1)
        stage.fail(0)
        stage.clock.advance(1000)
        with pytest.raises(Boom):
            next(results)


def test_timeout_of_zero() -> None:
    """`timeout=0` yields what is there, and waits for nothing."""
    with staged(1, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(5), timeout=0)
        stage.answer(0)
        assert value(next(results)) == 0
        with pytest.raises(TimeoutError):
            next(results)


def test_timeout_is_raised_also_with_return_exceptions() -> None:
    """It is the end of the map, not a failure of a call: it is never yielded."""
    with staged(1, request_timeout=None) as stage:
        results = stage.executor.map(CQL, range(5), timeout=1, return_exceptions=True)
        stage.clock.advance(1)
        with pytest.raises(TimeoutError):
            next(results)


def test_timeout_of_the_map_and_of_the_requests_are_two_things() -> None:
    """`with_options(timeout=)` fails a call; the map's `timeout` leaves calls in flight alone."""
    with staged(2, request_timeout=None) as stage:
        view = stage.executor.with_options(timeout=3)
        results = view.map(CQL, range(2), timeout=100, return_exceptions=True)
        stage.clock.advance(3)
        assert [type(result) for result in results] == [OperationTimedOut] * 2
        results = view.map(CQL, range(10, 12), timeout=1)
        stage.clock.advance(1)
        with pytest.raises(TimeoutError):
            next(results)
        assert stage.executor.stats().in_flight == 2
        stage.clock.advance(2)
        assert stage.executor.stats().in_flight == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_timeout_of_a_map_of_callables(ordered: bool) -> None:
    """A map of callables has it as well; what waits for a worker is not run."""
    let_go, ran = threading.Event(), []

    def run(number: int) -> None:
        occurs(let_go, "the call is let go")
        ran.append(number)

    with CassandraExecutor(ScriptedSession(), max_workers=1) as executor:
        results = executor.map(run, range(9), timeout=0, ordered=ordered)
        with pytest.raises(TimeoutError):
            next(results)
        let_go.set()
    assert ran == [0]


# Interrupts


@KINDS
def test_an_interrupt_while_the_consumer_waits_aborts(options: Dict[str, Any]) -> None:
    """Ctrl-C in the wait for a result leaves nothing behind that would be sent later."""
    with staged(2) as stage:
        taken = Taken(range(20))
        results = stage.executor.map(CQL, taken, **options)
        stage.answer(0)
        next(results)

        def interrupt() -> bool:
            raise KeyboardInterrupt

        stage.clock.on_wait = interrupt
        with pytest.raises(KeyboardInterrupt):
            next(results)
        is_aborted(stage, [1, 2], taken)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_the_input_aborts(error: type[BaseException]) -> None:
    """What strikes while an item is taken reaches the caller at once, and ends the map."""
    with staged(2) as stage:

        def watch(count: int) -> None:
            if count == 6:
                raise error

        taken = Taken(range(20), watch)
        results = stage.executor.map(CQL, taken, buffersize=5)
        stage.answer(0)
        with pytest.raises(error):
            for _ in range(5):
                next(results)
                stage.answer(*[value for value in stage.sent if not stage.request(value).done])
        before = stage.sent
        stage.answer_all()
        assert stage.sent == before
        assert stage.executor.stats().queued == 0


def test_an_interrupt_while_a_map_without_bound_takes_its_input() -> None:
    """It reaches the caller of `map`; what was taken and not sent is dropped."""
    with staged(2) as stage:

        def watch(count: int) -> None:
            if count == 6:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stage.executor.map(CQL, Taken(range(20), watch))
        stage.answer(0, 1)
        assert stage.sent == [0, 1]


def test_an_interrupt_in_execute_async_aborts() -> None:
    """It strikes while the consumer sends: that call ends with it, and nothing else is lost."""
    with staged(2) as stage:
        other = stage.executor.submit(CQL, "other")

        def respond(request: ScriptedRequest) -> None:
            if request.parameters == (3,):
                raise KeyboardInterrupt

        stage.session.respond = respond
        taken = Taken(range(20))
        results = stage.executor.map(CQL, taken, buffersize=1)
        got = []
        with pytest.raises(KeyboardInterrupt):
            for _ in range(9):
                stage.answer(stage.sent[-1])
                got.append(value(next(results)))
        assert got == [0, 1]
        assert stage.sent == ["other", 0, 1, 2, 3]
        stage.answer(2)
        assert taken.count == 4
        stage.answer("other")
        assert value(other.result(0)) == "other"


def test_ctrl_c_in_the_loop_body_ends_the_with_block() -> None:
    """Leaving the `with` block by it cancels what was not sent, and waits for what is in flight."""
    with staged(2) as stage:
        cancelled: List[Any] = []

        def when_cancelled(future: Any) -> None:
            cancelled.append(future)
            stage.answer(1, 2)

        with pytest.raises(KeyboardInterrupt):
            with stage.executor as executor:
                results = executor.map(CQL, range(20))
                stage.answer(0)
                executor.submit(CQL, "last").add_done_callback(when_cancelled)
                for _ in results:
                    raise KeyboardInterrupt
        assert stage.sent == [0, 1, 2]
        assert cancelled[0].cancelled()
        stats = stage.executor.stats()
        assert (stats.succeeded, stats.cancelled, stats.submitted) == (3, 18, 21)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_interrupt_at_any_line_of_next(ordered: bool) -> None:
    """Wherever Ctrl-C strikes in `next`: the map has ended, and the executor still works."""
    for number in range(1000):
        with staged(3) as stage:
            results = stage.executor.map(CQL, range(20), buffersize=4, ordered=ordered)
            stage.answer(0, 1, 2, 3)
            next(results)
            next(results)
            next(results)
            interrupt = InterruptAtLine(number)
            gc.disable()  # what strikes in a finalizer is lost
            try:
                with interrupt:
                    next(results)  # takes and sends some more
            except KeyboardInterrupt:
                pass
            finally:
                gc.enable()
            if interrupt.struck is None:
                assert number > 20
                return
            where = f"after an interrupt at {interrupt.struck}"
            assert next(results, "the end") == "the end", where
            # what has its turn, and was not sent, is cancelled by a helper thread
            eventually(lambda: _is_settled(stage), lambda: where)  # noqa: B023
            before = len(stage.session.requests)
            stage.answer_all()
            # sent by this thread, at once; then more than the executor lets in at a time
            futures = [stage.executor.submit(CQL, text) for text in "ABCDE"]
            assert len(stage.sent) == before + 3, f"{where} a call is not sent"
            for text, future in zip("ABCDE", futures):
                stage.answer(text)
                assert future.done(), f"{where} a call does not end"
    raise AssertionError("there is no end to the lines of next")


def _is_settled(stage: Stage) -> bool:
    stats = stage.executor.stats()
    return len(stage.session.requests) >= stats.succeeded + stats.in_flight


# The drop-ins


@WAYS
def test_the_generator_of_the_drop_ins_aborts(way: Callable[[Dropped], None]) -> None:
    """Closing or dropping it after the first result: nothing more is taken or sent."""

    def respond(request: ScriptedRequest) -> None:
        if request.number < 1:
            echo(request)

    session = ScriptedSession(respond)
    taken = Taken((i,) for i in range(5000))
    dropped = Dropped(
        execute_concurrent_with_args(session, CQL, taken, concurrency=2, results_generator=True)
    )
    next(dropped.results)
    way(dropped)
    before = taken.count
    for request in session.pending:
        echo(request)
    assert len(session.requests) == 3
    assert taken.count == before == 1000


def test_cancelling_the_future_of_the_drop_ins_aborts() -> None:
    """Nothing more is sent or taken, and the helper thread that took the input is free."""
    session = ScriptedSession()
    stopped = threading.Event()

    def items() -> Iterator[Any]:
        try:
            for number in range(100_000):
                yield CQL, (number,)
        finally:
            stopped.set()

    future = execute_concurrent_async(session, items(), concurrency=2)
    session.wait_for(2)
    assert future.cancel()
    assert future.cancelled()
    occurs(stopped, "the input is closed")
    for request in session.pending:
        echo(request)
    assert len(session.requests) == 2


def test_a_future_of_the_drop_ins_that_has_ended_is_not_cancelled() -> None:
    """`cancel` after the end returns False and changes nothing."""
    session = ScriptedSession(echo)
    future = execute_concurrent_async(session, [(CQL, (1,))])
    assert failure(future) is None
    assert not future.cancel()
    assert value(future.result(0)[0].result_or_exc) == 1
