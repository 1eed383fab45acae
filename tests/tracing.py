"""What strikes at a given place in the code of `cassconc`: it traces what runs on this thread."""

from __future__ import annotations

import linecache
import sys
from types import FrameType
from typing import Any, Callable, Optional


class _Traced:
    """Follows the lines that this thread runs in `cassconc`, while it is entered."""

    def __enter__(self) -> Any:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith("cassconc.") or module.startswith("cassconc.testing"):
            return None
        return self._called(frame)

    def _called(self, frame: FrameType) -> Any:
        """See a function called; returns what traces its lines, if anything does."""
        raise NotImplementedError


class At(_Traced):
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

    def _called(self, frame: FrameType) -> Any:
        if frame.f_code.co_name != self._name:
            return None
        if self._line is None:
            self._happen()
            return None
        return self._in_function

    def _in_function(self, frame: FrameType, event: str, arg: Any) -> Any:
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


class AtLine(_Traced):
    """Runs `action()` once on this thread, before a line of `cassconc`, as a signal handler would.

    The end of a `with` block is spared: the line of its head is reported once more before the
    block is left, and there no signal handler ever runs; nor does one at `try:`, which does
    nothing, and which no block around it protects.

    Args:
        number: Which of the lines that are run, from 0.
        action: What is run; what it raises comes out of that line.
    """

    def __init__(self, number: int, action: Callable[[], Any]) -> None:
        self._left = number
        self._action = action
        self.struck: Optional[str] = None

    def _called(self, frame: FrameType) -> Any:
        path, last = frame.f_code.co_filename, 0

        def trace(frame: FrameType, event: str, arg: Any) -> Any:
            nonlocal last
            if event == "line" and self.struck is None:
                before, last = last, frame.f_lineno
                text = linecache.getline(path, last).lstrip()
                leaves = last < before and text.startswith("with ")
                spared = leaves or text.startswith("try:")
                if self._left == 0 and not spared:
                    self.struck = f"{path}:{last}"
                    self._action()
                self._left -= not spared
            return trace

        return trace


class InterruptAtLine(AtLine):
    """Raises `KeyboardInterrupt` at a line of `cassconc`, as Ctrl-C would.

    Args:
        number: Which of the lines that are run, from 0.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, self._interrupt)

    @staticmethod
    def _interrupt() -> None:
        raise KeyboardInterrupt
