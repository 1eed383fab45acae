"""The nodes that the faults befall: made whole again after each, asked what they have."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import ConstantReconnectionPolicy, SpeculativeExecutionPolicy
from cassandra.query import SimpleStatement

from benchmarks.fault_load import WRITTEN, Account, value_of
from cassconc.testing.node import LocalCluster

HEAL_SECONDS = 240.0
PATIENT = 60.0  # seconds, the time limit of what is no part of a measurement

# What a node acknowledges is on its disk, so that killing all of them at once loses nothing: else
# the last tenth of a second would be lost, and that is not what is looked for here.
DURABLE = {"commitlog_sync": "batch", "commitlog_sync_period": None}


@contextlib.contextmanager
def connected(
    ring: LocalCluster, timeout: float, speculative: SpeculativeExecutionPolicy | None = None
) -> Iterator[Any]:
    """Yield a session as both loads have it, and shut its cluster down afterwards.

    All is as the driver has it by default, but for the consistency level, and for reconnecting
    every second, so that a node that comes back is of use soon.
    """
    profile = ExecutionProfile(
        consistency_level=ConsistencyLevel.QUORUM,
        request_timeout=timeout,
        speculative_execution_policy=speculative,
    )
    cluster = Cluster(
        ring.contact_points,
        port=ring.port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(1.0, None),
        connect_timeout=PATIENT if timeout >= PATIENT else 5,
    )
    try:
        yield cluster.connect(wait_for_all_pools=True)
    finally:
        cluster.shutdown()


def heal(ring: LocalCluster) -> None:
    """Bring every node back, and wait until each of them can write to all of them."""
    for node in ring.nodes:
        node.resume()
    for node in ring.nodes:
        if not node.is_running:
            node.start()
    deadline = time.monotonic() + HEAL_SECONDS
    while True:
        try:
            _try_all(ring)
            return
        except Exception as error:
            if time.monotonic() > deadline:
                raise RuntimeError("the nodes do not come back to each other") from error
            time.sleep(1)


def _try_all(ring: LocalCluster) -> None:
    with connected(ring, PATIENT) as session:
        keyspace = create_keyspace(session, "healing", len(ring.nodes))
        text = f"INSERT INTO {keyspace}.writes (id, value) VALUES (0, '')"
        write = SimpleStatement(text, consistency_level=ConsistencyLevel.ALL)
        hosts = session.cluster.metadata.all_hosts()
        if len(hosts) != len(ring.nodes):
            raise RuntimeError(f"there are {len(hosts)} hosts")
        for host in hosts:
            session.execute(write, host=host)


def create_keyspace(session: Any, name: str, replicas: int) -> str:
    """Make a keyspace with a table for the writes, if it is not there, and return its name."""
    replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}"
    session.execute(
        f"CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = {replication}", timeout=PATIENT
    )
    session.execute(
        f"CREATE TABLE IF NOT EXISTS {name}.writes (id int PRIMARY KEY, value text)",
        timeout=PATIENT,
    )
    return name


def prepare(session: Any, keyspace: str) -> Any:
    """Prepare the write."""
    insert = session.prepare(f"INSERT INTO {keyspace}.writes (id, value) VALUES (?, ?)")
    insert.is_idempotent = True
    return insert


def lost(ring: LocalCluster, keyspace: str, account: Account) -> int:
    """Read the table back, with the driver alone: how many that were said to be written are not.

    What is there although it was never taken is noted in the account.
    """
    # Before the reading: while the load runs, more is written meanwhile.
    written = [number for number, state in enumerate(account.state) if state == WRITTEN]
    for attempt in range(5):
        try:
            there = _read(ring, keyspace, account)
            break
        except Exception:
            if attempt == 4:
                raise
            time.sleep(2)
    return sum(not there[number] for number in written)


def _read(ring: LocalCluster, keyspace: str, account: Account) -> bytearray:
    there = bytearray(account.statements)
    with connected(ring, PATIENT) as session:
        text = f"SELECT id, value FROM {keyspace}.writes"
        for number, value in session.execute(SimpleStatement(text, fetch_size=2000)):
            if value != value_of(number):
                account.wrong.append(f"row {number} has another value than was written")
            elif not account.state[number]:
                account.wrong.append(f"row {number} is there and was never taken")
            else:
                there[number] = 1
    return there
