"""The benchmarks: cassconc side by side with what one would use instead.

Every number is one that a run has measured; ratios are taken round by round. See `make docs` for
the page that is built from a committed run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tabulate import tabulate

from benchmarks import throughput
from benchmarks.experiment import QUICK, Context, Experiment, Result, Settings

EXPERIMENTS: dict[str, Experiment] = {
    "stub-inserts": throughput.stub_inserts,
    "node-inserts": throughput.node_inserts,
    "node-reads": throughput.node_reads,
}


def competitors_table(result: Result) -> str:
    """Return the table of competitors of one experiment."""
    lines = [
        (name, taken["rate"]["median"], taken["rate"]["low"], taken["rate"]["high"],
         taken["cpu_microseconds"]["median"], 100 * taken["server_cpu_share"],
         "/".join(map(str, taken["collections"])))
        for name, taken in result["competitors"].items()
    ]  # fmt: skip
    headers = ["", "requests/s", "least", "most", "CPU us", "server CPU %", "collections"]
    return tabulate(lines, headers, floatfmt=",.0f")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, help="what to measure")
    parser.add_argument("--quick", action="store_true", help="small numbers: under two minutes")
    parser.add_argument("--no-node", action="store_true", help="leave out what needs a real node")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--statements", type=int)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    settings = QUICK if arguments.quick else Settings()
    given = {name: getattr(arguments, name) for name in ("rounds", "statements", "concurrency")}
    settings = Settings(**{**settings.asdict(), **{k: v for k, v in given.items() if v}})
    chosen = arguments.only or list(EXPERIMENTS)
    results = {}
    with contextlib.ExitStack() as stack:
        context = Context(settings, stack)
        for name in chosen:
            if arguments.no_node and name.startswith("node"):
                continue
            results[name] = EXPERIMENTS[name](context)
            print(f"\n{name}\n{competitors_table(results[name])}\n")
            for target, spread in results[name]["targets"].items():
                print(f"{target:28} {spread['median']:6.2f}", end=" ")
                print(f"({spread['low']:.2f} to {spread['high']:.2f})")
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
