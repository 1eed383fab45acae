"""The starter: makes a call of what the caller gave, and starts it."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Callable, NamedTuple, Optional

from ._adapter import Options
from ._calls import Taken, check_runnable, checked, is_statement, no_pair, pair, take
from ._consumer import Start
from ._dispatcher import Dispatcher
from ._futures import CallFuture
from ._gate import Gate
from ._window import AnyFuture, Window
from ._workers import Workers


class Starter(NamedTuple):
    """Starts calls with the options of one view on an executor. Thread-safe."""

    gate: Gate
    dispatcher: Dispatcher
    workers: Workers
    options: Options

    def start(
        self,
        statement: Any,
        given: Any,
        taken: Taken,
        window: Optional[Window] = None,
        position: Optional[int] = None,
    ) -> CallFuture:
        """Start a call of a statement with the parameters that were given and `taken`."""
        request = (*taken, copy_context(), self.options)
        call = CallFuture(self.gate, request, (statement, given), window, position)
        self.dispatcher.start(call)
        return call

    def of(self, fn: Any) -> Start:
        """Return what starts calls of a statement or callable, with the items as parameters.

        Raises `TypeError` when `fn` is neither.
        """
        if not check_runnable("fn", fn):
            return self._of_callable(fn)

        def start(item: Any, position: int, window: Window) -> AnyFuture:
            taken = take(fn, item, position)
            return self.start(fn, item, taken, window, position)

        return start

    def of_pairs(self) -> Start:
        """Return what starts calls of items that are pairs of a statement and its parameters."""

        def start(item: Any, position: int, window: Window) -> AnyFuture:
            statement, given = pair(item, position)
            if not is_statement(statement):
                raise no_pair(item, position)
            taken = take(statement, given, position)
            return self.start(statement, given, taken, window, position)

        return start

    def _of_callable(self, fn: Callable[..., Any]) -> Start:
        def start(item: Any, position: int, window: Window) -> AnyFuture:
            arguments = checked(item, fn, position)
            self.gate.check_open()
            if isinstance(arguments, dict):
                future = self.workers.submit(fn, **arguments)
            else:
                future = self.workers.submit(fn, *arguments)
            # a CallFuture has them, too
            future.call, future.position = (fn, item), position  # type: ignore[attr-defined]
            future.add_done_callback(window.ended_elsewhere)
            return future

        return start
