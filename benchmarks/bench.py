"""The benchmarks: cassconc side by side with what one would use instead.

Competitors run in turn in the same process, on the same server, in rounds after one that is
discarded; ratios are taken round by round, and their median counts. Speed is never asserted: the
exit code is 0 unless something fails.

docs/performance.md is built from results by benchmarks/report.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tabulate import tabulate

from benchmarks import footprint, latency, machine, others, scaling, throughput
from benchmarks.experiment import Context, Experiment, Settings
from benchmarks.targets import HEADERS, NOT_MEASURED, measures_of, percent, target_lines
from cassconc.testing.node import NodeError

ROOT = Path(__file__).parent.parent
LOCAL = ROOT / "benchmarks" / "results" / "local"

EXPERIMENTS: dict[str, Experiment] = {
    "stub-inserts": throughput.stub_inserts,
    "stub-others": others.stub_others,
    "list-memory": footprint.list_memory,
    "peak-memory": footprint.peak_memory,
    "garbage": footprint.garbage,
    "concurrency": scaling.concurrency_sweep,
    "input": scaling.input_sweep,
    "maps": scaling.maps_sweep,
    "fairness": scaling.fairness,
    "latency": latency.stub_latency,
    "import": latency.import_time,
    # last, since the node runs from then on
    "node-inserts": throughput.node_inserts,
    "node-reads": throughput.node_reads,
    "node-latency": latency.node_latency,
}
COLUMNS = ["", "requests/s", "least", "most", "CPU us", "server CPU", "collections"]


def competitor_lines(competitors: dict[str, Any]) -> list[list[Any]]:
    """Return the lines of the table of the competitors of one experiment, under COLUMNS."""
    return [
        [
            name,
            taken["rate"]["median"],
            taken["rate"]["low"],
            taken["rate"]["high"],
            taken["cpu_microseconds"]["median"],
            percent(taken["server_cpu_share"]),
            "/".join(map(str, taken["collections"])),
        ]
        for name, taken in competitors.items()
    ]


def show(result: dict[str, Any]) -> None:
    """Print what one experiment has measured."""
    if "competitors" in result:
        print(tabulate(competitor_lines(result["competitors"]), COLUMNS, floatfmt=",.0f"))
    lines = [
        [key, spread["median"], spread["low"], spread["high"]]
        for key, spread in result["measures"].items()
    ]
    print(tabulate(lines, ["", "median", "low", "high"], floatfmt=",.3g"), end="\n\n", flush=True)


def run(chosen: list[str], settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """Run the experiments; return everything for JSON, and the names of those that failed."""
    results: dict[str, Any] = {}
    failed = []
    facts = machine.facts()
    with contextlib.ExitStack() as stack:
        context = Context(settings, stack)
        for number, name in enumerate(chosen, 1):
            experiment = EXPERIMENTS[name]
            summary = (experiment.__doc__ or "").splitlines()[0]
            print(f"[{number}/{len(chosen)}] {name}: {summary}", flush=True)
            start = time.perf_counter()
            try:
                results[name] = experiment(context)
            except NodeError as error:
                print(f"failed: {error}\n", flush=True)
                failed.append(name)
                continue
            except Exception:
                traceback.print_exc()
                failed.append(name)
                continue
            results[name]["about"] = summary
            results[name]["took_seconds"] = time.perf_counter() - start
            show(results[name])
        facts["cassandra"] = context.node_version
    return {"facts": facts, "settings": settings.asdict(), "results": results}, failed


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return int(text)


def parse(arguments: list[str]) -> tuple[list[str], Settings, Path]:
    """Return what to run, with which settings, and where the results go."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog=epilog())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, metavar="NAME", help="what to measure; see below"
    )
    parser.add_argument("--quick", action="store_true", help="small numbers: under two minutes")
    parser.add_argument("--no-node", action="store_true", help="leave out what needs a real node")
    parser.add_argument("--output", type=Path, help=f"default: a file in {LOCAL.relative_to(ROOT)}")
    for each in fields(Settings):
        words = f"{each.metadata['help']}; default {each.default}, quick {each.metadata['quick']}"
        option = "--" + each.name.replace("_", "-")
        parser.add_argument(option, type=_positive, metavar="N", help=words)
    given = vars(parser.parse_args(arguments))
    settings = (Settings.quick() if given["quick"] else Settings()).asdict()
    settings |= {name: given[name] for name in settings if given[name] is not None}
    chosen = [
        name
        for name in given["only"] or EXPERIMENTS
        if not (given["no_node"] and name.startswith("node-"))
    ]
    default = LOCAL / ("quick.json" if given["quick"] else "latest.json")
    return chosen, Settings(**settings), given["output"] or default


def epilog() -> str:
    """Return the words of the help on what can be measured."""
    lines = [
        f"  {name:14} {(experiment.__doc__ or '').splitlines()[0]}"
        for name, experiment in EXPERIMENTS.items()
    ]
    ending = "\n\nCASSCONC_CONTACT_POINTS names a node to use; without it one is started."
    return "what can be measured:\n" + "\n".join(lines) + ending


def main() -> None:
    """Run what the command line asks for, print it, and write it down."""
    chosen, settings, output = parse(sys.argv[1:])
    start = time.perf_counter()
    measured, failed = run(chosen, settings)
    if measures_of(measured["results"]):
        lines = target_lines(measured["results"])
        shown = [line for line in lines if line[-1] != NOT_MEASURED]
        print(tabulate(shown, HEADERS, disable_numparse=True))
        print(f"{len(lines) - len(shown)} of {len(lines)} targets were not measured.")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"\n{time.perf_counter() - start:.0f} s; results: {output}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
