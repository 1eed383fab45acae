"""Where the benchmarks connect to: the stub in a process of its own, or a real node."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
from cassandra.cluster import Cluster, Session

from benchmarks import stub
from cassconc.testing.node import cluster_for

CREATE = "CREATE TABLE users (id int PRIMARY KEY, name text, email text)"
INSERT = "INSERT INTO users (id, name, email) VALUES (?, ?, ?)"
SELECT = "SELECT id, name, email FROM users WHERE id = ?"


@dataclass(frozen=True)
class Server:
    """Where a server is, and how much CPU it has used."""

    contact_points: list[str]
    port: int
    cpu_seconds: Callable[[], float]
    keyspace: str | None = None


@contextlib.contextmanager
def session_on(server: Server, cluster_class: Any = Cluster) -> Iterator[Session]:
    """Yield a session with the driver's default settings, and shut it down afterwards."""
    cluster = cluster_class(server.contact_points, port=server.port)
    try:
        yield cluster.connect(server.keyspace)
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def stub_server() -> Iterator[Server]:
    """Run the stub, which answers as fast as Python can, in a process of its own."""
    with stub.running() as (port, cpu_seconds):
        yield Server(["127.0.0.1"], port, cpu_seconds)


@contextlib.contextmanager
def real_node() -> Iterator[tuple[Server, str]]:
    """Yield a real node with a keyspace of our own, and its version; drop the keyspace afterwards.

    The node is started, or is that of CASSCONC_CONTACT_POINTS.
    """
    with cluster_for(nodes=1) as cluster:
        pids = [each.pid for each in psutil.Process().children(recursive=True) if _is_java(each)]
        server = Server(cluster.contact_points, cluster.port, lambda: _cpu_seconds(pids))
        keyspace = f"cassconc_bench_{uuid.uuid4().hex[:12]}"
        with session_on(server) as session:
            session.execute(
                f"CREATE KEYSPACE {keyspace} WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            try:
                session.set_keyspace(keyspace)
                session.execute(CREATE)
                version = session.execute("SELECT release_version FROM system.local").one()[0]
                yield (
                    Server(server.contact_points, server.port, server.cpu_seconds, keyspace),
                    version,
                )
            finally:
                with contextlib.suppress(Exception):  # a node that is gone has said so before
                    session.execute(f"DROP KEYSPACE {keyspace}", timeout=10)


def _is_java(process: psutil.Process) -> bool:
    try:
        return "java" in process.name()
    except psutil.NoSuchProcess:
        return False


def _cpu_seconds(pids: list[int]) -> float:
    seconds = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            seconds += times.user + times.system
    return seconds
