"""The system tables that a driver reads: who is in the cluster, and its keyspaces."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from .values import Columns

RELEASE = "4.1.0"
PARTITIONER = "org.apache.cassandra.dht.Murmur3Partitioner"
SCHEMA_VERSION = uuid5(NAMESPACE_DNS, "schema.scripted.invalid")

_SYSTEM = re.compile(r"^\s*SELECT\s+(.*?)\s+FROM\s+(system\w*)\s*\.\s*(\w+)", re.I | re.S)
_USE = re.compile(r'^\s*USE\s+("[^"]+"|\w+)\s*;?\s*$', re.I)


@dataclass(frozen=True)
class NodeInfo:
    """What a cluster tells about one of its nodes."""

    address: str
    port: int
    host_id: UUID
    tokens: Sequence[str]
    data_center: str = "dc1"
    rack: str = "r1"


def describe(addresses: Sequence[str], port: int, tokens_per_node: int = 1) -> list[NodeInfo]:
    """Nodes whose tokens cut the ring of the Murmur3 partitioner into equal parts."""
    count = len(addresses) * tokens_per_node
    step = 2**64 // count
    return [
        NodeInfo(
            address,
            port,
            uuid5(NAMESPACE_DNS, f"{address}.scripted.invalid"),
            [str(step // 2 - 2**63 + step * at) for at in range(first, count, len(addresses))],
        )
        for first, address in enumerate(addresses)
    ]


_COMMON: dict[str, str] = {
    "data_center": "text",
    "host_id": "uuid",
    "rack": "text",
    "release_version": "text",
    "schema_version": "uuid",
    "tokens": "set<text>",
}
_LOCAL = {
    "key": "text",
    "bootstrapped": "text",
    "broadcast_address": "inet",
    "broadcast_port": "int",
    "cluster_name": "text",
    "cql_version": "text",
    "listen_address": "inet",
    "listen_port": "int",
    "native_protocol_version": "text",
    "partitioner": "text",
    "rpc_address": "inet",
    "rpc_port": "int",
    **_COMMON,
}
_PEERS = {"peer": "inet", "rpc_address": "inet", **_COMMON}
_PEERS_V2 = {
    "peer": "inet",
    "peer_port": "int",
    "native_address": "inet",
    "native_port": "int",
    **_COMMON,
}
_KEYSPACES = {
    "keyspace_name": "text",
    "durable_writes": "boolean",
    "replication": "map<text, text>",
}


def _row(node: NodeInfo) -> dict[str, Any]:
    address = node.address
    return {
        "key": "local",
        "bootstrapped": "COMPLETED",
        "broadcast_address": address,
        "broadcast_port": 7000,
        "cluster_name": "scripted",
        "cql_version": "3.4.6",
        "data_center": node.data_center,
        "host_id": node.host_id,
        "listen_address": address,
        "listen_port": 7000,
        "native_address": address,
        "native_port": node.port,
        "native_protocol_version": "5",
        "partitioner": PARTITIONER,
        "peer": address,
        "peer_port": 7000,
        "rack": node.rack,
        "release_version": RELEASE,
        "rpc_address": address,
        "rpc_port": node.port,
        "schema_version": SCHEMA_VERSION,
        "tokens": set(node.tokens),
    }


def keyspace_of_use(text: str) -> str | None:
    """The keyspace of a USE statement, None for another statement."""
    match = _USE.match(text)
    if match is None:
        return None
    return match[1][1:-1] if match[1].startswith('"') else match[1].lower()


def is_system(text: str) -> bool:
    """Whether this statement reads a system table."""
    return _SYSTEM.match(text) is not None


@dataclass(frozen=True)
class Selected:
    """The rows of a system table that a statement asked for."""

    keyspace: str
    table: str
    columns: Columns
    rows: list[list[Any]]


def select(
    text: str, node: NodeInfo, nodes: Sequence[NodeInfo], keyspaces: Mapping[str, int]
) -> Selected:
    """Runs a SELECT on a system table, as `node` sees it; tables that are not known are empty.

    Only the columns are looked at, no condition: that is all that drivers need.
    """
    match = _SYSTEM.match(text)
    assert match is not None, text
    wanted, keyspace, table = match[1], match[2].lower(), match[3].lower()
    name = f"{keyspace}.{table}"
    peers = [_row(peer) for peer in nodes if peer.host_id != node.host_id]
    kinds, rows = {
        "system.local": (_LOCAL, [_row(node)]),
        "system.peers": (_PEERS, peers),
        "system.peers_v2": (_PEERS_V2, peers),
        "system_schema.keyspaces": (_KEYSPACES, [_keyspace(*each) for each in keyspaces.items()]),
    }.get(name, ({"keyspace_name": "text"}, []))
    if wanted != "*":
        names = [column.strip().lower() for column in wanted.split(",")]
        kinds = {column: kinds.get(column, "text") for column in names}
    data = [[row.get(column) for column in kinds] for row in rows]
    return Selected(keyspace, table, tuple(kinds.items()), data)


def _keyspace(name: str, replication_factor: int) -> dict[str, Any]:
    strategy = "org.apache.cassandra.locator.SimpleStrategy"
    replication = {"class": strategy, "replication_factor": str(replication_factor)}
    return {"keyspace_name": name, "durable_writes": True, "replication": replication}
