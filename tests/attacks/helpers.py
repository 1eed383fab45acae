"""What the attacks share: threads stopped at a given place, and sessions that behave badly."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any, Callable, Optional

from cassconc import CassandraExecutor
from tests.waits import Background


def comes_back(code: Callable[[], Any]) -> Any:
    """Run code on a thread of its own, and fail if it does not come back."""
    return Background(code).result()


class At:
    """Runs `action()` once on this thread, when a function of `cassconc` is called.

    It stands for a switch to another thread, a signal handler or a finalizer at that place.

    Args:
        name: The name of the function.
        action: What is run as the function's first line is about to be.
        line: A part of the text of the line before which it is run instead.
    """

    def __init__(self, name: str, action: Callable[[], Any], line: Optional[str] = None) -> None:
        self._name = name
        self._action: Optional[Callable[[], Any]] = action
        self._line = line
        self.happened = False

    def __enter__(self) -> At:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("cassconc.") or module.startswith("cassconc.testing"):
            return None
        if frame.f_code.co_name != self._name:
            return None
        if self._line is None:
            self._happen()
            return None
        return self._in_function

    def _in_function(self, frame: FrameType, event: str, arg: Any) -> Any:
        import linecache

        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and self._line is not None and self._line in text:
            self._happen()
        return self._in_function

    def _happen(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            self.happened = True
            sys.settrace(None)
            try:
                action()
            finally:
                sys.settrace(self._trace)


class Plain:
    """The smallest response there can be: answered by `succeed` and `fail`, as often as one likes.

    `session` is a session whose responses these are; `responses` are those that were sent.
    """

    _col_names = _col_types = None
    has_more_pages = False
    warnings = None

    def __init__(self, number: int) -> None:
        self.number = number
        self._added = threading.Event()

    def add_callbacks(
        self, callback: Any, errback: Any, callback_args: Any = (), errback_args: Any = ()
    ) -> None:
        self.succeed: Callable[[], Any] = lambda: callback([], *callback_args)
        self.fail: Callable[[BaseException], Any] = lambda error: errback(error, *errback_args)

    def clear_callbacks(self) -> None:
        pass


class PlainSession:
    """Its responses are `Plain`."""

    default_timeout = 10.0

    def __init__(self) -> None:
        self.responses: list[Plain] = []

    def execute_async(self, *args: Any, **kwargs: Any) -> Plain:
        response = Plain(len(self.responses))
        self.responses.append(response)
        return response


def shut_down(executor: CassandraExecutor, **options: Any) -> None:
    """Shut an executor down on another thread, and fail if that does not come back."""
    comes_back(lambda: executor.shutdown(**options))
