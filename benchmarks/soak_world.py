"""Where a soak takes place: nodes that can be harmed, healed and asked what they have."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any, Protocol

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import ConstantReconnectionPolicy
from cassandra.query import SimpleStatement

from benchmarks.soak_server import SoakServer
from cassconc.testing.node import LocalCluster

CREATE = "CREATE TABLE IF NOT EXISTS soak.t (part int, id int, value text, PRIMARY KEY (part, id))"
HEAL_SECONDS = 180.0


class World(Protocol):
    """Nodes, and what can be done to them."""

    replicas: int

    @property
    def contact_points(self) -> list[str]:
        """The nodes' addresses."""

    @property
    def port(self) -> int:
        """Their port."""

    def harm(self, choose: random.Random) -> str:
        """Do one thing to the nodes, and say what."""

    def heal(self) -> None:
        """Undo all harm, and return when the nodes are of use."""

    def take(self, session: Any, part: int) -> dict[int, str]:
        """Return the rows of a part; they need not stay."""

    def close(self) -> None:
        """End the nodes."""


class RealWorld:
    """Three real nodes."""

    replicas = 3

    def __init__(self, heap: str) -> None:
        durable = {"commitlog_sync": "batch", "commitlog_sync_period": None}
        self._ring = LocalCluster(3, heap=heap, yaml=durable)
        self._ring.start()

    @property
    def contact_points(self) -> list[str]:
        """See `World`."""
        return self._ring.contact_points

    @property
    def port(self) -> int:
        """See `World`."""
        return self._ring.port

    def harm(self, choose: random.Random) -> str:
        """See `World`."""
        node = choose.choice(self._ring.nodes)
        how = choose.choice(["hang", "kill", "stop", "restart"])
        if how != "restart" and not node.is_running:
            how = "start"
        if how in ("start", "restart"):
            node.resume()
        getattr(node, how)()
        return f"{how} {node.address}"

    def heal(self) -> None:
        """See `World`."""
        for node in self._ring.nodes:
            node.resume()
        for node in self._ring.nodes:
            if not node.is_running:
                node.start()
        deadline = time.monotonic() + HEAL_SECONDS
        while True:
            try:
                with connected(self, timeout=30.0) as session:
                    write = SimpleStatement(
                        "INSERT INTO soak.t (part, id, value) VALUES (-1, 0, '')",
                        consistency_level=ConsistencyLevel.ALL,
                    )
                    for host in session.cluster.metadata.all_hosts():
                        session.execute(write, host=host)
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def take(self, session: Any, part: int) -> dict[int, str]:
        """See `World`."""
        read = SimpleStatement("SELECT id, value FROM soak.t WHERE part = %s", fetch_size=1000)
        return {row.id: row.value for row in session.execute(read, (part,), timeout=30)}

    def close(self) -> None:
        """See `World`."""
        self._ring.close()


class ScriptedWorld:
    """Three nodes of the scripted protocol server, in a process of their own."""

    replicas = 3

    def __init__(self) -> None:
        self._server = SoakServer()

    @property
    def contact_points(self) -> list[str]:
        """See `World`."""
        return self._server.addresses

    @property
    def port(self) -> int:
        """See `World`."""
        return self._server.port

    def harm(self, choose: random.Random) -> str:
        """See `World`."""
        number = choose.randrange(3)
        how = choose.choice(["hang", "drop_all", "refuse_connections", "sick", "forget"])
        if how == "sick":
            self._server.ask("sick", choose.choice([2, 5, 20]))
        elif how == "forget":
            self._server.ask("forget")
        else:
            self._server.ask("node", number, how)
            if how == "refuse_connections":
                self._server.ask("node", number, "drop_all")
        return f"{how} {number}"

    def heal(self) -> None:
        """See `World`."""
        self._server.ask("sick", 0)
        for number in range(3):
            self._server.ask("node", number, "accept_connections")
            self._server.ask("node", number, "resume")

    def take(self, session: Any, part: int) -> dict[int, str]:
        """See `World`."""
        found: dict[int, str] = self._server.ask("take", part)
        return found

    def close(self) -> None:
        """See `World`."""
        self._server.close()


@contextlib.contextmanager
def connected(world: World, timeout: float) -> Iterator[Any]:
    """Yield a session on the nodes, and shut its cluster down afterwards.

    A node that hangs is found out in a second or two by heartbeats, so that a short soak sees that.
    """
    profile = ExecutionProfile(consistency_level=ConsistencyLevel.QUORUM, request_timeout=timeout)
    cluster = Cluster(
        world.contact_points,
        port=world.port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.5, None),
        idle_heartbeat_interval=2,
        idle_heartbeat_timeout=2,
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def set_up(world: World) -> None:
    """Make keyspace and table, where the world needs them."""
    if isinstance(world, RealWorld):
        replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {world.replicas}}}"
        with connected(world, timeout=60.0) as session:
            session.execute(f"CREATE KEYSPACE IF NOT EXISTS soak WITH replication = {replication}")
            session.execute(CREATE)
