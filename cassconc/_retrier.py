"""The retrier: decides what is tried again, and has it sent when its time has come."""

from __future__ import annotations

import collections
import functools
import re
from typing import Any, Optional, Protocol

from ._calls import Call
from ._clock import Clock
from ._driver import TRANSIENT, is_shutdown
from ._errors import add_note, set_attribute
from ._futures import CallFuture, Outcome
from ._lines import TOO_LATE
from ._log import log_failure
from ._retry import RetryEvent, Tries
from ._threads import helper_threads

_NO_BUDGET = 0.1  # seconds to wait at least when there is none

# What says nothing in a statement: strings, quoted names and comments.
_TEXT = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | \$\$.*?\$\$ | --[^\n]* | //[^\n]* | /\*.*?\*/""",
    re.DOTALL | re.VERBOSE,
)
# What a retry can't harm, whatever timestamp it is sent with.
_HARMLESS = re.compile(
    r"""\s*(?: SELECT\b
          | BEGIN\s+ (?:UNLOGGED\s+|COUNTER\s+)? BATCH\s+ USING\s+ TIMESTAMP\b
          | (?!\s*BEGIN\b) .*\bUSING\s+ (?:TTL\s+\S+\s+AND\s+)? TIMESTAMP\b )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


class Sink(Protocol):
    """Where calls go whose time has come; called on the clock's thread."""

    def send_soon(self, call: CallFuture) -> None:
        """Send an admitted call."""

    def end_aside(self, call: CallFuture) -> None:
        """End a call that was put aside, with the failure that it has."""


class Retrier:
    """Has calls tried again.

    Guarantees: a call that waits for its retry holds no thread and no place in the gate. Its
    retry comes before all that waits in the gate, for the call came before them.
    """

    def __init__(self, session: Any, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def take(
        self, call: CallFuture, attempt: int, error: Exception, sink: Sink
    ) -> Optional[Outcome]:
        """Take a call whose attempt has failed; returns `None` when it is not tried again."""
        tries = call.tries
        if tries is None:
            return None
        is_transient = isinstance(error, TRANSIENT)
        delay = self._delay(call, attempt, error, tries) if is_transient else None
        described, position = call.call, call.position
        outcome = TOO_LATE if delay is None else call.gate.put_aside(call, attempt, error)
        if delay is None or not outcome[0]:
            if is_transient or tries.exceptions:
                _tell_attempts(error, tries)
            return None
        # from here on it may be ended at any moment, and lets go of what it has
        tries.exceptions.append(error)
        self._tell(tries, described, position, attempt, error, delay)
        try:
            self._later(call, delay, sink)
        except Exception:  # no thread is to be had
            log_failure("a retry can't be scheduled")
            sink.end_aside(call)
        return outcome

    def tell_attempts(self, call: CallFuture) -> None:
        """Have the failure with which a call ends that was put aside tell of the earlier ones."""
        error, tries = call._exception, call.tries
        if isinstance(error, Exception) and tries is not None:
            _tell_attempts(error, tries)

    def _delay(
        self, call: CallFuture, attempt: int, error: Exception, tries: Tries
    ) -> Optional[float]:
        request = call.request
        if request is None:
            return None
        statement = request[0]
        if not getattr(statement, "is_idempotent", False):
            add_note(error, "not tried again: the statement is not marked as idempotent")
            return None
        if not _is_harmless(statement, tries):
            add_note(error, "not tried again: the timestamp of the first attempt can't be kept")
            return None
        if attempt >= tries.retry.attempts or is_shutdown(self._session):
            return None
        delay = tries.retry.wait(attempt)
        return delay if tries.has_time(self._clock.monotonic() + delay) else None

    def _tell(
        self,
        tries: Tries,
        described: Any,
        position: Optional[int],
        attempt: int,
        error: Exception,
        delay: float,
    ) -> None:
        on_retry = tries.retry.on_retry
        if on_retry is not None and described is not None:
            statement, given = described
            event = RetryEvent(Call(statement, given, position), attempt, error, delay)
            helper_threads.run(functools.partial(on_retry, event))

    def _later(self, call: CallFuture, delay: float, sink: Sink) -> None:
        when = self._clock.monotonic() + delay
        self._clock.call_at(when, functools.partial(self._again, call, sink))

    def _again(self, call: CallFuture, sink: Sink) -> None:
        tries = call.tries
        if tries is None or call.done():
            return
        if tries.budget.take(self._clock.monotonic()):
            taken, admitted = call.gate.try_again(call)
            if admitted:
                sink.send_soon(call)
            elif not taken:
                sink.end_aside(call)
            return
        try:
            delay = _NO_BUDGET + tries.retry.wait(call.attempt)
            if tries.has_time(self._clock.monotonic() + delay):
                self._later(call, delay, sink)
                return
        except Exception:  # of a `Retry` of the caller's own, or no thread is to be had
            log_failure("a retry can't be scheduled")
        sink.end_aside(call)


def _tell_attempts(error: Exception, tries: Tries) -> None:
    if vars(error).get("attempts", ())[-1:] == (error,):
        return  # it was told
    earlier = [each for each in tries.exceptions if each is not error]
    set_attribute(error, "attempts", (*earlier, error))
    if earlier:
        kinds = collections.Counter(type(each).__name__ for each in earlier)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        add_note(error, f"attempt {len(earlier) + 1}; before it: {counts}")


def _is_harmless(statement: Any, tries: Tries) -> bool:
    if not tries.was_sent or tries.timestamp is not None:
        return True
    statement = getattr(statement, "prepared_statement", statement)
    text = getattr(statement, "query_string", None)
    return isinstance(text, str) and _HARMLESS.match(_TEXT.sub(" ", text)) is not None
