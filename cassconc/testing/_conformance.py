"""What the checks of the conformance suite have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, List

from .script import Script, echo
from .session import ScriptedSession

MakeExecutor = Callable[[Any, int], Any]
Check = Callable[[MakeExecutor], None]

CQL = "SELECT %s"


class Scripted(Exception):
    """The failure that the checks script."""


def values(results: Iterator[Any]) -> List[Any]:
    return [result.one()[0] for result in results]


def raises(kind: type[BaseException], what: Any) -> None:
    call = what if callable(what) else lambda: next(what)
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


@contextmanager
def answered_on_failure(session: ScriptedSession) -> Iterator[None]:
    """Answer everything when a check fails, so that the executor's `with` block ends."""
    try:
        yield
    except BaseException:
        session.respond = echo
        Script().play_all(session)
        raise
