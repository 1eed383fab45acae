"""Rounds: competitors run in turn, again and again, and compared round by round.

A ratio is taken within a round, where both sides met the same machine, and the median of the
ratios is reported. The first round, in which caches fill and connections open, is discarded.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

Run = Callable[[], int]  # runs one competitor once, and returns how many requests that were


@dataclass(frozen=True)
class Sample:
    """What one run took: in all, of this process's processors, and of the garbage collector."""

    count: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    collections: list[int]  # by generation
    gc_seconds: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.count / self.seconds

    @property
    def cpu_per_request(self) -> float:
        """Microseconds of CPU per request, in this process."""
        return self.cpu_seconds / self.count * 1e6


class GarbageWatch:
    """Counts the collections of each generation, and the seconds that they took."""

    def __init__(self) -> None:
        self.collections = [0, 0, 0]
        self.seconds = 0.0
        self._since = 0.0

    def _called(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "start":
            self._since = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._since
            self.collections[info["generation"]] += 1

    def __enter__(self) -> GarbageWatch:
        gc.collect()
        gc.callbacks.append(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        gc.callbacks.remove(self._called)


def measure(run: Run, server_cpu: Callable[[], float] = lambda: 0.0) -> Sample:
    """Run once, and return what it took."""
    with GarbageWatch() as garbage:
        server, cpu, start = server_cpu(), time.process_time(), time.perf_counter()
        count = run()
        seconds = time.perf_counter() - start
        cpu, server = time.process_time() - cpu, server_cpu() - server
    return Sample(count, seconds, cpu, server, garbage.collections, garbage.seconds)


def orders(names: Sequence[str], rounds: int) -> Iterator[list[str]]:
    """Yield the order of each round: each begins with another one, so that none has a place."""
    for number in range(rounds):
        first = number % len(names)
        yield [*names[first:], *names[:first]]


def interleaved(
    runs: Mapping[str, Run],
    rounds: int,
    server_cpu: Callable[[], float] = lambda: 0.0,
    *,
    title: str = "",
    check: int | None = None,
) -> dict[str, list[Sample]]:
    """Run each once a round, for one discarded round and then as many as asked for.

    Args:
        runs: By name.
        rounds: How many rounds count.
        server_cpu: Returns the seconds of CPU that the server has used.
        title: What the progress bar says.
        check: How many requests each run must report; it is an error when it reports others.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    total = (rounds + 1) * len(runs)
    with tqdm(total=total, desc=title, leave=False, mininterval=0.5, disable=None) as bar:
        for number, order in enumerate(orders(list(runs), rounds + 1)):
            for name in order:
                sample = measure(runs[name], server_cpu)
                if check is not None and sample.count != check:
                    raise RuntimeError(f"{name}: {sample.count} results instead of {check}")
                if number:
                    samples[name].append(sample)
                bar.update()
    return samples


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


@dataclass(frozen=True)
class Spread:
    """The median of some values, and the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return that of the values, which must not be empty."""
        return cls(statistics.median(values), min(values), max(values))

    def asdict(self) -> dict[str, float]:
        """Return it for JSON."""
        return asdict(self)


def rate_ratio(samples: Mapping[str, Sequence[Sample]], ours: str, theirs: str) -> Spread:
    """Return how many times the throughput of the other we have."""
    return Spread.of(
        ratios([each.rate for each in samples[ours]], [each.rate for each in samples[theirs]])
    )


def summary(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Return what each competitor took, for JSON: medians, spread, and every round."""
    return {
        name: {
            "rate": Spread.of([each.rate for each in taken]).asdict(),
            "cpu_microseconds": Spread.of([each.cpu_per_request for each in taken]).asdict(),
            "cpu_share": statistics.median(each.cpu_seconds / each.seconds for each in taken),
            "server_cpu_share": statistics.median(
                each.server_cpu_seconds / each.seconds for each in taken
            ),
            "collections": [sum(column) for column in zip(*[each.collections for each in taken])],
            "gc_share": statistics.median(each.gc_seconds / each.seconds for each in taken),
            "rounds": [asdict(each) for each in taken],
        }
        for name, taken in samples.items()
    }
