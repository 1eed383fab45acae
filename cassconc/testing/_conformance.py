"""What the checks of the conformance suite have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, List

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
