"""A scripted server that speaks Cassandra's native protocol, v4 and v5, to a real driver.

It answers the handshake, PREPARE, USE and the system tables by itself; every other request is the
test's, to be answered at any time, in any order, rightly or wrongly:

    with ScriptedServer(types={"id": "int", "name": "text"}) as server:
        cluster = Cluster([server.address], port=server.port)
        session = cluster.connect()
        future = session.execute_async("SELECT id, name FROM users")
        request = server.next_request()
        assert request.text == "SELECT id, name FROM users"
        request.rows([("id", "int"), ("name", "text")], [(1, "Ann"), (2, None)])
        assert [row.name for row in future.result()] == ["Ann", None]

        server.on_request = lambda request: request.error("unavailable", alive_replicas=1)
        server.nodes[0].hang(); server.drop_all(reset=True); server.push_status("DOWN", server.node)

Layout, each room knowing only those above it:
    wire, frames            notations; frames and segments (no I/O; quick: for stubs as well)
    values, messages        CQL types and values; the bodies of requests
    results, errors         the bodies of answers
    statements, system      what a PREPARE and the system tables are answered
    ledger                  connections and requests, counted
    peer, channel, connection    one client's connection
    script                  `ServerRequest`: what a test gets, and answers with
    listeners, node         sockets that listen; one node, its prepared statements and faults
    automatic, faults       what is answered without the test; what befalls all nodes
    server                  `ScriptedCluster`, `ScriptedServer`
"""

from .connection import ServerConnection
from .errors import ALL_KINDS, ErrorKind, ScriptedError
from .frames import Frame, FrameError, FrameReader, Opcode, encode_frame, encode_segments
from .ledger import Statistics
from .node import ScriptedNode
from .script import ServerRequest
from .server import ScriptedCluster, ScriptedServer
from .statements import Statement
from .wire import UNSET

__all__ = [
    "ALL_KINDS",
    "UNSET",
    "ErrorKind",
    "Frame",
    "FrameError",
    "FrameReader",
    "Opcode",
    "ScriptedCluster",
    "ScriptedError",
    "ScriptedNode",
    "ScriptedServer",
    "ServerConnection",
    "ServerRequest",
    "Statement",
    "Statistics",
    "encode_frame",
    "encode_segments",
]
