"""Promise 4: failures of a `map` that nobody looked at are logged once, at its end, in one line."""

from __future__ import annotations

import gc
import itertools
import logging
from concurrent.futures import TimeoutError
from contextlib import suppress
from typing import Any, Iterator, List

import pytest
from cassandra import InvalidRequest, Unavailable, WriteTimeout
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    execute_concurrent,
    execute_concurrent_async,
)
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.exits import run_python
from tests.waits import LIMIT, logged, outcome


def fail(request: ScriptedRequest) -> None:
    """Answer with a failure at once."""
    request.fail(InvalidRequest("scripted"))


class _Lines:
    """What was logged about the maps of one test; `title` is a statement of its own."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self.title = f"SELECT {next(_numbers)}"

    def __call__(self, session: ScriptedSession, title: str = "") -> List[str]:
        """Return the lines so far; the requests are forgotten, which keep their exceptions."""
        session.requests.clear()
        gc.collect()
        logged()
        lines = [record.getMessage() for record in self._caplog.records]
        return [line for line in lines if (title or self.title) in line]


_numbers = itertools.count()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[_Lines]:
    """What is logged in this test."""
    gc.collect()
    logged()  # what that has collected of earlier tests
    gc.freeze()  # a collection is quick then
    caplog.clear()
    yield _Lines(caplog)
    gc.unfreeze()


# What is logged


def test_one_line_with_types_and_counts(
    session: ScriptedSession, lines: _Lines, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody asks for the results: one line says what failed, how often, and in which `map`."""
    executor = CassandraExecutor(session, concurrency=5)
    executor.starmap(lines.title, [()] * 5, return_exceptions=True)
    errors = [InvalidRequest("x"), InvalidRequest("y"), WriteTimeout("z", write_type=0)]
    for request, error in zip(session.pending, errors):
        request.fail(error)
    session.pending[0].succeed()
    assert lines(session) == []
    session.pending[0].succeed()
    (line,) = lines(session)
    assert "2 InvalidRequest" in line
    assert "1 WriteTimeout" in line
    assert "\n" not in line
    (record,) = caplog.records
    assert record.name == "cassconc"
    assert record.levelno >= logging.WARNING


def test_no_parameter_is_shown(lines: _Lines) -> None:
    """Parameters, and what the server says about them, do not come into the line."""
    session = ScriptedSession(lambda request: request.fail(InvalidRequest("server-secret")))
    executor = CassandraExecutor(session)
    executor.map(f"{lines.title}\n  WHERE a = %s", ["param-secret"])
    (line,) = lines(session)
    assert "secret" not in line
    assert "\n" not in line


@given(
    calls=st.integers(0, 8),
    failing=st.sets(st.integers(0, 7)),
    picks=st.lists(st.integers(0, 7), max_size=8),
    asked=st.integers(0, 9),
    buffersize=st.none() | st.integers(1, 4),
    ordered=st.booleans(),
    return_exceptions=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_logged_are_the_failures_that_were_not_yielded_or_raised(
    lines: _Lines,
    calls: int,
    failing: Any,
    picks: List[int],
    asked: int,
    buffersize: Any,
    ordered: bool,
    return_exceptions: bool,
) -> None:
    """However a `map` goes: the failures in the log and those that were seen are all that were.

    It is asked so many times, then dropped; whatever was sent is answered, in any order.
    """

    def answer() -> bool:
        pending = session.pending
        if pending:
            pick = picks.pop() if picks else 0
            request = pending[pick % len(pending)]
            if request.number in failing:
                failed.append(request.number)
                request.fail(InvalidRequest("scripted"))
            else:
                request.succeed()
        return bool(pending)

    title = f"SELECT {next(_numbers)}"
    failed: List[int] = []
    session = ScriptedSession()
    executor = CassandraExecutor(session, 3, clock=ManualClock(answer))
    results = executor.starmap(
        title,
        [()] * calls,
        buffersize=buffersize,
        ordered=ordered,
        return_exceptions=return_exceptions,
    )
    seen = 0
    for _ in range(asked):
        try:
            seen += isinstance(next(results, None), InvalidRequest)
        except InvalidRequest:
            seen += 1
    del results
    while answer():
        pass
    note(str(session.history))
    found = lines(session, f"({title})")
    assert len(found) == (len(failed) > seen)
    if found:
        assert f"{len(failed) - seen} InvalidRequest" in found[0]


def test_each_map_has_its_own_line(lines: _Lines) -> None:
    """Two maps of one executor that nobody looked at: a line for each, once."""
    session = ScriptedSession(fail)
    executor = CassandraExecutor(session)
    for table in "ab":
        executor.starmap(f"{lines.title} FROM {table}", [()] * 3, return_exceptions=True)
    executor.shutdown()
    first, second = lines(session)
    assert "FROM a" in first
    assert "FROM b" in second


def test_it_is_logged_when_nobody_can_look_any_more(
    session: ScriptedSession, lines: _Lines
) -> None:
    """While a call is in flight, or the iterator is there, the failures may still be looked at."""
    executor = CassandraExecutor(session, concurrency=2)
    results = executor.starmap(lines.title, [()] * 2, return_exceptions=True)
    session.pending[0].fail(InvalidRequest("scripted"))
    assert lines(session) == []
    session.pending[0].fail(InvalidRequest("scripted"))
    assert lines(session) == []
    next(results)
    assert lines(session) == []
    del results
    (line,) = lines(session)
    assert "1 InvalidRequest" in line


def test_after_an_abort_the_failures_of_what_was_in_flight_are_logged(
    session: ScriptedSession, lines: _Lines
) -> None:
    """The first failure is raised; others that come of what was in flight are logged."""
    executor = CassandraExecutor(session, concurrency=3)
    results = executor.starmap(lines.title, [()] * 5)
    session.pending[0].fail(InvalidRequest("scripted"))
    with suppress(InvalidRequest):
        next(results)
    session.pending[0].fail(Unavailable("scripted"))
    assert lines(session) == []
    session.pending[0].succeed()
    del results
    (line,) = lines(session)
    assert "1 Unavailable" in line
    assert "InvalidRequest" not in line


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_failure_that_the_caller_keeps_does_not_put_the_line_off(
    session: ScriptedSession, lines: _Lines, return_exceptions: bool
) -> None:
    """The line comes at the end of the `map`, although the caller keeps what it has got.

    As everyone does who gathers failures in a list, or handles them later.
    """
    executor = CassandraExecutor(session, concurrency=2)
    results = executor.starmap(lines.title, [()] * 2, return_exceptions=return_exceptions)
    for request in session.pending:
        request.fail(InvalidRequest("scripted"))
    try:
        kept = next(results)
    except InvalidRequest as error:
        kept = error
    del results
    (line,) = lines(session)
    assert "1 InvalidRequest" in line
    assert isinstance(kept, InvalidRequest)


def test_calls_that_run_into_their_limit_are_logged(
    session: ScriptedSession, clock: ManualClock, lines: _Lines
) -> None:
    """So are calls that nobody answered, after the `timeout` of a `map` was raised."""

    def pass_time() -> bool:
        clock.advance(1)
        return True

    clock.on_wait = pass_time
    executor = CassandraExecutor(session, clock=clock)
    results = executor.starmap(lines.title, [()] * 3, timeout=2)
    with suppress(TimeoutError):
        next(results)
    clock.advance(20)
    del results
    (line,) = lines(session)
    assert "3 OperationTimedOut" in line


def test_an_error_of_the_input_that_nobody_looked_at_is_logged(lines: _Lines) -> None:
    """With `buffersize`, an input that raises is a failure of the `map`, too.

    Nobody asks for results, so it can't be raised anywhere.
    """

    def items() -> Iterator[Any]:
        yield ()
        raise KeyError("of the input")

    session = ScriptedSession(lambda request: request.succeed())
    CassandraExecutor(session).starmap(lines.title, items(), buffersize=5)
    (line,) = lines(session)
    assert "KeyError" in line


def test_failures_of_callables_are_logged(session: ScriptedSession, lines: _Lines) -> None:
    """A `map` of plain callables that nobody looks at logs its failures as well.

    Promise 16 lets it behave as `ThreadPoolExecutor.map`, which logs nothing; the earlier wins.
    """

    def of_this_test(text: str) -> int:
        return int(text)

    executor = CassandraExecutor(session)
    executor.map(of_this_test, ["x", "1", "y"])
    executor.shutdown()
    (line,) = lines(session, "of_this_test")
    assert "2 ValueError" in line


def test_the_drop_ins_log_too(session: ScriptedSession, lines: _Lines) -> None:
    """A generator of `execute_concurrent` that nobody iterates."""
    results = execute_concurrent(session, [("SELECT 1", None)] * 3, results_generator=True)
    for request in session.pending:
        request.fail(InvalidRequest("scripted"))
    assert lines(session, "execute_concurrent") == []
    del results
    (line,) = lines(session, "execute_concurrent")
    assert "InvalidRequest" in line


def test_it_is_logged_when_the_interpreter_exits() -> None:
    """An iterator that lives until the end of the program: its failures are logged then."""
    code = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
session = ScriptedSession(lambda request: request.fail(ValueError()))
executor = CassandraExecutor(session)
results = executor.starmap("SELECT 1", [()] * 3, return_exceptions=True)
print("main ends")
"""
    first, second = run_python(code)
    assert first == "main ends"
    assert "3 ValueError" in second


def test_it_is_logged_when_the_program_ends_right_after_the_map() -> None:
    """A load that is the program's last statement: its failures are logged before it ends."""
    code = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
def load():
    session = ScriptedSession()
    answering = threading.Thread(target=lambda: session.wait_for(2) and [
        request.fail(ValueError()) for request in session.pending])
    answering.start()
    with CassandraExecutor(session) as executor:
        executor.starmap("SELECT 1", [()] * 2, return_exceptions=True)
load()
"""
    for _ in range(3):  # it was seldom there
        (line,) = run_python(code)
        assert "2 ValueError" in line


# What is not logged


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("buffersize", [None, 2])
def test_what_was_raised_or_yielded_is_not_logged(
    ordered: bool, buffersize: Any, lines: _Lines
) -> None:
    """Failures that the consumer got are not logged."""
    session = ScriptedSession(fail)
    executor = CassandraExecutor(session, concurrency=1)
    options: Any = {"ordered": ordered, "buffersize": buffersize}
    results = executor.starmap(lines.title, [()] * 5, return_exceptions=True, **options)
    assert [type(result) for result in results] == [InvalidRequest] * 5
    with suppress(InvalidRequest):
        next(executor.starmap(lines.title, [()] * 5, **options))
    del results
    assert lines(session) == []


def test_calls_that_were_never_sent_are_not_logged(session: ScriptedSession, lines: _Lines) -> None:
    """What an abort or `shutdown(cancel_futures=True)` has cancelled is no failure."""
    executor = CassandraExecutor(session, concurrency=1)
    results = executor.starmap(lines.title, [()] * 5)
    executor.starmap(f"{lines.title} LIMIT 1", [()] * 5)
    executor.shutdown(wait=False, cancel_futures=True)
    del results
    session.pending[0].succeed()
    assert executor.stats().cancelled == 9
    assert lines(session) == []


def test_successes_are_not_logged(lines: _Lines) -> None:
    """A `map` without failures logs nothing, looked at or not."""
    session = ScriptedSession(lambda request: request.succeed())
    executor = CassandraExecutor(session)
    executor.starmap(lines.title, [()] * 5)
    for _ in executor.starmap(lines.title, [()] * 5, buffersize=2):
        break
    executor.map(str, range(5))
    executor.shutdown()
    assert lines(session) == []
    assert lines(session, "map(str)") == []


def test_futures_of_submit_log_nothing(lines: _Lines, caplog: pytest.LogCaptureFixture) -> None:
    """A failed future that nobody looks at logs nothing, as in the standard."""
    session = ScriptedSession(fail)
    executor = CassandraExecutor(session)
    executor.submit(lines.title)
    executor.submit(int, "x")
    executor.shutdown()
    assert lines(session) == []
    assert not caplog.records


def test_the_drop_ins_log_nothing_that_they_show(lines: _Lines) -> None:
    """Failures that are in the results of `execute_concurrent` and its like are not logged."""
    session = ScriptedSession(fail)
    future = execute_concurrent_async(session, [("SELECT 1", None)] * 3)
    assert outcome(future) is None
    assert [result.success for result in future.result(LIMIT)] == [False] * 3
    assert execute_concurrent(session, [("SELECT 1", None)] * 3, raise_on_first_error=False)
    del future
    assert lines(session, "execute_concurrent") == []
