"""Checks of the conformance suite: futures, callbacks, concurrency and shutdown."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, as_completed, wait

from ._conformance import CQL, MakeExecutor, Scripted, answered_on_failure, raises, values
from .responses import LIMIT, ScriptedRequest
from .script import DriverThread, Script, echo
from .session import ScriptedSession


def check_concurrency(make_executor: MakeExecutor) -> None:
    """No more than `concurrency` calls are in flight, whatever threads and maps share it."""
    session = ScriptedSession()
    with make_executor(session, 4) as executor, DriverThread(session, Script([1, 2] * 99)):
        maps = [executor.map(CQL, range(20), buffersize=9) for _ in range(3)]
        futures = [executor.submit(CQL, i) for i in range(20)]
        threads = [threading.Thread(target=list, args=(each,), daemon=True) for each in maps]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        wait(futures, LIMIT)
    assert session.most_pending <= 4, f"{session.most_pending} were in flight with 4 allowed"
    assert len(session.requests) == 80


def check_caller_threads(make_executor: MakeExecutor) -> None:
    """Inputs and done-callbacks never run on a driver thread."""
    session = ScriptedSession()
    called = threading.Semaphore(0)
    with make_executor(session, 2) as executor, DriverThread(session):
        executor.submit(CQL, 0).add_done_callback(session.caller(lambda future: called.release()))
        futures = [executor.submit(CQL, i) for i in range(20)]
        for future in futures:
            future.add_done_callback(session.caller(lambda future: called.release()))
        list(executor.map(CQL, session.input(range(30)), buffersize=4))
        for _ in range(21):
            assert called.acquire(timeout=LIMIT), "a done-callback was not called"
    assert not session.misplaced, f"on a driver thread: {session.misplaced[0]}"


def check_blocking_callback(make_executor: MakeExecutor) -> None:
    """A callback that blocks holds up neither requests nor the callbacks of other futures."""
    session = ScriptedSession()
    release, called = threading.Event(), threading.Event()
    with make_executor(session, 1) as executor, DriverThread(session):
        try:
            executor.submit(CQL, 0).add_done_callback(lambda future: release.wait(LIMIT))
            last = executor.submit(CQL, 1)
            last.add_done_callback(lambda future: called.set())
            assert last.result(LIMIT / 2).one()[0] == 1
            assert called.wait(LIMIT / 2), "it held up the callback of another future"
        finally:
            release.set()


def check_cancel(make_executor: MakeExecutor) -> None:
    """`cancel` works on what was not sent, tells waiters at once, and not on what was sent."""
    session = ScriptedSession()
    with make_executor(session, 1) as executor, answered_on_failure(session):
        sent, waiting = executor.submit(CQL, 0), executor.submit(CQL, 1)
        assert not sent.cancel(), "what is in flight was cancelled"
        assert waiting.cancel(), "what waits was not cancelled"
        assert next(as_completed([sent, waiting], LIMIT)) is waiting
        echo(session.requests[0])
        assert sent.result(LIMIT).one()[0] == 0
        assert len(session.requests) == 1, "what was cancelled was sent"
        raises(CancelledError, waiting.result)


def check_shutdown(make_executor: MakeExecutor) -> None:
    """`shutdown` waits for what was submitted; after it, `submit` raises `RuntimeError`."""
    session = ScriptedSession()
    executor = make_executor(session, 2)
    with DriverThread(session):
        futures = [executor.submit(CQL, i) for i in range(10)]
        executor.shutdown()
        assert all(future.done() for future in futures), "it returned before all had ended"
    raises(RuntimeError, lambda: executor.submit(CQL, 0))


def check_cancel_futures(make_executor: MakeExecutor) -> None:
    """`shutdown(cancel_futures=True)` cancels what was not sent, and tells its waiters."""
    session = ScriptedSession()
    executor = make_executor(session, 1)
    futures = [executor.submit(CQL, i) for i in range(5)]
    with answered_on_failure(session):
        executor.shutdown(wait=False, cancel_futures=True)
        assert wait(futures[1:], LIMIT).not_done == set(), "a cancelled future keeps its waiters"
        assert all(future.cancelled() for future in futures[1:]), "what waited was not cancelled"
        echo(session.requests[0])
        assert futures[0].result(LIMIT).one()[0] == 0


def check_first_outcome_counts(make_executor: MakeExecutor) -> None:
    """An answer that comes twice changes nothing, and admits nobody twice."""
    session = ScriptedSession()
    with make_executor(session, 1) as executor, answered_on_failure(session):
        futures = [executor.submit(CQL, i) for i in range(3)]
        echo(session.requests[0])
        session.requests[0].fail(Scripted())
        assert futures[0].result(LIMIT).one()[0] == 0
        assert len(session.requests) == 2, "the second answer to one request admitted another"
        for _ in range(2):
            echo(session.pending[0])


def check_immediate_answers(make_executor: MakeExecutor) -> None:
    """Thousands of requests that end inside `execute_async` need no deep stack."""
    session = ScriptedSession(respond=echo)
    with make_executor(session, 10) as executor, answered_on_failure(session):
        assert len(values(executor.map(CQL, range(5000)))) == 5000


def check_failing_send(make_executor: MakeExecutor) -> None:
    """What `execute_async` raises is the outcome of that call, and of no other."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 1:
            raise Scripted
        echo(request)

    session = ScriptedSession(respond=respond)
    with make_executor(session, 2) as executor, answered_on_failure(session):
        futures = [executor.submit(CQL, i) for i in range(4)]
        failed = [i for i, f in enumerate(futures) if f.exception(LIMIT) is not None]
    assert failed == [1], f"failed: {failed}"
