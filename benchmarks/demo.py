"""The demo: load real data into a real node, read it back, compare; abort; and be measured."""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import RoundRobinPolicy
from tabulate import tabulate
from tqdm import tqdm

from benchmarks.competitors import COMPETITORS
from benchmarks.flights import COLUMNS, CREATE, INSERT, SELECT, flights, key_of
from cassconc import CassandraExecutor
from cassconc.testing.node import NodeError, cluster_for

MEASURED = [name for name in COMPETITORS if name != "callback chain"]
BAR = {"unit": " rows", "smoothing": 0, "mininterval": 0.5}


@contextlib.contextmanager
def connected(contact_points: list[str], port: int, keyspace: str | None) -> Iterator[Session]:
    """Yield a session, and shut its cluster down afterwards."""
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy())
    cluster = Cluster(contact_points, port=port, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
    try:
        yield cluster.connect(keyspace)
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def own_keyspace(session: Session) -> Iterator[str]:
    """Make a keyspace, use it, and drop it afterwards."""
    keyspace = f"cassconc_demo_{uuid.uuid4().hex[:12]}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}")
    session.set_keyspace(keyspace)
    try:
        yield keyspace
    finally:
        with contextlib.suppress(Exception):  # a node that is gone has said so before
            session.execute(f"DROP KEYSPACE {keyspace}", timeout=10)


def load(executor: CassandraExecutor, session: Session, count: int | None) -> int:
    """Write the flights, and return how many there were."""
    insert = session.prepare(INSERT)
    results = executor.starmap(insert, flights(count), buffersize=1000)
    return sum(1 for _ in tqdm(results, "writing", count, **BAR))


def compare(executor: CassandraExecutor, session: Session, count: int) -> int:
    """Read every flight back by its key, in the order of the input; return how many differ."""
    select = session.prepare(SELECT)
    keys = (key_of(flight) for flight in flights(count))
    results = executor.starmap(select, keys, buffersize=1000)
    pairs = zip(flights(count), results, strict=True)
    return sum(
        [tuple(row) for row in rows] != [flight]
        for flight, rows in tqdm(pairs, "reading back", count, **BAR)
    )


def abort(executor: CassandraExecutor, session: Session) -> str:
    """Run 10,000 statements of which number 1,000 fails; say what was sent after the failure."""
    sent: list[Any] = []
    sent_before: list[int] = []  # the failure

    def watch(response: Any) -> None:
        sent.append(response)
        if "nonsense" in getattr(response.query, "query_string", ""):
            response.add_errback(lambda error: sent_before.append(len(sent)))

    session.add_request_init_listener(watch)
    select = session.prepare("SELECT flight FROM flights LIMIT 1")

    def statements() -> Iterable[tuple[Any, None]]:
        for number in range(10_000):
            yield ("SELECT nonsense FROM flights" if number == 1000 else select), None

    yielded = 0
    try:
        for _ in executor.execute_concurrent(statements(), buffersize=2000):
            yielded += 1
        raise SystemExit("the failing statement did not fail")
    except Exception as error:
        failure = error
    finally:
        session.remove_request_init_listener(watch)
    executor.shutdown()  # what was in flight has ended
    return (
        f"Statement 1,000 of 10,000 fails with {type(failure).__name__}: {yielded:,} results were "
        f"yielded before it. {len(sent):,} requests were sent in all, "
        f"{len(sent) - sent_before[0]} of them after the failure; {executor.stats().cancelled:,} "
        "that were taken were never sent."
    )


def measure(name: str, contact_points: list[str], port: int, keyspace: str, count: int) -> None:
    """Write the flights in the way of one competitor, and print what it took as JSON."""
    data = list(flights(count))
    with connected(contact_points, port, keyspace) as session:
        insert = session.prepare(INSERT)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        COMPETITORS[name](session, insert, data, 100)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps({"rate": count / seconds, "peak": peak / 1024, "more": (peak - before) / 1024})
    )


def table(cluster: Any, keyspace: str, count: int) -> str:
    """Measure the competitors, each in a process of its own on the same node and data."""
    lines = []
    # the first one is discarded: it warms the node up
    for name in tqdm([MEASURED[0], *MEASURED], "comparing", leave=False):
        command = [sys.executable, __file__, "--measure", name, "--keyspace", keyspace]
        command += ["--contact-points", *cluster.contact_points, "--port", str(cluster.port)]
        done = subprocess.run(
            [*command, "--rows", str(count)], stdout=subprocess.PIPE, text=True, check=True
        )
        measured = json.loads(done.stdout)
        lines.append((name, measured["rate"], measured["peak"], measured["more"]))
    lines = lines[1:]
    headers = ["", "rows/s", "peak memory, MB", "of that while writing, MB"]
    return str(tabulate(lines, headers, floatfmt=",.0f"))


def work(cluster: Any, count: int | None) -> tuple[int, int]:
    """Do all of it on a cluster; return how many flights were written, and how many differ."""
    with (
        connected(cluster.contact_points, cluster.port, None) as session,
        own_keyspace(session) as keyspace,
    ):
        session.execute(CREATE)
        with CassandraExecutor(session) as executor:
            written = load(executor, session, count)
            differing = compare(executor, session, written)
        with CassandraExecutor(session) as executor:
            print(f"\n{abort(executor, session)}\n")
        print(table(cluster, keyspace, written))
    return written, differing


def demo(count: int | None) -> None:
    """Run the demo."""
    started = time.perf_counter()
    print("Starting a Cassandra node ...", flush=True)
    with cluster_for(nodes=1) as cluster:
        print(f"It answers on {cluster.contact_points[0]}:{cluster.port}.", flush=True)
        try:
            written, differing = work(cluster, count)
        except Exception:
            cluster.check()  # where the node is gone, that is what to say
            raise
    minutes, seconds = divmod(int(time.perf_counter() - started), 60)
    print(f"\nThat took {minutes} min {seconds} s. The node is gone.")
    if differing:
        raise SystemExit(f"What was read differs from what was written in {differing} flights.")
    print(
        f"What was read equals what was written: {written:,} flights, "
        f"{len(COLUMNS)} columns each, in the order of the input."
    )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="50000", help="how many flights, or all")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)
    parser.add_argument("--contact-points", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--keyspace", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows != "all" and not (arguments.rows.isdigit() and int(arguments.rows) > 0):
        parser.error(f"--rows must be a positive number or all, not {arguments.rows}")
    count = None if arguments.rows == "all" else int(arguments.rows)
    if arguments.measure:
        measure(
            arguments.measure, arguments.contact_points, arguments.port, arguments.keyspace,
            count or 0,
        )  # fmt: skip
        return
    try:
        demo(count)
    except NodeError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        raise SystemExit(f"The demo failed: {type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
