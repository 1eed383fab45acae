"""The smallest session there can be, and the fastest: it answers inside `execute_async`."""

from __future__ import annotations

import sys
from typing import Any, Callable

from tests.waits import Background


class ImmediateResponse:
    """A response that is there already."""

    _col_names = _col_types = None
    has_more_pages = False

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def add_callbacks(
        self, callback: Any, errback: Any, callback_args: Any = (), errback_args: Any = ()
    ) -> None:
        """Call back at once."""
        if isinstance(self._answer, BaseException):
            errback(self._answer, *errback_args)
        else:
            callback(self._answer, *callback_args)

    def clear_callbacks(self) -> None:
        """Do nothing."""


class _HeldResponse(ImmediateResponse):
    def __init__(self) -> None:
        super().__init__([])
        self.release: Callable[[], Any] = int

    def add_callbacks(self, *args: Any, **kwargs: Any) -> None:
        add = super().add_callbacks
        self.release = lambda: add(*args, **kwargs)


class ImmediateSession:
    """A session that answers inside `execute_async`, and keeps nothing.

    Args:
        respond: Called with the parameters of each request; returns the rows, or an exception,
            with which the request fails.
        raises: Whether `execute_async` raises that exception.
        held: Whether the first request waits for `release`.
    """

    default_timeout = 10.0

    def __init__(
        self,
        respond: Callable[[Any], Any] = lambda parameters: [],
        *,
        raises: bool = False,
        held: bool = False,
    ) -> None:
        self.respond = respond
        self.raises = raises
        self.sent = 0
        self.depth = 0  # of the stack below execute_async, at most
        self._held = _HeldResponse() if held else None

    def execute_async(self, statement: Any, parameters: Any = None, **_: Any) -> ImmediateResponse:
        """Count a request, and answer it."""
        self.sent += 1
        if self.sent % 500 == 1:
            self.depth = max(self.depth, _depth())
        if self.sent == 1 and self._held is not None:
            return self._held
        answer = self.respond(parameters)
        if self.raises and isinstance(answer, BaseException):
            raise answer
        return ImmediateResponse(answer)

    def release(self) -> None:
        """Answer the first request, on a thread of its own; fail if that does not come back."""
        assert self._held is not None
        Background(self._held.release).result()


def _depth() -> int:
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    return depth
