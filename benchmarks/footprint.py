"""How much memory and garbage a request leaves behind."""

from __future__ import annotations

from itertools import product
from typing import Any

from benchmarks.experiment import Context, Result, progress
from benchmarks.memory import SOURCES, probe
from benchmarks.rounds import Spread

OURS, LIST = "cassconc map(buffersize=1000)", "cassandra.concurrent list"
GENERATOR = "cassandra.concurrent generator"
LISTS = [name for name in SOURCES if "generator" not in name]
GARBAGE_PER = 60_000
MEGABYTE = 1e6


def list_memory(context: Context) -> Result:
    """Memory per statement of a finished list of inserts."""
    server, count = context.stub(), context.settings.list_length
    measured: dict[str, Any] = {name: {} for name in LISTS}
    for name, traced in progress(list(product(LISTS, (False, True))), "memory of lists"):
        kind = "traced" if traced else "resident"
        found = probe(server, "list", name, count, traced=traced)
        measured[name][kind] = found["bytes_per_statement"]
    measures = {
        f"list-memory/{name}/{kind}": _exact(value)
        for name, kinds in measured.items()
        for kind, value in kinds.items()
    }
    return {"count": count, "bytes_per_statement": measured, "measures": measures}


def peak_memory(context: Context) -> Result:
    """Peak memory of a map with a window as its input grows a hundredfold, and of the others."""
    server, settings = context.stub(), context.settings
    measures, peaks = {}, []
    kinds = [
        (slow, traced, settings.traced_input if traced else settings.long_input)
        for slow, traced in product((False, True), (False, True))
    ]
    for slow, traced, long in progress(kinds, "peak memory"):
        found = [
            probe(server, "peak", OURS, count, traced=traced, slow=slow)
            for count in (long // 100, long)
        ]
        growth = (found[1]["peak"] - found[0]["peak"]) / MEGABYTE
        name = f"{'slow' if slow else 'fast'}/{'traced' if traced else 'resident'}"
        measures[f"peak-memory/{name}"] = _exact(growth)
        peaks.append({"consumer": name, "counts": [long // 100, long], "peaks": found})
    length = settings.list_length
    lengths = [length // 20, length // 4, length] if length >= 100_000 else [length // 10, length]
    curves: dict[str, list[list[float]]] = {name: [] for name in SOURCES}
    for name, count in progress(list(product(SOURCES, lengths)), "memory against length"):
        curves[name].append([count, probe(server, "peak", name, count)["more"] / MEGABYTE])
    return {"peaks": peaks, "curves": curves, "measures": measures}


def garbage(context: Context) -> Result:
    """Full collections per 60,000 requests, each competitor in a process of its own."""
    server, count = context.stub(), context.settings.garbage_requests
    found = {
        name: probe(server, "garbage", name, count)
        for name in progress([OURS, LIST, GENERATOR], "garbage")
    }
    measures = {
        f"garbage/{name}": _exact(each["collections"][2] * GARBAGE_PER / count)
        for name, each in found.items()
    }
    return {"count": count, "collections": found, "measures": measures}


def _exact(value: float) -> dict[str, float]:
    return Spread.of([value]).asdict()
