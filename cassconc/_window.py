"""The window of a `map`, from the side of its calls: what they have in common."""

from __future__ import annotations

import logging
import math
import threading
import weakref
from concurrent.futures import Future
from typing import Any, Deque, Dict, Optional, Union

from ._futures import CallFuture, Owner
from ._report import FailureReport

logger = logging.getLogger("cassconc")

_ENOUGH = 100  # calls that have ended before a fraction of failures means something

AnyFuture = Union[CallFuture, "Future[Any]"]


class Window:
    """What the calls of one `map` have in common.

    Guarantees: once a failure ends the map, no call is wanted that comes later in the input. A
    failure that nobody looked at is logged when the map is over: its calls have ended, and its
    iterator is gone.
    """

    def __init__(
        self,
        owner: Owner,
        title: str,
        return_exceptions: bool,
        max_errors: Union[int, float, None] = None,
    ) -> None:
        self._owner = owner
        self.return_exceptions = return_exceptions or max_errors is not None
        self.max_errors = max_errors
        self.changed = threading.Event()  # set when a call ends that the consumer waits for
        self.awaited: object = None  # that call, or True for any
        self.ended_calls: Optional[weakref.ref[Deque[AnyFuture]]] = None
        # guarded by the owner's lock:
        self.last: float = math.inf  # the last position that is still wanted
        self._ended_count = 0
        self.failed_count = 0
        self.report = FailureReport()
        self._failures: Dict[str, int] = {}  # by type, those that nobody looked at
        weakref.finalize(self, _report, title, self._failures)

    def settled(self, call: CallFuture, exception: Optional[BaseException]) -> None:
        """Note an outcome; the owner's lock is held."""
        self._ended_count += 1
        if exception is None:
            return
        self.failed_count += 1
        kind = type(exception).__name__
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self.max_errors is not None:
            self.report.add(exception)
        if self._ends_map():
            self.last = min(self.last, call.position)

    def _ends_map(self) -> bool:
        if self.max_errors is None:
            return not self.return_exceptions
        if isinstance(self.max_errors, int):
            return self.failed_count > self.max_errors
        return (
            self._ended_count >= _ENOUGH and self.failed_count > self.max_errors * self._ended_count
        )

    def ended_elsewhere(self, call: Any) -> None:
        """Note that a call has ended that no gate knows of."""
        with self._owner.lock:
            self.settled(call, None if call.cancelled() else call.exception())
        self.ended(call)

    def ended(self, call: AnyFuture) -> None:
        """Note that a call has ended; no lock is held."""
        if self.ended_calls is not None:
            ended_calls = self.ended_calls()
            if ended_calls is not None:
                ended_calls.append(call)
        if self.awaited is call or self.awaited is True:
            self.changed.set()

    def looked_at(self, error: BaseException) -> None:
        """Note that a failure has reached the caller."""
        kind = type(error).__name__
        with self._owner.lock:
            if kind in self._failures:
                self._failures[kind] -= 1

    def all_looked_at(self) -> None:
        """Note that all failures so far have reached the caller."""
        with self._owner.lock:
            self._failures.clear()

    def close(self) -> None:
        """Want nothing more; whoever waits for a call of this map gets a `CancelledError`."""
        with self._owner.lock:
            self.last = -1
        self.changed.set()


def _report(title: str, failures: Dict[str, int]) -> None:
    kinds = [f"{count} {kind}" for kind, count in failures.items() if count]
    if kinds:
        logger.error("failures of map(%s) that nobody looked at: %s", title, ", ".join(kinds))
