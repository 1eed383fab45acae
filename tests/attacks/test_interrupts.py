"""Attacks with Ctrl-C: it strikes at any line of a method that the main thread calls."""

# ruff: noqa: B023  # what is defined in a loop is used in it
from __future__ import annotations

import contextvars
import gc
import threading
from concurrent.futures import TimeoutError
from typing import Any, Callable, List, Optional

import pytest
from cassandra import OperationTimedOut

from cassconc import CassandraExecutor
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.attacks.helpers import shut_down
from tests.tracing import At, InterruptAtLine
from tests.waits import Background, eventually, logged, outcome

CQL = "SELECT 1"
LIMIT = 5.0


def struck(number: int, code: Callable[[], Any]) -> Optional[str]:
    """Run code with an interrupt at a line; returns where it struck, or None."""
    interrupt = InterruptAtLine(number)
    gc.disable()  # what strikes in a finalizer is lost
    try:
        with interrupt:
            code()
    except (KeyboardInterrupt, TimeoutError):
        pass
    finally:
        gc.enable()
    return interrupt.struck


def test_cancel() -> None:
    """Promises 3 and 12: wherever it strikes in `cancel`, the executor can be shut down.

    If the future is cancelled then, its callbacks run.
    """
    failures: List[str] = []
    for number in range(1000):
        session = ScriptedSession()
        executor = CassandraExecutor(session, 1)
        first, second = executor.submit(CQL), executor.submit(CQL)
        ran = threading.Event()
        second.add_done_callback(lambda _: ran.set())
        where = struck(number, second.cancel)
        while session.pending:
            session.pending[0].succeed()
        assert outcome(first) is None
        logged()
        over = Background(executor.shutdown)
        over._thread.join(LIMIT)
        if not over.is_over or not ran.wait(0.2):
            failures.append(f"{where}: shutdown is over: {over.is_over}, called: {ran.is_set()}")
            executor._gate.abandon("the test is over")
        if where is None:
            break
    assert not failures, "\n".join(failures)


def test_a_later_page() -> None:
    """Promise 3: wherever it strikes while a later page is fetched, exit does not wait for it."""
    for number in range(1000):
        session = ScriptedSession(lambda request: request.succeed())
        executor = CassandraExecutor(session, 1)
        starter = executor._starter
        request = (CQL, None, contextvars.copy_context(), starter.options)
        where = struck(number, lambda: starter.dispatcher.fetch_page(request, (CQL, ())))
        pages = starter.dispatcher.pages
        eventually(pages.is_idle, lambda: f"a page is pending, after an interrupt at {where}")
        if where is None:
            assert number > 20
            return


def test_submit() -> None:
    """Promise 1: wherever it strikes in `submit`, statistics are right, and all else goes on."""
    failures: List[str] = []
    for answers in (True, False):
        for number in range(1000):
            session = ScriptedSession(lambda request: request.succeed() if answers else None)
            executor = CassandraExecutor(session, 1)
            where = struck(number, lambda: executor.submit(CQL))
            logged()
            while session.pending:
                session.pending[0].succeed()
            future = executor.submit(CQL)
            while session.pending:
                session.pending[0].succeed()
            stats = executor.stats()
            ended = stats.succeeded + sum(stats.failed.values()) + stats.cancelled
            if not future.done() or stats.in_flight or stats.queued or ended != stats.submitted:
                failures.append(f"{where}: {future}, {stats}")
                executor._gate.abandon("the test is over")
            else:
                shut_down(executor)
            if where is None:
                break
    assert not failures, "\n".join(failures)


def test_result() -> None:
    """Promise 1: wherever it strikes in `result`, the call ends, and others after it."""
    failures: List[str] = []
    for number in range(200):
        session = ScriptedSession()
        executor = CassandraExecutor(session, 1)
        future = executor.submit(CQL)
        where = struck(number, lambda: future.exception(0.001) if number < 150 else None)
        session.pending[0].succeed()
        logged()
        if not future.done():
            failures.append(f"{where}: {future}")
            executor._gate.abandon("the test is over")
        if where is None:
            break
    assert not failures, "\n".join(failures)


def test_close_of_a_map() -> None:
    """Promise 11: wherever it strikes in `close` of a map, what waits is not sent."""
    failures: List[str] = []
    for number in range(1000):
        session = ScriptedSession()
        executor = CassandraExecutor(session, 1)
        results = executor.map(CQL, range(6))
        session.pending[0].succeed()
        next(results)
        where = struck(number, results.close)  # type: ignore[attr-defined]
        del results
        while session.pending:
            session.pending[0].succeed()
        future = executor.submit(CQL)
        while session.pending:
            session.pending[0].succeed()
        stats = executor.stats()
        ended = stats.succeeded + sum(stats.failed.values()) + stats.cancelled
        if not future.done() or stats.in_flight or stats.queued or ended != stats.submitted:
            failures.append(f"{where}: {future}, {stats}")
            executor._gate.abandon("the test is over")
        elif len(session.requests) > 3:
            failures.append(f"{where}: {len(session.requests)} were sent")
        if where is None:
            break
    assert not failures, "\n".join(failures)


def test_shutdown() -> None:
    """Promise 3: wherever it strikes in `shutdown`, it can be called again."""
    failures: List[str] = []
    for number in range(1000):
        session = ScriptedSession()
        executor = CassandraExecutor(session, 1)
        futures = [executor.submit(CQL) for _ in range(4)]
        called: List[Any] = []
        futures[2].add_done_callback(called.append)
        where = struck(number, lambda: executor.shutdown(False, cancel_futures=True))
        executor.shutdown(False, cancel_futures=True)
        while session.pending:
            session.pending[0].succeed()
        over = Background(executor.shutdown)
        over._thread.join(LIMIT)
        if not over.is_over or not all(each.done() for each in futures) or not called:
            failures.append(f"{where}: {futures}, {over.is_over}, {called}")
            executor._gate.abandon("the test is over")
        if where is None:
            break
    assert not failures, "\n".join(failures)


def test_twice_in_submit() -> None:
    """Promise 1: Ctrl-C twice: the second one strikes as `submit` cleans up after the first.

    What was left to a helper thread is sent, and so is what is left to one later.
    """
    session, clock = ScriptedSession(), ManualClock()

    def respond(request: ScriptedRequest) -> None:
        if request.number == 0:
            raise KeyboardInterrupt

    session.respond = respond
    executor = CassandraExecutor(session, 1, clock=clock)

    def again() -> None:
        raise KeyboardInterrupt

    with At("_leave", again, "helper_threads.run") as at:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(CQL)
    assert at.happened
    first, _ = executor.submit(CQL), executor.submit(CQL)
    clock.advance(10.0)  # the second is left to a helper thread
    assert isinstance(outcome(first), OperationTimedOut)
    with session._changed:
        is_sent = session._changed.wait_for(lambda: len(session.requests) == 3, 2.0)
    assert is_sent, "what is left to a helper thread is never sent"
