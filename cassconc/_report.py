"""Failure reports: what has failed, how often, and where in the input."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from ._calls import Call

_MOST_POSITIONS = 100


class FailuresOfType:
    """The failures of one type.

    Attributes:
        count: How many there were.
        first, last: The first and the last one that were added. Their
            attribute `call` says which call it was.
        positions: Where the first hundred stand in the input.
    """

    def __init__(self, first: BaseException) -> None:
        self.count = 0
        self.first = first
        self.last = first
        self.positions: List[int] = []


class FailureReport:
    """What has failed, by the name of the exception's type.

    It keeps two exceptions of each type, however many there were. Not thread-safe. Its `str` is a
    few lines for a person, without parameter values.

    Attributes:
        types: A dict from the name of a type to what has failed with it: `count`, an int;
            `first` and `last`, the exceptions that were added first and last; and `positions`, a
            list of the first hundred places in the input.
    """

    def __init__(self) -> None:
        self.types: Dict[str, FailuresOfType] = {}

    def add(self, exception: BaseException) -> None:
        """Add a failure, such as one that `map(..., return_exceptions=True)` has yielded."""
        failures = self.types.setdefault(type(exception).__name__, FailuresOfType(exception))
        failures.count += 1
        failures.last = exception
        call = _call_of(exception)
        if call is not None and call.position is not None:
            if len(failures.positions) < _MOST_POSITIONS:
                failures.positions.append(call.position)

    @property
    def count(self) -> int:
        """How many failures there were."""
        return sum(failures.count for failures in self.types.values())

    def __str__(self) -> str:
        lines = [f"{self.count} failed"]
        for name, failures in self.types.items():
            first, last = _call_of(failures.first), _call_of(failures.last)
            which = "" if first is None else f": first call {first}, last call {last}"
            lines.append(f"{failures.count} {name}{which}")
        return "\n  ".join(lines)


def _call_of(exception: BaseException) -> Optional[Call]:
    call = vars(exception).get("call")  # a class of the caller's may have a property of that name
    return call if isinstance(call, Call) else None


class TooManyErrors(Exception):
    """More calls of a `map` have failed than its `max_errors`.

    It is raised when nothing of the map is in flight any more.

    Attributes:
        taken: How many calls were taken from the input.
        succeeded, failed, never_sent: What became of them; the three add up to `taken`.
        report: A `FailureReport`.
    """

    def __init__(self, taken: int, never_sent: int, report: FailureReport) -> None:
        self.taken = taken
        self.never_sent = never_sent
        self.failed = report.count
        self.succeeded = taken - never_sent - self.failed
        self.report = report
        super().__init__(
            f"of {taken} calls taken {self.succeeded} succeeded, {self.failed} failed, "
            f"{never_sent} were never sent; {report}"
        )

    def __reduce__(self) -> Any:
        return type(self), (self.taken, self.never_sent, self.report)
