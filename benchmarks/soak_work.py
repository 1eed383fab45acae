"""What is done in a soak: every kind of work that an executor can be given, in small pieces."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement

import cassconc
from benchmarks.soak_ledger import ROW, Account
from benchmarks.soak_world import World, connected
from cassconc import CassandraExecutor, Retry, TooManyErrors

TEXT = "INSERT INTO soak.t (part, id, value) VALUES (%s, %s, %s)"
INSERT = "INSERT INTO soak.t (part, id, value) VALUES (?, ?, ?)"
SELECT = "SELECT id, value FROM soak.t WHERE part = ?"
RETRY = Retry(attempts=20, delay=0.05, max_delay=1.0, total_time=20.0)


@dataclass
class Kit:
    """What a piece of work is done with.

    Attributes:
        world: Where it is done.
        session: The session, for executors of its own.
        executor: The executor that all share.
        insert, select: Prepared statements.
        choose: The source of all chance.
        timeout: The time limit of requests.
        retry: What is tried again by those that do so.
    """

    world: World
    session: Any
    executor: CassandraExecutor
    insert: Any
    select: Any
    choose: random.Random
    timeout: float
    retry: Retry | None = RETRY


def strings(kit: Kit, account: Account) -> None:
    """Texts with parameters, by `submit`."""
    account.settle([kit.executor.submit(TEXT, *row) for row in account.rows(30)])
    account.check_all()


def prepared(kit: Kit, account: Account) -> None:
    """A prepared statement, by `starmap`, in the order of the input."""
    results = kit.executor.starmap(
        kit.insert, account.rows(100), buffersize=20, return_exceptions=True
    )
    for number, result in enumerate(results):
        account.note(result, number)
    account.check_all()


def unordered(kit: Kit, account: Account) -> None:
    """The same in the order in which they end."""
    results = kit.executor.starmap(
        kit.insert, account.rows(100), buffersize=20,
        return_exceptions=True, ordered=False, with_calls=True,
    )  # fmt: skip
    for call, result in results:
        account.note(result, call.position or 0)
    account.check_all()


def bound(kit: Kit, account: Account) -> None:
    """Bound statements, by `execute_concurrent`."""
    pairs = ((kit.insert.bind(row), None) for row in account.rows(50))
    results = kit.executor.execute_concurrent(pairs, buffersize=10, return_exceptions=True)
    for number, result in enumerate(results):
        account.note(result, number)
    account.check_all()


def batches(kit: Kit, account: Account) -> None:
    """Batches of five."""
    futures = []
    for first in range(0, 50, 5):
        batch = BatchStatement()
        for number in range(first, first + 5):
            batch.add(kit.insert, (account.part, number, ROW))
        account.taken += 1
        futures.append(kit.executor.submit(batch))
    account.settle(futures, size=5)
    account.check_all()


def retries(kit: Kit, account: Account) -> None:
    """A prepared statement with a retry."""
    view = kit.executor.with_options(retry=kit.retry)
    results = view.starmap(kit.insert, account.rows(60), buffersize=30, return_exceptions=True)
    for number, result in enumerate(results):
        account.note(result, number)
    account.check_all()


def reads(kit: Kit, account: Account) -> None:
    """Rows that were written before, read in pages: what was written is there, and no other."""
    view = kit.executor.with_options(retry=kit.retry)
    futures = [view.submit(kit.insert, *row) for row in account.rows(40)]
    account.settle(futures)
    written = set(account.written)
    statement = kit.select.bind((account.part,))
    statement.fetch_size = 7
    account.taken += 1
    future = view.submit(statement)
    account.settle([future])
    with suppress(Exception):  # a page that fails is no loss: nothing is said about it
        rows = {row.id: row.value for row in future.result(0)}
        if not written <= rows.keys() <= set(range(40)):
            account.wrong.append(f"read {sorted(rows)}, written {sorted(written)}")
    account.written = written
    account.check_all()


def callables(kit: Kit, account: Account) -> None:
    """Plain callables."""
    numbers = list(range(20))
    if list(kit.executor.map(lambda number: number * number, numbers)) != [
        number * number for number in numbers
    ]:
        account.wrong.append("callables gave other results")


def aborts(kit: Kit, account: Account) -> None:
    """A map that is left in the middle, in some way."""
    results = kit.executor.starmap(kit.insert, account.rows(200), buffersize=50)
    with suppress(Exception):
        for number, result in enumerate(results):
            account.note(result, number)
            if number == kit.choose.randrange(100):
                break
    if kit.choose.random() < 0.5:
        results.close()


def time_outs(kit: Kit, account: Account) -> None:
    """A map with little time."""
    results = kit.executor.starmap(
        kit.insert, account.rows(200), buffersize=50, timeout=kit.choose.choice([0, 0.05, 0.5])
    )
    with suppress(Exception):
        for number, result in enumerate(results):
            account.note(result, number)


def budgets(kit: Kit, account: Account) -> None:
    """A map that may fail so often."""
    results = kit.executor.starmap(
        kit.insert, account.rows(100), buffersize=30, max_errors=kit.choose.choice([0, 3, 0.1])
    )
    try:
        for number, result in enumerate(results):
            account.note(result, number)
        account.check_all()
    except TooManyErrors as error:
        if error.taken != error.succeeded + error.failed + error.never_sent:
            account.wrong.append(f"an error that does not add up: {error}")
        if error.taken != account.taken:
            account.wrong.append(f"{account.taken} taken, but: {error}")


def cancels(kit: Kit, account: Account) -> None:
    """Futures of which some are cancelled."""
    futures = [kit.executor.submit(kit.insert, *row) for row in account.rows(100)]
    for future in kit.choose.sample(futures, 60):
        if future.cancel() and not future.cancelled():
            account.wrong.append("cancel returned True and the future is not cancelled")
    account.settle(futures)
    account.check_all()


def closings(kit: Kit, account: Account) -> None:
    """An executor of its own, that is closed in some way with work in it."""
    account.shared = False
    executor = CassandraExecutor(kit.session, 10, retry=kit.choose.choice([None, kit.retry]))
    way = kit.choose.choice(["wait", "cancel", "error", "interrupt"])
    futures = []
    with suppress(KeyError, KeyboardInterrupt):
        with executor:
            futures = [executor.submit(kit.insert, *row) for row in account.rows(60)]
            if way == "cancel":
                executor.shutdown(cancel_futures=True)
            elif way == "error":
                raise KeyError
            elif way == "interrupt":
                raise KeyboardInterrupt
    if not all(future.done() for future in futures):
        account.wrong.append(f"the executor was closed ({way}) and futures have not ended")
    account.settle(futures)
    account.check_all()
    stats = executor.stats()
    if (stats.submitted, stats.succeeded, stats.cancelled) != (
        account.taken, account.succeeded, account.cancelled,
    ):  # fmt: skip
        account.wrong.append(f"closed ({way}): {stats}")


def drop_ins(kit: Kit, account: Account) -> None:
    """The function of the driver's name."""
    account.shared = False
    generator = kit.choose.random() < 0.5
    results = cassconc.execute_concurrent_with_args(
        kit.session, kit.insert, account.rows(50), concurrency=20,
        raise_on_first_error=False, results_generator=generator,
    )  # fmt: skip
    for number, (_, result) in enumerate(results):
        account.note(result, number)
    account.check_all()


def sessions(kit: Kit, account: Account) -> None:
    """A session of its own that is shut down with work in it."""
    account.shared = False
    with suppress(NoHostAvailable), connected(kit.world, kit.timeout) as session:
        insert = session.prepare(INSERT)
        with CassandraExecutor(session, 20) as executor:
            view = executor.with_options(timeout=kit.choose.choice([None, kit.timeout]))
            futures = [view.submit(insert, *row) for row in account.rows(60)]
            kit.choose.choice([session.shutdown, session.cluster.shutdown, int])()
            if kit.choose.random() < 0.5:
                session.cluster.shutdown()
            account.settle(futures)
        account.check_all()


# how often each is done, as weights
KINDS: dict[Callable[[Kit, Account], None], float] = {
    strings: 2, prepared: 3, unordered: 2, bound: 2, batches: 2, retries: 3, reads: 3,
    callables: 1, aborts: 2, time_outs: 1, budgets: 1, cancels: 2, closings: 1, drop_ins: 1,
    sessions: 0.2,
}  # fmt: skip
