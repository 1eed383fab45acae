"""Promise 9: `map` yields in input order; `ordered=False` yields in completion order."""

from __future__ import annotations

import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest
from cassandra import OperationTimedOut

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import Script, ScriptedRequest, ScriptedSession, echo
from tests.stage import CQL, Boom, consumed, idempotent, labels, staged, value, values
from tests.waits import LIMIT, Background, occurs, together

NEWEST_FIRST = [-1] * 1000

Maps = Callable[..., Iterator[Any]]

FORMS: List[Any] = [
    pytest.param(lambda e, n, **o: e.map(CQL, range(n), **o), id="map"),
    pytest.param(lambda e, n, **o: e.starmap(CQL, [(i,) for i in range(n)], **o), id="starmap"),
    pytest.param(
        lambda e, n, **o: e.execute_concurrent([(CQL, [i]) for i in range(n)], **o),
        id="execute_concurrent",
    ),
]


@pytest.mark.parametrize("buffersize", [None, 1, 2, 7, 100])
@pytest.mark.parametrize("run", FORMS)
def test_results_come_in_the_order_of_the_input(run: Maps, buffersize: Optional[int]) -> None:
    """Each result stands at the place of its item, although the newest request ends first."""
    with staged(5) as stage:
        stage.play(Script(NEWEST_FIRST))
        assert values(run(stage.executor, 23, buffersize=buffersize)) == list(range(23))


@pytest.mark.parametrize("run", FORMS)
def test_unordered_results_come_in_the_order_of_completion(run: Maps) -> None:
    """With `ordered=False` what ends first is yielded first, also when nobody asked yet."""
    with staged(5) as stage:
        results = run(stage.executor, 5, ordered=False)
        stage.answer(3, 0)
        assert [value(next(results)), value(next(results))] == [3, 0]
        stage.answer(4, 2, 1)
        assert values(results) == [4, 2, 1]


def test_unordered_results_of_a_bounded_map_come_in_the_order_of_completion() -> None:
    """The same holds where the input is taken bit by bit; each result comes exactly once."""
    with staged(3) as stage:
        answered: List[int] = []

        def answer(request: ScriptedRequest) -> None:
            answered.append(request.parameters[0])
            echo(request)

        stage.play(Script([1, 2, 0, 2, 2, 1] * 9, bursts=[1, 3, 2] * 9, answer=answer))
        results = stage.executor.map(CQL, range(40), ordered=False, buffersize=4)
        assert values(results) == answered
        assert sorted(answered) == list(range(40))


def test_one_slow_call_does_not_hold_up_unordered_results() -> None:
    """With `ordered=False` all others are yielded while the first call has no answer."""
    with staged(2) as stage:
        stage.play(Script(stragglers=[0]))
        results = stage.executor.map(CQL, range(50), ordered=False, buffersize=3)
        assert [value(next(results)) for _ in range(49)] == list(range(1, 50))
        assert value(next(results)) == 0


def test_unordered_failures_stand_at_their_place_in_the_order_of_completion() -> None:
    """With `return_exceptions=True` a failure is yielded between what ended before and after it."""
    with staged(4) as stage:
        results = stage.executor.map(CQL, range(4), ordered=False, return_exceptions=True)
        stage.answer(2)
        stage.fail(3)
        stage.answer(0)
        stage.fail(1)
        assert labels(results) == [2, "Boom 3", 0, "Boom 1"]


def test_an_unordered_failure_is_raised_at_its_place() -> None:
    """What ended before the failure is yielded, although it comes later in the input."""
    with staged(4) as stage:
        results = stage.executor.map(CQL, range(4), ordered=False)
        stage.answer(3)
        stage.answer(2)
        stage.fail(1)
        stage.answer(0)
        got, error = consumed(results)
        assert got == [3, 2]
        assert isinstance(error, Boom)
        assert error.args == (1,)


def test_the_first_failure_in_time_is_raised_when_unordered() -> None:
    """Of two failures the unordered map raises the one that came first, not the lowest one."""
    with staged(3) as stage:
        results = stage.executor.map(CQL, range(3), ordered=False)
        stage.fail(2, 0)
        got, error = consumed(results)
        assert got == []
        assert isinstance(error, Boom)
        assert error.args == (2,)


def test_failures_stand_at_the_place_of_their_item() -> None:
    """An ordered map with `return_exceptions=True` yields failures where their items stand."""
    with staged(5) as stage:
        results = stage.executor.map(CQL, range(5), return_exceptions=True)
        stage.fail(4, 1)
        stage.answer(3, 0, 2)
        assert labels(results) == [0, "Boom 1", 2, 3, "Boom 4"]


@pytest.mark.parametrize("ordered", [True, False])
def test_each_result_comes_with_its_own_call(ordered: bool) -> None:
    """`with_calls=True` pairs each result with the call that it is the result of."""
    with staged(6) as stage:
        stage.play(Script(NEWEST_FIRST))
        pairs = list(stage.executor.map(CQL, range(30), ordered=ordered, with_calls=True))
        assert [value(result) for _, result in pairs] == [call.position for call, _ in pairs]
        assert sorted(call.position for call, _ in pairs if call.position is not None) == list(
            range(30)
        )
        assert all(call.parameters == (call.position,) for call, _ in pairs)


def test_equal_items_are_told_apart_by_their_place() -> None:
    """Results of equal items come in the order of the input, not mixed up with one another."""
    with staged(4) as stage:
        results = stage.executor.map(CQL, "xxxx")
        for number in (2, 0, 3, 1):
            stage.session.requests[number].succeed([(number,)], ["number"])
        assert values(results) == [0, 1, 2, 3]


def test_a_slow_call_holds_its_place_while_thousands_pass_it() -> None:
    """The first result is the first call's, however many others have ended before it."""
    with staged(4) as stage:
        stage.play(Script(stragglers=[0]))
        results = stage.executor.map(CQL, range(3000))
        assert value(next(results)) == 0
        assert len(stage.sent) == 3000
        assert values(results) == list(range(1, 3000))


def test_a_call_that_is_tried_again_keeps_its_place() -> None:
    """Order holds with retries: what was answered in the meantime waits for the earlier call."""
    with staged(2, retry=Retry(delay=0)) as stage:
        statements = [(idempotent(text), None) for text in "ABC"]
        results = stage.executor.execute_concurrent(statements)
        stage.session.requests[0].fail(OperationTimedOut())
        for request in stage.session.pending:
            request.succeed([(request.statement.query_string,)], ["text"])
        stage.clock.advance(0)
        stage.session.wait_for(4)[3].succeed([("A",)], ["text"])
        assert values(results) == ["A", "B", "C"]


def test_maps_on_one_executor_do_not_mix() -> None:
    """Each of several maps, asked in turn, yields its own results in its own order."""
    with staged(3) as stage:
        stage.play(Script([2, 0, 1, 1] * 50))
        sizes = [None, 1, 4]
        maps = [
            stage.executor.map(CQL, range(100 * i, 100 * i + 20), buffersize=size)
            for i, size in enumerate(sizes)
        ]
        rows = [[value(next(each)) for each in maps] for _ in range(20)]
        assert rows == [[i, 100 + i, 200 + i] for i in range(20)]


def test_maps_may_be_nested() -> None:
    """A map that is run in the loop body of another one disturbs the order of neither."""
    with staged(2) as stage:
        stage.play(Script([1, 0] * 99))
        got = [
            (outer, values(stage.executor.map(CQL, range(outer, outer + 3), buffersize=1)))
            for outer in values(stage.executor.map(CQL, range(5), buffersize=2))
        ]
        assert got == [(i, [i, i + 1, i + 2]) for i in range(5)]


def test_input_order_holds_whatever_thread_answers() -> None:
    """Four driver threads that answer at the same time do not disturb the order of four maps."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 20)
    over = threading.Event()

    def answer() -> None:
        while session.wait_for_pending(over.is_set):
            for request in reversed(session.pending):
                echo(request)  # maybe for the second time

    drivers = [Background(answer) for _ in range(4)]
    try:
        lists = together(
            *[
                lambda size=size: values(executor.map(CQL, range(300), buffersize=size))
                for size in (None, 1, 10, 50)
            ]
        )
    finally:
        over.set()
        session.wake()
        for driver in drivers:
            driver.result()
    assert lists == [list(range(300))] * 4
    executor.shutdown()


def test_an_iterator_may_wander_from_thread_to_thread() -> None:
    """Whichever thread asks next gets the next result in the order of the input."""
    with staged(3) as stage:
        stage.play(Script(NEWEST_FIRST))
        results = stage.executor.map(CQL, range(12), buffersize=4)
        got = [Background(lambda: value(next(results))).result() for _ in range(12)]
        assert got == list(range(12))


@pytest.mark.parametrize("ordered", [True, False])
def test_results_of_callables(ordered: bool) -> None:
    """Callables keep the order as well: of the input, or of completion."""
    with CassandraExecutor(ScriptedSession(), max_workers=3) as executor:
        events = [threading.Event() for _ in range(3)]

        def wait_for(number: int) -> int:
            occurs(events[number], f"call {number} is let go")
            return number

        results = executor.map(wait_for, range(3), ordered=ordered)
        if ordered:
            for event in reversed(events):
                event.set()
            assert list(results) == [0, 1, 2]
        else:
            got = []
            for number in (2, 0, 1):
                events[number].set()
                got.append(next(results))
            assert got == [2, 0, 1]


@pytest.mark.parametrize("generator", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_the_drop_ins_keep_the_order_of_the_input(generator: bool, count: int) -> None:
    """List and generator of the drop-ins have the driver's order, failures in their place."""
    script = Script(NEWEST_FIRST)

    def respond(request: ScriptedRequest) -> None:
        # the third one is answered by what follows, the last one answers all
        if len(session.pending) == 3 or request.number >= count - 3:
            script.play(session)
        if request.number == count - 1:
            script.play_all(session)

    session = ScriptedSession(respond)
    arguments = [(i,) for i in range(count)]
    results = execute_concurrent_with_args(
        session, CQL, arguments, concurrency=3, results_generator=generator
    )
    assert [(each.success, value(each.result_or_exc)) for each in results] == [
        (True, i) for i in range(count)
    ]


def test_failures_in_the_lists_of_the_drop_ins() -> None:
    """Without `raise_on_first_error` a failure stands at the place of its pair."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 3:
            for number in (2, 3, 1, 0):
                answered = session.requests[number]
                if number % 2:
                    answered.fail(Boom(number))
                else:
                    echo(answered)

    pairs = [(CQL, (i,)) for i in range(4)]
    session = ScriptedSession(respond)
    results = execute_concurrent(session, pairs, raise_on_first_error=False)
    expected = [(True, 0), (False, "Boom 1"), (True, 2), (False, "Boom 3")]
    assert [(each.success, labels([each.result_or_exc])[0]) for each in results] == expected
    session = ScriptedSession(respond)
    results = execute_concurrent_async(session, pairs).result(LIMIT)
    assert [(each.success, labels([each.result_or_exc])[0]) for each in results] == expected
