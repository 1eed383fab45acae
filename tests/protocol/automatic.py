"""What the server answers by itself: the handshake, PREPARE, USE and the system tables."""

from typing import TYPE_CHECKING

from . import system
from .errors import ScriptedError
from .frames import Opcode
from .messages import Message
from .wire import string_multimap

if TYPE_CHECKING:
    from .node import ScriptedNode
    from .script import ServerRequest
    from .server import ScriptedCluster

KINDS = frozenset({"OPTIONS", "STARTUP", "REGISTER", "PREPARE", "USE", "SYSTEM", "UNPREPARED"})


def kind_of(message: Message, node: "ScriptedNode") -> str | None:
    """Which automatic answer a request gets, None when it is for the test.

    UNPREPARED is what an EXECUTE or a BATCH gets that names a statement which the node does not
    know; SYSTEM is a SELECT on a system table, prepared or not.
    """
    if message.opcode in (Opcode.EXECUTE, Opcode.BATCH):
        ids = [message.statement_id, *(item.statement_id for item in message.batch)]
        if not all(node.knows(each) for each in ids if each is not None):
            return "UNPREPARED"
        known = node.prepared.get(message.statement_id or b"")
        return "SYSTEM" if known and system.is_system(known.text) else None
    if message.opcode is Opcode.QUERY:
        text = message.text or ""
        if system.is_system(text):
            return "SYSTEM"
        return None if system.keyspace_of_use(text) is None else "USE"
    return message.opcode.name if message.opcode.name in KINDS else None


def answer(request: "ServerRequest", cluster: "ScriptedCluster") -> None:
    """Answers a request whose `automatic_kind` is not None."""
    kind, text = request.automatic_kind, request.text or ""
    connection = request.connection
    if kind == "OPTIONS":
        request.respond(Opcode.SUPPORTED, supported(cluster.protocol_versions))
    elif kind == "STARTUP":
        connection.options = request.message.options
        request.settle()
        connection.start(request.version, request.stream)
    elif kind == "REGISTER":
        connection.events |= frozenset(request.message.events)
        request.respond(Opcode.READY)
    elif kind == "PREPARE":
        try:
            request.prepared()
        except ScriptedError as declared:
            request.error(declared.kind, declared.message, **declared.info)
    elif kind == "USE":
        request.set_keyspace(system.keyspace_of_use(text) or "")
    elif kind == "UNPREPARED":
        request.error("unprepared", statement_id=_unknown_id(request))
    elif kind == "SYSTEM":
        _select(request, cluster, text)
    else:
        raise ValueError(f"the server has no answer of its own to {request!r}")


def _unknown_id(request: "ServerRequest") -> bytes:
    ids = [request.message.statement_id, *(item.statement_id for item in request.batch)]
    given = [each for each in ids if each is not None]
    unknown = [each for each in given if each not in request.node.prepared]
    return (unknown or given)[0]


def _select(request: "ServerRequest", cluster: "ScriptedCluster", text: str) -> None:
    if not cluster.peers_v2 and "peers_v2" in text:
        request.error("invalid", "unconfigured table peers_v2")
        return
    visible = [node.info for node in cluster.nodes if node.in_ring]
    found = system.select(text, request.node.info, visible, cluster.keyspaces)
    request.rows(found.columns, found.rows)


def supported(versions: tuple[int, ...]) -> bytes:
    """The body of the answer to OPTIONS."""
    return string_multimap(
        {
            "CQL_VERSION": ["3.4.6"],
            "COMPRESSION": [],
            "PROTOCOL_VERSIONS": [f"{version}/v{version}" for version in versions],
        }
    )


def unsupported(asked: int, versions: tuple[int, ...]) -> str:
    """The message of the error that makes a client ask with a lower version."""
    known = ", ".join(f"{version}/v{version}" for version in versions)
    return f"Invalid or unsupported protocol version ({asked}); supported versions are ({known})"
