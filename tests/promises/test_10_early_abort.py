"""Promise 10: after the first failure, in time, nothing that comes later is sent."""

from __future__ import annotations

import threading
from typing import Any, Callable, Iterator, List, Optional

import pytest
from cassandra import OperationTimedOut
from hypothesis import given
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    Retry,
    TooManyErrors,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import DriverThread, Script, ScriptedRequest, ScriptedSession, echo
from tests.immediate import ImmediateSession
from tests.parts import needs
from tests.stage import (
    CQL,
    Boom,
    Taken,
    consumed,
    failure,
    idempotent,
    labels,
    staged,
    value,
    values,
)
from tests.waits import LIMIT, Background, occurs, together

SIZES = pytest.mark.parametrize("buffersize", [None, 1, 5, 100])


def boom(error: Optional[BaseException]) -> Any:
    """Return the label of a `Boom`."""
    assert isinstance(error, Boom), repr(error)
    return error.args[0]


# What is not sent any more


def test_nothing_later_is_sent() -> None:
    """After a failure nobody of those who wait is sent, although others end and make room."""
    with staged(3) as stage:
        results = stage.executor.map(CQL, range(20))
        stage.fail(1)
        stage.answer(0, 2)
        assert stage.sent == [0, 1, 2]
        got, error = consumed(results)
        assert (got, boom(error)) == ([0], 1)
        assert stage.sent == [0, 1, 2]


def test_the_abort_is_by_time_and_needs_no_consumer() -> None:
    """A failure aborts the map when it occurs, not when its result is asked for."""
    with staged(2) as stage:
        results = stage.executor.map(CQL, range(20))
        stage.answer(0, 1, 2, 3)
        stage.fail(5)
        stage.answer(4)
        assert stage.sent == [0, 1, 2, 3, 4, 5]
        got, error = consumed(results)
        assert (got, boom(error)) == ([0, 1, 2, 3, 4], 5)


def test_what_is_in_flight_goes_on() -> None:
    """Calls that were sent before the failure end as they would have, also later ones."""
    with staged(3) as stage:
        results = stage.executor.map(CQL, range(9))
        stage.fail(0)
        assert stage.executor.stats().in_flight == 2
        stage.answer(1, 2)
        stats = stage.executor.stats()
        assert (stats.in_flight, stats.succeeded, stats.cancelled) == (0, 2, 6)
        assert boom(consumed(results)[1]) == 0


@needs("streams")
def test_a_failure_stops_what_waits_for_a_helper_thread_to_send_it() -> None:
    """Where sending may wait, helpers send; what has its turn and was not sent yet is not sent."""
    stuck, go_on = threading.Event(), threading.Event()

    def respond(request: ScriptedRequest) -> None:
        if request.parameters[0] == 50:  # no stream is free: the driver waits
            stuck.set()
            occurs(go_on, "the failure has come")

    session = ScriptedSession(respond)
    session._pools = {}  # type: ignore[attr-defined]  # it says that helpers have to send
    executor = CassandraExecutor(session, 50)
    results = executor.map(CQL, range(1000))
    first, *others = session.pending
    for request in others:
        request.succeed()
    occurs(stuck, "a helper is held up")
    first.fail(Boom(0))
    go_on.set()
    shutting = Background(executor.shutdown)
    session.requests[-1].succeed()
    shutting.result()
    assert len(session.requests) == 51
    stats = executor.stats()
    assert (stats.succeeded, stats.failed, stats.cancelled) == (50, {"Boom": 1}, 949)
    assert boom(consumed(results)[1]) == 0


@SIZES
def test_a_failure_inside_execute_async_stops_the_map_at_once(buffersize: Optional[int]) -> None:
    """Where each call ends before `execute_async` returns, nothing is sent after the failed one."""

    def respond(parameters: Any) -> Any:
        return Boom(7) if parameters[0] == 7 else [parameters]

    session = ImmediateSession(respond)
    taken = Taken(range(100_000))
    with CassandraExecutor(session, 10) as executor:
        results = executor.map(CQL, taken, buffersize=buffersize)
        with pytest.raises(Boom):
            for _ in results:
                pass
    assert (session.sent, taken.count) == (8, 8)


def test_what_execute_async_raises_aborts_as_well() -> None:
    """An exception of `execute_async` itself is a failure of that call, like any other."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 2:
            raise Boom(2)

    with staged(3) as stage:
        stage.session.respond = respond
        results = stage.executor.map(CQL, range(9))
        stage.answer(0, 1)
        assert stage.sent == [0, 1, 2]
        got, error = consumed(results)
        assert (got, boom(error)) == ([0, 1], 2)


def test_a_call_that_times_out_aborts_as_well() -> None:
    """A time limit is a failure: what waits behind the call is not sent."""
    with staged(1) as stage:
        results = stage.executor.map(CQL, range(9))
        stage.clock.advance(10)
        with pytest.raises(OperationTimedOut):
            next(results)
        assert stage.sent == [0]
        assert stage.executor.stats().cancelled == 8


@pytest.mark.parametrize("ordered", [True, False])
def test_thousands_that_wait_are_dropped_at_once(ordered: bool) -> None:
    """The failure of the first of 20,000 calls leaves none of the others waiting."""
    with staged(2) as stage:
        results = stage.executor.map(CQL, range(20_000), ordered=ordered)
        stage.fail(0)
        stats = stage.executor.stats()
        assert (stats.queued, stats.cancelled) == (0, 19_998)
        assert boom(consumed(results)[1]) == 0
        assert stage.sent == [0, 1]


# The input


def test_no_more_input_is_taken() -> None:
    """The consumer takes nothing after the failure, although it goes on with earlier results."""
    with staged(4) as stage:
        taken = Taken(range(100))
        results = stage.executor.map(CQL, taken, buffersize=4)
        stage.fail(3)
        stage.answer(0, 1, 2)
        before = taken.count
        got, error = consumed(results)
        assert (got, boom(error)) == ([0, 1, 2], 3)
        assert taken.count == before
        assert stage.sent == [0, 1, 2, 3]


def test_a_map_without_a_bound_stops_taking_its_input() -> None:
    """A failure while `map` takes its whole input ends that; the iterator raises it."""
    with staged(4) as stage:

        def watch(count: int) -> None:
            if count == 3:
                stage.fail(1)

        taken = Taken(range(100), watch)
        results = stage.executor.map(CQL, taken)
        assert taken.count == 3
        stage.answer(0)
        got, error = consumed(results)
        assert (got, boom(error)) == ([0], 1)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("buffersize", [None, 5])
def test_an_item_that_is_being_taken_when_a_call_fails_is_not_sent(
    buffersize: Optional[int], ordered: bool
) -> None:
    """The input makes its next item while an earlier call fails: that item comes too late."""
    with staged(4) as stage:

        def watch(count: int) -> None:
            if count == 2:
                # 1. call 0 is in flight  2. the input is asked for item 1  3. call 0 fails
                # 4. the input gives item 1, and there is room for it
                stage.fail(0)

        results = stage.executor.map(
            CQL, Taken(range(9), watch), buffersize=buffersize, ordered=ordered
        )
        with pytest.raises(Boom):
            next(results)
        assert stage.sent == [0], "item 1 was sent after the failure of item 0"


def test_an_item_whose_parameters_are_copied_when_a_call_fails_is_not_sent() -> None:
    """The failure comes after the item, while its call is made of it: that is too late as well."""

    class Fails:
        def __deepcopy__(self, memo: Any) -> Any:
            stage.fail(0)
            return self

    with staged(4) as stage:
        results = stage.executor.map(CQL, [0, [Fails()], 2])
        with pytest.raises(Boom):
            next(results)
        assert stage.sent == [0], "item 1 was sent after the failure of item 0"


def test_an_item_that_is_being_taken_when_a_driver_thread_reports_a_failure() -> None:
    """The same with two threads: a slow input on one, the failure on the other."""
    with staged(4) as stage:

        def watch(count: int) -> None:
            if count == 2:
                Background(lambda: stage.fail(0)).result()

        results = stage.executor.map(CQL, Taken(range(9), watch), buffersize=3)
        with pytest.raises(Boom):
            next(results)
        assert stage.sent == [0], "item 1 was sent after the failure of item 0"


# What is earlier


def test_earlier_results_are_yielded_first() -> None:
    """The failure overtakes calls that were sent before it; their results still come first."""
    with staged(4) as stage:
        results = stage.executor.map(CQL, range(9))
        stage.fail(3)
        stage.play()
        got, error = consumed(results)
        assert (got, boom(error)) == ([0, 1, 2], 3)


def test_of_several_failures_the_first_in_the_input_is_raised() -> None:
    """Whatever failed first in time: what is raised is the failure with the lowest position."""
    with staged(5) as stage:
        results = stage.executor.map(CQL, range(9))
        stage.fail(4, 2, 3, 1)
        stage.answer(0)
        got, error = consumed(results)
        assert (got, boom(error)) == ([0], 1)
        assert stage.sent == [0, 1, 2, 3, 4]


def test_two_threads_fail_two_calls_at_once() -> None:
    """The lowest failure is raised and nothing more is sent, whichever thread comes first."""
    for _ in range(50):
        with staged(2) as stage:
            results = stage.executor.map(CQL, range(9))
            together(lambda: stage.fail(1), lambda: stage.fail(0))
            got, error = consumed(results)
            assert (got, boom(error)) == ([], 0)
            assert stage.sent == [0, 1]


def test_an_earlier_call_that_waits_for_its_retry_goes_on() -> None:
    """What comes earlier in the input than the failed call is still sent, and yielded."""
    with staged(2, retry=Retry(delay=0)) as stage:
        statements = [(idempotent(text), None) for text in "ABC"]
        results = stage.executor.execute_concurrent(statements)
        stage.session.requests[0].fail(OperationTimedOut())
        stage.session.requests[1].fail(Boom("B"))
        stage.clock.advance(0)
        again = stage.session.wait_for(4)[3]
        assert [request.statement.query_string for request in stage.session.requests] == [
            "A",
            "B",
            "C",  # it was sent when A failed for the first time, before B failed
            "A",
        ]
        again.succeed([("A",)], ["text"])
        got, error = consumed(results)
        assert (got, boom(error)) == (["A"], "B")


def test_a_later_call_that_waits_for_its_retry_is_not_sent_again() -> None:
    """After the failure of an earlier call it ends at once, with the failure that it had."""
    with staged(2, retry=Retry(delay=1)) as stage:
        results = stage.executor.execute_concurrent([(idempotent(text), None) for text in "AB"])
        stage.session.requests[1].fail(OperationTimedOut())
        stage.session.requests[0].fail(Boom("A"))
        stats = stage.executor.stats()
        assert (stats.waiting_for_retry, stats.failed) == (0, {"Boom": 1, "OperationTimedOut": 1})
        stage.clock.advance(100)
        assert len(stage.sent) == 2
        assert boom(consumed(results)[1]) == "A"


def test_a_failure_before_the_failed_call_ends_what_is_between_them() -> None:
    """What counts is the lowest failed position, although a later call has failed before it."""
    with staged(3, retry=Retry(delay=1)) as stage:
        results = stage.executor.execute_concurrent([(idempotent(text), None) for text in "ABC"])
        stage.session.requests[2].fail(Boom("C"))
        stage.session.requests[1].fail(OperationTimedOut())
        stage.session.requests[0].fail(Boom("A"))
        assert stage.executor.stats().waiting_for_retry == 0, "B is to be sent again"
        stage.clock.advance(100)
        assert len(stage.sent) == 3
        assert boom(consumed(results)[1]) == "A"


def test_the_iterator_is_at_its_end_after_the_failure() -> None:
    """The failure is raised once; who asks again is told that there is no more."""
    with staged(3) as stage:
        results = stage.executor.map(CQL, range(3))
        stage.answer(0, 2)
        stage.fail(1)
        assert value(next(results)) == 0
        with pytest.raises(Boom):
            next(results)
        assert next(results, "the end") == "the end"


# Others on the same executor


def test_nobody_else_is_harmed() -> None:
    """The failure of one map stops no other map and no `submit`, and their turn comes sooner."""
    with staged(2) as stage:
        failing = stage.executor.map(CQL, range(10))
        other = stage.executor.map(CQL, range(100, 103))
        future = stage.executor.submit(CQL, 200)
        stage.fail(0)
        stage.answer(1)
        assert stage.sent == [0, 1, 100, 101]
        stage.answer(100, 101, 102, 200)
        assert value(future.result(0)) == 200
        assert values(other) == [100, 101, 102]
        assert boom(consumed(failing)[1]) == 0


def test_a_failed_submit_aborts_nothing() -> None:
    """The failure of a call of `submit` is that of its future alone."""
    with staged(1) as stage:
        future = stage.executor.submit(CQL, "x")
        results = stage.executor.map(CQL, range(3))
        stage.fail("x")
        assert boom(failure(future)) == "x"
        stage.play()
        assert values(results) == [0, 1, 2]


# Without abort


@pytest.mark.parametrize("ordered", [True, False])
@SIZES
def test_with_return_exceptions_nothing_stops(buffersize: Optional[int], ordered: bool) -> None:
    """All calls are sent, and each has its result or its failure, however many have failed."""
    with staged(3) as stage:
        script = stage.play()
        script.failures = {number: Boom(number) for number in range(0, 30, 3)}
        results = stage.executor.map(
            CQL, range(30), buffersize=buffersize, ordered=ordered, return_exceptions=True
        )
        assert labels(results) == [i if i % 3 else f"Boom {i}" for i in range(30)]
        assert stage.sent == list(range(30))


def test_a_map_of_callables_is_not_aborted_by_time() -> None:
    """As with `ThreadPoolExecutor.map`: what waits still runs, until the failure is asked for."""
    ran: List[int] = []
    let_go = threading.Event()

    def run(number: int) -> int:
        occurs(let_go, "the call is let go")
        ran.append(number)
        if number == 1:
            raise Boom(number)
        return number

    with CassandraExecutor(ScriptedSession(), max_workers=1) as executor:
        results = executor.map(run, range(5))
        last = executor.submit(lambda: None)
        let_go.set()
        last.result(LIMIT)
        assert ran == [0, 1, 2, 3, 4]
        got: List[int] = []
        with pytest.raises(Boom):
            for number in results:
                got.append(number)
        assert got == [0]


# The error budget


def budget(results: Iterator[Any]) -> tuple[List[Any], TooManyErrors]:
    """Iterate to the end of the budget; return what was yielded, and what was raised."""
    got: List[Any] = []
    with pytest.raises(TooManyErrors) as caught:
        for result in results:
            got.extend(labels([result]))
    return got, caught.value


def test_failure_n_plus_1_aborts() -> None:
    """With `max_errors=2` two failures stop nothing, and after the third nothing later is sent."""
    with staged(1) as stage:
        results = stage.executor.map(CQL, range(10), max_errors=2)
        stage.fail(0)
        stage.answer(1)
        stage.fail(2)
        stage.answer(3)
        assert stage.sent == [0, 1, 2, 3, 4]
        stage.fail(4)
        assert stage.sent == [0, 1, 2, 3, 4]
        got, error = budget(results)
        assert got[:4] == ["Boom 0", 1, "Boom 2", 3]
        assert (error.taken, error.succeeded, error.failed, error.never_sent) == (10, 2, 3, 5)
        assert [str(each) for each in error.report.types] == ["Boom"]
        assert error.report.types["Boom"].positions == [0, 2, 4]


@pytest.mark.parametrize("max_errors", [0, 1, 3])
def test_no_more_failures_are_yielded_than_were_allowed(max_errors: int) -> None:
    """`max_errors=n` yields n failures; the next one is the end, and raised as such."""
    with staged(1) as stage:
        script = stage.play()
        script.failures = {number: Boom(number) for number in range(10)}
        got, error = budget(stage.executor.map(CQL, range(10), max_errors=max_errors))
        assert error.failed == max_errors + 1
        assert got == [f"Boom {i}" for i in range(max_errors)]


def test_a_budget_that_is_used_up_and_not_exceeded() -> None:
    """As many failures as are allowed end nothing, not even when they are all there is."""
    with staged(2) as stage:
        stage.play().failures = {0: Boom(0), 4: Boom(4)}
        results = stage.executor.map(CQL, range(5), max_errors=2)
        assert labels(results) == ["Boom 0", 1, 2, 3, "Boom 4"]


def test_the_last_call_may_exceed_the_budget() -> None:
    """The end is an error also when nothing was left to be saved."""
    with staged(2) as stage:
        stage.play().failures = {0: Boom(0), 4: Boom(4)}
        got, error = budget(stage.executor.map(CQL, range(5), max_errors=1))
        assert got[:4] == ["Boom 0", 1, 2, 3]
        assert (error.taken, error.succeeded, error.failed, error.never_sent) == (5, 3, 2, 0)


@pytest.mark.parametrize("ordered", [True, False])
def test_the_end_waits_for_what_is_in_flight(ordered: bool) -> None:
    """`TooManyErrors` counts what was in flight by what became of it, so it waits for that."""
    with staged(4) as stage:
        results = stage.executor.map(CQL, range(9), max_errors=0, ordered=ordered)
        stage.fail(1)
        waited: List[object] = []

        def on_wait() -> bool:
            waited.append(stage.session.pending[0])
            if stage.session.pending[0].number == 2:
                stage.fail(2)
            else:
                echo(stage.session.pending[0])
            return True

        stage.clock.on_wait = on_wait
        _, error = budget(results)
        assert len(waited) == 3
        assert (error.taken, error.succeeded, error.failed, error.never_sent) == (9, 2, 2, 5)


def test_a_fraction_counts_from_the_hundredth_call_on() -> None:
    """With `max_errors=0.1` ten of the first hundred may fail, whichever, and no eleventh."""
    with staged(1) as stage:
        stage.play().failures = {number: Boom(number) for number in range(0, 20, 2)}
        assert len(list(stage.executor.map(CQL, range(150), max_errors=0.1))) == 150
    with staged(1) as stage:
        stage.play().failures = {number: Boom(number) for number in [*range(0, 20, 2), 99]}
        _, error = budget(stage.executor.map(CQL, range(150), max_errors=0.1))
        assert error.failed == 11
        assert len(stage.sent) == 100


def test_a_fraction_ends_the_map_as_soon_as_it_is_exceeded() -> None:
    """When the hundredth call has ended and too many have failed, nothing more is sent.

    Also when the hundredth call itself has succeeded: the failures came before it.
    """
    with staged(1) as stage:
        stage.play().failures = {number: Boom(number) for number in range(50)}
        _, error = budget(stage.executor.map(CQL, range(300), max_errors=0.1))
        assert error.failed == 50
        assert error.succeeded == 50
        assert len(stage.sent) == 100


def test_what_shutdown_has_cancelled_did_not_succeed() -> None:
    """`TooManyErrors` counts calls that `cancel_futures` has cancelled as never sent."""
    with staged(2) as stage:
        results = stage.executor.map(CQL, range(4), ordered=False, max_errors=1)
        stage.executor.shutdown(wait=False, cancel_futures=True)
        first, second = next(results), next(results)  # two CancelledErrors
        assert isinstance(first, BaseException)
        assert isinstance(second, BaseException)
        stage.fail(0, 1)
        _, error = budget(results)
        assert (error.taken, error.succeeded, error.failed, error.never_sent) == (4, 0, 2, 2)


@pytest.mark.parametrize("ordered", [True, False])
def test_callables_have_a_budget_too(ordered: bool) -> None:
    """`max_errors` ends a map of callables, and what waits is not run."""
    ran: List[int] = []
    go_on = threading.Semaphore(0)

    def run(number: int) -> None:
        assert go_on.acquire(timeout=LIMIT)
        ran.append(number)
        raise Boom(number)

    with CassandraExecutor(ScriptedSession(), max_workers=1) as executor:
        results = executor.map(run, range(50), max_errors=1, ordered=ordered, buffersize=10)
        go_on.release()
        assert labels([next(results)]) == ["Boom 0"]
        go_on.release(50)
        _, error = budget(results)
        assert error.failed >= 2
        assert len(ran) < 50


# The drop-ins


@pytest.mark.parametrize("count", [10, 3000])
def test_the_list_of_the_drop_ins_raises_the_first_failure_in_time(count: int) -> None:
    """`execute_concurrent` as a list raises what failed first, and sends nothing later."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 3:
            for number in (2, 1):
                session.requests[number].fail(Boom(number))
            for number in (0, 3):
                echo(session.requests[number])

    session = ScriptedSession(respond)
    with pytest.raises(Boom) as caught:
        execute_concurrent_with_args(session, CQL, [(i,) for i in range(count)], concurrency=4)
    assert boom(caught.value) == 2
    assert len(session.requests) == 4


def test_the_generator_of_the_drop_ins_yields_what_came_before() -> None:
    """`results_generator=True` yields earlier results, then raises the failure."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 3:
            session.requests[2].fail(Boom(2))
            for number in (3, 1, 0):
                echo(session.requests[number])

    session = ScriptedSession(respond)
    results = execute_concurrent(
        session, [(CQL, (i,)) for i in range(5000)], concurrency=4, results_generator=True
    )
    got: List[Any] = []
    with pytest.raises(Boom):
        for success, result in results:
            got.append((success, value(result)))
    assert got == [(True, 0), (True, 1)]
    assert len(session.requests) == 4


def test_the_future_of_the_drop_ins_raises_the_failure() -> None:
    """`execute_concurrent_async(raise_on_first_error=True)` ends with it, and sends no more."""
    session = ScriptedSession()
    future = execute_concurrent_async(
        session, [(CQL, (i,)) for i in range(50)], concurrency=2, raise_on_first_error=True
    )
    first, second = session.wait_for(2)
    first.fail(Boom(0))
    assert boom(failure(future)) == 0
    echo(second)
    assert len(session.requests) == 2


@pytest.mark.parametrize("generator", [True, False])
def test_the_drop_ins_go_on_where_they_are_told_to(generator: bool) -> None:
    """With `raise_on_first_error=False` every pair is sent, whatever fails."""
    session = ScriptedSession(lambda request: request.fail(Boom(request.number)))
    pairs = [(CQL, (i,)) for i in range(2500)]
    results = execute_concurrent(
        session, pairs, raise_on_first_error=False, results_generator=generator
    )
    assert not any(result.success for result in results)
    assert len(session.requests) == 2500


# Under contention


def test_an_abort_among_threads_and_maps() -> None:
    """While four threads run maps on one executor, the two that fail end; the others are whole."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 7)

    def respond(request: ScriptedRequest) -> None:
        number = request.parameters[0]
        if number in (1100, 3100):
            request.fail(Boom(number))
        else:
            echo(request)

    def run(start: int) -> Callable[[], tuple[List[Any], Optional[BaseException]]]:
        return lambda: consumed(executor.map(CQL, range(start, start + 300), buffersize=20))

    with DriverThread(session, Script(answer=respond)):
        outcomes = together(*[run(1000 * i) for i in range(4)])
    executor.shutdown()
    assert outcomes[0] == (list(range(300)), None)
    assert outcomes[2] == (list(range(2000, 2300)), None)
    for i in (1, 3):
        got, error = outcomes[i]
        assert got == list(range(1000 * i, 1000 * i + 100))
        assert boom(error) == 1000 * i + 100


@given(
    concurrency=st.integers(1, 5),
    failing=st.sets(st.integers(0, 19), min_size=1, max_size=4),
    picks=st.lists(st.integers(0, 4), max_size=20),
    buffersize=st.sampled_from([None, 1, 2, 6]),
)
def test_whatever_the_order_nothing_is_sent_after_a_failure(
    concurrency: int, failing: set[int], picks: List[int], buffersize: Optional[int]
) -> None:
    """In any order of completion: no later call is sent, and all earlier results are yielded."""
    failed_at: List[int] = []  # how many were sent when the first failure came

    def answer(request: ScriptedRequest) -> None:
        if request.parameters[0] in failing:
            if not failed_at:
                failed_at.append(len(stage.session.requests))
            request.fail(Boom(request.parameters[0]))
        else:
            echo(request)

    with staged(concurrency) as stage:
        script = stage.play()
        script.picks, script.answer = picks, answer
        got, error = consumed(stage.executor.map(CQL, range(20), buffersize=buffersize))
        first = boom(error)
        assert got == list(range(first))
        assert not failing & set(range(first)), "a failure that comes earlier was passed over"
        assert [len(stage.sent)] == failed_at, "something was sent after the failure"
