"""Memory and garbage: each number is taken in a fresh process, which this module is as well.

Resident memory is what Linux counts for the process, with all that the allocators keep for later;
traced memory is what Python objects hold, told by tracemalloc, which slows the process down.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
from cassandra.concurrent import execute_concurrent_with_args

import cassconc
from benchmarks.clients import INSERT, Server, session_on
from benchmarks.competitors import WINDOW
from benchmarks.rounds import GarbageWatch
from benchmarks.throughput import users

PAUSE_EVERY, PAUSE = 1000, 0.05  # a slow consumer: so many seconds every so many results


def _map(session: Any, statement: Any, count: int, buffersize: int | None = None) -> Iterator[Any]:
    with cassconc.CassandraExecutor(session) as executor:
        yield from executor.map(statement, *users(count).columns, buffersize=buffersize)


def _driver(session: Any, statement: Any, count: int, **options: Any) -> Any:
    return execute_concurrent_with_args(session, statement, users(count), **options)


Source = Callable[[Any, Any, int], Iterable[Any]]  # of the results of so many inserts

SOURCES: dict[str, Source] = {
    "cassconc map(buffersize=1000)": partial(_map, buffersize=WINDOW),
    "cassconc map": _map,
    "cassconc list": lambda session, statement, count: cassconc.execute_concurrent_with_args(
        session, statement, users(count)
    ),
    "cassandra.concurrent list": _driver,
    "cassandra.concurrent generator": partial(_driver, results_generator=True),
}


def _resident_peak() -> int:
    """Return the peak of this program alone; getrusage would tell that of its parent, too."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return int(psutil.Process().memory_info().rss)


def _probe_list(results_of: Callable[[int], Iterable[Any]], arguments: Any) -> dict[str, float]:
    """Measure what a finished list of results holds."""
    list(results_of(1000))
    gc.collect()
    if arguments.traced:
        tracemalloc.start()
    before = _now(arguments.traced)
    results = list(results_of(arguments.count))
    gc.collect()
    held = _now(arguments.traced) - before
    assert len(results) == arguments.count
    return {"bytes": held, "bytes_per_statement": held / arguments.count}


def _now(traced: bool) -> int:
    return tracemalloc.get_traced_memory()[0] if traced else psutil.Process().memory_info().rss


def _probe_peak(results_of: Callable[[int], Iterable[Any]], arguments: Any) -> dict[str, float]:
    """Measure the peak while results are consumed one by one, none kept."""
    gc.collect()
    if arguments.traced:
        tracemalloc.start()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _now(arguments.traced)
    number = 0
    for number, _ in enumerate(results_of(arguments.count), 1):
        if arguments.slow and number % PAUSE_EVERY == 0:
            time.sleep(PAUSE)
    assert number == arguments.count
    peak = tracemalloc.get_traced_memory()[1] if arguments.traced else _resident_peak()
    return {"peak": peak, "more": peak - before}


def _probe_garbage(results_of: Callable[[int], Iterable[Any]], arguments: Any) -> dict[str, Any]:
    """Count the collections while results are consumed one by one, or kept where it is a list."""
    list(results_of(1000))
    with GarbageWatch() as garbage:
        number = sum(1 for _ in results_of(arguments.count))
    assert number == arguments.count
    return {"collections": garbage.collections, "seconds": garbage.seconds}


PROBES = {"list": _probe_list, "peak": _probe_peak, "garbage": _probe_garbage}


def probe(
    server: Server, name: str, source: str, count: int, *, traced: bool = False, slow: bool = False
) -> dict[str, Any]:
    """Measure one thing in a process of its own.

    Args:
        server: Where its session connects to.
        name: One of PROBES.
        source: One of SOURCES.
        count: How many inserts.
        traced: Whether memory is that of tracemalloc, or else the resident one.
        slow: Whether the consumer lags behind.
    """
    command = [sys.executable, __file__, name, source, str(count), str(server.port)]
    command += ["--traced"] * traced + ["--slow"] * slow
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def main() -> None:
    """Be the process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probe", choices=PROBES)
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("count", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--traced", action="store_true")
    parser.add_argument("--slow", action="store_true")
    arguments = parser.parse_args()
    server = Server(["127.0.0.1"], arguments.port, lambda: 0.0)
    with session_on(server) as session:
        statement, source = session.prepare(INSERT), SOURCES[arguments.source]

        def results_of(count: int) -> Iterable[Any]:
            return source(session, statement, count)

        print(json.dumps(PROBES[arguments.probe](results_of, arguments)))


if __name__ == "__main__":
    main()
