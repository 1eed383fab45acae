"""Writes under every fault that one machine can produce, accounted for to the last one.

Three real nodes, replication 3, QUORUM. For each fault, the writes run once with this library and
once with the driver's `execute_concurrent_with_args`, in sessions that are made alike, and the
table is read back. It exits with 1 when a write is lost or ends wrongly, and when nothing ends it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))


from benchmarks.fault_cases import CASES, OVERLOADED, Case, Scene, play
from benchmarks.fault_load import Account, Load, Run, Settings, drivers, ours
from benchmarks.fault_ring import DURABLE, connected, create_keyspace, heal, lost, prepare
from benchmarks.fault_table import HEADERS, Result, render, write
from cassconc.testing.node import LocalCluster, NodeError


class Bench:
    """Runs cases on one ring of nodes."""

    def __init__(
        self, ring: LocalCluster, settings: Settings, compare: Callable[[Case], bool]
    ) -> None:
        self._ring = ring
        self._settings = settings
        self._compare = compare
        self._keyspaces = 0
        self._is_well = True  # whether nothing has happened to the ring since it was healed

    def warm_up(self) -> None:
        """Write a little: the nodes compile what is hot, and the first load would pay for it."""
        few = dataclasses.replace(self._settings, statements=self._settings.statements // 4)
        with connected(self._ring, few.timeout) as session:
            keyspace = create_keyspace(session, "warm_up", len(self._ring.nodes))
            Run(drivers, session, prepare(session, keyspace), few).finish()

    def run(self, case: Case) -> Result:
        """Run a case, with ours and with the driver's, on nodes that are well before each."""
        account, missing, under_load = self._run(case, ours)
        stats = account.stats
        result = Result(
            case.name, account.statements, account.succeeded, dict(account.failed),
            account.never_sent, missing, account.seconds, account.hung,
            stats.retried if stats else 0, account.wrong, account.examples, under_load,
        )  # fmt: skip
        if case.all_written and self._settings.retry and result.succeeded != result.statements:
            result.wrong.append(f"{result.statements - result.succeeded} were not written")
        if self._compare(case):
            theirs, _, _ = self._run(case, drivers)
            result.driver_seconds = theirs.seconds
            result.driver_failed = dict(theirs.failed)
            result.driver_hung, result.driver_untold = theirs.hung, theirs.never_sent
            result.driver_wrong = theirs.wrong
        return result

    def _run(self, case: Case, load: Load) -> tuple[Account, int | None, bool]:
        self._heal()
        self._keyspaces += 1
        with connected(self._ring, self._settings.timeout, case.speculative) as session:
            keyspace = create_keyspace(session, f"faults_{self._keyspaces}", len(self._ring.nodes))
            insert = prepare(session, keyspace)
            run = Run(load, session, insert, self._settings)
            scene = Scene(self._ring, session, keyspace, self._settings, run)
            self._is_well = False
            under_load = play(case, scene)
            account = run.finish()
        missing = scene.lost
        if load is ours and missing is None:
            self._heal()
            missing = lost(self._ring, keyspace, account)
        return account, missing, under_load

    def _heal(self) -> None:
        if not self._is_well:
            heal(self._ring)
            self._is_well = True


def run_all(
    cases: Sequence[Case],
    settings: Settings,
    compare: Callable[[Case], bool],
    heap: str,
    yaml: dict[str, Any],
    save: Callable[[Sequence[Result]], None],
) -> list[Result]:
    """Run the cases, each on the ring that it needs, and show each row as it comes."""
    results = []
    for overloaded in (False, True):
        here = [case for case in cases if case.overloaded is overloaded]
        if not here:
            continue
        nodes, settings_of_nodes = (1, OVERLOADED) if overloaded else (3, yaml)
        _say(f"Starting {nodes} node{'s' * (nodes > 1)} ...")
        with LocalCluster(nodes, heap=heap, yaml=settings_of_nodes) as ring:
            bench = Bench(ring, settings, compare)
            if not overloaded:
                bench.warm_up()
            for case in here:
                _say(f"{case.name} ...")
                try:
                    results.append(bench.run(case))
                except Exception as error:  # of the nodes: the other faults are run all the same
                    results.append(_broken(case, settings, error))
                _show(results[-1])
                save(results)
    return results


def _broken(case: Case, settings: Settings, error: Exception) -> Result:
    wrong = [f"the run broke: {type(error).__name__}: {error}"]
    return Result(case.name, settings.statements, 0, {}, 0, None, 0.0, False, 0, wrong, {}, True)


def _show(result: Result) -> None:
    _say("  " + "; ".join(map(": ".join, zip(HEADERS[1:], result.cells()[1:]))))
    if not result.under_load:
        _say("  the load was over before the fault: use more statements")
    if result.retried:
        _say(f"  {result.retried:,} retries")
    for name, example in result.examples.items():
        _say(f"  for example {name}: {example}")
    for wrong in result.wrong[:20]:
        _say(f"  WRONG: {wrong}")
    for wrong in result.driver_wrong[:20]:
        _say(f"  the driver's: {wrong}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few faults, few statements: CI")
    parser.add_argument("--statements", type=int, help="how many (default: 100000; short: 4000)")
    parser.add_argument("--only", action="append", metavar="NAME", help="this fault; repeatable")
    parser.add_argument(
        "--output",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="write the table to a .md file, or all to a .json file; repeatable",
    )
    parser.add_argument("--timeout", type=float, help="of a request, in s (default: 10; short: 2)")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--no-retry", action="store_true", help="ours without its retry")
    parser.add_argument("--no-driver", action="store_true", help="without the comparison")
    parser.add_argument(
        "--commitlog-sync",
        choices=("batch", "periodic"),
        default="batch",
        help="of the nodes (default: %(default)s); Cassandra's default is periodic, which is "
        "faster, and nodes that are killed together lose what they have acknowledged last",
    )
    parser.add_argument("--heap", default="384M", help="of each node (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="list the faults")
    arguments = parser.parse_args()  # fmt: skip
    names = [case.name for case in CASES]
    for name in arguments.only or ():
        if name not in names:
            parser.error(f"there is no fault {name!r}; there are: {', '.join(names)}")
    if arguments.statements is not None and arguments.statements < 100:
        parser.error("--statements must be at least 100")
    return arguments


def main() -> int:
    """Run the faults; returns the exit code."""
    arguments = parse()
    if arguments.list:
        print(*[case.name for case in CASES], sep="\n")
        return 0
    short = arguments.short
    settings = Settings(
        arguments.statements or (4_000 if short else 100_000),
        concurrency=arguments.concurrency,
        timeout=arguments.timeout or (2.0 if short else 10.0),
        hung_for=5.0 if short else 20.0,
        patience=90.0 if short else 240.0,
        driver_patience=15.0 if short else 60.0,
        retry=not arguments.no_retry,
    )
    cases = [case for case in CASES if case.name in arguments.only] if arguments.only else [
        case for case in CASES if case.short or not short
    ]  # fmt: skip

    def compare(case: Case) -> bool:
        return not arguments.no_driver and (case.compared or not short)

    def save(results: Sequence[Result]) -> None:
        for path in arguments.output:
            write(path, results, settings)

    yaml = DURABLE if arguments.commitlog_sync == "batch" else {}
    try:
        results = run_all(cases, settings, compare, arguments.heap, yaml, save)
    except NodeError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n" + render(results, settings))
    bad = [result for result in results if result.is_bad]
    for result in bad:
        print(f"{result.name}: {result.lost} lost, hangs: {result.hung}; {result.wrong[:20]}")
    if any(result.hung for result in results):
        sys.stdout.flush()
        os._exit(1)  # the interpreter's exit would wait for what hangs
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
