"""Promise 6: no lock is held while the driver's or the caller's code is called."""

from __future__ import annotations

import contextvars
import copy
import functools
import logging
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Callable, Iterator, List, Optional

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.query import SimpleStatement
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, RetryEvent, execute_concurrent_async
from cassconc.testing import ManualClock, Script, ScriptedRequest, ScriptedSession
from cassconc.testing.strategies import scripts
from tests.exits import run_python
from tests.immediate import ImmediateSession
from tests.waits import LIMIT, Background, occurs, outcome

PROBE = "SELECT 'probe'"


class _Locks:
    """Finds out whether locks are held where the executor calls something.

    `look` uses the executor on another thread, in all ways that take a lock, and waits for that.
    A lock that this thread holds meanwhile would keep the other one waiting.
    """

    executor: CassandraExecutor

    def __init__(self) -> None:
        self.are_watched = False  # whether the end of an object is of interest now
        self.held: List[str] = []
        self.looked: List[str] = []
        self._turn = threading.Lock()
        self._this_thread = threading.local()  # .is_busy: it looks, or is a probe
        self._looks = 0

    def look(self, where: str) -> None:
        if self.held or getattr(self._this_thread, "is_busy", False):
            return  # it is known already, or the probe itself has come here
        with self._turn:
            self._this_thread.is_busy = True
            self.looked.append(where)
            try:
                Background(self._use).result()
            except AssertionError:
                self.held.append(where)
            except RuntimeError:
                pass  # it was shut down
            finally:
                self._this_thread.is_busy = False

    def make(self, *, concurrency: int = 2, **options: Any) -> _Session:
        """Make a session, and an executor over it."""
        self._this_thread.is_busy = True
        session = _Session(self)
        self.executor = CassandraExecutor(session, concurrency, **options)
        self._this_thread.is_busy = False
        return session

    def _use(self) -> None:
        self._this_thread.is_busy = True
        self._looks += 1
        self.executor.stats()
        self.executor.with_options(timeout=0.2 - self._looks * 1e-6).submit(PROBE).cancel()
        retrying = self.executor.with_options(timeout=None, retry=Retry(attempts=1))
        retrying.submit(PROBE).cancel()
        self.executor.submit(int)
        execute_concurrent_async(ImmediateSession(), [])  # helper threads


class _Session(ScriptedSession):
    """A session that looks for locks wherever it is called."""

    def __init__(self, locks: _Locks) -> None:
        self._locks = locks
        self._is_shut_down = False
        self.sent = threading.Semaphore(0)  # requests that are no probes
        super().__init__(self._on_request)

    def _on_request(self, request: ScriptedRequest) -> None:
        if request.statement.query_string == PROBE:
            request.succeed()
            return
        self.sent.release()
        self._locks.look("execute_async")
        response: Any = request.response
        add, clear = response.add_callbacks, response.clear_callbacks

        def add_callbacks(*args: Any, **kwargs: Any) -> None:
            self._locks.look("add_callbacks")
            add(*args, **kwargs)

        def clear_callbacks() -> None:
            self._locks.look("clear_callbacks")
            clear()

        response.add_callbacks, response.clear_callbacks = add_callbacks, clear_callbacks

    @property
    def is_shutdown(self) -> bool:
        if sys._getframe(1).f_globals["__name__"] == "cassconc._driver.sessions":
            self._locks.look("is_shutdown")  # the harness itself asks under a lock of its own
        return self._is_shut_down

    @is_shutdown.setter
    def is_shutdown(self, value: bool) -> None:
        self._is_shut_down = value

    @property
    def default_timeout(self) -> float:  # type: ignore[override]
        self._locks.look("default_timeout")
        return 10.0

    def get_execution_profile(self, name: Any) -> Any:
        self._locks.look("get_execution_profile")
        return super().get_execution_profile(name)

    def add_request_init_listener(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._locks.look("add_request_init_listener")
        super().add_request_init_listener(fn, *args, **kwargs)


class _Value:
    """A parameter that looks for locks when it is copied."""

    def __init__(self, locks: _Locks) -> None:
        self._locks = locks

    def __deepcopy__(self, memo: Any) -> _Value:
        self._locks.look("copying a parameter")
        return self


class _Item:
    """An item of an input that looks for locks when it is read."""

    def __init__(self, locks: _Locks) -> None:
        self._locks = locks

    def __len__(self) -> int:
        self._locks.look("the length of an item")
        return 1

    def __iter__(self) -> Iterator[Any]:
        self._locks.look("reading an item")
        yield [_Value(self._locks)]


def _items(locks: _Locks, count: int) -> Iterator[Any]:
    for _ in range(count):
        locks.look("the input")
        yield _Item(locks)
    locks.look("the end of the input")


@pytest.fixture
def locks() -> _Locks:
    """What looks for locks; without an executor it does nothing yet."""
    return _Locks()


# Wherever something is called


@given(
    script=scripts(12, failures=True),
    concurrency=st.integers(1, 3),
    buffersize=st.none() | st.integers(1, 3),
    return_exceptions=st.booleans(),
    asked=st.integers(0, 6),
)
@settings(max_examples=30, phases=[Phase.generate])  # each lock that is held takes seconds
def test_in_any_run_of_a_map(
    script: Script,
    concurrency: int,
    buffersize: Optional[int],
    return_exceptions: bool,
    asked: int,
) -> None:
    """Input, items, parameters, the driver's methods: no lock is held in any of them.

    Nor in the end, when time runs out for what was not answered.
    """
    locks = _Locks()
    clock = ManualClock(lambda: script.play(session))
    session = locks.make(concurrency=concurrency, clock=clock, retry=Retry())
    results = locks.executor.starmap(
        "SELECT %s",
        _items(locks, 6),
        buffersize=buffersize,
        return_exceptions=return_exceptions,
    )
    for _ in range(asked):
        with suppress(Exception):
            next(results, None)
    del results
    clock.advance(10)
    script.play_all(session)
    note(str(session.history))
    assert locks.held == []
    assert {"the input", "reading an item", "execute_async"} <= set(locks.looked)


def test_in_callbacks_hooks_and_at_time_limits(locks: _Locks, clock: ManualClock) -> None:
    """Done-callbacks, the hook of retries, and the driver at a time limit."""
    called = threading.Event()

    def on_retry(event: RetryEvent) -> None:
        locks.look("on_retry")
        called.set()

    session = locks.make(clock=clock, retry=Retry(attempts=2, delay=1, on_retry=on_retry))
    future = locks.executor.submit(SimpleStatement("SELECT 1", is_idempotent=True))
    session.pending[0].fail(OperationTimedOut())
    occurs(called, "the hook was called")
    ended = threading.Event()

    def callback(future: Future[Any]) -> None:
        locks.look("a done-callback")
        ended.set()

    future.add_done_callback(callback)
    clock.advance(1)
    for _ in range(2):
        assert session.sent.acquire(timeout=LIMIT), "the retry was not sent"
    clock.advance(10)
    occurs(ended, "the callback was called")
    session.shutdown()
    late = locks.executor.submit("SELECT 1")
    clock.advance(1)
    outcome(late)
    expected = {"on_retry", "a done-callback", "is_shutdown", "clear_callbacks"}
    assert expected <= set(locks.looked)
    assert locks.held == []


def test_in_the_making_of_a_view(locks: _Locks) -> None:
    """`with_options` asks the session for an execution profile."""
    locks.make()
    locks.executor.with_options(timeout=1)
    assert "get_execution_profile" in locks.looked
    assert locks.held == []


@pytest.mark.parametrize("where", ["initializer", "callable", "callback"])
def test_in_callables(where: str, locks: _Locks) -> None:
    """Callables on worker threads, their initializer, and their callbacks."""

    def look(*args: Any) -> None:
        locks.look(where)

    options: Any = {"initializer": look} if where == "initializer" else {}
    locks.make(max_workers=1, **options)
    future = locks.executor.submit(look if where == "callable" else int)
    if where == "callback":
        future.add_done_callback(look)
    Background(locks.executor.shutdown).result()
    assert where in locks.looked
    assert locks.held == []


# What is less obvious


class _Dies:
    """An object that looks for locks when it dies, as a span that ends itself would."""

    def __init__(self, locks: _Locks) -> None:
        self._locks = locks

    def __deepcopy__(self, memo: Any) -> _Dies:
        return copy.copy(self)

    def __del__(self) -> None:
        if self._locks.are_watched:
            self._locks.look("the end of an object")


current: contextvars.ContextVar[Any] = contextvars.ContextVar("current", default=None)


def in_context(locks: _Locks, submit: Callable[[], Any]) -> Any:
    """Submit in a context that holds the only reference to an object."""

    def run() -> Any:
        current.set(_Dies(locks))
        return submit()

    return contextvars.Context().run(run)


def hold(thing: object, future: Future[Any]) -> None:
    """Be a callback that holds something."""


def end_by_cancel(session: ScriptedSession, clock: ManualClock, future: Any, locks: Any) -> None:
    """The waiting call is cancelled."""
    future.cancel()


def end_by_shutdown(session: ScriptedSession, clock: ManualClock, future: Any, locks: Any) -> None:
    """The waiting call is cancelled by `shutdown`."""
    locks.executor.shutdown(wait=False, cancel_futures=True)


def end_by_answer(session: ScriptedSession, clock: ManualClock, future: Any, locks: Any) -> None:
    """Both calls succeed."""
    for _ in range(2):
        request = forgotten(session)
        request.succeed()


def end_by_failure(session: ScriptedSession, clock: ManualClock, future: Any, locks: Any) -> None:
    """Both calls fail."""
    for _ in range(2):
        request = forgotten(session)
        request.fail(InvalidRequest("scripted"))


def end_by_limit(session: ScriptedSession, clock: ManualClock, future: Any, locks: Any) -> None:
    """The second call runs into its limit."""
    forgotten(session).succeed()
    forgotten(session)
    clock.advance(10)


def forgotten(session: ScriptedSession) -> ScriptedRequest:
    """Return the request that is pending, with its parameters forgotten by the harness."""
    (request,) = session.pending
    request.parameters = None
    return request


ENDS = [end_by_cancel, end_by_shutdown, end_by_answer, end_by_failure, end_by_limit]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("what", ["parameter", "in a list", "context", "callback"])
def test_when_what_a_call_has_held_dies(
    end: Callable[..., None], what: str, locks: _Locks, clock: ManualClock
) -> None:
    """With a call, its parameters, context and callbacks die: their `__del__` is the caller's."""
    session = locks.make(concurrency=1, clock=clock)
    executor = locks.executor
    executor.submit("SELECT 0")
    if what == "context":
        future = in_context(locks, lambda: executor.submit("SELECT %s", 1))
    elif what == "in a list":
        future = executor.submit("SELECT %s", [_Dies(locks)])
    elif what == "parameter":
        future = executor.submit("SELECT %s", _Dies(locks))
    else:
        future = executor.submit("SELECT %s", 1)
        future.add_done_callback(functools.partial(hold, _Dies(locks)))
    locks.are_watched = True
    end(session, clock, future, locks)
    outcome(future)
    del future
    locks.are_watched = False
    assert locks.held == []


@pytest.mark.parametrize("buffersize", [None, 5])
@pytest.mark.parametrize("end", ["close", "failure"])
def test_when_what_an_aborted_map_has_held_dies(
    buffersize: Any, end: str, locks: _Locks, clock: ManualClock
) -> None:
    """The context of each call of a `map` dies with it, when it is dropped unsent, too."""
    session = locks.make(concurrency=1, clock=clock)

    def items() -> Iterator[Any]:
        for number in range(5):
            current.set(_Dies(locks))
            yield (number,)
        current.set(None)

    def run() -> Any:
        return locks.executor.starmap("SELECT %s", items(), buffersize=buffersize)

    results = contextvars.Context().run(run)

    def answer() -> bool:
        session.pending[0].succeed()
        return True

    clock.on_wait = answer
    locks.are_watched = True
    if end == "failure":
        session.pending[0].fail(InvalidRequest("scripted"))
    with suppress(Exception):
        next(results)
    results.close()
    locks.are_watched = False
    assert "the end of an object" in locks.looked
    assert locks.held == []


class _NoLock:
    """What a handler has for a lock, in each version of Python, and it locks nothing."""

    def acquire(self) -> None:
        """Do nothing."""

    release = __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        pass


def test_in_log_handlers(locks: _Locks, session: ScriptedSession) -> None:
    """A log handler: for a callback that failed, and for failures that nobody looked at."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            locks.look(record.getMessage()[:15])
            logged.release()

    def fails(future: Future[Any]) -> None:
        raise ZeroDivisionError

    locks.make()
    executor = CassandraExecutor(session)
    logged = threading.Semaphore(0)
    logger = logging.getLogger("cassconc")
    handler = Handler()
    handler.lock = _NoLock()  # type: ignore[assignment]  # its own is no lock of ours
    logger.addHandler(handler)
    try:
        executor.submit("SELECT 1").add_done_callback(fails)
        executor.starmap("SELECT 2", [()])
        for request in session.pending:
            request.fail(InvalidRequest("scripted"))
        session.requests.clear()
        for _ in range(2):
            assert logged.acquire(timeout=LIMIT), "nothing was logged"
    finally:
        logger.removeHandler(handler)
    assert locks.held == []


def test_in_the_attributes_of_an_exception(locks: _Locks, clock: ManualClock) -> None:
    """An exception has properties, such as one of the name `call`: they are not ours."""

    class Odd(Exception):
        @property
        def call(self) -> str:
            locks.look("a property of an exception")
            return "odd"

    session = locks.make(clock=clock)
    options: Any = {"max_errors": 5}
    locks.executor.starmap("SELECT 1", [()] * 2, **options)
    session.pending[0].fail(Odd())
    assert locks.held == []


def test_in_the_log_when_no_thread_can_be_started() -> None:
    """No helper thread can be started: that is logged, and no lock is held in the handler."""
    code = """
import logging

class Handler(logging.Handler):
    def emit(self, record):
        Thread.start = start
        other = Thread(target=lambda: execute_concurrent_async(ScriptedSession(), []), daemon=True)
        other.start()
        other.join(5)
        print("a lock is held" if other.is_alive() else "none is held")

Thread = threading.Thread
start = Thread.start
def refuse(thread):
    raise RuntimeError("can't start new thread")

handler = Handler()
logging.getLogger("cassconc").addHandler(handler)
session = ScriptedSession()
future = CassandraExecutor(session).submit("SELECT 1")
future.add_done_callback(id)
Thread.start = refuse
session.pending[0].succeed()
os._exit(0)
"""
    assert run_python(code)[:1] == ["none is held"]
