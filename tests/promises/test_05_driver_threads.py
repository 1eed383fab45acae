"""Promise 5: the caller's code never runs on a driver thread; it may block, and may execute."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, Callable, Iterator, List

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.query import SimpleStatement
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    Retry,
    RetryEvent,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import (
    DriverThread,
    ManualClock,
    Script,
    ScriptedRequest,
    ScriptedSession,
    on_driver_thread,
)
from cassconc.testing.strategies import scripts
from tests.waits import LIMIT, Background, occurs, outcome

Run = Callable[[ScriptedSession, CassandraExecutor, Iterator[Any]], Any]


def items(session: ScriptedSession, count: int) -> Iterator[Any]:
    """Yield parameters, and complain when that, or the clean-up, is done on a driver thread."""
    try:
        yield from session.input([(number,) for number in range(count)])
    finally:
        if on_driver_thread():
            session.complain("the input is closed")


# Nothing of the caller's runs there


@given(
    script=scripts(30, failures=True),
    maps=st.lists(
        st.fixed_dictionaries(
            {
                "buffersize": st.none() | st.integers(1, 4),
                "ordered": st.booleans(),
                "return_exceptions": st.booleans(),
            }
        ),
        min_size=1,
        max_size=3,
    ),
    concurrency=st.integers(1, 4),
    asked=st.integers(0, 25),
)
def test_inputs_consumers_and_callbacks_of_any_run(
    script: Script, maps: List[Any], concurrency: int, asked: int
) -> None:
    """Several maps and futures on one executor, answered in any order: nothing is misplaced.

    The answers are delivered on the very thread that iterates, which is a driver thread
    meanwhile: what ran the caller's code in them would be seen.
    """
    session = ScriptedSession()
    clock = ManualClock(lambda: script.play(session))
    executor = CassandraExecutor(session, concurrency, clock=clock)

    @session.caller
    def called_back(future: Future[Any]) -> None:
        pass

    @session.caller
    def consume(result: Any) -> None:
        pass

    futures = [executor.submit("SELECT 0") for _ in range(5)]
    for future in futures:
        future.add_done_callback(called_back)
    iterators = [executor.starmap("SELECT %s", items(session, 7), **options) for options in maps]
    for number in range(asked):
        with suppress(Exception):
            consume(next(iterators[number % len(iterators)], None))
    iterators.clear()
    script.play_all(session)
    for future in futures:
        outcome(future)
    Background(executor.shutdown).result()
    note(str(session.history))
    assert session.misplaced == []


def test_callbacks_of_all_outcomes(session: ScriptedSession, clock: ManualClock) -> None:
    """Done-callbacks run elsewhere after a result, a failure, a cancellation, a time-out."""
    threads: List[threading.Thread] = []
    executor = CassandraExecutor(session, concurrency=3, clock=clock)
    futures = [executor.submit("SELECT 1") for _ in range(4)]

    @session.caller
    def callback(future: Future[Any]) -> None:
        threads.append(threading.current_thread())

    for future in futures:
        future.add_done_callback(callback)
    session.requests[0].succeed()
    session.requests[1].fail(InvalidRequest("scripted"))
    futures[3].cancel()
    clock.advance(10)
    Background(executor.shutdown).result()
    assert len(threads) == 4
    assert threading.current_thread() not in threads
    assert session.misplaced == []


def test_a_callback_of_a_call_that_ends_inside_execute_async() -> None:
    """An answer before `execute_async` returned, on a driver thread that sends the next call."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit("SELECT 1") for _ in range(20)]
    for future in futures:
        future.add_done_callback(session.caller(lambda future: None))
    session.respond = lambda request: request.succeed()
    session.requests[0].succeed()
    assert [outcome(future) for future in futures] == [None] * 20
    Background(executor.shutdown).result()
    assert session.misplaced == []


def test_the_hook_of_retries(session: ScriptedSession, clock: ManualClock) -> None:
    """`Retry.on_retry` runs elsewhere, although a driver thread decides on the retry."""
    called = threading.Event()

    @session.caller
    def on_retry(event: RetryEvent) -> None:
        called.set()

    retry = Retry(delay=1, on_retry=on_retry)
    executor = CassandraExecutor(session, clock=clock, retry=retry)
    executor.submit(SimpleStatement("SELECT 1", is_idempotent=True))
    session.pending[0].fail(OperationTimedOut())
    occurs(called, "the hook was called")
    assert session.misplaced == []


@pytest.mark.parametrize(
    "run",
    [
        lambda session, pairs: execute_concurrent(session, pairs, 3),
        lambda session, pairs: execute_concurrent(session, pairs, 3, raise_on_first_error=False),
        lambda session, pairs: list(execute_concurrent(session, pairs, 3, results_generator=True)),
        lambda session, pairs: execute_concurrent_async(session, pairs, 3).result(LIMIT),
        lambda session, pairs: execute_concurrent_with_args(
            session, "SELECT %s", (parameters for _, parameters in pairs), 3
        ),
    ],
)
def test_the_input_of_the_drop_ins(run: Callable[[Any, Any], Any]) -> None:
    """The functions of `cassandra.concurrent` take their input elsewhere, all of it."""
    session = ScriptedSession()
    pairs = (("SELECT %s", parameters) for parameters in items(session, 50))
    with DriverThread(session):
        results = Background(lambda: run(session, pairs)).result()
    assert len(results) == 50
    assert session.misplaced == []


def test_callbacks_of_the_drop_ins() -> None:
    """A done-callback of the future of `execute_concurrent_async` runs elsewhere."""
    session = ScriptedSession()
    called = threading.Event()

    @session.caller
    def callback(future: Future[Any]) -> None:
        called.set()

    future = execute_concurrent_async(session, [("SELECT 1", None)] * 3)
    future.add_done_callback(callback)
    for request in session.wait_for(3):
        request.succeed()
    occurs(called, "the callback was called")
    assert session.misplaced == []


def test_log_handlers(session: ScriptedSession) -> None:
    """A handler of the log is the caller's code: it may be slow, and write into the database.

    Nobody asked for the results of a `map`, and its last call fails on a driver thread.
    """

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            emit(record)

    logged = threading.Event()

    @session.caller
    def emit(record: logging.LogRecord) -> None:
        logged.set()

    logger = logging.getLogger("cassconc")
    handler = Handler()
    logger.addHandler(handler)
    try:
        CassandraExecutor(session).starmap("SELECT 1", [()])
        session.pending[0].fail(InvalidRequest("scripted"))
        session.requests.clear()
        occurs(logged, "the failure was logged")
    finally:
        logger.removeHandler(handler)
    assert session.misplaced == []


# It may block and execute


def body_executes(session: ScriptedSession, executor: CassandraExecutor, rows: Any) -> None:
    """A consumer that executes for each result."""
    for _ in executor.starmap("SELECT %s", rows, buffersize=5):
        session.execute("SELECT 'body'")


def input_executes(session: ScriptedSession, executor: CassandraExecutor, rows: Any) -> None:
    """An input that executes for each item."""

    def executed() -> Iterator[Any]:
        for row in rows:
            session.execute("SELECT 'input'")
            yield row

    assert len(list(executor.starmap("SELECT %s", executed(), buffersize=5))) == 20


def callback_executes(session: ScriptedSession, executor: CassandraExecutor, rows: Any) -> None:
    """Done-callbacks that execute, and that wait for another call of the same executor."""
    over: List[Future[Any]] = []

    def callback(future: Future[Any]) -> None:
        session.execute("SELECT 'callback'")
        inner = executor.submit("SELECT 'inner'")
        inner.result(LIMIT)
        over.append(inner)

    for row in rows:
        executor.submit("SELECT %s", *row).add_done_callback(callback)
    while len(over) < 20:
        assert wait([executor.submit("SELECT 'outer'")], LIMIT).done


def nested_maps(session: ScriptedSession, executor: CassandraExecutor, rows: Any) -> None:
    """A consumer that runs another `map` on the same executor for each result."""
    for _ in executor.starmap("SELECT %s", rows, buffersize=5):
        assert len(list(executor.starmap("SELECT %s", [(1,)] * 3))) == 3


@pytest.mark.parametrize(
    "run", [body_executes, input_executes, callback_executes, nested_maps], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_blocking_and_executing_is_allowed(run: Run, concurrency: int) -> None:
    """`session.execute`, `result` and other maps: in inputs, consumers and callbacks, in threads.

    A driver thread that waited for an answer would wait for ever: there is only one.
    """
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency)
    with DriverThread(session):
        running = [Background(lambda: run(session, executor, items(session, 20))) for _ in range(3)]
        for each in running:
            each.result()
        Background(executor.shutdown).result()
    assert session.misplaced == []


def test_a_blocked_callback_does_not_block_the_driver(session: ScriptedSession) -> None:
    """While a callback waits, the driver thread goes on to deliver what it waits for."""
    executor = CassandraExecutor(session, concurrency=1)
    results: List[Any] = []
    over = threading.Event()

    def callback(future: Future[Any]) -> None:
        results.append(executor.submit("SELECT 2").result(LIMIT).one().number)
        over.set()

    executor.submit("SELECT 1").add_done_callback(callback)

    def answer(request: ScriptedRequest) -> None:
        request.succeed([(request.number,)], ["number"])

    with DriverThread(session, Script(answer=answer)):
        occurs(over, "the callback has come to its end")
    assert results == [1]
