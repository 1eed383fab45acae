"""One node of a scripted cluster: its connections, its prepared statements, its faults.

Guarantees: every method may be called from any thread, also from the test's handler.
"""

import threading
from typing import TYPE_CHECKING
from uuid import UUID

from .statements import Prepared, Statement, statement_id
from .system import NodeInfo

if TYPE_CHECKING:
    from .connection import ServerConnection
    from .server import ScriptedCluster


class ScriptedNode:
    """A node. `in_ring` may be set to False: the others then do not name it as a peer."""

    def __init__(self, cluster: "ScriptedCluster", info: NodeInfo) -> None:
        self.cluster = cluster
        self.info = info
        self.in_ring = True
        # Guards the rest: what is prepared here, and how a new connection begins.
        self._lock = threading.Lock()
        self._prepared: dict[bytes, Prepared] = {}
        self._forgotten_once: set[bytes] = set()
        self._hanging = False
        self._deaf = False

    def __repr__(self) -> str:
        return f"<node {self.address}:{self.port}>"

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.info.address

    @property
    def port(self) -> int:
        """The port of the whole cluster."""
        return self.info.port

    @property
    def host_id(self) -> UUID:
        """Its id, as the system tables tell it."""
        return self.info.host_id

    @property
    def connections(self) -> "list[ServerConnection]":
        """Those that are open, in the order in which they were opened."""
        return [each for each in self.cluster.ledger.connections if each.node is self]

    # -- prepared statements

    @property
    def prepared(self) -> dict[bytes, Prepared]:
        """What is prepared here, by id (a copy)."""
        with self._lock:
            return dict(self._prepared)

    def prepare(self, text: str, statement: Statement | None = None) -> Statement:
        """Makes a statement known here, as declared or as given."""
        found = statement or self.cluster.registry.statement(text)
        with self._lock:
            self._prepared[statement_id(text)] = Prepared(text, found)
            self._forgotten_once.discard(statement_id(text))
        return found

    def forget(self, text: str | None = None, *, once: bool = False) -> None:
        """Forgets a prepared statement, or all: UNPREPARED until it is prepared again, or once."""
        with self._lock:
            ids = list(self._prepared) if text is None else [statement_id(text)]
            if once:
                self._forgotten_once.update(ids)
            else:
                for each in ids:
                    self._prepared.pop(each, None)

    def knows(self, prepared_id: bytes) -> bool:
        """Whether an EXECUTE of it can be served; asked once per request."""
        with self._lock:
            if prepared_id in self._forgotten_once:
                self._forgotten_once.discard(prepared_id)
                return False
            return prepared_id in self._prepared

    # -- faults

    def hang(self) -> None:
        """Answers nothing any more, not even heartbeats and handshakes; requests still arrive."""
        with self._lock:
            self._hanging = True
            connections = self.connections
        for connection in connections:
            connection.hang()

    def resume(self, *, discard: bool = False) -> None:
        """Ends `hang`; the answers that were held back are sent, or forgotten."""
        with self._lock:
            self._hanging = False
            connections = self.connections
        for connection in connections:
            connection.resume(discard=discard)

    def stop_reading(self) -> None:
        """Reads nothing any more."""
        with self._lock:
            self._deaf = True
            connections = self.connections
        for connection in connections:
            connection.stop_reading()

    def resume_reading(self) -> None:
        """Ends `stop_reading`."""
        with self._lock:
            self._deaf = False
            connections = self.connections
        for connection in connections:
            connection.resume_reading()

    def drop_all(self, *, reset: bool = False) -> None:
        """Ends all connections, orderly or by a reset."""
        for connection in self.connections:
            connection.drop(reset=reset)

    def refuse_connections(self) -> None:
        """Refuses new connections; those that are open stay open."""
        self.cluster.listeners.refuse(self.address)

    def accept_connections(self) -> None:
        """Ends `refuse_connections`."""
        self.cluster.listeners.listen(self.address)

    def opened(self, connection: "ServerConnection") -> None:
        """A new connection begins as the node is now. It is listed already: nothing misses it."""
        with self._lock:
            if self._hanging:
                connection.hang()
            if self._deaf:
                connection.stop_reading()
