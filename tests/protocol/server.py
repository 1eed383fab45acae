"""The cluster: accepts connections and hands their requests to the test.

Guarantees:
- Every method may be called from any thread. No wait is without a limit.
- The test's handler runs on the thread of the connection that the request came from, under no lock.
- `close` leaves no thread and no socket; what failed meanwhile is in `errors`, and is raised at the
  end of a `with`.
"""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from . import automatic, system
from .connection import ServerConnection
from .errors import error
from .faults import Faults
from .frames import Frame, FrameError, Opcode
from .ledger import Ledger, Statistics
from .listeners import Listeners
from .messages import parse
from .node import ScriptedNode
from .script import ServerRequest
from .statements import Declared, Registry

CLOSE_LIMIT = 5.0

Handler = Callable[[ServerRequest], object]
_Self = TypeVar("_Self", bound="ScriptedCluster")


class ScriptedCluster(Faults):
    """Nodes on 127.0.0.1, .2, ... with one port.

    Arguments:
        nodes: how many, or their addresses.
        port: 0 for one that is free.
        protocol_versions: of 4 and 5.
        statements: the metadata of prepared statements; what is not declared is guessed.
        types: the types of columns, by name, for guessing.
        keyspaces: name to replication factor, for the client's token map.
        on_request: called with each request; without it, they are queued: `next_request`.
        hand_over: kinds of `automatic.KINDS` that are given to the test as well, for it to answer
            (`request.automatic()` does as usual). May be changed at any time.
        peers_v2: whether there is a table system.peers_v2.
        receive_buffer: of the sockets, in bytes; small for tests of back pressure.
    """

    def __init__(
        self,
        nodes: int | Sequence[str] = 3,
        *,
        port: int = 0,
        protocol_versions: Sequence[int] = (4, 5),
        statements: Declared | None = None,
        types: Mapping[str, str] | None = None,
        keyspaces: Mapping[str, int] | None = None,
        on_request: Handler | None = None,
        hand_over: Iterable[str] = (),
        peers_v2: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        hosts = [f"127.0.0.{at + 1}" for at in range(nodes)] if isinstance(nodes, int) else nodes
        self.protocol_versions = tuple(protocol_versions)
        self.registry = Registry(statements, types)
        self.keyspaces = dict(keyspaces if keyspaces is not None else {"ks": len(hosts)})
        self.on_request = on_request
        self.hand_over = set(hand_over)
        self.peers_v2 = peers_v2
        self.errors: list[BaseException] = []
        self.closing = threading.Event()
        self.ledger = Ledger()
        self._queue: queue.Queue[ServerRequest] = queue.Queue()
        # Appended to on the accepting thread, read when that has ended.
        self._threads: list[threading.Thread] = []
        self.listeners = Listeners(hosts, port, receive_buffer, self._accepted)
        self.port = self.listeners.port
        self.nodes = [ScriptedNode(self, info) for info in system.describe(hosts, self.port)]
        self.accept_connections()
        self.listeners.start()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if self.errors and (raised is None or isinstance(raised, Exception)):
            raise self.errors[0]

    def close(self) -> None:
        """Ends all connections and threads. Can be called again."""
        self.closing.set()
        limit = time.monotonic() + CLOSE_LIMIT
        left = [] if self.listeners.close(CLOSE_LIMIT) else ["the accepting thread"]
        self.drop_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, limit - time.monotonic()))
                if thread.is_alive():
                    left.append(thread.name)
        if left:
            self.failed(RuntimeError(f"did not end within {CLOSE_LIMIT} s: {', '.join(left)}"))

    # -- what the test asks

    @property
    def addresses(self) -> list[str]:
        """The addresses of all nodes."""
        return [node.address for node in self.nodes]

    @property
    def connections(self) -> list[ServerConnection]:
        """Those that are open, in the order in which they were opened."""
        return self.ledger.connections

    @property
    def unanswered(self) -> list[ServerRequest]:
        """The requests that have no answer yet, in the order of their arrival."""
        return self.ledger.unanswered

    def statistics(self) -> Statistics:
        """What happened so far."""
        return self.ledger.statistics()

    def wait_until(self, predicate: Callable[[Statistics], bool], timeout: float = 10) -> None:
        """Waits until the statistics are such; `TimeoutError` after `timeout` seconds."""
        if not self.ledger.wait_until(predicate, timeout):
            raise TimeoutError(f"still so after {timeout} s: {self.statistics()}")

    def next_request(self, timeout: float = 10) -> ServerRequest:
        """The next request, in the order of arrival; `TimeoutError` after `timeout` seconds."""
        return self.requests(1, timeout)[0]

    def requests(self, count: int, timeout: float = 10) -> list[ServerRequest]:
        """The next `count` requests; `TimeoutError` if they are not there in `timeout` seconds."""
        limit = time.monotonic() + timeout
        found: list[ServerRequest] = []
        while len(found) < count:
            try:
                found.append(self._queue.get(timeout=max(0.0, limit - time.monotonic())))
            except queue.Empty:
                failure = self.errors[0] if self.errors else None
                text = f"{len(found)} of {count} requests came in {timeout} s: {self.statistics()}"
                raise TimeoutError(text) from failure
        return found

    # -- what the connections tell

    def failed(self, problem: BaseException) -> None:
        """Notes what will be raised at the end."""
        self.errors.append(problem)

    def _accepted(self, address: str, sock: socket.socket) -> None:
        node = next(each for each in self.nodes if each.address == address)
        try:
            connection = ServerConnection(node, sock, self.ledger.next_connection())
        except OSError:
            sock.close()
            return
        self._threads.append(connection.thread)
        self.ledger.opened(connection)
        node.opened(connection)
        connection.thread.start()

    def arrived(self, connection: ServerConnection, frame: Frame) -> None:
        """Answers a request, or gives it to the test; called on the connection's thread."""
        if frame.version not in self.protocol_versions:
            text = automatic.unsupported(frame.version, self.protocol_versions)
            body = error("protocol_error", text)
            highest = max(self.protocol_versions)
            connection.send_frame(frame.stream, Opcode.ERROR, body, version=highest)
            return
        try:
            message = parse(frame)
        except FrameError as problem:
            body = error("protocol_error", str(problem))
            connection.send_frame(frame.stream, Opcode.ERROR, body, version=frame.version)
            raise
        kind = automatic.kind_of(message, connection.node)
        request = ServerRequest(connection, frame, message, kind)
        request.resolve(connection.node.prepared)
        try:
            if kind is not None and kind not in self.hand_over:
                self.ledger.automatic(kind)
                automatic.answer(request, self)
                return
            self.ledger.arrived(request)
            if self.on_request is None:
                self._queue.put(request)
            else:
                self.on_request(request)
        except BaseException as problem:
            self.failed(problem)
            if not request.answers:
                request.error("server_error", f"the script failed: {problem!r}")

    def answer_automatically(self, request: ServerRequest) -> None:
        """Answers what was handed over as if it had not been."""
        automatic.answer(request, self)


class ScriptedServer(ScriptedCluster):
    """A cluster of one node; the other arguments are those of `ScriptedCluster`."""

    def __init__(
        self,
        address: str = "127.0.0.1",
        *,
        port: int = 0,
        protocol_versions: Sequence[int] = (4, 5),
        statements: Declared | None = None,
        types: Mapping[str, str] | None = None,
        keyspaces: Mapping[str, int] | None = None,
        on_request: Handler | None = None,
        hand_over: Iterable[str] = (),
        peers_v2: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        super().__init__(
            [address],
            port=port,
            protocol_versions=protocol_versions,
            statements=statements,
            types=types,
            keyspaces=keyspaces,
            on_request=on_request,
            hand_over=hand_over,
            peers_v2=peers_v2,
            receive_buffer=receive_buffer,
        )

    @property
    def address(self) -> str:
        """Where the one node listens."""
        return self.nodes[0].address

    @property
    def node(self) -> ScriptedNode:
        """The one node."""
        return self.nodes[0]
