"""The window of a `map`, from the side of its calls: what they have in common."""

from __future__ import annotations

import functools
import math
import threading
import weakref
from concurrent.futures import Future
from typing import Any, Deque, Dict, Optional, Tuple, Union

from . import _process
from ._futures import CallFuture, run_held
from ._gate import Gate
from ._log import logger
from ._signals import Signal
from ._threads import helper_threads

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
        gate: Gate,
        title: str,
        return_exceptions: bool,
        max_errors: Union[int, float, None] = None,
    ) -> None:
        self.gate = gate
        self.return_exceptions = return_exceptions or max_errors is not None
        self.max_errors = max_errors
        # The call that the consumer waits for, or True for any, and what it waits at.
        self.awaited: Optional[Tuple[object, Signal]] = None
        self.ended_calls: Optional[weakref.ref[Deque[AnyFuture]]] = None
        self.closed = False  # nothing more is wanted
        # guarded by the gate's lock:
        self.last: float = math.inf  # the last position that is still wanted
        self.allowed: float = max_errors if type(max_errors) is int else math.inf
        self._ended_count = 0
        self._failed_count = 0
        self._failures: Dict[str, int] = {}  # by type, those that nobody looked at
        weakref.finalize(self, _report, gate, title, self._failures)

    def settled(self, call: AnyFuture, exception: Optional[BaseException]) -> bool:
        """Note an outcome; returns whether less is wanted now. The gate's lock is held.

        Without `max_errors`, only failures need be told.
        """
        self._ended_count += 1
        if exception is not None:
            self._failed_count += 1
            self.note_error(exception)
        elif not self._failed_count or self.last != math.inf:
            return False
        position: int = call.position  # type: ignore[union-attr]
        if self.max_errors is None:
            return not self.return_exceptions and self._end_at(position)
        if not self._is_over_budget():
            return False
        # the failure that is too many is not yielded, so it is not wanted, either
        if self.allowed == math.inf:
            self.allowed = self._failed_count - (exception is not None)
        return self._end_at(position - (exception is not None))

    def _end_at(self, position: int) -> bool:
        if position >= self.last:
            return False
        self.last = position
        return True

    def _is_over_budget(self) -> bool:
        if isinstance(self.max_errors, int):
            return self._failed_count > self.max_errors
        return self._ended_count >= _ENOUGH and (
            self._failed_count > (self.max_errors or 0) * self._ended_count
        )

    def note_error(self, error: BaseException) -> None:
        """Note a failure: of a call, or of the map itself, such as one of its input."""
        kind = type(error).__name__
        with self.gate.lock:
            self._failures[kind] = self._failures.get(kind, 0) + 1

    def ended_elsewhere(self, call: Any) -> None:
        """Note that a call has ended that no gate knows of: one of a callable, which aborts less.

        As with `ThreadPoolExecutor.map`, only the consumer ends such a map, or its `max_errors`.
        """
        exception = None if call.cancelled() else call.exception()
        if self.max_errors is not None:
            with self.gate.lock:
                self.settled(call, exception)
        elif exception is not None:
            self.note_error(exception)
        self.ended(call)

    def ended(self, call: AnyFuture) -> None:
        """Note that a call has ended; no lock is held."""
        if self.ended_calls is not None:
            ended_calls = self.ended_calls()
            if ended_calls is not None:
                ended_calls.append(call)
        awaited = self.awaited
        if awaited is not None and (awaited[0] is call or awaited[0] is True):
            awaited[1].set()

    def looked_at(self, error: BaseException) -> None:
        """Note that a failure has reached the caller."""
        kind = type(error).__name__
        with self.gate.lock:
            if kind in self._failures:
                self._failures[kind] -= 1

    def all_looked_at(self) -> None:
        """Note that all failures so far have reached the caller."""
        with self.gate.lock:
            self._failures.clear()

    def close(self) -> None:
        """Want nothing more; whoever waits for a call of this map gets a `CancelledError`."""
        self.closed = True
        awaited = self.awaited
        if awaited is not None:
            awaited[1].set()


def _report(gate: Gate, title: str, failures: Dict[str, int]) -> None:
    kinds = [f"{count} {kind}" for kind, count in failures.items() if count]
    if not kinds:
        return
    text = "failures of map(%s) that nobody looked at: %s"
    log = functools.partial(logger.error, text, title, ", ".join(kinds))
    if _process.is_exiting() and threading.current_thread() is threading.main_thread():
        log()  # no helper thread may be to be had any more
        return
    gate.hold()  # the line is written before `shutdown` returns, or the interpreter exits
    # on a helper thread, for its handlers are the caller's code
    helper_threads.run(functools.partial(run_held, gate, log))
