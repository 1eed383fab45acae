"""The gate: which calls may be in flight."""

from __future__ import annotations

import collections
import threading
from typing import Any, Deque, List, Optional, Set, Tuple

from ._futures import CANCELLED, FINISHED, PENDING, RUNNING, CallFuture, current_owner

SHUT_DOWN = "cannot schedule new futures after shutdown"  # the text of the standard

Outcome = Tuple[bool, Optional[CallFuture]]

_TOO_LATE: Outcome = (False, None)


class Gate:
    """Admits calls, first come, first served, never more than `concurrency` at once.

    Guarantees: a call is in flight from the moment a method returns it as admitted until its
    future ends, and only the first outcome of a call counts. Methods decide under `lock` and
    return what is to be done; sending, waking and callbacks are left to who called them.

    `lock` is a leaf: nothing is acquired while it is held. It guards all that is here, and the
    state of the gate's futures (see `CallFuture`).
    """

    def __init__(self, concurrency: float) -> None:
        self.concurrency = concurrency
        self.lock = threading.Lock()
        # guarded by lock:
        self._closed: Optional[str] = None  # why nothing more is accepted
        self._waiting: Deque[CallFuture] = collections.deque()  # some may have been cancelled
        self._in_flight: Set[CallFuture] = set()
        self._held = 0  # what `wait` waits for besides: futures whose callbacks run, and others
        self._excused = 0  # of these, the callbacks in which somebody waits in `wait`
        self._idle = threading.Condition(self.lock)

    def enter(self, call: CallFuture) -> bool:
        """Accept a new call; returns whether it is admitted at once.

        Raises `RuntimeError` when the gate is closed.
        """
        with self.lock:
            if self._closed is not None:
                raise RuntimeError(self._closed)
            if len(self._in_flight) < self.concurrency:
                call._state = RUNNING
                self._in_flight.add(call)
                return True
            self._waiting.append(call)
            return False

    def check_open(self) -> None:
        """Raise `RuntimeError` when the gate is closed."""
        if self._closed is not None:
            raise RuntimeError(self._closed)

    def end(self, call: CallFuture, result: Any, exception: Optional[BaseException]) -> Outcome:
        """End an admitted call; returns whether this outcome counts, and who is admitted next."""
        with self.lock:
            if call.condition is None:
                return self._end(call, result, exception)
        with call.condition, self.lock:
            return self._end(call, result, exception)

    def _end(self, call: CallFuture, result: Any, exception: Optional[BaseException]) -> Outcome:
        if call._state is not RUNNING:
            return _TOO_LATE
        self._in_flight.remove(call)
        if call.settle(FINISHED, result, exception):
            self._held += 1
        if exception is not None and call.window is not None:
            call.window.failed(call)
        return True, self._admit()

    def _admit(self) -> Optional[CallFuture]:
        while self._waiting:
            call = self._waiting.popleft()
            if call._state is PENDING:
                if call.window is None or call.window.wants(call):
                    call._state = RUNNING
                    self._in_flight.add(call)
                    return call
                call.settle(CANCELLED, None, None)
        if not self._in_flight:
            self._idle.notify_all()
        return None

    def cancel(self, call: CallFuture) -> bool:
        """Cancel a call that was not admitted; returns whether it was cancelled just now."""
        with call._condition, self.lock:
            if call._state is not PENDING:
                return False
            if call.settle(CANCELLED, None, None):
                self._held += 1
            return True

    def close(self, reason: str) -> List[CallFuture]:
        """Accept nothing more, `reason` says why; returns the calls that wait."""
        with self.lock:
            self._closed = self._closed or reason
            return list(self._waiting)

    def abandon(self, reason: str) -> None:
        """End everything, in a forked child, where nothing of it will ever be answered."""
        self.lock = threading.Lock()
        self._idle = threading.Condition(self.lock)
        self._closed = reason
        calls = [*self._in_flight, *self._waiting]
        self._in_flight.clear()
        self._waiting.clear()
        self._held = 0
        for call in calls:
            call.condition = None
            if not call.done():
                call.settle(FINISHED, None, RuntimeError(reason))

    def in_flight(self) -> List[CallFuture]:
        """Return the calls in flight."""
        with self.lock:
            return list(self._in_flight)

    def hold(self) -> None:
        """Have `wait` wait until `release` is called as often as this."""
        with self.lock:
            self._held += 1

    def release(self) -> None:
        """Take one `hold` back, or note that the callbacks of one future have run."""
        with self.lock:
            self._held -= 1
            self._idle.notify_all()

    def wait(self) -> None:
        """Wait until every call has ended and its callbacks have run.

        Called in a callback, it does not wait for that one, nor for others that wait here.
        """
        inside = current_owner() is self
        with self.lock:
            self._excused += inside
            self._idle.notify_all()
            try:
                while (
                    self._in_flight
                    or self._waiting
                    or self._held > (self._excused if inside else 0)
                ):
                    self._idle.wait()
            finally:
                self._excused -= inside
