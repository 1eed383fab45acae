"""Flatness: what a request costs as concurrency, input and maps grow; and who shares fairly."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import cassconc
from benchmarks import competitors
from benchmarks.clients import INSERT
from benchmarks.competitors import WINDOW, Competitor
from benchmarks.experiment import Context, Result, progress
from benchmarks.rounds import Run, Sample, Spread, interleaved, ratios, summary
from benchmarks.throughput import CHAIN, GENERATOR, LIST, OURS, POOL, users

CONCURRENCIES = [10, 100, 1000, 5000]
POOL_LIMIT = 1000  # threads
LENGTHS = [10**3, 10**4, 10**5, 10**6]
MAPS = [1, 5, 10, 50]
SHARING = 10


def flatness(cpu: Mapping[Any, Sequence[float]], reference: Any) -> Spread:
    """Return by what fraction the dearest point of a sweep costs more than the cheapest.

    Each point is compared with the reference within each round; of that, the median counts.

    Args:
        cpu: By point of the sweep, the CPU per request of each round.
        reference: One of the points.
    """
    compared = [ratios(points, cpu[reference]) for points in cpu.values()]
    medians = [statistics.median(each) for each in compared]
    rounds = [max(each) / min(each) - 1 for each in zip(*compared, strict=True)]
    return Spread(max(medians) / min(medians) - 1, min(rounds), max(rounds))


def _cpu(samples: Mapping[str, Sequence[Sample]]) -> dict[str, list[float]]:
    return {name: [each.cpu_per_request for each in taken] for name, taken in samples.items()}


def _flatness(samples: Mapping[str, Sequence[Sample]], reference: str) -> dict[str, float]:
    return flatness(_cpu(samples), reference).asdict()


def _windowed(session: Any, statement: Any, rows: Any, concurrency: int) -> int:
    """`ours_map` with a window that twice the concurrency fits in."""
    with cassconc.CassandraExecutor(session, concurrency) as executor:
        window = max(WINDOW, 2 * concurrency)
        return sum(1 for _ in executor.map(statement, *rows.columns, buffersize=window))


def concurrency_sweep(context: Context) -> Result:
    """CPU per request and throughput against concurrency, of ours and the others.

    The driver's own share is not flat: with few requests in flight each read and each write of a
    socket is for fewer of them. So ours is compared with the bare chain's at each concurrency.
    """
    settings, server = context.settings, context.stub()
    session, rows = context.session(server), users(settings.sweep_statements)
    statement = session.prepare(INSERT)
    chosen: dict[str, Competitor] = {
        OURS: _windowed,
        LIST: competitors.driver_list,
        GENERATOR: competitors.driver_generator,
        POOL: competitors.thread_pool,
        CHAIN: competitors.callback_chain,
    }
    curves: dict[str, dict[str, Any]] = {name: {} for name in chosen}

    def run_of(competitor: Competitor, concurrency: int) -> Run:
        return lambda: competitor(session, statement, rows, concurrency)

    runs = {
        f"{name}/{concurrency}": run_of(competitor, concurrency)
        for concurrency in CONCURRENCIES
        for name, competitor in chosen.items()
        if name != POOL or concurrency <= POOL_LIMIT
    }
    samples = interleaved(
        runs,
        settings.sweep_rounds,
        server.cpu_seconds,
        title="concurrency",
        check=settings.sweep_statements,
    )
    for key, taken in summary(samples).items():
        name, concurrency = key.split("/")
        curves[name][concurrency] = taken
    cpu = _cpu(samples)
    alone = {each: cpu[f"{OURS}/{each}"] for each in CONCURRENCIES}
    over = {each: ratios(cpu[f"{OURS}/{each}"], cpu[f"{CHAIN}/{each}"]) for each in CONCURRENCIES}
    return {
        "curves": curves,
        "measures": {
            "flatness/concurrency": flatness(over, 100).asdict(),
            "flatness/concurrency, the driver's share included": flatness(alone, 100).asdict(),
        },
    }


def input_sweep(context: Context) -> Result:
    """CPU per request as the input grows from a thousand to the long input."""
    settings, server = context.settings, context.stub()
    session = context.session(server)
    statement = session.prepare(INSERT)

    def run_of(length: int) -> Run:
        rows, times = users(length), max(1, settings.sweep_statements // length)
        return lambda: sum(
            competitors.ours_map(session, statement, rows, settings.concurrency)
            for _ in range(times)
        )

    lengths = [length for length in LENGTHS if length <= settings.long_input]
    runs = {str(length): run_of(length) for length in lengths}
    samples = interleaved(runs, settings.sweep_rounds, server.cpu_seconds, title="input")
    return {
        "points": summary(samples),
        "measures": {"flatness/input": _flatness(samples, str(lengths[0]))},
    }


def maps_sweep(context: Context) -> Result:
    """CPU per request as more and more maps, each with a thread, share one executor."""
    settings, server = context.settings, context.stub()
    session = context.session(server)
    statement = session.prepare(INSERT)

    def run_of(maps: int) -> Run:
        rows = users(settings.sweep_statements // maps)

        def run() -> int:
            counts = [0] * maps
            with cassconc.CassandraExecutor(session, settings.concurrency) as executor:

                def consume(number: int) -> None:
                    results = executor.map(statement, *rows.columns, buffersize=WINDOW)
                    counts[number] = sum(1 for _ in results)

                _in_threads([(consume, number) for number in range(maps)])
            return sum(counts)

        return run

    runs = {str(maps): run_of(maps) for maps in MAPS}
    samples = interleaved(runs, settings.sweep_rounds, server.cpu_seconds, title="maps")
    return {"points": summary(samples), "measures": {"flatness/maps": _flatness(samples, "1")}}


def fairness(context: Context) -> Result:
    """Ten maps that share an executor: the slowest's throughput over the fastest's."""
    settings, server = context.settings, context.stub()
    session = context.session(server)
    statement = session.prepare(INSERT)
    length, own, strict = settings.sweep_statements // 2, [], []
    for number in progress(range(settings.rounds + 1), "sharing"):
        seconds, counts = _share(session, statement, length, settings.concurrency)
        if number:
            own.append(min(seconds) / max(seconds))
            strict.append(min(counts) / max(counts))
    measures = {"fairness": Spread.of(own).asdict()}
    if length >= 10 * WINDOW:  # a map that is one window ahead says little about a longer one
        measures["fairness/first end"] = Spread.of(strict).asdict()
    return {
        "maps": SHARING,
        "length": length,
        "rounds": own,
        "rounds_when_the_first_ended": strict,
        "measures": measures,
    }


def _share(
    session: Any, statement: Any, length: int, concurrency: int
) -> tuple[list[float], list[int]]:
    """Return how long each map took, and what each had yielded when the first one ended."""
    seconds, counts, lock, final = [0.0] * SHARING, [0] * SHARING, threading.Lock(), list[int]()
    barrier, columns = threading.Barrier(SHARING), users(length).columns
    with cassconc.CassandraExecutor(session, concurrency) as executor:

        def consume(number: int) -> None:
            barrier.wait()
            start = time.perf_counter()
            for _ in executor.map(statement, *columns, buffersize=WINDOW):
                counts[number] += 1
            with lock:
                seconds[number] = time.perf_counter() - start
                if not final:
                    final.extend(counts)

        _in_threads([(consume, number) for number in range(SHARING)])
    return seconds, final


def _in_threads(calls: Sequence[tuple[Any, int]]) -> None:
    threads = [threading.Thread(target=function, args=(argument,)) for function, argument in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
