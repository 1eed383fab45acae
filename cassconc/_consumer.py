"""The window of a `map`, from the side of its consumer: what was taken and not yielded yet.

This side belongs to the iterator that `map` returns, and goes with it. So the input and the
results die on a thread of the caller, and a map that nobody iterates keeps no results.
"""

from __future__ import annotations

import math
from concurrent.futures import CancelledError, TimeoutError
from typing import (
    Any,
    Callable,
    Collection,
    Deque,
    Generator,
    Iterator,
    Optional,
    Set,
    Tuple,
    Union,
)

from ._clock import Clock
from ._futures import CallFuture
from ._report import FailureReport, TooManyErrors
from ._signals import Signal
from ._window import AnyFuture, Window

# Accepts one item of the input: (item, position, window) -> its future, which tells the window
# when it has ended. Raises where the item is malformed, or nothing is accepted any more.
Start = Callable[[Any, int, Window], AnyFuture]

# Ends those of some calls that are not wanted any more.
Drop = Callable[[Collection[AnyFuture]], None]

# Makes of a call, its result or exception, and whether it has succeeded, what is handed out.
Shape = Callable[[Any, Any, bool], Any]

_END = object()
_A_WHILE = 0.005  # seconds that a result which is there may wait for more input
# Calls that are taken at a stretch. Fewer cost more thread switches; more are so many new objects
# that the garbage collector looks at them, though none of them is garbage.
_STRETCH = 50
# How long a consumer that had to wait lets more results come. Answers come in bursts, and it would
# be woken for the first of each, and have the driver's thread stop: at a concurrency of 10 that is
# an eighth of the CPU. Not where its map has few calls, or few wait for their turn: nothing may
# have to wait for it.
_PAUSE = 0.001  # seconds


class Consumer:
    """The consumer's side of a window: takes from the input, waits, hands out.

    Not thread-safe: one thread at a time iterates, whichever.
    """

    def __init__(
        self,
        window: Window,
        clock: Clock,
        items: Iterator[Any],
        start: Start,
        size: float,
        deadline: float,
        drop: Drop,
    ) -> None:
        self._window = window
        self._clock = clock
        self._items = items
        self._start: Optional[Start] = start
        self._size = size  # how many calls are taken ahead, at most
        self._low = 0 if size == math.inf else max(size // 2, size - _STRETCH)  # and then more
        self._deadline = deadline
        self._drop = drop
        self._taken = 0
        self._error: Optional[Exception] = None  # with which the input has ended
        # for TooManyErrors:
        self._report = FailureReport()
        self._cancelled = 0
        self._popped: Any = None

    # The calls that were taken and not handed out; a subclass orders them.
    _calls: Union[Deque[AnyFuture], Set[AnyFuture]]
    _add: Callable[[AnyFuture], None]
    _pop: Callable[[], AnyFuture]

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _awaited(self) -> object:
        raise NotImplementedError

    def _is_past_end(self) -> bool:
        raise NotImplementedError

    def _take(self, room: float, patience: float = math.inf) -> None:
        """Take from the input until `room` calls are in the window.

        After `patience` seconds less will do, if a result is there that could be handed out.
        """
        until = self._clock.monotonic() + patience
        window, items, start = self._window, self._items, self._start
        while start is not None and len(self._calls) < room:
            if window.last != math.inf or window.closed:
                self._let_go()
                return
            try:
                item = next(items, _END)
                if item is _END or window.last != math.inf:  # or a call has failed meanwhile
                    self._let_go()
                    return
                call = start(item, self._taken, window)
            except Exception as error:  # of the input, of a malformed item, or after shutdown
                self._let_go()
                self._error = error
                window.note_error(error)
                return
            self._taken += 1
            self._add(call)
            if patience != math.inf and self._clock.monotonic() > until and self._is_ready():
                return

    def _let_go(self) -> None:
        """Take nothing more, and keep nothing of what that needs: the input, and the executor."""
        self._start = None
        self._items = iter(())

    def fill(self) -> None:
        """Fill the window for the first time.

        Without a bound, this takes the whole input, and raises what the input raises.
        """
        try:
            self._take(self._size)
            if self._size == math.inf:
                self._raise_error()
        except BaseException:
            self.close()
            raise

    def advance(self) -> bool:
        """Wait for the next result; returns False at the end of the input.

        Raises what the input raised, `TimeoutError`, or `TooManyErrors`.
        """
        # the call that is asked for counts as handed out
        if self._start is not None and len(self._calls) - 1 <= self._low:
            self._take(self._size + 1, _A_WHILE)
        while True:
            if self._window.max_errors is not None and self._is_over_budget():
                raise self._too_many_errors()
            if not self._calls:
                self._raise_error()
                return False
            if self._is_ready():
                return True
            self._wait(self._awaited(), self._is_ready)
            if len(self._calls) >= _STRETCH and self._window.gate.has_waiting(_STRETCH):
                self._clock.pause(_PAUSE)

    def _is_over_budget(self) -> bool:
        return self._window.last != math.inf and (not self._calls or self._is_past_end())

    def _too_many_errors(self) -> TooManyErrors:
        self._drop(self._calls)
        for call in tuple(self._calls):
            if not isinstance(call, CallFuture):
                call.cancel()
            self._wait(call, call.done)
            self._tally(call, outcome_of(call)[1])
        self._window.all_looked_at()
        return TooManyErrors(self._taken, self._cancelled, self._report)

    def _raise_error(self) -> None:
        """Raise what the input, or a malformed item in it, has raised."""
        error, self._error = self._error, None
        if error is not None:
            self._window.looked_at(error)
            try:
                raise error
            finally:
                del error  # no cycle through its traceback

    def _wait(self, awaited: object, is_ready: Callable[[], bool]) -> None:
        window = self._window
        signal = Signal()
        window.awaited = awaited, signal
        try:
            while True:
                # in this order: who ends a call looks at what is awaited afterwards
                if is_ready():
                    return
                if window.closed:
                    raise CancelledError
                if self._clock.monotonic() >= self._deadline:
                    raise TimeoutError
                self._clock.wait(signal, self._deadline)
        finally:
            window.awaited = None

    def pop(self) -> Optional[BaseException]:
        """Take the next call out of the window; returns its exception if that ends the map.

        To be called after `advance`, and followed by `hand_out` otherwise. Raises `TooManyErrors`
        where it is one failure too many.
        """
        call: Any = self._pop()
        result, error = outcome_of(call)
        if error is None:
            self._popped = call, result, True
            return None
        if self._window.max_errors is not None:
            self._count(call, error)
        self._window.looked_at(error)
        if not (self._window.return_exceptions and isinstance(error, Exception)):
            return error
        self._popped = call, error, False
        return None

    def hand_out(self, shape: Shape) -> Any:
        """Return what `shape` makes of what was popped, and keep nothing of it."""
        popped, self._popped = self._popped, None
        return shape(*popped)

    def _tally(self, call: AnyFuture, error: Optional[BaseException]) -> None:
        if call.cancelled():
            self._cancelled += 1
        elif error is not None:
            self._report.add(error)

    def _count(self, call: AnyFuture, error: BaseException) -> None:
        self._tally(call, error)
        if not call.cancelled() and self._report.count > self._window.allowed:
            raise self._too_many_errors() from None

    def stop(self) -> None:
        """End the map, from any thread: nothing more is sent, and who waits, ends."""
        self._window.close()
        self._drop(tuple(self._calls))

    def close(self) -> None:
        """Take nothing more, and send nothing more."""
        self._window.close()  # first, for an interrupt may strike
        self._let_go()
        calls = tuple(self._calls)
        for call in calls:
            if not isinstance(call, CallFuture):
                call.cancel()
        self._drop(calls)
        self._calls.clear()


def outcome_of(call: AnyFuture) -> Tuple[Any, Optional[BaseException]]:
    """Return the result and the exception of a future that has ended."""
    if isinstance(call, CallFuture):
        return call.outcome()
    if call.cancelled():
        return None, CancelledError()
    error = call.exception()
    return (call.result() if error is None else None), error


def iterate(consumer: Consumer, shape: Shape) -> Generator[Any, None, None]:
    """Yield what `shape` makes of each call.

    When it is closed, or dropped after the first `next`, nothing more is sent. One that was never
    asked is no generator that runs yet: dropping it does not abort.
    """
    failure = None
    try:
        while consumer.advance():
            failure = consumer.pop()
            if failure is not None:
                break
            yield consumer.hand_out(shape)
    finally:
        try:
            consumer.close()
        except BaseException:  # an interrupt; nothing is done twice
            consumer.close()
            raise
        del consumer  # the failure may be kept, and its traceback with this frame
    if failure is not None:
        try:
            raise failure
        finally:
            del failure
