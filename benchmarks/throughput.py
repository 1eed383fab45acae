"""Throughput: how many requests a second each competitor makes, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from typing import Any

from benchmarks import competitors
from benchmarks.clients import INSERT, SELECT, Server
from benchmarks.competitors import Competitor, Rows
from benchmarks.experiment import Context, Result
from benchmarks.rounds import Run, interleaved, rate_ratio, summary

OURS = "cassconc map"
LIST = "cassandra.concurrent list"
GENERATOR = "cassandra.concurrent generator"
POOL = "ThreadPoolExecutor"
CHAIN = "callback chain without time limits"
OUR_LIST = "cassconc list"
OUR_GENERATOR = "cassconc generator"

MAIN: dict[str, Competitor] = {
    OURS: competitors.ours_map,
    LIST: competitors.driver_list,
    GENERATOR: competitors.driver_generator,
    POOL: competitors.thread_pool,
    CHAIN: competitors.callback_chain,
}
DROP_INS: dict[str, Competitor] = {
    OUR_LIST: competitors.our_list,
    OUR_GENERATOR: competitors.our_generator,
}


def users(count: int) -> Rows:
    """Return the rows of so many users, made as they are iterated."""
    return Rows(range(count), repeat("Grace Hopper"), repeat("grace@example.org"))


def _runs(
    session: Any, statement: Any, rows: Rows, concurrency: int, chosen: Mapping[str, Competitor]
) -> dict[str, Run]:
    def run_of(competitor: Competitor) -> Run:
        return lambda: competitor(session, statement, rows, concurrency)

    return {name: run_of(competitor) for name, competitor in chosen.items()}


def _compare(
    context: Context, server: Server, text: str, chosen: Mapping[str, Competitor], title: str
) -> tuple[Any, Result]:
    settings = context.settings
    session = context.session(server)
    statement = session.prepare(text)
    rows = users(settings.statements) if text == INSERT else Rows(range(settings.statements))
    runs = _runs(session, statement, rows, settings.concurrency, chosen)
    samples = interleaved(
        runs, settings.rounds, server.cpu_seconds, title=title, check=settings.statements
    )
    return samples, {"statement": text, "competitors": summary(samples)}


def _against(samples: Any, prefix: str, names: Mapping[str, str], ours: str = OURS) -> Result:
    return {
        f"{prefix}/{key}": rate_ratio(samples, ours, name).asdict() for key, name in names.items()
    }


def stub_inserts(context: Context) -> Result:
    """Prepared inserts on the stub: ours, our drop-ins, the driver's, a pool, the bare chain."""
    samples, result = _compare(
        context, context.stub(), INSERT, {**MAIN, **DROP_INS}, "inserts, stub"
    )
    names = {"list": LIST, "generator": GENERATOR, "chain": CHAIN, "pool": POOL}
    measures = _against(samples, "stub-inserts", names)
    measures |= _against(samples, "drop-ins", {"list": LIST}, OUR_LIST)
    measures |= _against(samples, "drop-ins", {"generator": GENERATOR}, OUR_GENERATOR)
    return {**result, "measures": measures}


def node_inserts(context: Context) -> Result:
    """Prepared inserts on a real node."""
    samples, result = _compare(context, context.node(), INSERT, MAIN, "inserts, node")
    names = {"list": LIST, "generator": GENERATOR, "pool": POOL, "chain": CHAIN}
    return {**result, "measures": _against(samples, "node-inserts", names)}


def node_reads(context: Context) -> Result:
    """One-row reads by key on a real node, with the driver's default row factory."""
    session, count = context.session(context.node()), context.settings.statements
    loaded = competitors.ours_map(session, session.prepare(INSERT), users(count), 100)
    assert loaded == count
    samples, result = _compare(context, context.node(), SELECT, MAIN, "reads, node")
    names = {"list": LIST, "generator": GENERATOR, "pool": POOL, "chain": CHAIN}
    return {**result, "measures": _against(samples, "node-reads", names)}
