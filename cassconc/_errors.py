"""Failures: each failed call has an exception of its own that tells which call it was."""

from __future__ import annotations

from typing import TypeVar

from ._calls import Call

Error = TypeVar("Error", bound=BaseException)


def own(error: Error, call: Call) -> Error:
    """Return `error`, or a copy where it is another call's already, marked as that of `call`.

    The driver gives one and the same exception to all calls of a lost connection. The call is the
    exception's attribute `call`, and its position and statement are a note (PEP 678).
    """
    # setdefault is atomic: of two calls that get the same object at once, one is first
    if vars(error).setdefault("call", call) is not call:
        original, error = error, _copy(error)
        error.__cause__ = original
        vars(error).update(call=call, __notes__=[])
    add_note(error, f"call {call}")
    return error


def add_note(error: BaseException, note: str) -> None:
    """Add a note, as `BaseException.add_note` does, which Python 3.10 has not."""
    vars(error).setdefault("__notes__", []).append(note)


def _copy(error: Error) -> Error:
    # __init__ is passed over: the driver's make their message from arguments that are not kept
    twin: Error = type(error).__new__(type(error), *error.args)
    twin.args = error.args
    vars(twin).update(vars(error))
    return twin.with_traceback(error.__traceback__)
