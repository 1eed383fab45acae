"""Statistics of an executor."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Stats(NamedTuple):
    """What became of the statements that an executor accepted: a consistent snapshot.

    Callables are not counted. `submitted` is always the sum of the others, but for `retried`.
    """

    submitted: int
    """Statements that were accepted."""
    queued: int
    """Those that wait for their turn."""
    in_flight: int
    """Those that were sent and have no answer yet."""
    waiting_for_retry: int
    """Those that have failed and will be tried again."""
    succeeded: int
    """Those that have a result."""
    failed: Dict[str, int]
    """Those that have failed, by the name of the exception's type."""
    cancelled: int
    """Those that will never be sent."""
    retried: int
    """How often something was tried again."""


class Counts:
    """Counts calls. Whoever has it guards it."""

    def __init__(self) -> None:
        self.submitted = self.succeeded = self.cancelled = self.retried = 0
        self.failed: Dict[str, int] = {}  # by type

    def ended(self) -> int:
        """Return how many calls have ended."""
        return self.succeeded + sum(self.failed.values()) + self.cancelled

    def snapshot(self, in_flight: int, aside: int) -> Stats:
        """Return the statistics, with so many calls in flight and put aside."""
        return Stats(
            submitted=self.submitted,
            queued=self.submitted - self.ended() - in_flight - aside,
            in_flight=in_flight,
            waiting_for_retry=aside,
            succeeded=self.succeeded,
            failed=dict(self.failed),
            cancelled=self.cancelled,
            retried=self.retried,
        )
