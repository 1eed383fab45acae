"""The ways to run one prepared statement with many parameters: ours and what is used instead.

Each takes (session, statement, parameters, concurrency), consumes all results, and returns how
many there were. None of them keeps results that it need not keep. What is not of the standard
library or the driver is in `others`.
"""

from __future__ import annotations

import collections
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from cassandra.concurrent import execute_concurrent_with_args

import cassconc

Competitor = Callable[[Any, Any, Iterable[Any], int], int]

WINDOW = 1000


class Rows:
    """Parameters: an iterable of rows that can be iterated again, and tells its columns."""

    def __init__(self, *columns: Iterable[Any]) -> None:
        self.columns = columns

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return zip(*self.columns)


def ours(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """`CassandraExecutor.starmap` with a window."""
    with cassconc.CassandraExecutor(session, concurrency) as executor:
        return sum(1 for _ in executor.starmap(statement, parameters, buffersize=WINDOW))


def ours_map(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """`CassandraExecutor.map` with a window; takes `Rows`."""
    assert isinstance(parameters, Rows)
    with cassconc.CassandraExecutor(session, concurrency) as executor:
        results = executor.map(statement, *parameters.columns, buffersize=WINDOW)
        return sum(1 for _ in results)


def our_list(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """Our drop-in replacement of `driver_list`."""
    return len(cassconc.execute_concurrent_with_args(session, statement, parameters, concurrency))


def our_generator(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """Our drop-in replacement of `driver_generator`."""
    results = cassconc.execute_concurrent_with_args(
        session, statement, parameters, concurrency, results_generator=True
    )
    return sum(1 for _ in results)


def driver_list(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """`cassandra.concurrent` as a list."""
    return len(execute_concurrent_with_args(session, statement, parameters, concurrency))


def driver_generator(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
) -> int:
    """`cassandra.concurrent` as a generator."""
    results = execute_concurrent_with_args(
        session, statement, parameters, concurrency, results_generator=True
    )
    return sum(1 for _ in results)


def windowed(start: Callable[[Any], Future[Any]], parameters: Iterable[Any]) -> int:
    """Start a future for each, consume them in order with a window, as Python 3.14's map does."""
    parameters, count = iter(parameters), 0
    window = collections.deque(start(given) for given in islice(parameters, WINDOW))
    while window:
        window.popleft().result()
        count += 1
        window.extend(start(given) for given in islice(parameters, 1))
    return count


def thread_pool(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """`ThreadPoolExecutor` over `session.execute`, with a window."""
    with ThreadPoolExecutor(concurrency) as pool:
        return windowed(lambda given: pool.submit(session.execute, statement, given), parameters)


def _chain(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int, **options: Any
) -> int:
    parameters, lock, done = iter(parameters), threading.Lock(), threading.Event()
    chains, ended, errors = [concurrency], itertools.count(), []

    def go_on(_: Any) -> None:
        next(ended)
        start()

    def fail(error: Any) -> None:
        errors.append(error)
        start()

    def start() -> None:
        with lock:
            given = next(parameters, None)
            if given is None or errors:
                chains[0] -= 1
                if not chains[0]:
                    done.set()
                return
        session.execute_async(statement, given, **options).add_callbacks(go_on, fail)

    for _ in range(concurrency):
        start()
    done.wait()
    if errors:
        raise errors[0]
    return next(ended)


def callback_chain(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
) -> int:
    """The callback chain of the driver's documentation, without time limits: the floor."""
    return _chain(session, statement, parameters, concurrency, timeout=None)


def callback_chain_limited(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
) -> int:
    """The callback chain of the driver's documentation, with the default time limit."""
    return _chain(session, statement, parameters, concurrency)


COMPETITORS: dict[str, Competitor] = {
    "cassconc": ours,
    "cassandra.concurrent, list": driver_list,
    "cassandra.concurrent, generator": driver_generator,
    "ThreadPoolExecutor": thread_pool,
    "callback chain": callback_chain,
}
