"""An error budget: `max_errors` yields failures in their places, until it is used up."""

from __future__ import annotations

import concurrent.futures
import logging
import pickle
from typing import Any, Iterator, List, Optional, Set, Tuple, Union

import pytest
from cassandra import InvalidRequest, Unavailable
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, FailureReport, TooManyErrors
from cassconc.testing import ManualClock, Script, ScriptedRequest, ScriptedSession
from tests.waits import Background


def wrong(number: Any) -> Exception:
    """Return a failure."""
    return InvalidRequest(f"{number} is wrong")


def failing(numbers: Any) -> ScriptedSession:
    """Return a session that answers at once, and fails the calls with these parameters."""

    def respond(request: ScriptedRequest) -> None:
        [n] = request.parameters
        if n in numbers:
            request.fail(wrong(n))
        else:
            request.succeed([(n,)], ["n"])

    return ScriptedSession(respond)


def consume(results: Iterator[Any]) -> Tuple[List[Any], Optional[TooManyErrors]]:
    """Return what was yielded, as numbers and types, and what ended it."""
    yielded: List[Any] = []
    try:
        for result in results:
            yielded.append(type(result) if isinstance(result, Exception) else result.one()[0])
    except TooManyErrors as error:
        return yielded, error
    return yielded, None


@pytest.mark.parametrize("max_errors", [0, 1, 3])
@pytest.mark.parametrize("buffersize", [None, 5])
def test_failures_within_the_budget_are_yielded(max_errors: int, buffersize: Optional[int]) -> None:
    """So many failures stand in their places, as with `return_exceptions`, and the map goes on."""
    executor = CassandraExecutor(failing(range(max_errors)))
    results = executor.map("SELECT %s", range(10), max_errors=max_errors, buffersize=buffersize)
    assert consume(results) == ([InvalidRequest] * max_errors + list(range(max_errors, 10)), None)


@pytest.mark.parametrize("way", ["map", "starmap", "execute_concurrent"])
def test_every_map_has_a_budget(way: str) -> None:
    """All the calls that run many statements take it."""
    executor = CassandraExecutor(failing(range(100)), concurrency=1)
    results = {
        "map": lambda: executor.map("SELECT %s", range(10), max_errors=1, buffersize=3),
        "starmap": lambda: executor.starmap(
            "SELECT %s", ((n,) for n in range(10)), max_errors=1, buffersize=3
        ),
        "execute_concurrent": lambda: executor.execute_concurrent(
            (("SELECT %s", (n,)) for n in range(10)), max_errors=1, buffersize=3
        ),
    }[way]()
    yielded, error = consume(results)
    assert set(yielded) == {InvalidRequest}
    assert error is not None
    assert error.failed == 2


def test_the_next_failure_ends_the_map(session: ScriptedSession) -> None:
    """Failure n+1 aborts: what comes later is not sent, what was in flight goes on."""
    executor = CassandraExecutor(session, concurrency=3)
    results = executor.map("SELECT %s", range(20), max_errors=1)
    session.requests[0].fail(wrong(0))
    assert len(session.requests) == 4
    session.requests[1].fail(wrong(1))
    assert len(session.requests) == 4
    session.requests[2].succeed()
    session.requests[3].succeed()
    assert len(session.requests) == 4
    yielded, error = consume(results)
    assert yielded == [InvalidRequest]
    assert error is not None
    assert (error.taken, error.succeeded, error.failed, error.never_sent) == (20, 2, 2, 16)


def test_it_is_raised_when_what_was_in_flight_has_ended() -> None:
    """The numbers are final: nothing of the map is in flight any more."""
    session = ScriptedSession()
    script = Script(answer=lambda request: request.succeed([request.parameters], ["n"]))
    clock = ManualClock(on_wait=lambda: script.play(session))
    executor = CassandraExecutor(session, concurrency=3, clock=clock)
    results = executor.map("SELECT %s", range(20), max_errors=0)
    session.requests[0].fail(wrong(0))
    with pytest.raises(TooManyErrors) as caught:
        next(results)
    assert not session.pending
    assert executor.stats().in_flight == 0
    error = caught.value
    assert (error.taken, error.succeeded, error.failed, error.never_sent) == (20, 2, 1, 17)


def test_what_comes_earlier_is_still_yielded() -> None:
    """Results before the failure that ends the map are sent, and yielded in their places."""
    session = ScriptedSession()
    script = Script(answer=lambda request: request.succeed([request.parameters], ["n"]))
    clock = ManualClock(on_wait=lambda: script.play(session))
    executor = CassandraExecutor(session, concurrency=3, clock=clock)
    results = executor.map("SELECT %s", range(20), max_errors=0)
    session.requests[2].fail(wrong(2))
    yielded, error = consume(results)
    assert yielded == [0, 1]
    assert error is not None
    assert (error.taken, error.succeeded, error.failed, error.never_sent) == (20, 2, 1, 17)


@pytest.mark.parametrize("ordered", [True, False])
def test_nothing_more_is_taken(ordered: bool) -> None:
    """After the abort the input is not asked any more."""
    taken: List[int] = []

    def items() -> Iterator[int]:
        for n in range(1000):
            taken.append(n)
            yield n

    executor = CassandraExecutor(failing(range(1000)), concurrency=1)
    results = executor.map("SELECT %s", items(), max_errors=2, buffersize=10, ordered=ordered)
    _, error = consume(results)
    assert error is not None
    assert error.taken == len(taken) <= 11
    assert error.failed == 3


def test_zero_is_none_at_all() -> None:
    """With a budget of 0 the first failure ends the map."""
    _, error = consume(CassandraExecutor(failing({0})).map("SELECT %s", range(3), max_errors=0))
    assert error is not None
    assert error.failed == 1


# Fractions


def test_a_fraction_counts_once_a_hundred_calls_have_ended() -> None:
    """Before that, any number of failures may be bad luck."""
    executor = CassandraExecutor(failing(range(99)), concurrency=1)
    results = executor.map("SELECT %s", range(99), max_errors=0.01)
    assert consume(results) == ([InvalidRequest] * 99, None)


@pytest.mark.parametrize(("failures", "aborts"), [(10, False), (11, True), (50, True)])
def test_a_fraction_of_what_has_ended(failures: int, aborts: bool) -> None:
    """The failure that is the hundredth call ends the map if more than the fraction have failed."""
    executor = CassandraExecutor(failing([*range(failures - 1), 99]), concurrency=1)
    yielded, error = consume(executor.map("SELECT %s", range(100), max_errors=0.1))
    assert len(yielded) == (99 if aborts else 100)
    assert (error is not None) is aborts


def test_a_fraction_looks_at_each_failure() -> None:
    """A failure that comes later, when too many have failed, ends the map."""
    executor = CassandraExecutor(failing([*range(20), 150, 160]), concurrency=1)
    yielded, error = consume(executor.map("SELECT %s", range(200), max_errors=0.1, buffersize=1))
    assert error is not None
    assert error.failed in (20, 21)
    assert len(yielded) in (100, 151)


def test_a_fraction_of_nothing() -> None:
    """0.0 ends the map at the first failure after the first hundred calls."""
    executor = CassandraExecutor(failing([120]), concurrency=1)
    yielded, error = consume(executor.map("SELECT %s", range(300), max_errors=0.0, buffersize=1))
    assert yielded == [*range(120)]
    assert error is not None


# The report


def test_the_report_says_what_failed_and_where() -> None:
    """Per type: how many, the first and the last one, and the places in the input."""

    def respond(request: ScriptedRequest) -> None:
        [n] = request.parameters
        if n % 2:
            request.fail(wrong(n))
        elif n == 4:
            request.fail(Unavailable("few"))
        else:
            request.succeed([(n,)], ["n"])

    executor = CassandraExecutor(ScriptedSession(respond), concurrency=1)
    _, error = consume(executor.map("SELECT %s", range(100), max_errors=4, buffersize=1))
    assert error is not None
    report = error.report
    assert isinstance(report, FailureReport)
    assert report.count == error.failed == 5
    assert set(report.types) == {"InvalidRequest", "Unavailable"}
    invalid = report.types["InvalidRequest"]
    assert (invalid.count, invalid.positions) == (4, [1, 3, 5, 7])
    assert str(invalid.first) == "1 is wrong"
    assert str(invalid.last) == "7 is wrong"
    assert report.types["Unavailable"].positions == [4]
    text = str(error)
    for part in ("4 InvalidRequest", "1 Unavailable", "first call 1: SELECT %s", "7: SELECT %s"):
        assert part in text
    for number in (error.taken, error.succeeded, error.failed, error.never_sent):
        assert str(number) in text


def test_a_report_of_ones_own() -> None:
    """`FailureReport` serves for what `return_exceptions=True` yields, too, and stays small."""
    report = FailureReport()
    executor = CassandraExecutor(failing(range(1000)))
    for result in executor.map("SELECT %s", range(1000), return_exceptions=True):
        report.add(result)
    [failures] = report.types.values()
    assert (report.count, failures.count) == (1000, 1000)
    assert failures.positions == list(range(100))
    assert str(failures.last) == "999 is wrong"
    report.add(KeyError("of nobody's call"))
    assert report.count == 1001
    assert "KeyError" in str(report)
    assert str(FailureReport()) == "0 failed"


def test_nothing_is_logged_when_it_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    """`TooManyErrors` tells of all failures; those that were not yielded are not logged besides."""
    caplog.set_level(logging.DEBUG, "cassconc")
    session = ScriptedSession()
    results = CassandraExecutor(session).map("SELECT %s", range(10), max_errors=0)
    for request in session.pending:
        request.fail(wrong(request.number))
    yielded, error = consume(results)
    assert yielded == []
    assert error is not None
    assert error.failed == 10
    del results, error
    assert not caplog.records


# Callables, time, and what else may happen


def test_callables_have_a_budget() -> None:
    """A map of callables ends in the same way, and says the same."""

    def check(n: int) -> int:
        if n % 2:
            raise ValueError(n)
        return n

    with CassandraExecutor(ScriptedSession(), max_workers=1) as executor:
        results = executor.map(check, range(100), max_errors=2, buffersize=1)
        yielded: List[Any] = []
        with pytest.raises(TooManyErrors) as caught:
            for result in results:
                yielded.append(type(result) if isinstance(result, Exception) else result)
    error = caught.value
    assert error.failed == 3
    assert error.taken == error.succeeded + error.failed + error.never_sent
    assert yielded == [0, ValueError, 2, ValueError, 4]


def test_an_error_of_the_input_is_none_of_the_budget() -> None:
    """What the input raises is raised at its place, whatever the budget is (promise 2)."""

    def items() -> Iterator[int]:
        yield from range(3)
        raise KeyError("mine")

    executor = CassandraExecutor(failing({1}))
    results = executor.map("SELECT %s", items(), max_errors=5, buffersize=10)
    yielded = [next(results) for _ in range(3)]
    assert [isinstance(each, Exception) for each in yielded] == [False, True, False]
    with pytest.raises(KeyError, match="mine"):
        next(results)


def test_the_timeout_holds_while_it_waits() -> None:
    """The `timeout` of the map also ends the wait for what is in flight."""
    session, clock = ScriptedSession(request_timeout=None), ManualClock()
    executor = CassandraExecutor(session, clock=clock)
    results = executor.map("SELECT %s", range(3), max_errors=0, timeout=5)
    session.requests[0].fail(wrong(0))
    waiting = Background(lambda: next(results))
    clock.advance(5.0)
    with pytest.raises(concurrent.futures.TimeoutError):
        waiting.result()


def test_maps_have_budgets_of_their_own(session: ScriptedSession) -> None:
    """A map whose budget is used up does not end another one on the same executor."""
    session.respond = failing({0}).respond
    executor = CassandraExecutor(session)
    first = executor.map("SELECT %s", range(3), max_errors=0, buffersize=1)
    second = executor.map("SELECT %s", range(3), max_errors=1, buffersize=1)
    assert consume(first)[1] is not None
    assert consume(second) == ([InvalidRequest, 1, 2], None)


@given(
    st.integers(1, 30),
    st.sets(st.integers(0, 29)),
    st.integers(0, 4),
    st.integers(1, 5),
    st.none() | st.integers(1, 8),
    st.booleans(),
    st.lists(st.integers(0, 4)),
)
def test_the_numbers_add_up(
    count: int,
    failed: Set[int],
    max_errors: Union[int, float],
    concurrency: int,
    buffersize: Optional[int],
    ordered: bool,
    picks: List[int],
) -> None:
    """In any order of answers: every call is accounted for, and no failure is beyond the budget.

    What was yielded is a part of what succeeded and failed, each at most once.
    """
    session = ScriptedSession()
    script = Script(
        picks,
        answer=lambda request: (
            request.fail(wrong(request.parameters[0]))
            if request.parameters[0] in failed
            else request.succeed([request.parameters], ["n"])
        ),
    )
    clock = ManualClock(on_wait=lambda: script.play(session))
    executor = CassandraExecutor(session, concurrency, clock=clock)
    results = executor.map(
        "SELECT %s",
        range(count),
        max_errors=max_errors,
        buffersize=buffersize,
        ordered=ordered,
        with_calls=True,
    )
    yielded: List[Tuple[int, Any]] = []
    error: Optional[TooManyErrors] = None
    try:
        for call, result in results:
            assert call.position is not None
            yielded.append((call.position, result))
    except TooManyErrors as raised:
        error = raised
    note(session.history)
    stats = executor.stats()
    positions = [position for position, _ in yielded]
    assert len(set(positions)) == len(positions)
    if ordered:
        assert positions == list(range(len(positions)))
    for position, result in yielded:
        assert isinstance(result, Exception) is (position in failed)
    assert stats.in_flight == 0
    if error is None:
        assert sorted(positions) == list(range(count))
        assert len(failed & set(range(count))) <= max_errors
    else:
        assert error.taken == error.succeeded + error.failed + error.never_sent
        assert error.failed == sum(stats.failed.values()) > max_errors
        assert error.succeeded == stats.succeeded
        assert error.never_sent == stats.cancelled
        assert error.taken == stats.submitted
        # after the failure that ended the map, only what was in flight goes on
        assert error.failed <= max_errors + concurrency


def test_too_many_errors_can_be_pickled() -> None:
    """It comes back from a process of a pool as what it was."""
    report = FailureReport()
    report.add(OSError("x"))
    error = pickle.loads(pickle.dumps(TooManyErrors(3, 1, report)))
    assert isinstance(error, TooManyErrors)
    assert (error.taken, error.succeeded, error.failed, error.never_sent) == (3, 1, 1, 1)
    assert str(error).startswith("of 3 calls taken 1 succeeded, 1 failed")


def test_the_report_of_callables_says_nothing_of_calls() -> None:
    """Their exceptions do not say which call they are of."""

    def fail(number: int) -> None:
        raise ValueError(number)

    with CassandraExecutor(ScriptedSession()) as executor:
        with pytest.raises(TooManyErrors) as raised:
            list(executor.map(fail, range(3), max_errors=1))
    assert str(raised.value).endswith("3 ValueError")
