"""A ring of nodes."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ._addresses import Reservation, reserve
from ._config import FIXED, Launch
from ._errors import AddressInUse, NodeError
from ._existing import VARIABLE, ExistingCluster, existing_cluster
from ._jars import find_jars
from ._java import Java, find_java
from ._member import Node
from ._memory import check_memory, heap_bytes
from ._process import Supervisor

_ATTEMPTS = 5


class LocalCluster:
    """Real Cassandra nodes on loopback addresses, in a temporary folder, for as long as it is open.

    Args:
        nodes: how many nodes form the ring.
        heap: the Java heap of each, a number with M or G. A node takes about 700 MB more.
        yaml: settings of cassandra.yaml that replace or join the launcher's; None removes one.
        java_options: further options of the Java virtual machine.
        start_timeout: how long one node may take to start, in seconds.

    Attributes:
        nodes: the Nodes, in the order of their start, as a list; empty before the start.
        port: the native port of all of them, an int; 0 before the start.
        contact_points: their addresses, as a list of str.

    The nodes end, and their data with them, when it is closed or dropped, and when this process
    ends in whatever way. It may be shared by threads, not with forked processes.

    Raises ValueError for arguments that cannot be.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        heap: str = "512M",
        yaml: Mapping[str, object] | None = None,
        java_options: Sequence[str] = (),
        start_timeout: float = 120.0,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"nodes must be at least 1, not {nodes}")
        fixed = FIXED.intersection(yaml or ())
        if fixed:
            raise ValueError(f"yaml may not set {', '.join(sorted(fixed))}")
        heap_bytes(heap)
        self.nodes: list[Node] = []
        self.port = 0
        self._count = nodes
        self._heap = heap
        self._yaml = dict(yaml or {})
        self._java_options = list(java_options)
        self._start_timeout = start_timeout
        self._reservation: Reservation | None = None
        self._supervisor: Supervisor | None = None

    @property
    def contact_points(self) -> list[str]:
        return [node.address for node in self.nodes]

    def start(self) -> None:
        """Starts the nodes one after another; returns when all serve requests.

        Takes 5 to 15 s a node, and more the first time of all, which fetches the jars.

        Raises NodeError, with nothing left behind, where it was started before, where Java, the
        jars, memory or addresses cannot be had, and where a node ends; the message says what to
        do, or quotes the log.
        """
        if self._supervisor is not None:
            raise NodeError("a LocalCluster starts only once: make a new one")
        if os.name != "posix":
            raise NodeError(f"local nodes need Linux or macOS: set {VARIABLE} to use others")
        check_memory(self._count, self._heap)
        java, jars = find_java(), find_jars()
        for _ in range(_ATTEMPTS - 1):
            with suppress(AddressInUse):
                self._start_ring(java, jars)
                return
        self._start_ring(java, jars)

    def _start_ring(self, java: Java, jars: Path) -> None:
        try:
            self._reservation = reserve(self._count)
            weakref.finalize(self, self._reservation.release)
            self._supervisor = Supervisor()
            weakref.finalize(self, self._supervisor.close)
            launch = Launch(
                java=java,
                jars=jars,
                heap=self._heap,
                native_port=self._reservation.native_port,
                storage_port=self._reservation.storage_port,
                addresses=self._reservation.addresses,
                yaml=self._yaml,
                java_options=self._java_options,
            )
            self.port = launch.native_port
            self.nodes = []
            for address in launch.addresses:
                node = Node(address, launch, self._supervisor, self.nodes, self._start_timeout)
                self.nodes.append(node)
                node.start()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raises NodeError, with the reason from its log, where a node has ended by itself.

        A program that lost its connections can ask this, and then knows why.
        """
        for node in self.nodes:
            node.check()

    def close(self) -> None:
        """Kills the nodes and deletes their data; nothing if it is closed or was not started."""
        if self._supervisor is not None:
            self._supervisor.close()
        if self._reservation is not None:
            self._reservation.release()

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def cluster_for(nodes: int = 1, *, heap: str = "512M") -> Iterator[LocalCluster | ExistingCluster]:
    """The cluster that CASSCONC_CONTACT_POINTS names, else a LocalCluster for the `with` block.

    Args:
        nodes: how many nodes a LocalCluster gets; an existing cluster is taken as it is.
        heap: the Java heap of each of them.

    Raises ValueError where the variable is malformed, and what LocalCluster raises.
    """
    existing = existing_cluster()
    if existing is not None:
        yield existing
        return
    with LocalCluster(nodes, heap=heap) as cluster:
        yield cluster
