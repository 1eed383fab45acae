"""The gate: which calls may be in flight."""

from __future__ import annotations

import math
import threading
from typing import Any, Iterable, List, Optional, Tuple

from ._futures import FINISHED, PENDING, RUNNING, CallFuture, Outcome, called_back_gate
from ._lines import TOO_LATE, Lines
from ._signals import Signal
from ._stats import Stats
from ._threads import helper_threads

SHUT_DOWN = "cannot schedule new futures after shutdown"  # the text of the standard


class WouldWait(Exception):
    """Somebody holds the condition of a future, which a driver thread does not wait for."""


class Gate(Lines):
    """Admits calls, first come, first served, never more than `concurrency` at once.

    Guarantees: a call is in flight from the moment a method returns it as admitted until its
    future ends, or until it is put aside to be tried again. Only the first outcome of an attempt
    counts. Methods decide under `lock` and return what is to be done; sending, and `finish` of
    the futures that have ended, are left to who called them. An admitted call is sent by who
    claims it; until then any thread may.

    `lock` guards all that is here, and the state of the gate's futures (see `CallFuture`). It is a
    leaf: no other lock is acquired while it is held. It is re-entrant because the garbage
    collector may run anybody's finalizer, and the interpreter a signal handler, at any moment
    that it is held; what they do to the gate then finds it in order.
    """

    def __init__(self, concurrency: float) -> None:
        super().__init__(concurrency)
        self.lock = threading.RLock()
        # guarded by lock, like the lines:
        self._closed: Optional[str] = None  # why nothing more is accepted
        self.is_abandoned = False  # it is another process's
        self._excused = 0  # of what is held, the callbacks in which somebody waits in `wait`

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
            self._counts.submitted += 1
            if len(self._in_flight) < self.concurrency:
                self._let_in(call)
                if len(self._in_flight) <= self.concurrency:
                    return True
                self._take_back(call)  # a signal handler has submitted another one just now
            self._waiting.append(call)
        return False

    def has_waiting(self, count: int) -> bool:
        """Return whether at least so many calls wait for their turn. It needs no lock."""
        return len(self._waiting) >= count

    def claim(self, call: CallFuture) -> bool:
        """Return whether the caller is to send this call: for each attempt one is."""
        try:
            del self._unsent[call]  # atomic, so it needs no lock
        except KeyError:
            return False
        return True

    def recover(self) -> None:
        """Complete what an interrupt has left half done, and admit who can be; none is sent."""
        with self.lock:
            self._complete()

    def next_unsent(self) -> Optional[CallFuture]:
        """Return the first of the admitted calls that nobody has claimed."""
        while True:
            try:
                return next(iter(self._unsent), None)
            except RuntimeError:
                pass  # one was claimed just now

    def end(
        self,
        call: CallFuture,
        attempt: Optional[int],
        result: Any,
        exception: Optional[BaseException],
        may_wait: bool = True,
    ) -> Outcome:
        """End a call with the outcome of one of its attempts; then `finish` it if that counts.

        `attempt` is `None` for one that is not in flight any more, but was put aside.

        Raises `WouldWait` when it may not wait for those who look at the future just now.
        """
        with self.lock:
            condition = call.condition
            if condition is None:
                outcome = self._end(call, attempt, result, exception)
        if condition is not None:
            if not condition.acquire(blocking=may_wait):
                raise WouldWait
            try:
                with self.lock:
                    outcome = self._end(call, attempt, result, exception)
                if outcome[0]:
                    call.tell_waiters()
            finally:
                condition.release()
        if self._dropped:
            self._finish_dropped()
        return outcome

    def put_aside(self, call: CallFuture, attempt: int, exception: BaseException) -> Outcome:
        """Put a call aside that is to be tried again, because an attempt ended with `exception`.

        Returns whether it was put aside, which it is not when it is not wanted any more, and who
        is admitted in its place.
        """
        with self.lock:
            if call not in self._in_flight or call.attempt != attempt or not self.wants(call):
                return TOO_LATE
            self._in_flight.remove(call)
            self._unsent.pop(call, None)
            self._aside.add(call)
            call.put_aside(exception)
            outcome = True, self._admit()
        self._finish_dropped()
        return outcome

    def try_again(self, call: CallFuture) -> Tuple[bool, bool]:
        """Take back a call that was put aside.

        Returns whether it will be tried again, if it has not ended, and if so, whether it is
        admitted at once.
        """
        with self.lock:
            if call not in self._aside or not self.wants(call):
                return False, False
            self._aside.remove(call)
            if len(self._in_flight) < self.concurrency:
                self._let_in(call)
                return True, True
            self._again.append(call)  # it came before those that wait
            return True, False

    def retried(self) -> None:
        """Count a retry that is sent now."""
        with self.lock:
            self._counts.retried += 1

    def take_unwanted(self) -> List[CallFuture]:
        """Return the calls that were put aside and are to be ended, each once."""
        with self.lock:
            unwanted, self.unwanted = self.unwanted, []
            return unwanted

    def sent(self, call: CallFuture, attempt: int, response: Any) -> bool:
        """Note the response future of an attempt; returns False when that has ended already."""
        with self.lock:
            if call.attempt != attempt or call not in self._in_flight:
                return False
            call.response = response
            return True

    def cancel(self, call: CallFuture, claimed: bool = False) -> None:
        """Cancel a call whose turn has not come, or that was `claimed` and is not sent.

        Then `finish` it, and send who is admitted in its place.
        """
        condition = call._condition
        # A finalizer that the collector runs while this thread has the lock must not wait for the
        # condition, for the order is the other way round; then the call goes on.
        owned: bool = self.lock._is_owned()  # type: ignore[attr-defined]  # Condition asks it, too
        if not condition.acquire(blocking=not owned):
            return
        try:
            with self.lock:
                if call._state is not (RUNNING if claimed else PENDING):
                    return
                self._cancel(call)
                if claimed:
                    self._in_flight.discard(call)
                    self._admit()
            call.tell_waiters()
        finally:
            condition.release()

    def drop(self, calls: Iterable[CallFuture]) -> List[CallFuture]:
        """Cancel those of a window's calls that are not wanted and were not sent.

        Returns those that are to be ended, because they were put aside.
        """
        with self.lock:
            unwanted = [call for call in calls if not self.wants(call)]
            for call in unwanted:
                if call._state is PENDING:
                    self._drop(call)
            if unwanted:
                self._forget_ended()
            aside = [call for call in unwanted if call in self._aside]
        self._finish_dropped()
        return aside

    def close(self, reason: str, cancel: bool = False) -> Tuple[List[CallFuture], List[CallFuture]]:
        """Accept nothing more, `reason` says why; and with `cancel`, try nothing again, either.

        Returns the calls that wait for their first attempt, and those for another one.
        """
        with self.lock:
            self._closed = self._closed or reason
            if cancel:
                self._retries = False
            return list(self._waiting), [*self._aside, *self._again]

    def in_flight(self) -> List[CallFuture]:
        """Return the calls in flight."""
        with self.lock:
            return list(self._in_flight)

    def stats(self) -> Stats:
        """Return what became of the calls so far."""
        with self.lock:
            return self._counts.snapshot(len(self._in_flight), len(self._aside))

    def _finish_dropped(self) -> None:
        with self.lock:
            dropped, self._dropped = self._dropped, []
        for call in dropped:
            call.call = None
            call.let_go()

    # The end of the executor

    def hold(self) -> None:
        """Have `wait` wait until `release` is called as often as this."""
        with self.lock:
            self._held += 1

    def release(self) -> None:
        """Take one `hold` back, or note that the callbacks of one future have run."""
        with self.lock:
            self._held -= 1
            self._wake()

    def wait(self) -> None:
        """Wait until every call has ended and its callbacks have run.

        Called in a callback, it does not wait for that one, nor for others that wait here.
        """
        helper_threads.wake()  # if none could be started, callbacks still wait
        inside = called_back_gate() is self
        signal = Signal()
        with self.lock:
            self._excused += inside
            self._waiters.append(signal)
            self._wake()
        try:
            while not self.is_idle(inside):
                signal.wait(math.inf)
        finally:
            with self.lock:
                self._excused -= inside
                self._waiters.remove(signal)

    def is_idle(self, inside: bool = False) -> bool:
        """Return whether there is nothing to wait for; `inside`, for who asks in a callback."""
        with self.lock:
            calls = self._in_flight or self._waiting or self._again or self._aside
            return not calls and self._held <= (self._excused if inside else 0)

    def abandon(self, reason: str) -> None:
        """End everything, in a forked child, where nothing of it will ever be answered."""
        self.lock = threading.RLock()
        self.is_abandoned = True
        self._closed = reason
        calls = [*self._in_flight, *self._waiting, *self._again, *self._aside]
        for pending in (self._in_flight, self._unsent, self._waiting, self._again, self._aside):
            pending.clear()
        self._held = 0
        self._waiters = []
        for call in calls:
            call.condition = None
            if not call.done():
                call.settle(None, RuntimeError(reason))
                call._state = FINISHED
