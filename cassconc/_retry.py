"""Retries: which failures are tried again, when, and how many at a time."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Optional

from ._calls import Call
from ._checks import positive_int, seconds_or_none

_REFILL = 10.0  # retries a second that the budget gets back without a success
_SHARE = 0.2  # of a retry that the budget gets back with each success


class RetryEvent(NamedTuple):
    """What `Retry.on_retry` is told: a call has failed and will be tried again."""

    call: Call
    """The call."""
    attempt: int
    """How often it was sent so far."""
    exception: BaseException
    """With what the last attempt failed."""
    delay: float
    """How many seconds it will wait."""


@dataclass(frozen=True)
class Retry:
    """Has transient failures of idempotent statements tried again.

    Transient are time-outs, overloaded, unavailable, no host available and connection lost. Only
    statements that are marked as idempotent are tried again (`is_idempotent`, see the driver's
    documentation), and with the timestamp of their first attempt. One object can serve any
    number of executors; it does not change.

    Args:
        attempts: How often a statement is sent at most, the first time included.
        delay: The longest wait before the first retry, in seconds. It doubles with each further
            one; the wait is drawn evenly between 0 and that ("full jitter").
        max_delay: What it does not grow beyond, in seconds.
        total_time: How many seconds after the first attempt a retry may still be sent; `None`
            for no limit.
        budget: How many retries without success there may be. Each takes one from the budget,
            and gives it back if it succeeds; five other successes, or a tenth of a second, give
            one back as well. Without budget a retry waits longer. So a sick cluster gets few.
        on_retry: Called with a `RetryEvent` for each retry that is decided on, on a helper
            thread. What it raises is logged.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.
    """

    attempts: int = 10
    delay: float = 0.1
    max_delay: float = 10.0
    total_time: Optional[float] = 120.0
    budget: int = 100
    on_retry: Optional[Callable[[RetryEvent], object]] = None

    def __post_init__(self) -> None:
        positive_int("attempts", self.attempts)
        positive_int("budget", self.budget)
        seconds_or_none("total_time", self.total_time)
        for name in ("delay", "max_delay"):
            if seconds_or_none(name, getattr(self, name)) is None:
                raise TypeError(f"{name} must be a number of seconds")
        if self.on_retry is not None and not callable(self.on_retry):
            raise TypeError("on_retry must be a callable or None")

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after attempt number `attempt` has failed."""
        longest = min(self.max_delay, self.delay * 2.0 ** min(attempt - 1, 60))
        return longest * random.random()


class Budget:
    """How many retries may be sent now; see `Retry`. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.RLock()  # re-entrant, see Gate
        # guarded by _lock:
        self._left = float(size)
        self._refilled = -math.inf

    def take(self, now: float) -> bool:
        """Take one retry, if there is one."""
        with self._lock:
            self._add((now - self._refilled) * _REFILL)
            self._refilled = now
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def succeeded(self, retried: bool) -> None:
        """Note that a call has succeeded."""
        with self._lock:
            self._add(1 + _SHARE if retried else _SHARE)

    def _add(self, retries: float) -> None:
        self._left = min(self._left + retries, self._size)


class Tries:
    """The attempts of one call.

    Attributes:
        was_sent: Whether the driver has made a request for the first attempt.
        timestamp: That of the first attempt; `None` where it is the server's or can't be known.
    """

    __slots__ = ("budget", "exceptions", "retry", "started", "timestamp", "was_sent")

    def __init__(self, retry: Retry, budget: Budget, started: float) -> None:
        self.retry = retry
        self.budget = budget
        self.started = started
        self.was_sent = False
        self.timestamp: Optional[int] = None
        self.exceptions: List[Exception] = []

    def has_time(self, when: float) -> bool:
        """Return whether a retry may be sent at that time."""
        total_time = self.retry.total_time
        return total_time is None or when - self.started <= total_time
