"""A load of writes that runs while something goes wrong, and an exact account of it.

The two loads, ours and the driver's, take the same input, and run on a thread of their own so that
the faults, and the end of all patience, come from outside.
"""

from __future__ import annotations

import collections
import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cassandra.concurrent import execute_concurrent_with_args

from cassconc import CassandraExecutor, Retry, Stats

NOT_TAKEN, TAKEN, WRITTEN, FAILED = range(4)

# What the docs recommend for a load at night: it outlasts the restart of a whole cluster.
RETRY = Retry(attempts=1000, delay=0.1, max_delay=5.0, total_time=600.0)


@dataclass(frozen=True)
class Settings:
    """What both loads have in common.

    Attributes:
        statements: How many there are.
        concurrency: How many may be in flight.
        window: How many are taken ahead of the consumer.
        timeout: The time limit of the execution profile, in seconds.
        hung_for: How long a hung node hangs where it is resumed, in seconds.
        patience: After how many seconds without any result our load is taken for hung.
        driver_patience: The same for the driver's.
        retry: Whether ours tries again.
    """

    statements: int
    concurrency: int = 100
    window: int = 1000
    timeout: float = 10.0
    hung_for: float = 20.0
    patience: float = 240.0
    driver_patience: float = 60.0
    retry: bool = True


@dataclass
class Account:
    """What became of every statement of a run.

    Attributes:
        state: One byte a statement: `NOT_TAKEN`, `TAKEN`, `WRITTEN`, `FAILED`.
        failed: How many failed, by type.
        examples: The text of the first failure of each type, for a person.
        wrong: What does not add up.
        seconds: How long the load took.
        hung: Whether it was given up.
        stats: The executor's own statistics at the end; `None` for the driver's load.
    """

    statements: int
    state: bytearray = field(init=False)
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0
    hung: bool = False
    stats: Stats | None = None
    _held_from: int | None = None

    def __post_init__(self) -> None:
        self.state = bytearray(self.statements)

    def hold(self, number: int | None) -> None:
        """Have the input wait before a statement, or let it go on.

        Only for ours, which takes it on the caller's thread: the driver does on its event loop's.
        """
        self._held_from = number

    def parameters(self) -> Iterator[tuple[int, str]]:
        """The input: notes what is taken."""
        for number in range(self.statements):
            while self._held_from is not None and number >= self._held_from:
                time.sleep(0.01)
            self.state[number] = TAKEN
            yield number, value_of(number)

    def note(self, number: int, error: BaseException | None) -> None:
        """Note how a statement has ended."""
        if self.state[number] != TAKEN:
            self.wrong.append(f"statement {number} ended in state {self.state[number]}")
        self.state[number] = WRITTEN if error is None else FAILED
        if error is not None:
            name = type(error).__name__
            self.failed[name] += 1
            self.examples.setdefault(name, str(error)[:300])

    @property
    def succeeded(self) -> int:
        """How many were reported as written."""
        return self.state.count(WRITTEN)

    @property
    def never_sent(self) -> int:
        """How many were not taken from the input, or were taken and cancelled."""
        return self.statements - self.succeeded - self.failed.total()

    def check(self) -> None:
        """Note what does not add up: nothing may be in between, and the executor must agree."""
        taken = self.statements - self.state.count(NOT_TAKEN)
        ended = self.succeeded + self.failed.total()
        stats = self.stats
        if stats is None:
            return
        cancelled = stats.cancelled
        if taken != ended + cancelled:
            self.wrong.append(f"{taken} taken, {ended} ended, {cancelled} cancelled")
        if stats.submitted != taken:
            self.wrong.append(f"{taken} taken, {stats.submitted} submitted by the statistics")
        if stats.queued or stats.in_flight or stats.waiting_for_retry:
            self.wrong.append(f"something is pending at the end: {stats}")
        if (stats.succeeded, stats.failed) != (self.succeeded, dict(self.failed)):
            self.wrong.append(f"{self.succeeded} succeeded, {self.failed}, but {stats}")


class Progress:
    """How far a load has come, and a wait for it. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # guarded by _changed:
        self._count = 0
        self._since = time.monotonic()  # when the count has changed last
        self._next = sys.maxsize  # the count that somebody waits for
        self._over = False

    def ended(self) -> None:
        """One more statement has ended."""
        with self._changed:
            self._count += 1
            self._since = time.monotonic()
            if self._count >= self._next:
                self._changed.notify_all()

    def finish(self) -> None:
        """The load has come to its end."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until so many have ended; whether the load was still running then."""
        with self._changed:
            self._next = count
            self._changed.wait_for(lambda: self._over or self._count >= count, seconds)
            self._next = sys.maxsize
            return not self._over

    def wait_until_over(self, patience: float) -> bool:
        """Wait for the end; false when nothing has happened for `patience` seconds."""
        with self._changed:
            while not self._over:
                left = self._since + patience - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True


Load = Callable[[Any, Any, Settings, Account, Progress], None]


def ours(session: Any, insert: Any, settings: Settings, account: Account, done: Progress) -> None:
    """`CassandraExecutor.starmap` with a window, and a retry."""
    retry = RETRY if settings.retry else None
    executor = CassandraExecutor(session, settings.concurrency, retry=retry)
    try:
        with executor:
            results = executor.starmap(
                insert,
                account.parameters(),
                buffersize=settings.window,
                return_exceptions=True,
                with_calls=True,
            )
            for number, (call, result) in enumerate(results):
                if call.position != number:
                    account.wrong.append(f"result {number} is said to be that of {call.position}")
                account.note(number, result if isinstance(result, BaseException) else None)
                done.ended()
    finally:
        account.stats = executor.stats()


def drivers(
    session: Any, insert: Any, settings: Settings, account: Account, done: Progress
) -> None:
    """`cassandra.concurrent` as a generator."""
    results = execute_concurrent_with_args(
        session,
        insert,
        account.parameters(),
        concurrency=settings.concurrency,
        raise_on_first_error=False,
        results_generator=True,
    )
    for number, (success, result) in enumerate(results):
        account.note(number, None if success else result)
        done.ended()


class Run:
    """One load on a thread of its own."""

    def __init__(self, load: Load, session: Any, insert: Any, settings: Settings) -> None:
        self.account = Account(settings.statements)
        self.progress = Progress()
        self._patience = settings.patience if load is ours else settings.driver_patience
        self.is_ours = load is ours
        self._load: Callable[[], None] = lambda: load(
            session, insert, settings, self.account, self.progress
        )
        self._thread = threading.Thread(target=self._run, name=load.__name__, daemon=True)
        self._started = time.monotonic()
        self._thread.start()

    def _run(self) -> None:
        try:
            self._load()
        except BaseException as error:
            self.account.wrong.append(f"the load ended with {type(error).__name__}: {error}")
        finally:
            self.account.seconds = time.monotonic() - self._started
            self.progress.finish()

    def finish(self) -> Account:
        """Wait for the end, as long as anything happens; without patience, show all stacks."""
        if not self.progress.wait_until_over(self._patience):
            self.account.hung = True
            self.account.seconds = time.monotonic() - self._started
            if self.is_ours:
                print("A future has not ended; all stacks:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(sys.stderr)
        else:
            self.account.check()
        return self.account


def value_of(number: int) -> str:
    """What is written under a number."""
    return f"value {number}"
