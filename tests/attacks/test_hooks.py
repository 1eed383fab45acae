"""Attacks from hooks: log handlers, finalizers, signal handlers, callbacks, workers, sessions."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from concurrent.futures import TimeoutError
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable, Iterator, List

import pytest
from cassandra import OperationTimedOut
from cassandra.query import SimpleStatement

from cassconc import CassandraExecutor, Retry
from cassconc._clock import SystemClock
from cassconc._threads import HelperThreads
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.attacks.helpers import shut_down
from tests.exits import run_python
from tests.stage import staged
from tests.tracing import At, AtLine
from tests.waits import Background, eventually, logged, occurs, outcome

CQL = "SELECT 1"
LIMIT = 5.0


# Log handlers


@contextmanager
def log_handler_that_raises() -> Iterator[None]:
    """Have what is logged raised again by a handler."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError("the log is full")

    handler = Handler()
    logger = logging.getLogger("cassconc")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def test_a_log_handler_that_raises_does_not_keep_shutdown_waiting() -> None:
    """Promises 1 and 3: a done-callback raises, and so does the handler that is to log it.

    The next callback runs, and `shutdown` comes back.
    """
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    future = executor.submit(CQL)
    ran = threading.Event()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: ran.set())
    with log_handler_that_raises():
        session.pending[0].succeed()
        is_over = ran.wait(2.0)
        logged()
    assert is_over, "the next callback does not run"
    shut_down(executor)


def test_a_log_handler_that_raises_does_not_lose_a_call() -> None:
    """Promise 1: the caller's `Retry` raises, and so does the handler that is to log it."""

    class Odd(Retry):
        def wait(self, attempt: int) -> float:
            raise OSError("no")

    session, clock = ScriptedSession(), ManualClock()
    executor = CassandraExecutor(session, retry=Odd(), clock=clock)
    future = executor.submit(SimpleStatement(CQL, is_idempotent=True))
    with log_handler_that_raises():
        try:
            session.pending[0].fail(OperationTimedOut())
        except OSError:
            pass  # that it reaches the driver is another matter
    assert isinstance(outcome(future), OperationTimedOut)


def test_a_log_handler_that_raises_does_not_stop_the_clock() -> None:
    """Promise 17: what a timed action raises is logged; when that raises, time goes on."""
    clock = SystemClock()
    ran = threading.Event()
    before = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        with log_handler_that_raises():
            now = clock.monotonic()
            clock.call_at(now + 0.05, ran.set)
            clock.call_at(now, lambda: 1 / 0)
            assert ran.wait(2.0), "the clock has stopped"
    finally:
        threading.excepthook = before


# Callbacks and workers


def test_shutdown_in_a_callback_and_in_a_worker_at_once() -> None:
    """Promise 3: a done-callback and a callable both wait for the end; neither for the other.

    The callable waits for the callbacks to have run, and the callback for the callables.
    """
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    in_callback, in_worker, over = threading.Event(), threading.Event(), threading.Event()

    def callback(_: Any) -> None:
        in_callback.set()
        in_worker.wait(LIMIT)
        executor.shutdown(wait=True)
        over.set()

    def work() -> None:
        in_callback.wait(LIMIT)
        in_worker.set()
        executor.shutdown(wait=True)

    future = executor.submit(CQL)
    future.add_done_callback(callback)
    worker = executor.submit(work)
    session.pending[0].succeed()
    occurs(in_callback, "the callback runs")
    try:
        assert worker.exception(2.0) is None
        occurs(over, "shutdown in the callback comes back")
    finally:
        executor._gate._excused += 10  # let the worker go, or pytest does not end
        executor._gate._held = 0
        executor._gate._wake()


# Finalizers


def test_a_finalizer_makes_an_executor_while_one_is_made() -> None:
    """Promise 1: the garbage collector runs a finalizer that uses a drop-in, at any moment.

    Such as one that writes what is left in a buffer; here while another executor is made.
    """
    code = """
import gc
session = ScriptedSession(lambda request: request.succeed())
done = []

class AtEnd:
    def __init__(self):
        self.me = self  # a cycle
    def __del__(self):
        gc.set_threshold(0)
        done.append(execute_concurrent(session, [("SELECT 1", ())]))

def trace(frame, event, arg):
    # it is the collector's turn where the new executor is registered
    if frame.f_code.co_name == "__setitem__" and frame.f_back.f_code.co_name == "register":
        gc.set_threshold(1)

gc.set_threshold(0)
AtEnd()
sys.settrace(trace)
CassandraExecutor(session)
sys.settrace(None)
gc.collect()
print(len(done))
"""
    assert run_python(code, limit=8.0) == ["1"]


def test_a_wake_up_that_a_finalizer_gives_the_clock_is_not_lost() -> None:
    """Promise 17: a finalizer on the clock's thread makes an appointment, as a `submit` does.

    It runs between the clock's look at its appointments and its wait for the next one.
    """
    ran = threading.Event()
    clock = SystemClock()
    looked = threading.Event()

    def finalizer() -> None:
        clock.call_at(clock.monotonic() + 0.05, ran.set)
        looked.set()

    wait = clock.wait

    def wait_after_collection(signal: Any, until: float) -> None:
        clock.wait = wait  # type: ignore[method-assign]
        finalizer()
        wait(signal, until)

    clock.wait = wait_after_collection  # type: ignore[method-assign]
    clock.call_at(clock.monotonic(), lambda: None)
    occurs(looked, "the finalizer has run")
    assert ran.wait(2.0), "the appointment is forgotten"


def test_a_wake_up_that_a_finalizer_gives_the_helpers_is_not_lost() -> None:
    """Promise 7: a finalizer on a helper thread gives it a job, just before it waits for one."""
    ran, looked = threading.Event(), threading.Event()
    helpers = HelperThreads()
    wait = helpers._changed.wait

    def wait_after_collection(timeout: Any = None) -> bool:
        if helpers._leader is None:
            helpers._changed.wait = wait  # type: ignore[method-assign]
            helpers.run(ran.set)
            looked.set()
        return wait(timeout)

    helpers._changed.wait = wait_after_collection  # type: ignore[method-assign]
    helpers.run(lambda: None)
    occurs(looked, "the finalizer has run")
    assert ran.wait(2.0), "the job is forgotten"


class _Parameter:
    """A parameter; it notes where it died."""

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note

    def __del__(self) -> None:
        self._note()


def test_parameters_do_not_die_under_the_lock() -> None:
    """Promise 6: a map is aborted while its calls wait; they die with no lock held."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 1)
    first = executor.submit(CQL)
    held: List[bool] = []

    def note() -> None:
        lock = executor._gate.lock
        got: List[bool] = []

        def look() -> None:
            got.append(lock.acquire(blocking=False))
            if got[0]:
                lock.release()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        held.append(not got[0])

    results = executor.map(CQL, [_Parameter(note) for _ in range(5)], buffersize=5, timeout=0)
    with pytest.raises(TimeoutError):
        next(results)
    del results
    gc.collect()
    session.pending[0].succeed()
    assert outcome(first) is None
    gc.collect()
    assert held == [False] * 5


def test_an_aborted_map_keeps_nothing_alive() -> None:
    """Promise 15: parameters of an aborted map are let go of, also while nothing is admitted.

    Otherwise they pile up behind one slow call: map after map, each ended by its `timeout`.
    """
    session = ScriptedSession()
    executor = CassandraExecutor(session, 1)
    executor.submit(CQL)
    dead: List[bool] = []
    for _ in range(20):
        parameters = [_Parameter(lambda: dead.append(True)) for _ in range(5)]
        results = executor.map(CQL, parameters, buffersize=5, timeout=0)
        with pytest.raises(TimeoutError):
            next(results)
        del results, parameters
    gc.collect()
    assert len(dead) == 100, f"{100 - len(dead)} parameters of 100 are kept"
    assert len(executor._gate._waiting) <= 50, "the calls themselves pile up"


def test_a_finalizer_that_cancels_under_the_lock() -> None:
    """No deadlock: a finalizer cancels a future where the gate's lock is held.

    Another thread holds that future's condition, as `wait` does, and wants the lock.
    """
    session = ScriptedSession()
    executor = CassandraExecutor(session, 1)
    first, second = executor.submit(CQL), executor.submit(CQL)
    held, go_on = threading.Event(), threading.Event()

    def look() -> None:
        with second._condition:  # as `wait` and `as_completed` do
            held.set()
            go_on.wait(LIMIT)
            executor.stats()

    looking = Background(look)
    occurs(held, "the condition is held")

    def finalizer() -> None:
        go_on.set()
        second.cancel()

    def answer() -> None:
        with At("_admit", finalizer) as at:
            session.pending[0].succeed()
        assert at.happened

    answering = Background(answer)
    answering.result()
    looking.result()
    assert outcome(first) is None


# Signal handlers, and finalizers again: what they do in the middle of the gate


def _submit_at(name: str, line: Any = None) -> None:
    session = ScriptedSession()
    executor = CassandraExecutor(session, 1)
    more: List[Any] = []
    with At(name, lambda: more.append(executor.submit(CQL)), line) as at:
        future = executor.submit(CQL)
    assert at.happened
    assert session.most_pending == 1, "more calls are in flight than there may be"
    while session.pending:
        session.pending[0].succeed()
    assert [outcome(each) for each in [future, *more]] == [None, None]
    stats = executor.stats()
    assert (stats.succeeded, stats.in_flight, stats.queued) == (2, 0, 0)


def test_submit_in_a_signal_handler_in_submit() -> None:
    """Promise 14: a signal handler submits in the middle of `submit`; concurrency holds."""
    _submit_at("_let_in")


def test_submit_in_a_signal_handler_that_answers_at_once() -> None:
    """Promises 1 and 14: no call is lost when a handler submits while another is admitted.

    1. The answer to a call comes; the first of those that wait is about to be admitted.
    2. There a finalizer submits a call, to a session that answers at once.
    """
    answers = []

    def respond(request: ScriptedRequest) -> None:
        if answers:
            request.succeed()

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, 1)
    futures = [executor.submit(CQL) for _ in range(4)]
    answers.append(True)
    with At("_let_in", lambda: futures.append(executor.submit(CQL))) as at:
        session.pending[0].succeed()
    assert at.happened
    assert [outcome(each) for each in futures] == [None] * 5
    assert session.most_pending == 1, "more calls are in flight than there may be"
    shut_down(executor)


def test_submit_in_a_finalizer_while_a_map_is_ended() -> None:
    """Promise 1: a finalizer submits while those that wait are looked through."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 2)
    results = executor.map(CQL, range(6))
    futures: List[Any] = [executor.submit(CQL) for _ in range(2)]
    with At("_drop", lambda: futures.extend([executor.submit(CQL), executor.submit(CQL)])) as at:
        session.pending[0].fail(OSError())
    assert at.happened
    with pytest.raises(OSError):
        next(results)
    while session.pending:
        session.pending[0].succeed()
    assert [outcome(each) for each in futures] == [None] * 4
    shut_down(executor)


# Sessions and threads that fail


def test_a_session_that_submits_after_shutdown_makes_no_deep_stack() -> None:
    """Promise 8: each `execute_async` tries to submit to the executor that is shut down.

    What is refused there must not make the calls behind it recursive.
    """
    refused = 0
    depth: List[int] = []

    def respond(request: ScriptedRequest) -> None:
        nonlocal refused
        if request.number == 0:
            return
        try:
            executor.submit("INSERT INTO audit")
        except RuntimeError:
            refused += 1
        frame, deep = sys._getframe(), 0
        while frame.f_back is not None:
            frame, deep = frame.f_back, deep + 1  # type: ignore[assignment]
        depth.append(deep)
        request.succeed()

    session = ScriptedSession(respond)
    executor = CassandraExecutor(session, 1)
    futures = [executor.submit(CQL) for _ in range(60)]
    executor.shutdown(wait=False)
    session.pending[0].succeed()
    assert [outcome(each) for each in futures] == [None] * 60
    assert refused == 59
    assert max(depth) - min(depth) < 30, f"the stack grows: {min(depth)} to {max(depth)}"


def test_a_thread_that_could_not_be_started_is_not_missed_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 1: no helper thread can be started, for a while; what was left to it is sent."""
    from cassconc import _dispatcher, _watch

    helpers = HelperThreads()
    monkeypatch.setattr(_dispatcher, "helper_threads", helpers)
    monkeypatch.setattr(_watch, "helper_threads", helpers)
    session, clock = ScriptedSession(), ManualClock()
    executor = CassandraExecutor(session, 1, clock=clock)
    futures = [executor.submit(CQL) for _ in range(2)]
    start = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        clock.advance(10.0)
    assert isinstance(outcome(futures[0]), OperationTimedOut)
    assert threading.Thread.start is start
    for _ in range(100):  # a hundred time limits later
        clock.advance(10.0)
    with session._changed:
        assert session._changed.wait_for(lambda: len(session.requests) == 2, 2.0), "never sent"


def test_a_standby_that_misses_its_call_comes_all_the_same() -> None:
    """Promise 7: a helper's wait may end just as it is notified; a blocked job holds up nobody."""
    helpers = HelperThreads()
    wait = helpers._changed.wait

    def miss(timeout: Any = None) -> bool:
        told = wait(timeout)
        return told and timeout != helpers._IDLE

    helpers._changed.wait = miss  # type: ignore[method-assign]
    helpers.run(int)
    eventually(lambda: helpers._standby == 2 and not helpers._watched, lambda: "both are idle")
    second, waited = threading.Event(), threading.Event()

    def first() -> None:
        occurs(second, "the job behind the one that waits for it has run")
        waited.set()

    helpers.run(first)
    eventually(lambda: not helpers._standby or bool(helpers._held_up), lambda: "it goes or looks")
    helpers.run(second.set)
    occurs(waited, "the first job has come back")


def _append(futures: List[Any], submit: Callable[[], Any]) -> None:
    futures.append(submit())


def test_a_signal_handler_submits_while_a_map_is_abandoned() -> None:
    """Promise 1: at whatever line it comes, nothing is lost, and the statistics add up."""
    for number in range(5000):
        with staged(1) as stage:
            futures = [stage.executor.submit(CQL, "first")]
            results = stage.executor.map(CQL, range(5), buffersize=5, timeout=0)
            more = partial(stage.executor.submit, CQL, "more")
            submit = AtLine(number, partial(_append, futures, more))
            with submit, pytest.raises(TimeoutError):
                next(results)
            stage.answer_all()
            where = f"submitted at {submit.struck}"
            assert [outcome(each) for each in futures] == [None] * len(futures), where
            stats = stage.executor.stats()
            assert (stats.queued, stats.in_flight, stats.cancelled) == (0, 0, 5), where
            assert stats.submitted == len(futures) + 5, where
        if submit.struck is None:
            assert number > 50
            return


def test_a_log_handler_that_shuts_the_executor_down() -> None:
    """Promise 3: the line about a map's failures holds up a shutdown, but none in its handler."""
    session = ScriptedSession(lambda request: request.fail(ValueError()))
    executor = CassandraExecutor(session)
    called, over = threading.Event(), threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "2 ValueError" in record.getMessage():
                called.set()
                executor.shutdown()
                over.set()

    handler = Handler()
    logging.getLogger("cassconc").addHandler(handler)
    try:
        executor.starmap(CQL, [()] * 2, return_exceptions=True)
        session.requests.clear()
        gc.collect()
        occurs(called, "the failures are logged")
        occurs(over, "shutdown has returned")
        shut_down(executor)
    finally:
        logging.getLogger("cassconc").removeHandler(handler)
