"""The retrier: decides what is tried again, and has it sent when its time has come."""

from __future__ import annotations

import functools
import re
from typing import Any, Callable, Optional

from ._calls import Call
from ._clock import Clock
from ._driver import TRANSIENT
from ._errors import add_note
from ._futures import CallFuture
from ._gate import Outcome
from ._retry import RetryEvent, Tries
from ._threads import helper_threads

_NO_BUDGET = 0.1  # seconds to wait at least when there is none

# what a retry can't harm, whatever timestamp it has
_HARMLESS = re.compile(
    r"\s*SELECT\b|.*\bUSING\s+(TTL\s+\S+\s+AND\s+)?TIMESTAMP\b", re.IGNORECASE | re.DOTALL
)


class Retrier:
    """Has calls tried again.

    Guarantees: a call that waits for its retry holds no thread and no place in the gate. Its
    retry comes before all that waits in the gate, for the call came before them.

    Args:
        send: Sends an admitted call, from the clock's thread.
        end: Ends a call that was put aside, with the failure that it has.
    """

    def __init__(
        self,
        session: Any,
        clock: Clock,
        send: Callable[[CallFuture], None],
        end: Callable[[CallFuture], None],
    ) -> None:
        self._session = session
        self._clock = clock
        self._send = send
        self._end = end

    def take(self, call: CallFuture, attempt: int, error: Exception) -> Optional[Outcome]:
        """Take a call whose attempt has failed; returns `None` when it is not tried again."""
        if call.tries is None or not isinstance(error, TRANSIENT):
            return None
        delay = self._delay(call, attempt, error)
        if delay is None:
            return None
        outcome = call.owner.put_aside(call, attempt, error)
        if not outcome[0]:
            return None
        call.tries.exceptions.append(error)
        self._tell(call, attempt, error, delay)
        self._later(call, delay)
        return outcome

    def _delay(self, call: CallFuture, attempt: int, error: Exception) -> Optional[float]:
        request, tries = call.request, call.tries
        if request is None:
            return None
        earlier = tuple(tries.exceptions)
        error.attempts = (*earlier, error)  # type: ignore[attr-defined]
        if earlier:
            kinds = ", ".join(type(e).__name__ for e in earlier)
            add_note(error, f"attempt {attempt}; before it: {kinds}")
        if not getattr(request.statement, "is_idempotent", False):
            add_note(error, "not tried again: the statement is not marked as idempotent")
            return None
        if not self._is_harmless(request.statement, tries):
            add_note(error, "not tried again: the timestamp of the first attempt can't be kept")
            return None
        if attempt >= tries.retry.attempts or getattr(self._session, "is_shutdown", 0) is True:
            return None
        delay: float = tries.retry.wait(attempt)
        return delay if self._is_in_time(call, delay) else None

    def _is_harmless(self, statement: Any, tries: Tries) -> bool:
        if not tries.was_sent or tries.timestamp is not None:
            return True
        statement = getattr(statement, "prepared_statement", statement)
        text = getattr(statement, "query_string", None)
        return isinstance(text, str) and _HARMLESS.match(text) is not None

    def _is_in_time(self, call: CallFuture, delay: float) -> bool:
        total_time = call.tries.retry.total_time
        now = self._clock.monotonic()
        return total_time is None or now + delay - call.tries.started <= total_time

    def _tell(self, call: CallFuture, attempt: int, error: Exception, delay: float) -> None:
        on_retry, described = call.tries.retry.on_retry, call.call
        if on_retry is not None and described is not None:
            event = RetryEvent(
                Call(*described, None if call.window is None else call.position),
                attempt,
                error,
                delay,
            )
            helper_threads.run(functools.partial(on_retry, event))

    def _later(self, call: CallFuture, delay: float) -> None:
        when = self._clock.monotonic() + delay
        self._clock.call_at(when, functools.partial(self._again, call))

    def _again(self, call: CallFuture) -> None:
        if call.done():
            return
        if call.tries.budget.take(self._clock.monotonic()):
            if call.owner.try_again(call):
                self._send(call)
            return
        delay = _NO_BUDGET + call.tries.retry.wait(call.attempt)
        if self._is_in_time(call, delay):
            self._later(call, delay)
        else:
            self._end(call)
