"""Promise 13: the first outcome of a call counts; later ones change nothing."""

from __future__ import annotations

import threading
from typing import Any, Callable, List
from unittest.mock import Mock

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import ResultSet
from hypothesis import given
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry
from cassconc.testing import ScriptedRequest, ScriptedResponse, echo
from tests.stage import CQL, Boom, consumed, failure, idempotent, staged, value, values
from tests.waits import LIMIT, Background, occurs, together


def succeed(request: ScriptedRequest, number: int) -> None:
    """Answer with a row that says which answer it is."""
    request.succeed([(number,)], ["number"])


def fail(request: ScriptedRequest, number: int) -> None:
    """Answer with a failure that says which answer it is."""
    request.fail(Boom(number))


Answer = Callable[[ScriptedRequest, int], None]
ANSWERS = [succeed, fail]


def is_first(future: Any, answer: Answer) -> None:
    """Check that a future has the outcome that answer number 0 gave it."""
    assert future.done()
    error = failure(future)
    if answer is fail:
        assert isinstance(error, Boom)
        assert error.args == (0,)
    else:
        assert error is None
        assert value(future.result(0)) == 0


# Twice


@pytest.mark.parametrize("second", ANSWERS)
@pytest.mark.parametrize("first", ANSWERS)
def test_two_answers(first: Answer, second: Answer) -> None:
    """The second answer to a request is as if it had not come."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(3)]
        request = stage.session.requests[0]
        first(request, 0)
        before = stage.executor.stats()
        second(request, 1)
        is_first(futures[0], first)
        assert stage.executor.stats() == before
        assert stage.sent == [0, 1], "the second answer has admitted another call"


@pytest.mark.parametrize("second", ANSWERS)
@pytest.mark.parametrize("first", ANSWERS)
def test_two_answers_before_execute_async_returns(first: Answer, second: Answer) -> None:
    """The driver keeps the last of them and calls back once: no call ends twice."""

    def respond(request: ScriptedRequest) -> None:
        first(request, 0)
        second(request, 0)

    with staged(1) as stage:
        stage.session.respond = respond
        futures = [stage.executor.submit(CQL, i) for i in range(3)]
        assert all(future.done() for future in futures)
        stats = stage.executor.stats()
        assert stats.succeeded + sum(stats.failed.values()) == stats.submitted == 3


@pytest.mark.parametrize("second", ANSWERS)
@pytest.mark.parametrize("first", ANSWERS)
def test_an_answer_in_execute_async_and_another_one_later(first: Answer, second: Answer) -> None:
    """What was answered at once does not change when the driver calls back again."""
    with staged(1) as stage:
        stage.session.respond = lambda request: first(request, 0)
        future = stage.executor.submit(CQL, "x")
        second(stage.session.requests[0], 1)
        is_first(future, first)


def test_an_answer_before_execute_async_raises() -> None:
    """What `execute_async` raises is the outcome, although the request was answered before."""

    def respond(request: ScriptedRequest) -> None:
        echo(request)
        raise Boom(0)

    with staged(1) as stage:
        stage.session.respond = respond
        future = stage.executor.submit(CQL, "x")
        is_first(future, fail)
        assert stage.executor.stats().in_flight == 0


@pytest.mark.parametrize("second", ANSWERS)
@pytest.mark.parametrize("first", ANSWERS)
def test_two_answers_from_two_threads_at_once(first: Answer, second: Answer) -> None:
    """One of them is the outcome, and one call is admitted in the place of the one that ended."""
    for _ in range(100):
        with staged(1) as stage:
            futures = [stage.executor.submit(CQL, i) for i in range(3)]
            called: List[Any] = []
            futures[0].add_done_callback(called.append)
            request = stage.session.requests[0]
            together(lambda: first(request, 1), lambda: second(request, 2))  # noqa: B023
            assert futures[0].done()
            error = failure(futures[0])
            got = value(futures[0].result(0)) if error is None else error.args[0]
            assert got in (1, 2)
            assert stage.sent == [0, 1], "two calls were admitted in the place of one"
            stats = stage.executor.stats()
            assert stats.succeeded + sum(stats.failed.values()) == 1
        assert called == [futures[0]]


def test_done_callbacks_run_once() -> None:
    """However often the driver calls back, a future tells its callbacks once."""
    with staged(1) as stage:
        future = stage.executor.submit(CQL, 0)
        called: List[Any] = []
        over = threading.Event()
        future.add_done_callback(called.append)
        for number in range(5):
            succeed(stage.session.requests[0], number)
            fail(stage.session.requests[0], number)
        future.add_done_callback(lambda _: over.set())
        occurs(over, "the callbacks were called")
        assert called == [future]


def test_a_result_is_one_object() -> None:
    """`result()` returns the same `ResultSet` before and after a second answer."""
    with staged(1) as stage:
        future = stage.executor.submit(CQL, 0)
        succeed(stage.session.requests[0], 0)
        result = future.result(0)
        succeed(stage.session.requests[0], 1)
        assert future.result(0) is result
        assert value(result) == 0


# In a map


@pytest.mark.parametrize("ordered", [True, False])
def test_a_second_answer_is_not_yielded(ordered: bool) -> None:
    """Each call of a map has one result, however often it is answered."""
    with staged(2) as stage:

        def answer(request: ScriptedRequest) -> None:
            echo(request)
            fail(request, 1)
            echo(request)

        stage.play().answer = answer
        results = stage.executor.map(CQL, range(20), ordered=ordered, buffersize=3)
        assert values(results) == list(range(20))
        assert stage.executor.stats().succeeded == 20


def test_a_late_failure_aborts_no_map() -> None:
    """A failure that comes after the success of the same call is none."""
    with staged(2) as stage:
        results = stage.executor.map(CQL, range(5), max_errors=0)
        stage.answer(0)
        stage.fail(0)
        stage.play()
        assert values(results) == [0, 1, 2, 3, 4]


def test_a_late_success_does_not_undo_an_abort() -> None:
    """A success that comes after the failure of the same call changes nothing."""
    with staged(2) as stage:
        results = stage.executor.map(CQL, range(5))
        stage.fail(0)
        stage.answer(0, 1)
        assert stage.sent == [0, 1]
        got, error = consumed(results)
        assert (got, type(error)) == ([], Boom)


# After a time-out


@pytest.mark.parametrize("late", ANSWERS)
def test_an_answer_after_the_time_limit(late: Answer) -> None:
    """The call has failed with `OperationTimedOut`, and that stays so."""
    with staged(1) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(3)]
        stage.clock.advance(10)
        error = failure(futures[0])
        assert isinstance(error, OperationTimedOut)
        stage.session.wait_for(2)
        late(stage.session.requests[0], 1)
        assert failure(futures[0]) is error
        assert stage.sent == [0, 1]
        assert stage.executor.stats().failed == {"OperationTimedOut": 1}


@pytest.mark.parametrize("late", ANSWERS)
def test_an_answer_at_the_time_limit(late: Answer) -> None:
    """Answer and time limit at once, on two threads: one of them is the outcome."""
    for _ in range(100):
        with staged(1) as stage:
            future = stage.executor.submit(CQL, 0)
            stage.executor.submit(CQL, 1)
            request = stage.session.requests[0]
            together(
                lambda: late(request, 1),  # noqa: B023
                lambda: stage.clock.advance(10),
            )
            stats = stage.executor.stats()
            assert stats.succeeded + sum(stats.failed.values()) == 1
            assert future.done()
            stage.session.wait_for(2)
            assert stage.sent == [0, 1]


@pytest.mark.parametrize("late", ANSWERS)
def test_an_answer_while_execute_async_blocks_beyond_the_limit(late: Answer) -> None:
    """`execute_async` returns after the call has timed out: its answer is given up."""
    with staged(1) as stage:
        stage.session.respond = lambda request: stage.clock.advance(10)
        future = stage.executor.submit(CQL, 0)
        error = failure(future)
        assert isinstance(error, OperationTimedOut)
        late(stage.session.requests[0], 1)
        assert failure(future) is error
        assert stage.executor.stats().in_flight == 0


# Pages


def test_each_page_calls_back() -> None:
    """The answer of a later page calls back again; the future keeps its first outcome."""
    with staged(1) as stage:
        future = stage.executor.submit(CQL, 0)
        stage.session.requests[0].succeed([(0,), (1,)], ["n"], paging_state=b"more")
        result = future.result(0)

        def respond(request: ScriptedRequest) -> None:
            request.succeed([(2,)], ["n"])

        stage.session.respond = respond
        assert [row.n for row in result] == [0, 1, 2]
        assert future.result(0) is result
        assert stage.executor.stats().succeeded == 1


def test_a_later_page_that_fails() -> None:
    """Its failure is raised where the page is asked for; the call has succeeded all the same."""
    with staged(1) as stage:
        results = stage.executor.map(CQL, range(2))
        stage.session.requests[0].succeed([(0,)], ["n"], paging_state=b"more")
        stage.session.respond = lambda request: (
            fail(request, 0) if request.options.get("paging_state") else None
        )
        first = next(results)
        with pytest.raises(Boom):
            list(first)
        stage.answer(1)
        assert values(results) == [1]


# Sessions that are no sessions


def test_one_response_object_for_all_calls() -> None:
    """A mock may return the same response for every call, and keep all callbacks for ever."""
    session = Mock()
    response = session.execute_async.return_value
    response.has_more_pages = False
    executor = CassandraExecutor(session, 2)
    futures = [executor.submit(CQL, i) for i in range(4)]

    def calls() -> List[Any]:
        return [call.kwargs or call.args for call in response.add_callbacks.call_args_list]

    def answer(number: int, rows: Any) -> None:
        _, given = response.add_callbacks.call_args_list[number]
        callback = response.add_callbacks.call_args_list[number].args[0]
        callback(rows, *given["callback_args"])

    def fail_it(number: int) -> None:
        _, given = response.add_callbacks.call_args_list[number]
        errback = response.add_callbacks.call_args_list[number].args[1]
        errback(Boom(number), *given["errback_args"])

    assert len(calls()) == 2
    answer(1, ["first"])
    answer(1, ["second"])
    fail_it(1)
    assert len(calls()) == 3, "one outcome admits one call"
    assert futures[1].result(0).current_rows == ["first"]
    fail_it(0)
    answer(0, ["second"])
    assert len(calls()) == 4
    assert isinstance(futures[0].exception(0), Boom)
    for number in (3, 2):
        answer(number, [number])
    assert [futures[n].result(0).current_rows for n in (2, 3)] == [[2], [3]]
    assert all(isinstance(futures[n].result(0), ResultSet) for n in (1, 2, 3))


# With retries


@pytest.mark.parametrize("second", ANSWERS)
def test_an_attempt_fails_and_is_answered_again_before_its_retry(second: Answer) -> None:
    """The first outcome of an attempt was that it is tried again: a second one changes nothing."""
    with staged(1, retry=Retry(delay=1)) as stage:
        future = stage.executor.submit(idempotent("A"))
        stage.session.requests[0].fail(OperationTimedOut())
        second(stage.session.requests[0], 1)
        assert not future.done(), "the second answer to the attempt has ended the call"
        assert stage.executor.stats().waiting_for_retry == 1
        stage.clock.advance(1)
        succeed(stage.session.wait_for(2)[1], 0)
        assert value(future.result(LIMIT)) == 0


def test_an_attempt_fails_twice_before_its_retry() -> None:
    """Two time-outs of one attempt, such as of two speculative executions, are one retry."""
    with staged(1, retry=Retry(delay=1)) as stage:
        future = stage.executor.submit(idempotent("A"))
        for _ in range(2):
            stage.session.requests[0].fail(OperationTimedOut())
        assert not future.done(), "the second failure of the attempt has ended the call"
        stage.clock.advance(1)
        stage.session.wait_for(2)
        assert stage.executor.stats().retried == 1
        succeed(stage.session.requests[1], 0)
        assert value(future.result(LIMIT)) == 0


@pytest.mark.parametrize("second", ANSWERS)
def test_an_attempt_is_answered_again_while_its_retry_waits_for_room(second: Answer) -> None:
    """The same while the retry is due, and others are in flight."""
    with staged(1, retry=Retry(delay=0)) as stage:
        future = stage.executor.submit(idempotent("A"))
        stage.executor.submit(CQL, "other")
        stage.session.requests[0].fail(OperationTimedOut())
        stage.clock.advance(0)
        second(stage.session.requests[0], 1)
        assert not future.done(), "the second answer to the attempt has ended the call"
        stage.answer("other")
        succeed(stage.session.wait_for(3)[2], 0)
        assert value(future.result(LIMIT)) == 0


@pytest.mark.parametrize("late", ANSWERS)
def test_an_attempt_is_answered_again_while_its_retry_is_in_flight(late: Answer) -> None:
    """What the first attempt still says does not end the second one."""
    with staged(1, retry=Retry(delay=0)) as stage:
        future = stage.executor.submit(idempotent("A"))
        stage.session.requests[0].fail(OperationTimedOut())
        stage.clock.advance(0)
        again = stage.session.wait_for(2)[1]
        late(stage.session.requests[0], 1)
        assert not future.done(), "a late answer to the first attempt has ended the call"
        succeed(again, 0)
        assert value(future.result(LIMIT)) == 0


def test_an_attempt_succeeds_and_fails_at_once() -> None:
    """Two driver threads: one takes a success, and is overtaken by a time-out of the same attempt.

    1. the success arrives  2. before it is the outcome, the failure arrives, which would be tried
    again  3. the success goes on. One of the two counts, and nothing is left over.
    """
    with staged(1, retry=Retry(delay=1)) as stage:

        def overtake(response: ScriptedResponse) -> None:
            forget = response.clear_callbacks

            def clear_callbacks() -> None:
                response.clear_callbacks = forget  # type: ignore[method-assign]
                Background(lambda: request().fail(OperationTimedOut())).result()
                forget()

            response.clear_callbacks = clear_callbacks  # type: ignore[method-assign]

        def request() -> ScriptedRequest:
            return stage.session.requests[0]

        stage.session.add_request_init_listener(overtake)
        future = stage.executor.submit(idempotent("A"))
        succeed(request(), 0)
        if not future.done():  # the failure counts
            stage.clock.advance(1)
            succeed(stage.session.wait_for(2)[1], 0)
        assert value(future.result(LIMIT)) == 0
        stats = stage.executor.stats()
        assert (stats.succeeded, stats.in_flight, stats.waiting_for_retry) == (1, 0, 0)
        Background(stage.executor.shutdown).result()


def test_a_first_attempt_whose_execute_async_returns_after_the_retry_was_sent() -> None:
    """The retry's answer counts, although the first attempt's `execute_async` is slow to return.

    1. the first attempt blocks in `execute_async`, beyond its time limit  2. it is tried again on
    another thread  3. the first `execute_async` returns  4. the retry is answered.
    """
    with staged(1, retry=Retry(delay=0)) as stage:
        over = threading.Event()

        def respond(request: ScriptedRequest) -> None:
            if request.number == 0:
                stage.clock.advance(10)
                stage.clock.advance(0)
                over.wait(1)  # until the retry is listened to; if it never is, that is told below
            else:
                request.response.session.respond = None

        def see(response: ScriptedResponse) -> None:
            add_callbacks = response.add_callbacks

            def add(*args: Any, **kwargs: Any) -> None:
                add_callbacks(*args, **kwargs)
                over.set()

            response.add_callbacks = add  # type: ignore[method-assign]

        stage.session.add_request_init_listener(see)
        stage.session.respond = respond
        future = stage.executor.submit(idempotent("A"))
        assert not future.done(), f"the retry was not sent: {failure(future)!r}"
        succeed(stage.session.requests[1], 0)
        assert future.done(), "the answer to the retry is lost"
        assert value(future.result(0)) == 0
        answered = stage.session.requests[1].response
        assert future.result(0).response_future is answered, "the result is of the first attempt"


# Any sequence


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["succeed", "fail", "time out"])), max_size=25
    )
)
def test_any_sequence_of_answers(answers: List[Any]) -> None:
    """Whatever comes, and how often: the first outcome of each call is its outcome."""
    with staged(2) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(6)]
        first: dict[int, str] = {}
        for count, (number, answer) in enumerate(answers):
            if answer == "time out":
                in_flight = set(stage.sent) - set(first)
                stage.clock.advance(10)
                first.update(dict.fromkeys(in_flight, "time out"))
            elif number in stage.sent:
                first.setdefault(number, f"{answer} {count}")
                (succeed if answer == "succeed" else fail)(stage.request(number), count)
            stage.settle(min(6, len(first) + 2))
            assert [i for i, future in enumerate(futures) if future.done()] == sorted(first)
        for number, outcome in first.items():
            error = failure(futures[number])
            if outcome == "time out":
                assert isinstance(error, OperationTimedOut)
            elif error is not None:
                assert outcome == f"fail {error.args[0]}"
            else:
                assert outcome == f"succeed {value(futures[number].result(0))}"
