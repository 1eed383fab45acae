"""Promise 16: without `buffersize`, `map` is the standard one; and it loses nothing."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor, TimeoutError
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassconc import CassandraExecutor
from cassconc.testing import Script, ScriptedSession, echo
from tests.immediate import ImmediateSession
from tests.stage import CQL, Boom, Taken, staged, value, values
from tests.waits import LIMIT, Background, occurs

SHUT_DOWN = "cannot schedule new futures after shutdown"
ORDERS = pytest.mark.parametrize("ordered", [True, False])

# The whole input, at once


@ORDERS
def test_the_whole_input_is_taken_at_once(ordered: bool) -> None:
    """When `map` returns, its input is at its end, whatever was answered until then."""
    with staged(2) as stage:
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, ordered=ordered)
        assert taken.count == 100
        assert next(taken, None) is None
        assert stage.executor.stats().submitted == 100
        del results


@ORDERS
@pytest.mark.parametrize("kept", [True, False])
def test_all_of_it_runs_when_nobody_iterates(ordered: bool, kept: bool) -> None:
    """Whether the iterator is kept or dropped: every call is sent, and ends."""
    with staged(2) as stage:
        results: Optional[Iterator[Any]] = stage.executor.map(CQL, range(50), ordered=ordered)
        if not kept:
            results = None
            gc.collect()
        stage.answer_all()
        assert stage.sent == list(range(50))
        assert stage.executor.stats().succeeded == 50
        if results is not None:
            assert values(results) == list(range(50))


def test_all_of_it_runs_when_the_executor_is_dropped() -> None:
    """An executor that nobody holds any more still sends what a map has taken."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 2)
    executor.map(CQL, range(20))
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    Script().play_all(session)
    assert [request.parameters[0] for request in session.requests] == list(range(20))


def test_a_hundred_thousand_calls() -> None:
    """An input of 100,000 calls that end at once is taken and run, and yielded in order."""
    session = ImmediateSession(lambda parameters: [parameters[0]])
    with CassandraExecutor(session, 100) as executor:
        results = executor.map(CQL, range(100_000))
        assert session.sent == 100_000
        for expected, result in enumerate(results):
            assert result.current_rows == [expected]
        assert expected == 99_999


def test_the_shortest_iterable_ends_the_map() -> None:
    """With several iterables, one per marker, it is as with `zip`."""
    with staged(2) as stage:
        stage.play()
        results = stage.executor.map("SELECT %s, %s", [1, 2, 3], "ab")
        assert [tuple(result.one()) for result in results] == [(1, "a"), (2, "b")]
        assert list(stage.executor.map(CQL, [])) == []
        assert list(stage.executor.map(CQL)) == []


def test_chunksize_is_accepted_and_changes_nothing() -> None:
    """As with `ThreadPoolExecutor.map`, it has no effect."""
    with staged(2) as stage:
        stage.play()
        assert values(stage.executor.map(CQL, range(7), chunksize=3)) == list(range(7))


# After shutdown


@ORDERS
def test_after_shutdown_what_was_taken_is_yielded(ordered: bool) -> None:
    """A bounded map yields all that it has taken, then raises `RuntimeError`: input remains."""
    with staged(2) as stage:
        stage.play()
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, buffersize=6, ordered=ordered)
        got = [value(next(results))]
        before = taken.count
        stage.executor.shutdown(wait=False)
        with pytest.raises(RuntimeError, match=SHUT_DOWN):
            for result in results:
                got.append(value(result))
        assert sorted(got) == list(range(before))
        assert len(stage.sent) == before
        assert next(results, "the end") == "the end"


@ORDERS
@pytest.mark.parametrize("buffersize", [None, 5, 100])
def test_after_shutdown_without_input_left_nothing_is_raised(
    buffersize: Optional[int], ordered: bool
) -> None:
    """Where the input is at its end the map ends as ever, also when it could not know that yet."""
    with staged(2) as stage:
        stage.play()
        results = stage.executor.map(CQL, range(5), buffersize=buffersize, ordered=ordered)
        stage.executor.shutdown(wait=False)
        assert sorted(values(results)) == list(range(5))


def test_a_map_outlives_the_with_block() -> None:
    """Leaving `with` waits for what was taken; it can be asked for afterwards."""
    session = ScriptedSession(echo)
    with CassandraExecutor(session, 3) as executor:
        bounded = executor.map(CQL, range(100), buffersize=4)
        whole = executor.map(CQL, range(100))
        assert value(next(bounded)) == 0
    got = []
    with pytest.raises(RuntimeError, match=SHUT_DOWN):
        for result in bounded:
            got.append(value(result))
    assert got == list(range(1, len(got) + 1))
    assert len(got) >= 2
    assert values(whole) == list(range(100))
    with pytest.raises(RuntimeError, match=SHUT_DOWN):
        executor.map(CQL, range(3))


def test_shutdown_while_the_consumer_waits() -> None:
    """The consumer that waits for a result gets it, and all others that were taken."""
    with staged(1) as stage:
        steps = iter(["shut down"])

        def on_wait() -> bool:
            if next(steps, None):
                stage.executor.shutdown(wait=False)
                before.append(taken.count)
            else:
                echo(stage.session.pending[0])
            return True

        before: List[int] = []
        stage.clock.on_wait = on_wait
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, buffersize=3)
        got: List[int] = []
        with pytest.raises(RuntimeError, match=SHUT_DOWN):
            for result in results:
                got.append(value(result))
        assert got == list(range(before[0]))
        assert len(got) >= 3


def test_what_shutdown_cancels_is_a_cancelled_error_at_its_place() -> None:
    """`cancel_futures=True` cancels what was not sent, as the standard does."""
    with staged(2) as stage:
        results = stage.executor.map(CQL, range(6))
        stage.executor.shutdown(wait=False, cancel_futures=True)
        stage.answer(1, 0)
        assert [value(next(results)), value(next(results))] == [0, 1]
        with pytest.raises(CancelledError):
            next(results)
        assert stage.sent == [0, 1]


def test_shutdown_in_the_loop_body() -> None:
    """`shutdown(wait=True)` in the loop of a map returns when what was taken has ended."""
    session = ScriptedSession(echo)
    executor = CassandraExecutor(session, 2)
    got: List[int] = []

    def run() -> None:
        for result in executor.map(CQL, range(50), buffersize=4):
            got.append(value(result))
            executor.shutdown(wait=True)

    with pytest.raises(RuntimeError, match=SHUT_DOWN):
        Background(run).result()
    assert got == list(range(len(got)))
    assert len(got) >= 4


# The executor is kept


@ORDERS
def test_the_iterator_keeps_the_executor_working(ordered: bool) -> None:
    """A bounded map goes on taking and sending when nobody else holds the executor."""
    session = ScriptedSession(echo)
    results = CassandraExecutor(session, 2).map(CQL, range(50), buffersize=3, ordered=ordered)
    gc.collect()
    assert sorted(values(results)) == list(range(50))


def test_the_iterator_of_a_view_keeps_the_executor_working() -> None:
    """The same through `with_options`."""
    session = ScriptedSession(echo)
    results = (
        CassandraExecutor(session, 2)
        .with_options(timeout=None)
        .execute_concurrent([(CQL, (i,)) for i in range(50)], buffersize=3)
    )
    gc.collect()
    assert values(results) == list(range(50))


def test_the_iterator_keeps_the_workers_working() -> None:
    """The same for a map of callables."""
    results = CassandraExecutor(ScriptedSession(), 2, max_workers=2).map(
        lambda x: x * x, range(200), buffersize=3
    )
    gc.collect()
    assert list(results) == [i * i for i in range(200)]


@pytest.mark.parametrize("fn", [CQL, abs])
def test_an_executor_is_not_kept_for_ever(fn: Any) -> None:
    """When the iterator has ended, executor and input can go."""
    executor = CassandraExecutor(ScriptedSession(echo), 2, max_workers=1)
    items = Taken(range(10))
    results = executor.map(fn, items, buffersize=3)
    assert len(list(results)) == 10
    gone = weakref.ref(executor), weakref.ref(items)
    executor.shutdown()
    del executor, items
    gc.collect()
    assert [each() for each in gone] == [None, None]


# Callables, as with ThreadPoolExecutor

Outcome = Tuple[List[Any], Optional[str], List[int]]


def outcome(executor: Executor, fails: set[int], **options: Any) -> Outcome:
    """Run a map of callables; return what was yielded, what was raised, and what ran."""
    ran: List[int] = []

    def run(number: int) -> int:
        ran.append(number)
        if number in fails:
            raise Boom(number)
        return number

    got: List[int] = []
    raised = None
    with executor:
        results = executor.map(run, range(10), **options)
        executor.submit(lambda: None).result(LIMIT)  # one worker: all have run
        try:
            for result in results:
                got.append(result)
        except Boom as error:
            raised = repr(error)
    return got, raised, ran


@given(fails=st.sets(st.integers(0, 9), max_size=3))
def test_a_map_of_callables_is_that_of_the_standard(fails: set[int]) -> None:
    """What is yielded, what is raised and what runs is the same as with `ThreadPoolExecutor`."""
    ours = outcome(CassandraExecutor(ScriptedSession(), max_workers=1), fails)
    assert ours == outcome(ThreadPoolExecutor(1), fails)
    assert ours[2] == list(range(10)), "a failure has aborted a map of callables"


def of_both(test: Callable[[Executor], Any]) -> List[Any]:
    """Do the same with our executor and with the standard one, and return both results."""
    results = []
    for executor in (CassandraExecutor(ScriptedSession(), max_workers=1), ThreadPoolExecutor(1)):
        with executor:
            results.append(test(executor))
    return results


def test_closing_a_map_of_callables() -> None:
    """What waits for a worker is cancelled when the iterator is closed, as in the standard."""

    def close(executor: Executor) -> List[int]:
        entered, let_go, ran = threading.Event(), threading.Event(), []

        def run(number: int) -> int:
            if number == 1:
                entered.set()
                occurs(let_go, "the call is let go")
            ran.append(number)
            return number

        results: Any = executor.map(run, range(9))
        assert next(results) == 0
        occurs(entered, "the second call runs")
        results.close()
        let_go.set()
        executor.shutdown()
        return ran

    assert of_both(close) == [[0, 1], [0, 1]]


def test_a_timeout_of_a_map_of_callables() -> None:
    """`timeout` raises the standard error, and what has ended before is yielded."""

    def time_out(executor: Executor) -> List[Any]:
        let_go = threading.Event()
        got: List[Any] = []

        def run(number: int) -> int:
            if number == 1:
                occurs(let_go, "the call is let go")
            return number

        results = executor.map(run, range(4), timeout=0.05)
        executor.submit(time.monotonic)  # behind it
        try:
            for result in results:
                got.append(result)
        except TimeoutError:
            got.append("timed out")
        let_go.set()
        return got

    assert of_both(time_out) == [[0, "timed out"], [0, "timed out"]]


def test_an_interrupt_raised_by_a_callable() -> None:
    """A `BaseException` of a callable is raised at its place, also with `return_exceptions`."""

    def run(number: int) -> int:
        if number == 2:
            raise KeyboardInterrupt
        return number

    options: List[Dict[str, Any]] = [{}, {"return_exceptions": True}]
    for each in options:
        with CassandraExecutor(ScriptedSession(), max_workers=1) as executor:
            results = executor.map(run, range(5), **each)
            assert [next(results), next(results)] == [0, 1]
            with pytest.raises(KeyboardInterrupt):
                next(results)


def test_callables_after_shutdown() -> None:
    """A bounded map of callables yields what was taken, then raises `RuntimeError`."""
    executor = CassandraExecutor(ScriptedSession(), max_workers=1)
    results = executor.map(abs, range(50), buffersize=4)
    got = [next(results)]
    executor.shutdown()
    with pytest.raises(RuntimeError, match=SHUT_DOWN):
        for number in results:
            got.append(number)
    assert got == list(range(len(got)))
    assert len(got) >= 4


def test_a_dropped_map_of_callables_runs() -> None:
    """Nobody iterates, and nobody holds the executor: what was taken is run all the same."""
    last = threading.Event()

    def run(number: int) -> None:
        if number == 99:
            last.set()

    CassandraExecutor(ScriptedSession(), max_workers=2).map(run, range(100))
    gc.collect()
    occurs(last, "the last call has run")
