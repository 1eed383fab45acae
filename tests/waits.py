"""Waits with a limit: a hang is a failure of the test."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, Future, TimeoutError
from typing import Any, Callable, Generic, Iterable, List, Optional, TypeVar

from cassconc._threads import helper_threads
from cassconc.testing import ManualClock

T = TypeVar("T")

LIMIT = 10.0  # real seconds after which a wait is a failure of the test


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


def together(*codes: Callable[[], T]) -> List[T]:
    """Run code on several threads that start at the same moment; return what each returned."""
    barrier = threading.Barrier(len(codes))

    def start(code: Callable[[], T]) -> T:
        barrier.wait(LIMIT)
        return code()

    threads = [Background(lambda code=code: start(code)) for code in codes]  # type: ignore[misc]
    return [thread.result() for thread in threads]


def occurs(event: threading.Event, what: str) -> None:
    """Wait for an event, and fail if it does not come."""
    assert event.wait(LIMIT), f"after {LIMIT} s it is still not so: {what}"


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


def eventually(is_so: Callable[[], bool], what: Callable[[], object] = str) -> None:
    """Wait for what nobody tells of, and fail with `what()` where it does not come about."""
    limit, pause = time.monotonic() + LIMIT, threading.Event()
    while not is_so():
        assert time.monotonic() < limit, f"still not so after {LIMIT} s: {what()}"
        pause.wait(0.002)
