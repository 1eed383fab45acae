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
