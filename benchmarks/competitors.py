"""The ways to run one prepared statement with many parameters: ours and what is used instead.

Each takes (session, statement, parameters, concurrency), consumes all results, and returns how
many there were. None of them keeps results that it need not keep.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from cassandra.concurrent import execute_concurrent_with_args

import cassconc

Competitor = Callable[[Any, Any, Iterable[Any], int], int]

WINDOW = 1000


def ours(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """`CassandraExecutor.starmap` with a window."""
    with cassconc.CassandraExecutor(session, concurrency) as executor:
        return sum(1 for _ in executor.starmap(statement, parameters, buffersize=WINDOW))


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


def thread_pool(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """`ThreadPoolExecutor` over `session.execute`, with a window as Python 3.14 has it."""
    parameters, count = iter(parameters), 0
    with ThreadPoolExecutor(concurrency) as pool:
        window = collections.deque(
            pool.submit(session.execute, statement, given) for given in islice(parameters, WINDOW)
        )
        while window:
            window.popleft().result()
            count += 1
            window.extend(
                pool.submit(session.execute, statement, given) for given in islice(parameters, 1)
            )
    return count


def callback_chain(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
) -> int:
    """The callback chain of the driver's documentation, without time limits: the floor."""
    parameters, lock, done = iter(parameters), threading.Lock(), threading.Event()
    chains, counts, errors = [concurrency], [0], []

    def go_on(_: Any) -> None:
        counts[0] += 1
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
        session.execute_async(statement, given, timeout=None).add_callbacks(go_on, fail)

    for _ in range(concurrency):
        start()
    done.wait()
    if errors:
        raise errors[0]
    return counts[0]


COMPETITORS: dict[str, Competitor] = {
    "cassconc": ours,
    "cassandra.concurrent, list": driver_list,
    "cassandra.concurrent, generator": driver_generator,
    "ThreadPoolExecutor": thread_pool,
    "callback chain": callback_chain,
}
