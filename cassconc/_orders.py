"""The two orders in which a `map` hands out its results."""

from __future__ import annotations

import collections
import weakref
from typing import Any, Deque, Set

from ._consumer import Consumer
from ._window import AnyFuture


class Ordered(Consumer):
    """Hands out in the order of the input."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._calls: Deque[AnyFuture] = collections.deque()
        self._add, self._pop = self._calls.append, self._calls.popleft

    def _is_ready(self) -> bool:
        return self._calls[0].done()

    def _awaited(self) -> object:
        return self._calls[0]

    def _is_past_end(self) -> bool:
        position: int = self._calls[0].position  # type: ignore[union-attr]
        return position > self._window.last


class Unordered(Consumer):
    """Hands out in the order in which the calls end."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._calls: Set[AnyFuture] = set()
        self._ended: Deque[AnyFuture] = collections.deque()
        # weak: when nobody iterates any more, nothing is kept
        self._window.ended_calls = weakref.ref(self._ended)
        self._add = self._calls.add

    def _is_ready(self) -> bool:
        ended = self._ended
        while ended and ended[0] not in self._calls:
            ended.popleft()  # an interrupt has struck when its end was told, so it was told twice
        return bool(ended)

    def _awaited(self) -> object:
        return True

    def _is_past_end(self) -> bool:
        return not self._is_ready()

    def _pop(self) -> AnyFuture:
        call = self._ended.popleft()
        self._calls.remove(call)
        return call
