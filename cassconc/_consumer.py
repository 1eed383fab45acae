"""The window of a `map`, from the side of its consumer: what was taken and not yielded yet.

This side belongs to the iterator that `map` returns, and goes with it. So the input and the
results die on a thread of the caller, and a map that nobody iterates keeps no results.
"""

from __future__ import annotations

import collections
import math
import weakref
from concurrent.futures import CancelledError, TimeoutError
from typing import Any, Callable, Deque, Generator, Iterator, Optional, Set, Tuple, Union

from ._clock import Clock
from ._futures import CallFuture
from ._report import TooManyErrors
from ._window import AnyFuture, Window

# Accepts one item of the input: (item, position, window) -> its future, which tells the window
# when it has ended. Raises where the item is malformed, or nothing is accepted any more.
Start = Callable[[Any, int, Window], AnyFuture]

_A_WHILE = 0.005  # seconds that a result which is there may wait for more input


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
        sweep: Callable[[], None],
    ) -> None:
        self._window = window
        self._clock = clock
        self._items = items
        self._start = start
        self._size = size  # how many calls are taken ahead, at most
        self._low = 0 if size == math.inf else size // 2  # at how many more are taken
        self._deadline = deadline
        self._sweep = sweep  # ends what is not wanted any more
        self._taken = 0
        self._more = True  # the input has not ended
        self._error: Optional[Exception] = None  # with which it has

    # The calls that were taken and not handed out; a subclass orders them.
    _calls: Union[Deque[AnyFuture], Set[AnyFuture]]

    def _add(self, call: AnyFuture) -> None:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        raise NotImplementedError

    def _awaited(self) -> object:
        raise NotImplementedError

    def _is_past_end(self) -> bool:
        raise NotImplementedError

    def _pop(self) -> AnyFuture:
        raise NotImplementedError

    def _take(self, room: float, patience: float = math.inf) -> None:
        """Take from the input until `room` calls are in the window.

        After `patience` seconds less will do, if a result is there that could be handed out.
        """
        until = self._clock.monotonic() + patience
        while self._more and len(self._calls) < room:
            if self._window.last != math.inf:
                self._more = False
                return
            try:
                item = next(self._items)
                self._add(self._start(item, self._taken, self._window))
            except StopIteration:
                self._more = False
                return
            except Exception as error:  # of the input, of a malformed item, or after shutdown
                self._more = False
                self._error = error
                return
            self._taken += 1
            if patience != math.inf and self._clock.monotonic() > until and self._is_ready():
                return

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
        if self._more and len(self._calls) - 1 <= self._low:
            self._take(self._size + 1, _A_WHILE)
        if self._window.max_errors is not None and self._window.last != math.inf:
            if not len(self._calls) or self._is_past_end():
                raise self._too_many_errors()
        if not len(self._calls):
            self._raise_error()
            return False
        if not self._is_ready():
            self._wait(self._awaited(), self._is_ready)
        return True

    def _too_many_errors(self) -> TooManyErrors:
        self._sweep()
        never_sent = 0
        for call in tuple(self._calls):
            if not isinstance(call, CallFuture):
                call.cancel()
            self._wait(call, call.done)
            never_sent += call.cancelled()
        self._window.all_looked_at()
        return TooManyErrors(self._taken, never_sent, self._window.report)

    def _raise_error(self) -> None:
        """Raise what the input, or a malformed item in it, has raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _wait(self, awaited: object, is_ready: Callable[[], bool]) -> None:
        window = self._window
        window.awaited = awaited
        try:
            while True:
                # in this order: what ends after the look at it sets the event again
                window.changed.clear()
                if is_ready():
                    return
                if window.last < 0:
                    raise CancelledError
                if self._clock.monotonic() >= self._deadline:
                    raise TimeoutError
                self._clock.wait(window.changed, self._deadline)
        finally:
            window.awaited = None

    def pop(self) -> Tuple[Any, Any, bool]:
        """Return the next call, its result or exception, and whether it has succeeded.

        To be called after `advance`. Raises the exception where it ends the map.
        """
        call: Any = self._pop()
        try:
            try:
                return call, call.result(), True
            except Exception as error:
                self._window.looked_at(error)
                if not self._window.return_exceptions:
                    raise
                return call, error, False
        finally:
            del call  # no cycle through the exception's traceback

    def stop(self) -> None:
        """End the map, from any thread: nothing more is sent, and who waits, ends."""
        self._window.close()
        self._sweep()

    def close(self) -> None:
        """Take nothing more, and send nothing more."""
        self._more = False
        self._items = iter(())
        self.stop()


class Ordered(Consumer):
    """Hands out in the order of the input."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._calls: Deque[AnyFuture] = collections.deque()

    def _add(self, call: AnyFuture) -> None:
        self._calls.append(call)

    def _is_ready(self) -> bool:
        return self._calls[0].done()

    def _awaited(self) -> object:
        return self._calls[0]

    def _is_past_end(self) -> bool:
        position: int = self._calls[0].position  # type: ignore[union-attr]
        return position > self._window.last

    def _pop(self) -> AnyFuture:
        return self._calls.popleft()

    def close(self) -> None:
        super().close()
        _cancel(self._calls)


class Unordered(Consumer):
    """Hands out in the order in which the calls end."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._calls: Set[AnyFuture] = set()
        self._ended: Deque[AnyFuture] = collections.deque()
        # weak: when nobody iterates any more, nothing is kept
        self._window.ended_calls = weakref.ref(self._ended)

    def _add(self, call: AnyFuture) -> None:
        self._calls.add(call)

    def _is_ready(self) -> bool:
        return bool(self._ended)

    def _awaited(self) -> object:
        return True

    def _is_past_end(self) -> bool:
        return not self._ended

    def _pop(self) -> AnyFuture:
        call = self._ended.popleft()
        self._calls.remove(call)
        return call

    def close(self) -> None:
        super().close()
        _cancel(self._calls)


def _cancel(calls: Union[Deque[AnyFuture], Set[AnyFuture]]) -> None:
    # those of a gate are not wanted any more, that is enough
    for call in calls:
        if not isinstance(call, CallFuture):
            call.cancel()
    calls.clear()


def iterate(
    consumer: Consumer, shape: Callable[[Any, Any, bool], Any]
) -> Generator[Any, None, None]:
    """Yield what `shape` makes of each call, its result or exception, and whether it succeeded.

    When it is closed, or dropped after the first `next`, nothing more is sent. One that was never
    asked is no generator that runs yet: dropping it does not abort.
    """
    try:
        while consumer.advance():
            yield shape(*consumer.pop())
    finally:
        consumer.close()
