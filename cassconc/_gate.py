"""The gate: which calls may be in flight."""

from __future__ import annotations

import collections
import threading
from typing import Any, Deque, Dict, List, Optional, Set, Tuple

from ._futures import CANCELLED, FINISHED, PENDING, RUNNING, CallFuture, current_owner
from ._stats import Stats

SHUT_DOWN = "cannot schedule new futures after shutdown"  # the text of the standard

Outcome = Tuple[bool, Optional[CallFuture]]

_TOO_LATE: Outcome = (False, None)


class Gate:
    """Admits calls, first come, first served, never more than `concurrency` at once.

    Guarantees: a call is in flight from the moment a method returns it as admitted until its
    future ends, or until it is put aside to be tried again. Only the first outcome of an attempt
    counts. Methods decide under `lock` and return what is to be done; sending, waking and
    callbacks are left to who called them.

    `lock` is a leaf: nothing is acquired while it is held. It guards all that is here, and the
    state of the gate's futures (see `CallFuture`).
    """

    def __init__(self, concurrency: float) -> None:
        self.concurrency = concurrency
        self.lock = threading.Lock()
        # guarded by lock:
        self._closed: Optional[str] = None  # why nothing more is accepted
        self._retries = True  # whether what has failed may be tried again
        self._waiting: Deque[CallFuture] = collections.deque()  # some may have ended
        self._in_flight: Set[CallFuture] = set()
        self._aside: Set[CallFuture] = set()  # will be tried again, but not yet
        self._held = 0  # what `wait` waits for besides: futures whose callbacks run, and others
        self._excused = 0  # of these, the callbacks in which somebody waits in `wait`
        self._idle = threading.Condition(self.lock)
        self._submitted = self._succeeded = self._cancelled = self._retried = 0
        self._failed: Dict[str, int] = {}  # by type

    def check_open(self) -> None:
        """Raise `RuntimeError` when the gate is closed."""
        if self._closed is not None:
            raise RuntimeError(self._closed)

    def enter(self, call: CallFuture) -> bool:
        """Accept a new call; returns whether it is admitted at once.

        Raises `RuntimeError` when the gate is closed.
        """
        with self.lock:
            if self._closed is not None:
                raise RuntimeError(self._closed)
            self._submitted += 1
            if len(self._in_flight) < self.concurrency:
                self._let_in(call)
                return True
            self._waiting.append(call)
            return False

    def end(
        self, call: CallFuture, attempt: int, result: Any, exception: Optional[BaseException]
    ) -> Outcome:
        """End a call with the outcome of one of its attempts.

        Returns whether this outcome counts, and who is admitted in the place of the call.
        """
        with self.lock:
            if call.condition is None:
                return self._end(call, attempt, result, exception)
        with call.condition, self.lock:
            return self._end(call, attempt, result, exception)

    def put_aside(self, call: CallFuture, attempt: int, exception: BaseException) -> Outcome:
        """Put a call aside that is to be tried again, because an attempt ended with `exception`.

        Returns whether it was put aside, which it is not when it is not wanted any more, and who
        is admitted in its place.
        """
        with self.lock:
            if call not in self._in_flight or call.attempt != attempt or not self._wants(call):
                return _TOO_LATE
            self._in_flight.remove(call)
            self._aside.add(call)
            call.put_aside(exception)
            return True, self._admit()

    def try_again(self, call: CallFuture) -> bool:
        """Take back a call that was put aside; returns whether it is admitted at once."""
        with self.lock:
            if call not in self._aside or not self._wants(call):
                return False  # it has ended, or whoever does not want it any more ends it
            self._aside.remove(call)
            self._retried += 1
            if len(self._in_flight) < self.concurrency:
                self._let_in(call)
                return True
            self._waiting.appendleft(call)  # it came before those that wait
            return False

    def sweep(self) -> List[CallFuture]:
        """Cancel what waits for its first attempt and is not wanted any more.

        Returns the calls that wait for another attempt and are not wanted: they are to be ended.
        """
        with self.lock:
            unwanted = [call for call in self._waiting if not self._wants(call)]
            if unwanted:
                self._waiting = collections.deque(filter(self._wants, self._waiting))
            for call in unwanted:
                if call._state is PENDING:
                    self._drop(call)
            tried = [call for call in unwanted if call._state is RUNNING]
            return tried + [call for call in self._aside if not self._wants(call)]

    def cancel(self, call: CallFuture) -> bool:
        """Cancel a call that was never sent; returns whether it was cancelled just now."""
        with call._condition, self.lock:
            if call._state is not PENDING:
                return False
            self._cancelled += 1
            if call.settle(CANCELLED, None, None):
                self._held += 1
            return True

    def close(self, reason: str, cancel: bool = False) -> List[CallFuture]:
        """Accept nothing more, `reason` says why; returns the calls that wait.

        `cancel` says that nothing is tried again, either.
        """
        with self.lock:
            self._closed = self._closed or reason
            if cancel:
                self._retries = False
            return list(self._waiting)

    def in_flight(self) -> List[CallFuture]:
        """Return the calls in flight."""
        with self.lock:
            return list(self._in_flight)

    def stats(self) -> Stats:
        """Return what became of the calls so far."""
        with self.lock:
            failed = dict(self._failed)
            ended = self._succeeded + sum(failed.values()) + self._cancelled
            in_flight, aside = len(self._in_flight), len(self._aside)
            return Stats(
                submitted=self._submitted,
                queued=self._submitted - ended - in_flight - aside,
                in_flight=in_flight,
                waiting_for_retry=aside,
                succeeded=self._succeeded,
                failed=failed,
                cancelled=self._cancelled,
                retried=self._retried,
            )

    # What follows is called with the lock held.

    def _let_in(self, call: CallFuture) -> None:
        call._state = RUNNING
        call.attempt += 1
        self._in_flight.add(call)

    def _wants(self, call: CallFuture) -> bool:
        if call._state is RUNNING and not self._retries:
            return False
        return call.window is None or call.position <= call.window.last

    def _end(
        self, call: CallFuture, attempt: int, result: Any, exception: Optional[BaseException]
    ) -> Outcome:
        if call._state is not RUNNING or call.attempt != attempt:
            return _TOO_LATE
        self._in_flight.discard(call)
        if call.settle(FINISHED, result, exception):
            self._held += 1
        if exception is None:
            self._succeeded += 1
        else:
            self._aside.discard(call)
            kind = type(exception).__name__
            self._failed[kind] = self._failed.get(kind, 0) + 1
        if call.window is not None:
            call.window.settled(call, exception)
        return True, self._admit()

    def _admit(self) -> Optional[CallFuture]:
        while self._waiting and len(self._in_flight) < self.concurrency:
            call = self._waiting.popleft()
            if call._state is PENDING:
                if call.window is None or call.position <= call.window.last:
                    self._let_in(call)
                    return call
                self._drop(call)
            elif call._state is RUNNING:
                if self._wants(call):
                    self._let_in(call)
                    return call
                self._aside.add(call)  # who made it unwanted sweeps
        if not self._in_flight and not self._aside:
            self._idle.notify_all()
        return None

    def _drop(self, call: CallFuture) -> None:
        """Cancel a call of a window that was never sent; nobody but the window knows of it."""
        self._cancelled += 1
        call.settle(CANCELLED, None, None)

    # The end of the executor

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
                    or self._aside
                    or self._held > (self._excused if inside else 0)
                ):
                    self._idle.wait()
            finally:
                self._excused -= inside

    def abandon(self, reason: str) -> None:
        """End everything, in a forked child, where nothing of it will ever be answered."""
        self.lock = threading.Lock()
        self._idle = threading.Condition(self.lock)
        self._closed = reason
        calls = [*self._in_flight, *self._waiting, *self._aside]
        for pending in (self._in_flight, self._waiting, self._aside):
            pending.clear()
        self._held = 0
        for call in calls:
            call.condition = None
            if not call.done():
                call.settle(FINISHED, None, RuntimeError(reason))
