"""What the launcher of local nodes raises."""

from __future__ import annotations


class NodeError(RuntimeError):
    """A local Cassandra node cannot be had, or ended; the message says why and what to do."""


class AddressInUse(NodeError):
    """Another program took a node's address first: the cluster is to be started on others."""
