"""What is aimed at: each line is a number that an experiment measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A line of the table of targets.

    Attributes:
        key: Under which name the experiments report it.
        work: What is done.
        against: What it is compared with.
        unit: What follows the number: x for a ratio.
        at_least: What must be reached.
        aim: What is hoped for, if more than that.
        more_is_better: Whether at_least is a lower bound, or else an upper one.
    """

    key: str
    work: str
    against: str
    unit: str
    at_least: float
    aim: float | None
    more_is_better: bool = True

    def reached(self, value: float, bound: float | None) -> bool:
        """Return whether a value is as good as the bound."""
        if bound is None:
            return False
        return value >= bound if self.more_is_better else value <= bound

    def words(self) -> list[str]:
        """Return what is done, against what, the least that must be reached, and the aim."""
        bound = ("" if self.more_is_better else "at most ") + number(self.at_least, self.unit)
        return [
            self.work,
            self.against,
            bound,
            "" if self.aim is None else number(self.aim, self.unit),
        ]

    def verdict(self, value: float) -> str:
        """Return what to say about a value."""
        if not self.reached(value, self.at_least):
            return "MISSED"
        return "aim reached" if self.reached(value, self.aim) else "reached"


LIST, GENERATOR = "cassandra.concurrent, list", "cassandra.concurrent, generator"
POOL = "ThreadPoolExecutor(100)"
STUB, READS, INSERTS = "inserts, stub server", "one-row reads, real node", "inserts, real node"
OURS = "map(buffersize=1000)"


def _most(key: str, work: str, against: str, unit: str, most: float, aim: float | None) -> Target:
    return Target(key, work, against, unit, most, aim, more_is_better=False)


TARGETS = [
    Target("stub-inserts/list", STUB, LIST, "x", 1.35, 1.6),
    Target("stub-inserts/generator", STUB, GENERATOR, "x", 1.2, 1.5),
    Target("stub-inserts/chain", STUB, "callback chain without time limits", "x", 0.74, 0.85),
    Target("stub-inserts/pool", STUB, POOL, "x", 2, 3),
    Target("node-reads/list", READS, LIST, "x", 2.2, 2.45),
    Target("node-reads/generator", READS, GENERATOR, "x", 1.9, 2.2),
    Target("node-reads/pool", READS, POOL, "x", 2, 3),
    Target("node-inserts/list", INSERTS, LIST, "x", 1.2, 1.3),
    Target("node-inserts/generator", INSERTS, GENERATOR, "x", 1.05, 1.3),
    Target("node-inserts/pool", INSERTS, POOL, "x", 2, 3),
    Target("drop-ins/list", "our drop-in, list, stub server", LIST, "x", 1.25, 1.6),
    Target("drop-ins/generator", "our drop-in, generator, stub server", GENERATOR, "x", 1.15, 1.5),
    *(
        _most(
            f"list-memory/cassconc {name}/{kind}",
            f"{kind} memory per statement of a finished list: {name}",
            "the driver's 4,255 bytes",
            "bytes",
            400,
            200,
        )
        # not of `map` without buffersize: its queue was there at once, and the allocator keeps much
        # of that memory for later, so the resident figure is one of the queue
        for name in (OURS, "list")
        for kind in ("resident", "traced")
    ),
    *(
        _most(
            f"peak-memory/{consumer}/{kind}",
            f"{kind} peak memory of {OURS}, {consumer} consumer",
            "that of a hundredth of the input",
            "MB more",
            5,
            1,
        )
        for consumer in ("fast", "slow")
        for kind in ("resident", "traced")
    ),
    _most(
        f"garbage/cassconc {OURS}",
        "full garbage collections per 60,000 requests",
        "the driver's 17",
        "",
        1,
        0,
    ),
    *(
        _most(f"flatness/{key}", f"CPU per request as {words}", "its cheapest", "%", 0.15, None)
        for key, words in {
            # the bare chain's own goes up and down by a third, see scaling.concurrency_sweep
            "concurrency": "concurrency goes from 10 to 5,000, over that of the bare chain",
            "input": "the input grows from 1,000",
            "maps": "maps on one executor go from 1 to 50",
        }.items()
    ),
    *(
        # Not on the stub server: there a tenth hangs on when the driver's loop is woken, which the
        # timer of a request does by chance. What is measured there is among the slower ways.
        _most(
            f"node-latency/{key}",
            f"submit to answer, one at a time, real node, {key}",
            "session.execute",
            "x",
            1.1,
            1,
        )
        for key in ("median", "p99")
    ),
    Target("fairness", "the slowest of 10 maps on one executor", "the fastest", "x", 0.8, 0.95),
    Target(
        "fairness/first end",
        "the slowest of 10 maps when the first one ends",
        "the first one",
        "x",
        0.8,
        0.95,
    ),
    _most("import", "import cassconc", "after import cassandra.cluster", "ms", 15, 5),
]


def measures_of(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return everything that the experiments measured, by key."""
    return {
        key: spread for result in results.values() for key, spread in result["measures"].items()
    }


NOT_MEASURED = "not measured"
HEADERS = ["", "against", "at least", "aim", "measured", "spread", ""]


def target_lines(results: Mapping[str, Any]) -> list[list[str]]:
    """Return the lines of the table of targets, under HEADERS."""
    measures = measures_of(results)
    lines = []
    for target in TARGETS:
        measured, spread, verdict = "", "", NOT_MEASURED
        if target.key in measures:
            found = measures[target.key]
            measured, spread = number(found["median"], target.unit), spread_of(found, target.unit)
            verdict = target.verdict(found["median"])
        lines.append([*target.words(), measured, spread, verdict])
    return lines


def spread_of(found: Mapping[str, float], unit: str) -> str:
    """Return from where to where the rounds went; nothing where there was only one."""
    if found["low"] == found["high"]:
        return ""
    return f"{number(found['low'], unit)} to {number(found['high'], unit)}"


def number(value: float, unit: str) -> str:
    """Return a number with its unit, in three digits or so."""
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "%":
        return f"{100 * value:.1f} %"
    digits = 0 if value == int(value) or abs(value) >= 100 else 2 if abs(value) < 10 else 1
    return f"{value:,.{digits}f} {unit}".strip()


def percent(share: float) -> str:
    """Return a share of one processor; nothing where it is not known, as of a server elsewhere."""
    return f"{share:.0%}" if share else ""
