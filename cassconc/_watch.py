"""The watch: ends the calls that the driver would leave pending."""

from __future__ import annotations

import functools
import math
import threading
from typing import Any, Callable, Optional, Sequence

from ._clock import Clock, Timer
from ._driver import ConnectionShutdown, give_up, timed_out
from ._driver import is_shutdown as is_session_shutdown
from ._futures import CallFuture
from ._gate import Gate
from ._log import log_failure
from ._threads import helper_threads

_POLL = 0.25  # seconds

# (call, attempt, error): ends an attempt, and returns whether that outcome counts
End = Callable[[CallFuture, int, BaseException], bool]


class Watch:
    """Keeps the time limits of the calls in flight, and sees when their session is shut down.

    A timer for each request, as the driver has it, costs more than all else that is done for a
    request. But few calls are in flight at any moment, so looking at all of them now and then is
    cheap: when the next one's time is up, or `_POLL` seconds after the last look. The watch rests
    while nothing is in flight.

    Guarantees: a call ends at its time limit or some milliseconds later, and within `_POLL`
    seconds after the session's shutdown, at which the driver forgets what is in flight.
    """

    def __init__(self, session: Any, clock: Clock, gates: Sequence[Gate]) -> None:
        self._session = session
        self._clock = clock
        self._gates = gates
        self._lock = threading.RLock()
        # written under _lock, read without it:
        self._next_look = math.inf  # infinite: the watch rests
        # guarded by _lock:
        self._timer: Optional[Timer] = None

    def sent(self, call: CallFuture, limit: float, end: End) -> None:
        """Watch over a call that is about to be sent; `limit` in seconds."""
        now = self._clock.monotonic()
        call.limit, call.deadline = limit, now + limit
        if call.deadline < self._next_look or self._next_look == math.inf:
            self._look_at(min(call.deadline, now + _POLL), end)

    def _look_at(self, when: float, end: End) -> None:
        with self._lock:
            if when < self._next_look:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = self._clock.call_at(when, functools.partial(self._look, end))
                self._next_look = when  # last, for no timer may be to be had

    def _look(self, end: End) -> None:
        # Who sends from here on finds that the watch rests, and wakes it. Who has read the time
        # of this look instead was in flight before, and is seen by it.
        with self._lock:
            self._next_look = math.inf
            self._timer = None
        helper_threads.wake()  # if none could be started, what is left to them still waits
        calls = [call for gate in self._gates for call in gate.in_flight()]
        if not calls:
            return
        is_shutdown = is_session_shutdown(self._session)
        now = self._clock.monotonic()
        next_look = now + _POLL
        for call in calls:
            attempt, deadline = call.attempt, call.deadline
            if is_shutdown or deadline <= now:
                self._end(call, attempt, is_shutdown, end)
            else:
                next_look = min(next_look, deadline)
        self._look_at(next_look, end)

    def _end(self, call: CallFuture, attempt: int, is_shutdown: bool, end: End) -> None:
        try:
            response = call.response
            error: Exception
            if is_shutdown:
                error = ConnectionShutdown("the session was shut down while the call was in flight")
            else:
                error = timed_out(response, call.limit)
            if end(call, attempt, error) and response is not None:
                give_up(response, error)
        except Exception:  # of a session or a response that is not the driver's
            log_failure("a call could not be ended in good order")
