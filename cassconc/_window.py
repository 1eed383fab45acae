"""The window of a `map`, from the side of its calls: what they have in common."""

from __future__ import annotations

import collections
import logging
import math
import threading
import weakref
from concurrent.futures import Future
from typing import Any, Callable, Deque, Dict, Optional, Union

from ._futures import CallFuture, Owner

logger = logging.getLogger("cassconc")

AnyFuture = Union[CallFuture, "Future[Any]"]


class Window:
    """What the calls of one `map` have in common.

    Guarantees: once a failure ends the map, no call is wanted that comes later in the input. A
    failure that nobody looked at is logged when the map is over: its calls have ended, and its
    iterator is gone.
    """

    def __init__(self, owner: Owner, title: str, return_exceptions: bool) -> None:
        self._owner = owner
        self.return_exceptions = return_exceptions
        self.changed = threading.Event()  # set when a call ends that the consumer waits for
        self.awaited: object = None  # that call, or True for any
        self.ended_calls: Callable[[], Optional[Deque[AnyFuture]]] = lambda: None
        # guarded by the owner's lock:
        self.last: float = math.inf  # the last position that is still wanted
        self._failures: Dict[str, int] = {}  # by type, those that nobody looked at
        weakref.finalize(self, _report, title, self._failures)

    def wants(self, call: CallFuture) -> bool:
        """Return whether the call is still to be sent; the owner's lock is held."""
        return call.position is None or call.position <= self.last

    def failed(self, call: CallFuture) -> None:
        """Note a failure; the owner's lock is held."""
        kind = type(call._exception).__name__
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if not self.return_exceptions and call.position is not None:
            self.last = min(self.last, call.position)

    def ended(self, call: AnyFuture) -> None:
        """Note that a call has ended; no lock is held."""
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

    def close(self) -> None:
        """Want nothing more; whoever waits for a call of this map gets a `CancelledError`."""
        with self._owner.lock:
            self.last = -1
        self.changed.set()


def _report(title: str, failures: Dict[str, int]) -> None:
    kinds = [f"{count} {kind}" for kind, count in failures.items() if count]
    if kinds:
        logger.error("failures of map(%s) that nobody looked at: %s", title, ", ".join(kinds))
