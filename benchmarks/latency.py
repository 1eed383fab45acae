"""Latency: one caller, one request at a time, from the call to the answer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cassconc
from benchmarks.clients import INSERT, Server
from benchmarks.experiment import Context, Result, progress
from benchmarks.rounds import Spread, orders, ratios

OURS, DRIVER, POOL = "cassconc submit", "session.execute", "ThreadPoolExecutor submit"
UNLIMITED = "session.execute without a time limit"
PERCENTILES = [50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9]

Call = Callable[[Sequence[Any]], object]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which so many percent lie: the nearest rank, no interpolation."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


def _timed(call: Call, requests: int) -> list[float]:
    taken, clock = [], time.perf_counter
    for number in range(requests):
        given = (number, "Grace Hopper", "grace@example.org")
        start = clock()
        call(given)
        taken.append((clock() - start) * 1e6)
    return taken


def _latency(context: Context, server: Server, prefix: str) -> Result:
    settings, session = context.settings, context.session(server)
    statement = session.prepare(INSERT)
    with cassconc.CassandraExecutor(session, 1) as executor, ThreadPoolExecutor(1) as pool:
        calls: dict[str, Call] = {
            OURS: lambda given: executor.submit(statement, *given).result(),
            DRIVER: lambda given: session.execute(statement, given),
            UNLIMITED: lambda given: session.execute(statement, given, timeout=None),
            POOL: lambda given: pool.submit(session.execute, statement, given).result(),
        }
        rounds: dict[str, list[list[float]]] = {name: [] for name in calls}
        plan = list(enumerate(orders(list(calls), settings.rounds + 1)))
        for number, order in progress(plan, "latency"):
            for name in order:
                taken = _timed(calls[name], settings.requests)
                if number:
                    rounds[name].append(taken)
    measures = {}
    for percent, key in ((50.0, "median"), (99.0, "p99")):
        of_rounds = {
            name: [percentile(each, percent) for each in taken] for name, taken in rounds.items()
        }
        ours = of_rounds[OURS]
        measures[f"{prefix}/{key}"] = Spread.of(ratios(ours, of_rounds[DRIVER])).asdict()
        measures[f"{prefix}/{key}, no time limit"] = Spread.of(
            ratios(ours, of_rounds[UNLIMITED])
        ).asdict()
    microseconds = {
        name: {
            str(percent): percentile([each for one in taken for each in one], percent)
            for percent in PERCENTILES
        }
        for name, taken in rounds.items()
    }
    return {"microseconds": microseconds, "measures": measures}


def stub_latency(context: Context) -> Result:
    """From submit to answer at concurrency 1 on the stub, against session.execute."""
    return _latency(context, context.stub(), "latency")


def node_latency(context: Context) -> Result:
    """The same on a real node."""
    return _latency(context, context.node(), "node-latency")


_IMPORT = """
import json, sys, time
import cassandra.cluster
before, start = set(sys.modules), time.perf_counter()
import cassconc
seconds = time.perf_counter() - start
print(json.dumps([seconds * 1000, sorted(set(sys.modules) - before)]))
"""


def import_time(context: Context) -> Result:
    """Milliseconds of `import cassconc` beyond `import cassandra.cluster`, fresh interpreters."""
    taken, modules = [], list[str]()
    # as installed, with compiled files: without them each import would compile the sources
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for number in progress(range(context.settings.interpreters + 1), "imports"):
        output = subprocess.run(
            [sys.executable, "-c", _IMPORT],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=environment,
        ).stdout
        milliseconds, modules = json.loads(output)
        if number:  # the first one writes and reads files
            taken.append(milliseconds)
    return {
        "milliseconds": taken,
        "median": statistics.median(taken),
        "modules": modules,
        "measures": {"import": Spread.of(taken).asdict()},
    }
