"""Builds docs/performance.md, and its plots, from the results of committed runs.

    python benchmarks/report.py [RESULTS.json ...]

Without files, benchmarks/results/run-*.json of bench.py and profile-*.json of profile_request.py,
in the order of their dates. Every run has a column in the table of targets; the rest of the page is
that of the last one. The same results give the same page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tabulate import tabulate

from benchmarks.rounds import Spread, ratios
from benchmarks.targets import (
    NOT_MEASURED,
    TARGETS,
    Target,
    measures_of,
    number,
    percent,
    spread_of,
)

OURS = "cassconc map"
ROOT = Path(__file__).parent.parent
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
Run = Mapping[str, Any]

EXPERIMENTS = {
    "stub-inserts": "Prepared inserts, stub server",
    "stub-others": "Prepared inserts, stub server: other ways",
    "node-reads": "One-row reads by key, real node",
    "node-inserts": "Prepared inserts, real node",
}
PLOTS = {
    "throughput": "Throughput against concurrency, prepared inserts on the stub server.",
    "memory": "Peak of resident memory against the length of the input, beyond that of the "
    "connected client.",
    "latency": "Latency of one request at a time on the stub server, by percentile.",
}
HOW = """\
This page is made by `benchmarks/report.py` from results of `make bench` that are committed in
`benchmarks/results`; nothing on it was written by hand.

The client runs in one process, the stub server, which answers as fast as Python can and does
nothing else, in another. Competitors take turns in the same client process, on the same session,
in rounds after one that is discarded; a ratio is taken within each round, and the median of the
ratios counts, with the least and the greatest beside it. Everything has its default settings and
default time limits, where it does not say otherwise.
"""


def _table(lines: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    return str(tabulate(lines, headers, tablefmt="github", disable_numparse=True))


def facts_table(run: Run) -> str:
    """Return what the run ran on."""
    facts = run["facts"]
    compiled = "compiled" if facts["driver_compiled"] else "not compiled"
    libraries = ", ".join(
        f"{name} {version}"
        for name, version in facts["libraries"].items()
        if name not in ("cassconc", "cassandra-driver", "scylla-driver")
    )
    lines = [
        ("command", f"`{facts['command']}`"),
        ("date", facts["date"]),
        ("commit", f"`{facts['commit']}`"),
        ("processor", f"{facts['processor']}, {facts['cores']} cores"),
        ("memory", f"{facts['memory'] / 2**30:.0f} GiB"),
        ("load when it began", f"{facts['load'][0]:.2f}"),
        ("system", facts["system"]),
        ("Python", facts["python"]),
        ("driver", f"{facts['driver']}, {compiled}, {facts['driver_event_loop']}"),
        ("Cassandra", facts.get("cassandra") or NOT_MEASURED),
        ("other libraries", libraries),
    ]
    return _table(lines, ["", ""])


def _cell(target: Target, found: Mapping[str, float] | None) -> str:
    if found is None:
        return NOT_MEASURED
    text, spread = number(found["median"], target.unit), spread_of(found, target.unit)
    if target.verdict(found["median"]) == "MISSED":
        text = f"**{text}, missed**"
    return f"{text} ({spread})" if spread else text


def targets_table(runs: Sequence[Run]) -> str:
    """Return the targets, with what each run has measured."""
    measured = [measures_of(run["results"]) for run in runs]
    lines = [
        [
            *target.words(),
            *[_cell(target, measures.get(target.key)) for measures in measured],
        ]
        for target in TARGETS
    ]
    names = [f"run {index}" for index in range(1, len(runs) + 1)]
    return _table(lines, ["work", "against", "at least", "aim", *names])


def competitors_table(competitors: Mapping[str, Any]) -> str:
    """Return the competitors of one experiment, the fastest first."""
    ordered = sorted(competitors.items(), key=lambda item: -item[1]["rate"]["median"])
    lines = [
        (
            name,
            f"{taken['rate']['median']:,.0f}",
            f"{taken['rate']['low']:,.0f} to {taken['rate']['high']:,.0f}",
            f"{taken['cpu_microseconds']['median']:.0f}",
            f"{taken['cpu_share']:.0%}",
            percent(taken["server_cpu_share"]),
            " / ".join(map(str, taken["collections"])),
        )
        for name, taken in ordered
    ]
    headers = ["", "requests/s", "spread", "µs of CPU", "client CPU", "server CPU"]
    return _table(lines, [*headers, "collections by generation"])


def _rates(taken: Mapping[str, Any]) -> list[float]:
    return [each["count"] / each["seconds"] for each in taken["rounds"]]


def slower(results: Mapping[str, Any]) -> list[str]:
    """Return where something else is faster than cassconc."""
    lines = []
    for experiment, title in EXPERIMENTS.items():
        competitors = results.get(experiment, {}).get("competitors", {})
        ours = competitors.get(OURS)
        for name, taken in competitors.items():
            if ours is None or name.startswith("cassconc"):
                continue
            factor = Spread.of(ratios(_rates(taken), _rates(ours))).median
            if factor > 1:
                lines.append(f"{title}: {name} serves {factor:.2f} times our requests.")
    for key, title in (("latency", "stub server"), ("node-latency", "real node")):
        for part in ("median", "p99"):
            spread = results.get(key, {}).get("measures", {}).get(f"{key}/{part}")
            if spread and spread["median"] > 1:
                text = f"One request at a time, {title}: our {part} latency is "
                text += f"{spread['median']:.2f} times that of `session.execute`"
                unlimited = results[key]["measures"].get(f"{key}/{part}, no time limit")
                if unlimited:
                    text += f", and {unlimited['median']:.2f} times what that has without its timer"
                lines.append(text + ".")
    return lines


def missed(results: Mapping[str, Any]) -> list[str]:
    """Return the targets that were missed."""
    measures = measures_of(results)
    return [
        f"{target.work}, against {target.against}: "
        f"{number(measures[target.key]['median'], target.unit)}."
        for target in TARGETS
        if target.key in measures and target.verdict(measures[target.key]["median"]) == "MISSED"
    ]


def footprint(results: Mapping[str, Any]) -> list[str]:
    """Return what is to say about memory and garbage."""
    parts = []
    if "list-memory" in results:
        result = results["list-memory"]
        lines = [
            (name, f"{kinds['resident']:,.0f}", f"{kinds['traced']:,.0f}")
            for name, kinds in result["bytes_per_statement"].items()
        ]
        text = f"Bytes per statement of a finished list of {result['count']:,} inserts, each in a "
        text += "process of its own: resident, and traced by tracemalloc."
        parts += [text, _table(lines, ["", "resident", "traced"])]
    if "garbage" in results:
        result = results["garbage"]
        lines = [
            (name, *map(str, each["collections"]), f"{each['seconds']:.2f} s")
            for name, each in result["collections"].items()
        ]
        text = f"Garbage collections by generation during {result['count']:,} inserts, and how "
        text += "long they took in all."
        parts += [text, _table(lines, ["", "young", "middle", "full", "time"])]
    return ["## Memory and garbage", *parts] if parts else []


def profile(measured: Mapping[str, Any]) -> list[str]:
    """Return what the profile says about where the time of a request goes."""
    lines = [
        (
            name,
            f"{taken['cpu_microseconds']['median']:.1f}",
            f"{taken['more_microseconds']['median']:+.1f}",
            f"{taken['rate']['median']:,.0f}",
        )
        for name, taken in measured["ladder"].items()
    ]
    text = f"`{measured['statement']}` on the stub server, by `make profile`: the CPU of this "
    text += "process per request, and how much more that is than the bare chain's."
    headers = ["", "µs of CPU", "more than the first", "requests/s"]
    parts = ["## Where the time of a request goes", text, _table(lines, headers)]
    for name, found in measured["profile"].items():
        named = {f"**{side}**": share for side, share in found["sides"].items()}
        named |= {each: share for each, share in found["owners"].items() if " " in each}
        shares = [
            (each, f"{share:.1%}", f"{share * found['microseconds']:.1f}")
            for each, share in named.items()
            if share >= 0.01
        ]
        text = f"{name.capitalize()}: {found['looks']:,} looks of py-spy, first by side, then by "
        text += "module."
        parts += [text, _table(shares, ["", "share", "µs"])]
    return parts


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines or ["None of what was measured."])


def page(runs: Sequence[Run], drawn: Sequence[str], profiled: Sequence[Run] = ()) -> str:
    """Return the page.

    Args:
        runs: The runs, one or more; the last one has the word.
        drawn: The names of the plots that were drawn.
        profiled: The profiles.
    """
    run = runs[-1]
    results, settings = run["results"], run["settings"]
    parts = ["# Performance", HOW.strip(), "## Targets", targets_table(runs)]
    parts += ["## Where others are faster", _bullets(slower(results))]
    parts += ["## Targets that were missed", _bullets(missed(results))]
    for experiment, title in EXPERIMENTS.items():
        if experiment in results:
            result = results[experiment]
            text = f"`{result['statement']}`, concurrency {settings['concurrency']}, "
            text += f"{settings['rounds']} rounds of {settings['statements']:,}."
            parts += [f"## {title}", text, competitors_table(result["competitors"])]
    parts += footprint(results)
    if drawn:
        parts += ["## Plots", *(f"![{PLOTS[name]}](plots/{name}.svg)\n\n{PLOTS[name]}"
                                for name in drawn)]  # fmt: skip
    for measured in profiled:
        parts += profile(measured)
    parts += ["## What it was measured on", facts_table(run)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--output", type=Path, default=DOCS, help="the folder; default: docs")
    arguments = parser.parse_args()
    paths = arguments.results or [*RESULTS.glob("run-*.json"), *RESULTS.glob("profile-*.json")]
    if not paths:
        raise SystemExit(f"there are no results in {RESULTS}: make bench first")
    found = sorted(
        (json.loads(path.read_text()) for path in paths), key=lambda each: each["facts"]["date"]
    )
    runs = [each for each in found if "results" in each]
    if not runs:
        raise SystemExit("there are profiles, and no results: make bench first")
    from benchmarks import plots  # the page can be made, and tested, without matplotlib

    drawn = plots.draw(runs[-1]["results"], arguments.output / "plots")
    profiled = [each for each in found if "profile" in each]
    (arguments.output / "performance.md").write_text(page(runs, drawn, profiled))


if __name__ == "__main__":
    main()
