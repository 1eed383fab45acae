"""Failures: each failed call has an exception of its own that tells which call it was."""

from __future__ import annotations

from types import FrameType
from typing import Any, List, Optional, TypeVar

from ._calls import Call, text_of

Error = TypeVar("Error", bound=BaseException)


class Note(str):
    """A note of ours on an exception, as opposed to those that it brings along."""

    __slots__ = ()


def own(error: Error, call: Call, sent: Any) -> Error:
    """Return `error`, or a copy where it is another call's already, marked as that of `call`.

    The driver gives one and the same exception to all calls of a lost connection. The call is the
    exception's attribute `call`, and its position and the statement that was `sent` are a note
    (PEP 678). An exception that can't be copied or marked stays as it is.
    """
    try:
        # setdefault is atomic: of two calls that get the same object at once, one is first
        if vars(error).setdefault("call", call) is not call:
            error = _copy(error)
            set_attribute(error, "call", call)
        number = "" if call.position is None else f"{call.position}: "
        add_note(error, f"call {number}{text_of(sent)}")
    except Exception:  # of a class of the caller's, or of a statement whose text raises
        pass
    return error


def set_attribute(error: BaseException, name: str, value: Any) -> None:
    """Set an attribute, whatever the class of the exception has to say about that."""
    vars(error)[name] = value


def add_note(error: BaseException, note: str) -> None:
    """Add a note, as `BaseException.add_note` does, which Python 3.10 has not."""
    notes: Any = vars(error).get("__notes__")
    if not isinstance(notes, list):
        notes = vars(error)["__notes__"] = list(notes or ())
    notes.append(Note(note))


def forget_frames(error: BaseException, frame: FrameType) -> None:
    """Let an exception that was raised below a frame forget where, and so do what led to it.

    Such a frame leads to those that called it, with all that they have just now: the caller's
    values, and the call itself, which keeps the exception.
    """
    each: Optional[BaseException] = error
    while each is not None and each.__traceback__ is not None:
        below: Optional[FrameType] = each.__traceback__.tb_frame
        while below is not None and below is not frame:
            below = below.f_back
        if below is None:
            return  # the caller was handling this one
        BaseException.with_traceback(each, None)
        each = each.__cause__ or each.__context__


def _copy(error: Error) -> Error:
    kind = type(error)
    # Not by its own __new__ and __init__: the driver's make their message from arguments that are
    # not kept, and others want some that nobody has.
    base: Any = next(each for each in kind.__mro__ if each.__module__ == "builtins")
    twin: Error = base.__new__(kind, *error.args)
    if base.__init__ is not Exception.__init__:
        base.__init__(twin, *error.args)
    vars(twin).update(vars(error))
    vars(twin).pop("attempts", None)  # they are the other call's
    notes: List[Any] = vars(error).get("__notes__") or []
    set_attribute(twin, "__notes__", [note for note in notes if not isinstance(note, Note)])
    for name, value in (
        ("args", error.args),
        ("__traceback__", error.__traceback__),
        ("__cause__", error),
    ):
        BaseException.__setattr__(twin, name, value)
    return twin
