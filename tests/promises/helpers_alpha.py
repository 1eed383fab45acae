"""What the tests of promises 1 to 8 share: waits with a limit, the smallest session, processes."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import CancelledError, Future, TimeoutError
from typing import Any, Callable, Generic, Iterable, Iterator, List, Optional, TypeVar

import pytest

from cassconc import _process
from cassconc._threads import helper_threads
from cassconc.testing import ManualClock, ScriptedRequest
from tests.programs import run_program

T = TypeVar("T")

LIMIT = 5.0  # real seconds after which a wait is a failure of the test


@pytest.fixture(autouse=True)
def no_pending_calls() -> Iterator[None]:
    """End what a failed test has left pending: the interpreter would wait for it at its exit."""
    yield
    for gate in list(_process._gates):
        gate.abandon("the test is over")


class Background(Generic[T]):
    """Code that runs on a thread of its own."""

    def __init__(self, code: Callable[[], T]) -> None:
        self._code = code
        self._value: Optional[T] = None
        self._error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._code()
        except BaseException as error:
            self._error = error

    @property
    def is_over(self) -> bool:
        """Whether the code has come back."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """Return what the code returned or raise what it raised; fail if it does not come back."""
        self._thread.join(LIMIT)
        assert self.is_over, f"{self._code} has not come back after {LIMIT} s"
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


def outcome(future: Future[Any]) -> Optional[BaseException]:
    """Return the exception with which a future ends, None for a result; fail if it does not end."""
    try:
        return future.exception(LIMIT)
    except CancelledError as error:
        return error
    except TimeoutError:
        raise AssertionError(f"a future is pending for ever: {future!r}") from None


def logged() -> None:
    """Wait until what there is to be logged was logged: helper threads do that."""
    done = threading.Event()
    helper_threads.run(done.set)
    occurs(done, "the helper threads have done what was left to them")


def occurs(event: threading.Event, what: str) -> None:
    """Wait for an event, and fail if it does not come."""
    assert event.wait(LIMIT), f"after {LIMIT} s it is still not so: {what}"


def end_all(futures: Iterable[Future[Any]], clock: ManualClock) -> List[Optional[BaseException]]:
    """Let time pass until all futures have ended by themselves; return what `outcome` does.

    It moves the clock by a time limit at a time. What is admitted in the place of a call that has
    run into its limit is sent by a helper thread, so a step may come too early for it: then there
    is another one, as long as anything changes within `LIMIT`.
    """
    outcomes = []
    for future in futures:
        for _ in range(1000):
            if future.done():
                break
            clock.advance(10.0)
            try:
                future.exception(LIMIT / 1000)
            except (CancelledError, TimeoutError):
                pass
        outcomes.append(outcome(future))
    return outcomes


class Immediate:
    """The smallest session there can be, and the fastest: it answers inside `execute_async`.

    Args:
        fails: Whether a request fails, by its number; the error is a new `OSError` each time.
        raises: Whether `execute_async` raises that error.
        held: Whether the first request waits for `release`.
    """

    default_timeout = 10.0

    def __init__(
        self,
        fails: Callable[[int], bool] = lambda number: False,
        *,
        raises: bool = False,
        held: bool = False,
    ) -> None:
        self.fails = fails
        self.raises = raises
        self.sent = 0
        self.depth = 0  # of the stack below execute_async, at most
        self._held = _Response(None, True) if held else None

    def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """Count a request, and answer it."""
        number, self.sent = self.sent, self.sent + 1
        if number % 500 == 0:
            self.depth = max(self.depth, _depth())
        if number == 0 and self._held is not None:
            return self._held
        error = OSError(number) if self.fails(number) else None
        if error is not None and self.raises:
            raise error
        return _Response(error)

    def release(self) -> None:
        """Answer the first request, on a thread of its own; fail if that does not come back."""
        assert self._held is not None
        Background(self._held.answer).result()


class _Response:
    _col_names = _col_types = None
    has_more_pages = False
    warnings = None

    def __init__(self, error: Optional[BaseException], held: bool = False) -> None:
        self._error = error
        self._held = held
        self.answer: Callable[[], Any] = int

    def add_callbacks(
        self, callback: Any, errback: Any, callback_args: Any = (), errback_args: Any = ()
    ) -> None:
        if self._held:
            self.answer = lambda: callback([], *callback_args)
        elif self._error is None:
            callback([], *callback_args)
        else:
            errback(self._error, *errback_args)

    def clear_callbacks(self) -> None:
        pass


def _depth() -> int:
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def run_python(
    code: str, *, first: str = "", preamble: bool = True, limit: float = 20.0
) -> List[str]:
    """Run a program of its own and return the lines that it printed.

    Fails when it has not ended by itself after `limit` seconds, or ends with anything but 0.

    Args:
        code: The program.
        first: What comes before all else.
        preamble: Whether the names of `_PREAMBLE` are there.
        limit: In seconds.
    """
    program = "\n".join([first, _PREAMBLE if preamble else "", code])
    ended = run_program(program, limit=limit)
    assert ended.code == 0, f"it ended with {ended.code}: {ended.lines}"
    return ended.lines


_PREAMBLE = """
import os, sys, threading, time
from cassconc import *
from cassconc.testing import *

def wait_for_exit():
    '''Wait until the main thread has come to its end: executors refuse work from then on.'''
    last = CassandraExecutor(ScriptedSession())  # whoever was made last is closed last
    for _ in range(10_000):
        try:
            last.starmap("SELECT 1", [])
        except RuntimeError:
            return
        time.sleep(0.001)
    print("the main thread does not end")

def after_main(code):
    '''Run code on a daemon thread when the main thread has come to its end.'''
    def run():
        wait_for_exit()
        code()
    threading.Thread(target=run, daemon=True).start()

def said(code):
    '''Run code and print what it raises.'''
    try:
        code()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("accepted")

"""


def statements(requests: Iterable[ScriptedRequest]) -> List[str]:
    """Return the texts of the statements of some requests."""
    return [request.statement.query_string for request in requests]
