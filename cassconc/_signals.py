"""Signals: what one thread sets so that another stops waiting."""

from __future__ import annotations

import threading


class Signal:
    """Is waited for by one thread, and set by any, once or more often.

    A bare lock that is held until it is set. No Event or Condition: an interrupt that strikes
    inside of those leaves them locked, and then the driver's thread stops in `set`. And no
    `SimpleQueue`: up to Python 3.12, its `get(timeout)` waits for ever if the time is up before
    it has begun to wait.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let who waits go on, or who will wait next."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it was set already

    def is_set(self) -> bool:
        """Return whether `wait` would not wait."""
        return not self._lock.locked()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, and take that back, or for so many seconds; infinite: for ever.

        Returns whether it was set.
        """
        timeout = -1 if seconds > threading.TIMEOUT_MAX else max(seconds, 0)
        return self._lock.acquire(timeout=timeout)
