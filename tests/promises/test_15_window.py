"""Promise 15: with `buffersize=n`, at most n calls are taken ahead of the consumer."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from typing import Any, Callable, Dict, Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassconc import CassandraExecutor, execute_concurrent_with_args
from cassconc.testing import DriverThread, Script, ScriptedSession, echo
from tests.immediate import ImmediateSession
from tests.stage import CQL, Boom, Taken, consumed, staged, value, values
from tests.waits import together

ORDERS = pytest.mark.parametrize("ordered", [True, False])


@ORDERS
@pytest.mark.parametrize("concurrency", [1, 3, 50])
@pytest.mark.parametrize("buffersize", [1, 2, 3, 10])
def test_before_the_first_result_is_asked_for(
    buffersize: int, concurrency: int, ordered: bool
) -> None:
    """`map` itself takes `buffersize` calls, and answers make it take no more."""
    with staged(concurrency) as stage:
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, buffersize=buffersize, ordered=ordered)
        assert taken.count == buffersize
        assert len(stage.sent) == min(buffersize, concurrency)
        stage.answer_all()
        assert taken.count == buffersize
        del results


@ORDERS
@pytest.mark.parametrize("buffersize", [1, 2, 3, 10])
def test_while_the_consumer_waits_and_after_each_result(buffersize: int, ordered: bool) -> None:
    """What it asks for counts as yielded: at most `buffersize` calls beyond that are taken."""
    with staged(4) as stage:
        yielded = 0
        most = 0

        def watch(count: int) -> None:
            nonlocal most
            most = max(most, count - yielded)
            assert count - yielded <= buffersize + asking, "it takes too many"

        asking = 0
        taken = Taken(range(60), watch)
        script = stage.play(Script([2, 1, 0, 3] * 20, bursts=[1, 3, 2] * 20))
        results = stage.executor.map(CQL, taken, buffersize=buffersize, ordered=ordered)
        asking = 1
        got = []
        for result in results:
            yielded += 1
            assert taken.count - yielded <= buffersize
            got.append(value(result))
        assert sorted(got) == list(range(60))
        assert script.play(stage.session) is False
        assert most <= buffersize + 1


@ORDERS
def test_a_slow_consumer_is_not_run_over(ordered: bool) -> None:
    """When all is answered and nobody asks, nothing is taken: what has ended is ahead, too."""
    with staged(5) as stage:
        stage.session.respond = echo
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, buffersize=7, ordered=ordered)
        assert taken.count == 7
        for count in range(1, 90):
            next(results)
            assert count <= taken.count <= count + 7


def test_a_slow_first_call_holds_the_window() -> None:
    """While the first result is missing, the others end, and no more than the window is taken."""
    with staged(3) as stage:
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, buffersize=10)
        played: List[int] = []

        def on_wait() -> bool:
            others = [request for request in stage.session.pending if request.number]
            played.append(taken.count)
            echo(others[0] if others else stage.session.pending[0])
            return True

        stage.clock.on_wait = on_wait
        assert value(next(results)) == 0
        assert max(played) <= 11
        assert len(stage.sent) == taken.count <= 11


def test_the_input_may_be_endless() -> None:
    """With a bound `map` returns at once and goes on as long as it is asked."""
    with staged(3) as stage:
        stage.play(Script([1, 2, 0] * 100))
        results = stage.executor.map(CQL, itertools.count(), buffersize=5)
        assert values(itertools.islice(results, 300)) == list(range(300))


def test_a_window_smaller_than_the_concurrency() -> None:
    """The smaller of the two bounds counts."""
    with staged(10) as stage:
        stage.play()
        assert values(stage.executor.map(CQL, range(30), buffersize=2)) == list(range(30))
        assert stage.session.most_pending <= 3


def test_each_map_has_a_window_of_its_own() -> None:
    """A map whose consumer sleeps takes nothing away from the window of another one."""
    with staged(4) as stage:
        sleeping = Taken(range(100))
        stage.executor.map(CQL, sleeping, buffersize=3)
        stage.play()
        assert values(stage.executor.map(CQL, range(50, 80), buffersize=3)) == list(range(50, 80))
        assert sleeping.count == 3


@ORDERS
def test_callables_have_a_window_too(ordered: bool) -> None:
    """A map of callables takes no more ahead than it is told to."""
    with CassandraExecutor(ScriptedSession(), max_workers=3) as executor:
        yielded = 0

        def watch(count: int) -> None:
            assert count - yielded <= 4 + 1

        taken = Taken(range(100), watch)
        got = []
        for number in executor.map(lambda x: x, taken, buffersize=4, ordered=ordered):
            yielded += 1
            got.append(number)
        assert sorted(got) == list(range(100))


@given(
    buffersize=st.integers(1, 8),
    concurrency=st.integers(1, 6),
    ordered=st.booleans(),
    picks=st.lists(st.integers(0, 5), max_size=40),
    bursts=st.lists(st.integers(1, 6), max_size=40),
    failing=st.sets(st.integers(0, 39), max_size=8),
    early=st.lists(st.integers(0, 5), max_size=40),
)
def test_the_bound_holds_at_every_moment(
    buffersize: int,
    concurrency: int,
    ordered: bool,
    picks: List[int],
    bursts: List[int],
    failing: set[int],
    early: List[int],
) -> None:
    """Whenever an item is taken, and after each result, whatever ends when."""
    with staged(concurrency) as stage:
        yielded, asking = 0, 0

        def watch(count: int) -> None:
            assert count - yielded <= buffersize + asking

        failures = {number: Boom(number) for number in failing}
        script = stage.play(Script(picks, bursts=bursts, failures=failures))
        results = stage.executor.map(
            CQL,
            Taken(range(40), watch),
            buffersize=buffersize,
            ordered=ordered,
            return_exceptions=True,
        )
        for moment in itertools.count():
            for _ in range(early[moment] if moment < len(early) else 0):
                script.play(stage.session)  # between two results
            asking = 1
            if next(results, None) is None:
                break
            asking = 0
            yielded += 1
        assert yielded == 40


# Memory


class Item:
    """A parameter that can be seen to be gone."""

    alive: weakref.WeakSet[Item]


def alive() -> int:
    """Return how many items there are."""
    return len(Item.alive)


def items(count: int) -> Iterator[Item]:
    """Make items."""
    Item.alive = weakref.WeakSet()
    for _ in range(count):
        item = Item()
        Item.alive.add(item)
        yield item


@ORDERS
@pytest.mark.parametrize("fails", [False, True])
def test_memory_does_not_depend_on_the_length_of_the_input(ordered: bool, fails: bool) -> None:
    """Of 50,000 calls no more live at a time than the window, with their parameters and results."""

    def respond(parameters: Any) -> Any:
        return Boom(parameters[0]) if fails else [parameters[0]]

    gc.collect()
    gc.disable()
    try:
        with CassandraExecutor(ImmediateSession(respond), 10) as executor:
            results = executor.map(
                CQL, items(50_000), buffersize=20, ordered=ordered, return_exceptions=True
            )
            most, count = 0, 0
            for _ in results:
                count += 1
                if count % 100 == 0:
                    most = max(most, alive())
    finally:
        gc.enable()
    assert count == 50_000
    assert most <= 20 + 3


@ORDERS
def test_a_result_that_was_yielded_is_not_kept(ordered: bool) -> None:
    """When the consumer lets go of a result, it is gone, without the garbage collector."""
    gc.disable()
    try:
        with CassandraExecutor(ImmediateSession(lambda parameters: [1]), 10) as executor:
            results = executor.map(CQL, range(50), buffersize=5, ordered=ordered)
            for _ in range(10):
                gone = weakref.ref(next(results))
                assert gone() is None, "a result that was yielded is kept"
    finally:
        gc.enable()


def test_an_item_of_callables_is_not_kept() -> None:
    """Arguments and results of callables live no longer than the window."""
    with CassandraExecutor(ScriptedSession(), max_workers=2) as executor:
        most = 0
        for _ in executor.map(lambda item: item, items(3000), buffersize=10):
            most = max(most, alive())
    assert most <= 10 + 2 + 3


def test_a_map_with_a_budget_keeps_little() -> None:
    """`max_errors` keeps two failures of a type, not all of them, for its report."""
    session = ImmediateSession(lambda parameters: Boom(parameters[0]))
    with CassandraExecutor(session, 10) as executor:
        results = executor.map(CQL, items(5000), buffersize=20, max_errors=10_000)
        most, count = 0, 0
        for _ in results:
            count += 1
            if count % 100 == 0:
                most = max(most, alive())
    assert count == 5000
    assert most <= 20 + 3 + 2


# The drop-ins


def test_the_window_of_the_generator_of_the_drop_ins() -> None:
    """It takes ten times the concurrency at the call, at least 1,000, and the rest as it goes."""
    for concurrency, window in ((1, 1000), (100, 1000), (150, 1500)):
        taken = Taken((i,) for i in range(4000))
        session = ImmediateSession(lambda parameters: [parameters])
        results: Any = execute_concurrent_with_args(
            session, CQL, taken, concurrency, results_generator=True
        )
        assert taken.count == session.sent == window
        for count in range(1, 2000):
            next(results)
            assert taken.count - count <= window
        results.close()


def test_the_input_of_a_list_of_the_drop_ins_is_taken_bit_by_bit() -> None:
    """Also the list holds back its input: no more than the window waits to be sent."""
    most = 0

    def watch(count: int) -> None:
        nonlocal most
        most = max(most, count - session.sent)

    session = ImmediateSession(lambda parameters: [parameters])
    taken = Taken(((i,) for i in range(5000)), watch)
    assert len(execute_concurrent_with_args(session, CQL, taken, 10)) == 5000
    assert most <= 1


# Under contention


def test_windows_hold_among_threads() -> None:
    """Four consumers on one executor, and a driver thread: each keeps to its own window."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 7)

    def run(size: int, ordered: bool) -> Callable[[], List[Any]]:
        yielded: Dict[str, int] = {"count": 0}

        def watch(count: int) -> None:
            assert count - yielded["count"] <= size + 1

        def consume() -> List[Any]:
            got = []
            taken = Taken(range(300), watch)
            for result in executor.map(CQL, taken, buffersize=size, ordered=ordered):
                yielded["count"] += 1
                got.append(value(result))
            return sorted(got)

        return consume

    with DriverThread(session, Script([3, 1, 2, 0] * 300)):
        lists = together(*[run(size, size % 2 == 0) for size in (1, 2, 9, 40)])
    executor.shutdown()
    assert lists == [list(range(300))] * 4


def test_a_window_whose_input_fails() -> None:
    """What the input raises is its end: the window is emptied, and nothing more is taken."""
    with staged(2) as stage:

        def watch(count: int) -> None:
            if count == 4:
                raise Boom("input")

        stage.play()
        taken = Taken(range(50), watch)
        got, error = consumed(stage.executor.map(CQL, taken, buffersize=5))
        assert got == [0, 1, 2]
        assert isinstance(error, Boom)
        assert taken.count == 4


def test_a_consumer_that_asks_while_the_input_waits() -> None:
    """A slow input does not hold up results that are there for ever: `next` comes back with one."""
    asked = threading.Event()

    def slow() -> Iterator[int]:
        for number in range(100):
            if number > 4:
                asked.set()
                stage.clock.advance(1)  # each further item takes a second
            yield number

    with staged(10, request_timeout=None) as stage:
        stage.session.respond = echo
        results = stage.executor.map(CQL, slow(), buffersize=4)
        for count in range(50):
            before = stage.clock.monotonic()
            assert value(next(results)) == count
            assert stage.clock.monotonic() - before <= 2
    assert asked.is_set()
