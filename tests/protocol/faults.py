"""What can be done to all nodes of a cluster at once, and the events that it pushes."""

from collections.abc import Sequence
from typing import Literal

from . import results
from .frames import Opcode
from .ledger import Ledger
from .node import ScriptedNode


class Faults:
    """The part of a cluster that makes trouble. What befalls one node are the node's methods."""

    nodes: Sequence[ScriptedNode]
    ledger: Ledger

    def hang(self) -> None:
        """Answers nothing any more, not even heartbeats and handshakes; requests still arrive."""
        for node in self.nodes:
            node.hang()

    def resume(self, *, discard: bool = False) -> None:
        """Ends `hang`; the answers that were held back are sent, or forgotten."""
        for node in self.nodes:
            node.resume(discard=discard)

    def stop_reading(self) -> None:
        """Reads nothing any more."""
        for node in self.nodes:
            node.stop_reading()

    def resume_reading(self) -> None:
        """Ends `stop_reading`."""
        for node in self.nodes:
            node.resume_reading()

    def drop_all(self, *, reset: bool = False) -> None:
        """Ends all connections, orderly or by a reset."""
        for node in self.nodes:
            node.drop_all(reset=reset)

    def refuse_connections(self) -> None:
        """Refuses new connections; those that are open stay open."""
        for node in self.nodes:
            node.refuse_connections()

    def accept_connections(self) -> None:
        """Ends `refuse_connections`."""
        for node in self.nodes:
            node.accept_connections()

    def forget(self, text: str | None = None, *, once: bool = False) -> None:
        """Forgets a prepared statement, or all: UNPREPARED until it is prepared again, or once."""
        for node in self.nodes:
            node.forget(text, once=once)

    # -- events; each returns how many connections were registered for it

    def push_status(self, change: Literal["UP", "DOWN"], node: ScriptedNode) -> int:
        """Says that a node went up or down."""
        body = results.node_event("STATUS_CHANGE", change, node.address, node.port)
        return self._push("STATUS_CHANGE", body)

    def push_topology(self, change: Literal["NEW_NODE", "REMOVED_NODE"], node: ScriptedNode) -> int:
        """Says that a node came or left (set its `in_ring` before)."""
        body = results.node_event("TOPOLOGY_CHANGE", change, node.address, node.port)
        return self._push("TOPOLOGY_CHANGE", body)

    def push_schema(self, change: str, target: str, keyspace: str, name: str | None = None) -> int:
        """Says that the schema changed: ("CREATED", "TABLE", "ks", "t")."""
        return self._push("SCHEMA_CHANGE", results.schema_event(change, target, keyspace, name))

    def _push(self, kind: str, body: bytes) -> int:
        listening = [each for each in self.ledger.connections if kind in each.events]
        return sum(each.send_frame(-1, Opcode.EVENT, body) for each in listening)
