"""The lines of a gate: who waits, who is in flight, and who is to be tried again."""

from __future__ import annotations

import collections
from typing import Any, Deque, Dict, List, Optional, Set

from ._futures import CANCELLED, FINISHED, PENDING, RUNNING, CallFuture, Outcome
from ._signals import Signal
from ._stats import Counts

TOO_LATE: Outcome = (False, None)


class Lines:
    """Where each call of a gate stands. The gate's lock is held wherever this is called.

    The order of the single steps matters: an interrupt may strike between any two of them, and
    `_complete` is called then.
    """

    def __init__(self, concurrency: float) -> None:
        self.concurrency = concurrency
        self._retries = True  # whether what has failed may be tried again
        self._waiting: Deque[CallFuture] = collections.deque()  # some may have been cancelled
        self._again: Deque[CallFuture] = collections.deque()  # before these; some may have ended
        self._in_flight: Set[CallFuture] = set()
        self._unsent: Dict[CallFuture, None] = {}  # of these, those that nobody has claimed
        self._aside: Set[CallFuture] = set()  # they are to be tried again
        self.unwanted: List[CallFuture] = []  # put aside, and nobody will try them again
        self._dropped: List[CallFuture] = []  # to be let go when the lock is released
        self._counts = Counts()
        # what `Gate.wait` waits for besides: futures whose callbacks run, and what was `hold`
        self._held = 0
        self._waiters: List[Signal] = []  # those who wait there

    def _let_in(self, call: CallFuture) -> bool:
        if call.done() or call in self._in_flight:
            return False  # a signal handler has submitted another call, and that came this far
        self._unsent[call] = None  # first, and `_in_flight` last, so that `_complete` sees it
        call._state = RUNNING
        call.attempt += 1
        self._in_flight.add(call)
        return True

    def _take_back(self, call: CallFuture) -> None:
        self._in_flight.discard(call)
        self._unsent.pop(call, None)
        call._state = PENDING if call.attempt == 1 else RUNNING
        call.attempt -= 1

    def _drop(self, call: CallFuture) -> None:
        self._cancel(call)  # nobody has this future but its map, so it has no callbacks
        self._dropped.append(call)

    def _forget_ended(self) -> None:
        counts, before = self._counts, -1
        while before != counts.submitted:
            before = counts.submitted
            waiting = collections.deque(each for each in self._waiting.copy() if not each.done())
            # unless a signal handler has submitted meanwhile; none comes within a line like this
            self._waiting = waiting if counts.submitted == before else self._waiting

    def wants(self, call: CallFuture) -> bool:
        """Return whether a call is still to be sent. It needs no lock."""
        if call._state is RUNNING and not self._retries:
            return False
        window = call.window
        return window is None or (call.position <= window.last and not window.closed)

    def _end(
        self,
        call: CallFuture,
        attempt: Optional[int],
        result: Any,
        exception: Optional[BaseException],
    ) -> Outcome:
        if call._state is not RUNNING or (
            attempt is not None and (call.attempt != attempt or call not in self._in_flight)
        ):
            return TOO_LATE
        window, counts, failed = call.window, self._counts, self._counts.failed
        call.settle(result, exception)
        held = self._held + call.calls_back
        # a state and what counts it change together: no interrupt strikes within such a line
        if exception is None:
            call._state, counts.succeeded, self._held = FINISHED, counts.succeeded + 1, held
        else:
            kind = type(exception).__name__
            call._state, failed[kind], self._held = FINISHED, failed.get(kind, 0) + 1, held
            self._aside.discard(call)
        self._in_flight.discard(call)
        self._unsent.pop(call, None)
        if (
            window is not None
            and (exception is not None or window.max_errors is not None)
            and window.settled(call, exception)
        ):
            # copies, for a signal handler may submit meanwhile
            self.unwanted += [each for each in self._aside.copy() if not self.wants(each)]
            for each in self._waiting.copy():
                if each._state is PENDING and not self.wants(each):
                    self._drop(each)
            self._forget_ended()
        return True, self._admit()

    def _cancel(self, call: CallFuture) -> None:
        call.settle(None, None)
        counts, held = self._counts, self._held + call.calls_back
        call._state, counts.cancelled, self._held = CANCELLED, counts.cancelled + 1, held

    def _admit(self) -> Optional[CallFuture]:
        while len(self._in_flight) < self.concurrency:
            line = self._again or self._waiting
            if not line:
                break
            call = line[0]
            let_in = self.wants(call) and self._let_in(call)
            if not let_in and not call.done() and call not in self._in_flight:
                if call._state is PENDING:
                    self._drop(call)
                else:
                    self._aside.add(call)
                    self.unwanted.append(call)
            if len(self._in_flight) > self.concurrency:
                self._take_back(call)  # a signal handler has submitted another one just now
                break
            # last, for an interrupt may strike before; and a signal handler may have come first
            if line and line[0] is call:
                line.popleft()
            if let_in:
                return call
        if not self._in_flight and self._waiters:
            self._wake()
        return None

    def _complete(self) -> None:
        for call in self._in_flight.copy():
            if call.done():
                self._in_flight.discard(call)
                self._unsent.pop(call, None)
        for call in set(self._unsent) - self._in_flight:
            self._let_in(call)
        while self._admit() is not None:
            pass
        counts, before = self._counts, -1
        while before != counts.submitted:
            before = counts.submitted
            lines = [*self._waiting, *self._again]
            queued = sum(not each.done() and each not in self._in_flight for each in lines)
            submitted = counts.ended() + queued + len(self._in_flight) + len(self._aside)
            # unless a signal handler has submitted meanwhile; none comes within a line like this
            counts.submitted = submitted if counts.submitted == before else counts.submitted

    def _wake(self) -> None:
        for signal in self._waiters:
            signal.set()
