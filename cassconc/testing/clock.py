"""A clock that only moves when a test moves it."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from typing import Callable, List, Optional, Tuple

from .._clock import Timer
from .._signals import Signal

__all__ = ["ManualClock"]

_LIMIT = 30.0  # real seconds after which a wait that nobody ends is a failure of the test


class ManualClock:
    """Time for tests: it stands still until `advance` is called.

    Give it to `CassandraExecutor(session, clock=clock)`: time limits, the `timeout` of `map` and
    the delays of retries then follow it. Thread-safe.

    Args:
        on_wait: Called when the executor is about to wait for something on the thread that
            iterates a `map`: whatever it does, it should bring the result nearer, such as to
            answer a request of a scripted session. So a whole run can be played on one thread.
            Returns whether it did something; if not, the wait goes on until another thread does.
    """

    def __init__(self, on_wait: Optional[Callable[[], bool]] = None) -> None:
        self.on_wait = on_wait
        self._lock = threading.Lock()
        # guarded by _lock:
        self._now = 0.0
        self._timers: List[Tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        """Return the seconds by which the clock was advanced."""
        with self._lock:
            return self._now

    def call_at(self, when: float, action: Callable[[], None]) -> Timer:
        """Run `action()` in the `advance` that reaches `when`."""
        timer = Timer(action)
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move the clock, and run what is due meanwhile, each at its time, on this thread."""
        if not seconds >= 0:
            raise ValueError(f"a clock is advanced by >= 0 seconds, not by {seconds}")
        with self._lock:
            end = self._now + seconds
        while True:
            with self._lock:
                if not self._timers or self._timers[0][0] > end:
                    self._now = max(self._now, end)
                    return
                when, _, timer = heapq.heappop(self._timers)
                self._now = max(self._now, when)
            timer.run()

    def pause(self, seconds: float) -> None:
        """Return at once: nothing depends on it."""

    def wait(self, signal: Signal, until: float) -> None:
        """Wait until the signal is set, and take that back, or until the clock reaches `until`.

        Raises `AssertionError` when neither has happened after 30 seconds of real time.
        """
        timer = None if until == math.inf else self.call_at(until, signal.set)
        try:
            while not signal.is_set() and self.monotonic() < until:
                if self.on_wait is None or not self.on_wait():
                    break
            if self.monotonic() < until and not signal.wait(_LIMIT):
                raise AssertionError("nothing has ended the wait for the next result")
        finally:
            if timer is not None:
                timer.cancel()
