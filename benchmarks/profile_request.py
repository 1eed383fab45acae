"""Shows where the microseconds of a request go: the driver's share, and ours by module.

The ladder is exact: CPU per request, in interleaved rounds on the stub server, of a bare callback
chain and of what adds one thing after another. The profile is not: py-spy, in a process of its
own, looks at the stacks of the running client, native frames included, since the driver is
compiled. It stops the client at each look, which slows it and favours no one; but a look happens
at some instruction, shares below one percent are noise, and what the caches cost one module may
be due to another. A look counts for the innermost frame that is the driver's or ours: what
Python's own library does is put down to who called it. Microseconds are the share of the CPU that
the ladder measured without py-spy.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from cassandra.cluster import ResultSet
from tabulate import tabulate

import cassconc
from benchmarks import competitors, machine
from benchmarks.clients import INSERT, SELECT, Server, session_on, stub_server
from benchmarks.competitors import WINDOW, Competitor, Rows
from benchmarks.rounds import Spread, interleaved, summary
from benchmarks.throughput import OURS, users

STATEMENTS = {"insert": INSERT, "select": SELECT}
OUTPUT = Path(__file__).parent / "results" / "local" / "profile.json"
CONCURRENCY = 100


class _Session:
    """A session whose responses complete a standard future each, as one would write it."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def execute_async(self, statement: Any, given: Any, **options: Any) -> _Session:
        self._response = self._session.execute_async(statement, given, **options)
        return self

    def add_callbacks(self, callback: Any, errback: Any) -> None:
        response, future = self._response, Future[Any]()
        future.add_done_callback(lambda done: callback(done.result()))
        response.add_callbacks(lambda rows: future.set_result(ResultSet(response, rows)), errback)


def _naive_futures(session: Any, statement: Any, parameters: Iterable[Any], limit: int) -> int:
    return competitors.callback_chain(_Session(session), statement, parameters, limit)


def _map(**options: Any) -> Competitor:
    limits = {"timeout": options.pop("limit")} if "limit" in options else {}

    def run(session: Any, statement: Any, parameters: Any, concurrency: int) -> int:
        with cassconc.CassandraExecutor(session, concurrency) as executor:
            view = executor.with_options(**limits)
            results = view.map(statement, *parameters.columns, buffersize=WINDOW, **options)
            return sum(1 for _ in results)

    return run


FLOOR = "bare chain, no time limits"
LADDER: dict[str, Competitor] = {
    FLOOR: competitors.callback_chain,
    "bare chain, the driver's time limits": competitors.callback_chain_limited,
    "bare chain, a standard Future and ResultSet each": _naive_futures,
    "cassconc map, unordered, no time limits": _map(ordered=False, limit=None),
    "cassconc map, no time limits": _map(limit=None),
    OURS: competitors.ours_map,
    "cassconc list": competitors.our_list,
    "cassandra.concurrent list": competitors.driver_list,
}


def ladder(server: Server, text: str, rounds: int, count: int) -> dict[str, Any]:
    """Measure the rungs; return what each took, for JSON."""
    rows = users(count) if text == INSERT else Rows(range(count))
    with session_on(server) as session:
        statement = session.prepare(text)
        runs = {
            name: lambda rung=rung: rung(session, statement, rows, CONCURRENCY)
            for name, rung in LADDER.items()
        }
        samples = interleaved(runs, rounds, server.cpu_seconds, title="ladder", check=count)
    rungs = summary(samples)
    for name, taken in samples.items():
        more = [
            each.cpu_per_request - floor.cpu_per_request
            for each, floor in zip(taken, samples[FLOOR])
        ]
        rungs[name]["more_microseconds"] = Spread.of(more).asdict()
    return rungs


_OURS = re.compile(r"\((?:\S*/)?cassconc/([\w/]+)\.py")
_DRIVER = re.compile(r"\((?:\S*/)?cassandra/([\w/]+)\.(?:py|c|cpython\S*)[:)]")
_WAITING = re.compile(r"PyThread_acquire_lock|pthread_cond_|SimpleQueue_get")
_BENCHMARK = re.compile(r"\((?:\S*/)?benchmarks/\w+\.py")


def owner(stack: str) -> str:
    """Return to whom a stack of py-spy counts: frames from the outermost, parted by semicolons."""
    for frame in reversed(stack.split(";")):
        if "gc_collect" in frame:
            return "garbage"
        if found := _OURS.search(frame):
            return f"cassconc {found[1]}"
        if found := _DRIVER.search(frame):
            return f"driver {found[1]}"
        if "libev" in frame:
            return "driver libev"
        if _BENCHMARK.search(frame):
            return "benchmark"
    return "Python"


def waits(stack: str) -> bool:
    """Return whether a thread waits, for a lock or its turn: py-spy takes some for busy."""
    return bool(_WAITING.search(";".join(stack.split(";")[-4:])))


def looks(raw: str) -> dict[str, int]:
    """Return how often each owner was seen at work, the most often first, from py-spy's output."""
    counts: collections.Counter[str] = collections.Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if not waits(stack):
            counts[owner(stack)] += int(count)
    return dict(counts.most_common())


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each; it is a ValueError when nothing was seen."""
    total = sum(counts.values())
    if not total:
        raise ValueError("py-spy saw no thread at work")
    return {name: count / total for name, count in counts.items()}


def sides(of_owners: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of the driver, ours, and the rest."""
    found: dict[str, float] = {}
    for name, share in of_owners.items():
        side = name.split(" ")[0] if name.startswith(("cassconc", "driver")) else name
        found[side] = found.get(side, 0) + share
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def sample(server: Server, kind: str, rung: str, seconds: int, rate: int) -> str:
    """Let py-spy look at a client that runs one rung over and over; return what it saw."""
    command = [sys.executable, __file__, "--client", rung, "--port", str(server.port)]
    command += ["--statement", kind]
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE) as client,
    ):
        raw = Path(folder) / "raw"
        try:
            assert client.stdout is not None
            client.stdout.readline()  # it has warmed up
            options = ["--native", "--format", "raw", "--rate", str(rate)]
            options += ["--duration", str(seconds), "--output", str(raw)]
            subprocess.run(
                [spy, "record", *options, "--pid", str(client.pid)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=True,
            )
            return raw.read_text()
        finally:
            client.kill()


def be_client(rung: str, kind: str, port: int) -> None:
    """Run one rung over and over, until killed."""
    server = Server(["127.0.0.1"], port, lambda: 0.0)
    with session_on(server) as session:
        statement = session.prepare(STATEMENTS[kind])
        rows = users(10_000) if kind == "insert" else Rows(range(10_000))
        LADDER[rung](session, statement, rows, CONCURRENCY)
        print("ready", flush=True)
        while True:
            LADDER[rung](session, statement, rows, CONCURRENCY)


def show(rungs: Mapping[str, Any], profiles: Mapping[str, Any]) -> None:
    """Print both."""
    lines = [
        [
            name,
            taken["cpu_microseconds"]["median"],
            taken["more_microseconds"]["median"],
            taken["rate"]["median"],
            "/".join(map(str, taken["collections"])),
        ]
        for name, taken in rungs.items()
    ]
    headers = ["", "CPU us", "more than the floor", "requests/s", "collections"]
    print(tabulate(lines, headers, floatfmt=",.1f"))
    for name, profile in profiles.items():
        for part in ("sides", "owners"):
            lines = [
                [owner, f"{share:.1%}", share * profile["microseconds"]]
                for owner, share in profile[part].items()
                if share >= 0.005
            ]
            print(f"\n{name}, {profile['looks']} looks")
            print(tabulate(lines, ["", "share", "us"], floatfmt=".1f"))


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--statement", choices=STATEMENTS, default="insert")
    parser.add_argument("--rounds", type=int, default=5, help="of the ladder")
    parser.add_argument("--statements", type=int, default=10_000, help="of a rung in a round")
    parser.add_argument("--seconds", type=int, default=10, help="of the profile; 0: no profile")
    parser.add_argument("--rate", type=int, default=200, help="how often a second py-spy looks")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the results as JSON")
    parser.add_argument("--client", choices=LADDER, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        with contextlib.suppress(KeyboardInterrupt):
            be_client(arguments.client, arguments.statement, arguments.port)
        return
    text, profiles, failure = STATEMENTS[arguments.statement], {}, ""
    facts = machine.facts()
    with stub_server() as server:
        rungs = ladder(server, text, arguments.rounds, arguments.statements)
        try:
            for name in (OURS, FLOOR) if arguments.seconds else ():
                raw = sample(server, arguments.statement, name, arguments.seconds, arguments.rate)
                counts = looks(raw)
                owners = shares(counts)
                profiles[name] = {
                    "looks": sum(counts.values()),
                    "owners": owners,
                    "sides": sides(owners),
                    "microseconds": rungs[name]["cpu_microseconds"]["median"],
                }
        except FileNotFoundError:
            failure = "no profile: pip install py-spy"
        except ValueError as error:
            failure = f"no profile: {error}"
        except subprocess.CalledProcessError as error:
            failure = f"no profile: py-spy says: {error.stderr.strip()}"
    show(rungs, profiles)
    measured = {"facts": facts, "statement": text, "ladder": rungs, "profile": profiles}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(measured, indent=1) + "\n")
    print(f"\nresults: {arguments.output}")
    if failure:
        raise SystemExit(failure)


if __name__ == "__main__":
    main()
