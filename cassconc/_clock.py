"""Time: what reads it, and what runs at a given one."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from typing import Callable, List, Optional, Protocol, Tuple

from ._log import log_failure
from ._signals import Signal


class Timer:
    """One appointment with a clock."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Optional[Callable[[], None]] = action

    def cancel(self) -> None:
        """Keep the action from running, unless it runs already; from any thread."""
        self.action = None

    def run(self) -> None:
        """Run the action once, unless it was cancelled; what it raises is logged."""
        action, self.action = self.action, None
        if action is None:
            return
        try:
            action()
        except BaseException:
            log_failure("a timed action failed")


class Clock(Protocol):
    """Where an executor takes its time from; tests give it a `ManualClock`."""

    def monotonic(self) -> float:
        """Seconds since some moment that never moves."""

    def call_at(self, when: float, action: Callable[[], None]) -> Timer:
        """Run `action()` once `monotonic()` has reached `when`, on a thread of the clock.

        Actions are short and never the caller's code: they share that thread.
        """

    def wait(self, signal: Signal, until: float) -> None:
        """Wait until `signal` is set, and take that back, or until `monotonic()` reaches `until`.

        `until` may be infinite.
        """

    def pause(self, seconds: float) -> None:
        """Let other threads run for so long. A clock that stands still returns at once."""


class SystemClock:
    """The time of this machine, `time.monotonic`.

    Guarantees: an action runs at its time or late, never early; in the order of their times; on
    one daemon thread, which starts with the first action.
    """

    monotonic = staticmethod(time.monotonic)
    pause = staticmethod(time.sleep)

    def __init__(self) -> None:
        self._changed = Signal()
        # re-entrant, see Gate
        self._lock = threading.RLock()
        # guarded by _lock:
        self._timers: List[Tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: Optional[threading.Thread] = None

    def call_at(self, when: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), timer))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="cassconc-clock", daemon=True
                )
                self._thread.start()
            elif self._timers[0][2] is timer:
                self._changed.set()
        return timer

    def wait(self, signal: Signal, until: float) -> None:
        signal.wait(until - self.monotonic())

    def _run(self) -> None:
        while True:
            self._next_due().run()

    def _next_due(self) -> Timer:
        while True:
            with self._lock:
                left = self._timers[0][0] - self.monotonic() if self._timers else math.inf
                if left <= 0:
                    return heapq.heappop(self._timers)[2]
            self.wait(self._changed, self.monotonic() + left)


system_clock = SystemClock()
