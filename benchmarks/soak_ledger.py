"""The account of a soak: what was taken, what became of it, and what was said to be written."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, wait
from typing import Any

from cassconc import Stats

LIMIT = 90.0  # seconds in which every future ends: all attempts of a retry, and their waits
ROW = "a value"


class Ledger:
    """What became of everything. Thread-safe.

    Attributes:
        wrong: What does not add up, for a person.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # guarded by _lock:
        self.wrong: list[str] = []
        self.taken = 0  # by the executor that all share
        self.succeeded = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self.cancelled = 0
        self.kinds: collections.Counter[str] = collections.Counter()
        self._written: dict[int, frozenset[int]] = {}

    def complain(self, text: str) -> None:
        """Note something that may not be."""
        with self._lock:
            self.wrong.append(text)

    def add(self, kind: str, account: Account) -> None:
        """Add the account of a piece of work."""
        for text in account.wrong:
            self.complain(f"{kind}: {text}")
        with self._lock:
            self.kinds[kind] += 1
            self.taken += account.taken * account.shared
            self.succeeded += account.succeeded
            self.failed += account.failed
            self.cancelled += account.cancelled
            if account.written:
                self._written[account.part] = frozenset(account.written)

    def written(self) -> dict[int, frozenset[int]]:
        """Return which rows of which parts have to be there, and forget them."""
        with self._lock:
            written, self._written = self._written, {}
            return written

    def compare(self, stats: Stats) -> bool:
        """Whether nothing is pending and the executor has counted what was counted here."""
        pending = stats.queued + stats.in_flight + stats.waiting_for_retry
        with self._lock:
            return not pending and stats.submitted == self.taken

    def summary(self) -> str:
        """Return the counts in a line."""
        with self._lock:
            failed = ", ".join(f"{n:,} {name}" for name, n in sorted(self.failed.items()))
            return (
                f"{self.succeeded:,} succeeded, {self.failed.total():,} failed"
                f"{f' ({failed})' * bool(failed)}, {self.cancelled:,} cancelled"
            )


class Account:
    """What became of one piece of work, which writes rows of one part.

    Attributes:
        part: The part.
        shared: Whether the work was given to the executor that all share.
        taken: How many statements were taken.
        written: The numbers of the rows that were said to be written.
    """

    def __init__(self, part: int) -> None:
        self.part = part
        self.shared = True
        self.taken = 0
        self.succeeded = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self.cancelled = 0
        self.written: set[int] = set()
        self.wrong: list[str] = []

    def rows(self, count: int) -> Iterable[tuple[int, int, str]]:
        """Parameters for the insert: notes what is taken."""
        for number in range(count):
            self.taken += 1
            yield self.part, number, ROW

    def note(self, result: Any, *numbers: int) -> None:
        """Note the outcome of a statement that wrote the rows of such numbers."""
        if isinstance(result, CancelledError):
            self.cancelled += 1
        elif isinstance(result, BaseException):
            self.failed[type(result).__name__] += 1
        else:
            self.succeeded += 1
            self.written.update(numbers)

    def settle(self, futures: list[Future[Any]], size: int = 1) -> None:
        """Wait for futures, each of which wrote `size` rows, and note their outcomes."""
        pending = wait(futures, LIMIT).not_done
        if pending:
            self.wrong.append(f"{len(pending)} of {len(futures)} futures have not ended: hangs")
        for number, future in enumerate(futures):
            if future.done():
                rows = range(number * size, (number + 1) * size)
                self.note(outcome(future), *rows)

    def check_all(self) -> None:
        """Complain unless every statement that was taken has an outcome."""
        ended = self.succeeded + self.failed.total() + self.cancelled
        if ended != self.taken:
            self.wrong.append(f"{self.taken} taken, {ended} ended")


def outcome(future: Future[Any]) -> Any:
    """Return what a future that has ended has ended with."""
    try:
        return future.result(0)
    except (CancelledError, Exception) as error:
        return error
