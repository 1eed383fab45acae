"""Real nodes, as users start them. Each test starts its own: about 6 s a node on two cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import WhiteListRoundRobinPolicy
from cassandra.query import SimpleStatement

from cassconc.testing.node import LocalCluster, Node, NodeError
from tests.processes import comes_true, processes

# Measured: without Java's second compiler, a start costs 5.7 s of CPU instead of 9.6.
QUICK = ("-XX:TieredStopAtLevel=1",)
CREATE_KEYSPACE = (
    "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test's nodes are in a folder of its own, and gone at its end."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CASSCONC_CONTACT_POINTS", raising=False)
    yield tmp_path
    assert_nothing_left(tmp_path)


def assert_nothing_left(temporary: Path) -> None:
    """Neither a process nor a folder of a cluster is left."""
    assert comes_true(lambda: not processes(temporary)), processes(temporary)
    assert comes_true(lambda: not list(temporary.glob("cassconc-*")))


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a session of its own, killed at the end."""
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read lines of what a process prints until one has this text in it."""
    assert process.stdout
    assert process.stderr
    shown = ""
    while text not in shown:
        line = process.stdout.readline()
        assert line, shown + process.stderr.read()
        shown += line
    return shown


@contextmanager
def session_on(cluster: LocalCluster, node: Node | None = None) -> Iterator[Session]:
    """A session whose requests go to one node, else to all; writes and reads need a quorum."""
    addresses = cluster.contact_points if node is None else [node.address]
    profile = ExecutionProfile(
        WhiteListRoundRobinPolicy(addresses), consistency_level=ConsistencyLevel.QUORUM
    )
    with Cluster(
        addresses,
        port=cluster.port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    ) as driver:
        yield driver.connect()


def test_a_ring_serves_whatever_is_done_to_one_of_its_nodes() -> None:
    """A quorum reads and writes while any node is killed, hung or stopped; each comes back whole.

    A node that came back coordinates requests at once: it knows the others and the tables that
    were made while it was away.
    """
    with LocalCluster(nodes=3, java_options=QUICK) as cluster:
        one, two, three = cluster.nodes

        def execute(node: Node, *statements: str) -> list[object]:
            with session_on(cluster, node) as session:
                return [session.execute(statement).all() for statement in statements]

        def write(node: Node, ids: range) -> None:
            execute(node, *(f"INSERT INTO k.t (id) VALUES ({id_})" for id_ in ids))

        for node in cluster.nodes:
            with session_on(cluster, node) as session:
                assert len(session.cluster.metadata.all_hosts()) == 3
                assert len(session.cluster.metadata.token_map.token_to_host_owner) == 12
        execute(one, CREATE_KEYSPACE, "CREATE TABLE k.t (id int PRIMARY KEY)")
        write(one, range(10))
        two.kill()
        write(one, range(10, 20))
        two.start()
        write(two, range(20, 30))
        three.hang()
        assert three.is_running
        write(two, range(30, 40))
        three.resume()
        one.stop()
        with session_on(cluster, two) as session:
            # The driver would wait for the stopped node, of whose end it was not told, to agree.
            session.cluster.max_schema_agreement_wait = 0
            session.execute("CREATE TABLE k.made_meanwhile (id int PRIMARY KEY)")
        write(three, range(40, 50))
        one.start()
        with session_on(cluster, one) as session:
            statement = SimpleStatement(
                "INSERT INTO k.made_meanwhile (id) VALUES (1)",
                consistency_level=ConsistencyLevel.ALL,
            )
            session.execute(statement)
        for node in cluster.nodes:
            (rows,) = execute(node, "SELECT id FROM k.t")
            assert len(rows) == 50  # type: ignore[arg-type]


def test_a_node_keeps_its_data_over_a_kill() -> None:
    """With a commit log in batch mode, what a node acknowledged survives SIGKILL."""
    yaml = {"commitlog_sync": "batch", "commitlog_sync_period": None}
    with LocalCluster(yaml=yaml, java_options=QUICK) as cluster:
        with session_on(cluster) as session:
            session.execute(CREATE_KEYSPACE.replace("3", "1"))
            session.execute("CREATE TABLE k.t (id int PRIMARY KEY)")
            session.execute("INSERT INTO k.t (id) VALUES (1)")
        cluster.nodes[0].kill()
        cluster.nodes[0].start()
        with session_on(cluster) as session:
            assert session.execute("SELECT id FROM k.t").one().id == 1


def test_two_owners_at_once_and_no_node_outlives_them(temporary: Path) -> None:
    """Two processes that start at the same moment both get their nodes, at different addresses.

    One is killed with SIGKILL while its node hangs and a child that it forked lives on; the other
    just ends. Nothing is left of either.
    """
    script = """
import os, time
from cassconc.testing.node import LocalCluster
cluster = LocalCluster(java_options={quick})
cluster.start()
{then}
"""
    dies = "cluster.nodes[0].hang()\nchild = os.fork()\nif not child: time.sleep(600)\n"
    dies += "print(cluster.contact_points[0], child, flush=True)\ntime.sleep(600)"
    ends = "print(cluster.contact_points[0], 0, flush=True)"
    with (
        running("-c", script.format(quick=QUICK, then=dies)) as one,
        running("-c", script.format(quick=QUICK, then=ends)) as two,
    ):
        first, child = read_until(one, "\n").split()
        second, _ = read_until(two, "\n").split()
        assert first != second
        assert two.wait(30) == 0
        assert len(processes(temporary)) == 1
        one.kill()
        one.wait(30)
        try:
            assert_nothing_left(temporary)
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_the_command_line_ends_with_ctrl_c() -> None:
    """Its snippet connects; Ctrl-C, sent as a terminal does to the whole group, ends it with 0."""
    with running("-m", "cassconc.testing.node") as process:
        shown = read_until(process, "Ctrl-C")
        snippet = "\n".join(line.strip() for line in shown.splitlines() if line[:4] == "    ")
        query = "session.execute('SELECT release_version FROM system.local').one()"
        code = f"{snippet}\nprint({query})"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "release_version='5." in told.stdout, told.stderr
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    ("options", "quoted"),
    [
        ({"yaml": {"no_such_setting": 1}}, r"ERROR .*remove properties \[no_such_setting\]"),
        ({"java_options": ["-XX:+NoSuchOption"]}, "Unrecognized VM option 'NoSuchOption'"),
        (
            {"heap": "2M"},
            "Too small maximum heap|Initial heap size|initialization of VM|OutOfMemoryError",
        ),
    ],
)
def test_a_node_that_cannot_start_says_why(options: dict[str, object], quoted: str) -> None:
    """The error quotes the lines of the log that say why, Cassandra's own or Java's."""
    with pytest.raises(NodeError, match=quoted):
        LocalCluster(**options).start()  # type: ignore[arg-type]
