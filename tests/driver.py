"""The driver's own `Session` and `ResponseFuture`, over connections that a test answers.

`ScriptedSession` stands for the driver; here the driver itself runs, from `execute_async` down to
the connection: profiles, query plans, row factories, paging and retry policies are the real ones.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    ExecutionProfile,
    ProfileManager,
    Session,
    _ConfigMode,
)
from cassandra.cqltypes import Int32Type, UTF8Type
from cassandra.encoder import Encoder
from cassandra.protocol import (
    RESULT_KIND_ROWS,
    RESULT_KIND_VOID,
    ColumnMetadata,
    ReadTimeoutErrorMessage,
    ResultMessage,
)
from cassandra.query import PreparedStatement
from cassandra.timestamps import MonotonicTimestampGenerator

from tests.waits import LIMIT


class Host:
    """A host, as far as the driver asks."""

    is_up = True

    def __init__(self, name: str) -> None:
        self.endpoint = self.address = name

    def __repr__(self) -> str:
        return f"<Host {self.endpoint}>"


class Plan:
    """A load balancing policy that always gives the same order."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = hosts

    def make_query_plan(self, *_: Any) -> Iterator[Host]:
        """Yield the hosts."""
        yield from self.hosts


class DriverRequest:
    """A message that the driver has sent: what a test looks at, and answers.

    Attributes:
        host: Where it was sent.
        message: The driver's message.
        stream: The number of its stream.
    """

    def __init__(self, connection: Connection, message: Any, stream: int) -> None:
        self._connection = connection
        self.host = connection.host
        self.message = message
        self.stream = stream

    def answer(self, message: Any) -> None:
        """Answer with a message of the protocol, or an exception of the connection."""
        self._connection.answer(self.stream, message)

    def rows(
        self,
        rows: Sequence[Sequence[Any]],
        columns: Sequence[str] = (),
        *,
        paging_state: Optional[bytes] = None,
        **more: Any,
    ) -> None:
        """Answer with rows; `more` may be trace_id, warnings or custom_payload."""
        result = ResultMessage(RESULT_KIND_ROWS)
        result.column_names = list(columns)
        result.column_types = [UTF8Type for _ in columns]
        result.parsed_rows = [tuple(row) for row in rows]
        result.paging_state = paging_state
        for name, value in more.items():
            setattr(result, name, value)
        self.answer(result)

    def void(self, **more: Any) -> None:
        """Answer as to an INSERT."""
        result = ResultMessage(RESULT_KIND_VOID)
        for name, value in more.items():
            setattr(result, name, value)
        self.answer(result)

    def read_timeout(self) -> None:
        """Answer that a replica did not; the driver's retry policy tries the same host again."""
        info = {
            "consistency": 1,
            "received_responses": 1,
            "required_responses": 1,
            "data_retrieved": False,
        }
        self.answer(ReadTimeoutErrorMessage(0x1200, "read timeout", info))


class Connection:
    """A connection, as far as the driver asks: a stream is free when its answer has come."""

    keyspace = None
    max_request_id = 30_000
    orphaned_threshold = 10_000
    is_closed = is_defunct = False
    # what scylla-driver asks besides
    is_control_connection = False
    features = SimpleNamespace(
        shard_id=None, sharding_info=None, tablets_routing_v1=False, tablets_routing_v2=False
    )

    def __init__(self, session: DriverSession, host: Host) -> None:
        self._session = session
        self.host = host
        self._requests: Dict[int, Any] = {}  # (callback, decoder, metadata), as in the driver's
        self._free: List[int] = []
        self.lock = threading.RLock()
        self.orphaned_request_ids: set[int] = set()
        self.in_flight = 0  # streams that were borrowed and did not come back

    def borrow(self) -> int:
        """Return the lowest stream that is free."""
        self.in_flight += 1
        return self._free.pop(self._free.index(min(self._free))) if self._free else self.in_flight

    def send_msg(self, message: Any, request_id: int, cb: Callable[[Any], None], **_: Any) -> int:
        """Take what the driver sends."""
        self._requests[request_id] = cb, None, None
        self._session.take(DriverRequest(self, message, request_id))
        return 1

    def answer(self, stream: int, message: Any) -> None:
        """Give an answer to whom the stream belongs."""
        with self.lock:
            if stream in self.orphaned_request_ids:
                self.orphaned_request_ids.remove(stream)
                self.in_flight -= 1
        answered = self._requests.pop(stream, None)
        if answered is not None:
            self._free.append(stream)
            answered[0](message)

    def defunct(self, _: Any) -> None:
        """Take note that the connection is lost."""
        self.is_defunct = True


class Pool:
    """A pool of one connection."""

    is_shutdown = False

    def __init__(self, session: DriverSession, host: Host) -> None:
        self.host = host
        self.connection = Connection(session, host)

    def borrow_connection(self, **_: Any) -> Any:
        """Return the connection and a stream."""
        return self.connection, self.connection.borrow()

    def return_connection(self, connection: Connection, stream_was_orphaned: bool = False) -> None:
        """Take a stream back."""
        if not stream_was_orphaned:
            connection.in_flight -= 1

    def on_orphaned_stream_released(self) -> None:
        """Take note that a stream has come back that nobody waited for."""

    def get_connections(self) -> List[Connection]:
        """Return all connections."""
        return [self.connection]


class DriverSession(Session):  # type: ignore[misc]
    """The driver's session on hosts whose connections a test answers.

    Args:
        respond: Called with each `DriverRequest` inside `execute_async`.
        hosts: The names of the hosts, in the order of the query plan.
        legacy: Be configured without execution profiles.
        forgets: Keep no requests and arguments.
        profile: Arguments of the default execution profile.

    Attributes:
        requests: What was sent, in its order.
        arguments: The keyword arguments of each `execute_async`.
        timers: How many timers the driver has started. None of them ever fires.
        tasks: What the driver has left to its thread pool, for the test to run.
    """

    def __init__(
        self,
        respond: Optional[Callable[[DriverRequest], None]] = None,
        hosts: Sequence[str] = ("one",),
        *,
        legacy: bool = False,
        forgets: bool = False,
        **profile: Any,
    ) -> None:
        self.respond = respond
        self.forgets = forgets
        self.hosts = [Host(name) for name in hosts]
        self.requests: List[DriverRequest] = []
        self.arguments: List[Dict[str, Any]] = []
        self.timers = 0
        self.tasks: List[Callable[[], None]] = []
        self._changed = threading.Condition()
        profile.setdefault("load_balancing_policy", Plan(self.hosts))
        default = ExecutionProfile(**profile)
        self.profiles: Dict[Any, ExecutionProfile] = {EXEC_PROFILE_DEFAULT: default}
        manager = ProfileManager()
        manager.profiles = self.profiles
        self.cluster = SimpleNamespace(
            _config_mode=_ConfigMode.LEGACY if legacy else _ConfigMode.PROFILES,
            profile_manager=manager,
            timestamp_generator=MonotonicTimestampGenerator(),
            allow_beta_protocol_version=False,
            protocol_version=4,
            connection_class=self,
            control_connection=None,
            load_balancing_policy=default.load_balancing_policy,
            default_retry_policy=default.retry_policy,
            metadata=SimpleNamespace(token_map=None, all_hosts=lambda: tuple(self.hosts)),
            scheduler=SimpleNamespace(schedule_with_shutdown=self._schedule),  # scylla-driver's
        )
        self._protocol_version = 4
        self._lock = threading.RLock()
        self._profile_manager = manager
        self._request_init_callbacks: List[Any] = []
        self._pools = {host: Pool(self, host) for host in self.hosts}
        self.encoder = Encoder()

    def __del__(self) -> None:
        pass  # the driver's would shut it down

    def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """Note the arguments, and do what the driver does."""
        if not self.forgets:
            self.arguments.append(kwargs)
        return super().execute_async(*args, **kwargs)

    def create_timer(self, timeout: float, callback: Callable[[], None]) -> Any:
        """Count a timer; the driver calls this on its connection class."""
        self.timers += 1
        return SimpleNamespace(cancel=lambda: None)

    def submit(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Take what the driver leaves to its thread pool."""
        self.tasks.append(lambda: fn(*args, **kwargs))

    def _schedule(
        self, delay: float, abort: Callable[[], None], fn: Callable[..., Any], *args: Any
    ) -> None:
        self.submit(fn, *args)

    def run_tasks(self) -> None:
        """Run what was left to the thread pool."""
        while self.tasks:
            self.tasks.pop(0)()

    def take(self, request: DriverRequest) -> None:
        """Take what a connection is to send."""
        if not self.forgets:
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
        if self.respond is not None:
            self.respond(request)

    def wait_for(self, count: int) -> DriverRequest:
        """Wait until `count` requests were sent, and return the last of them."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.requests) >= count, LIMIT)
        assert arrived, f"{len(self.requests)} requests were sent, not {count}"
        return self.requests[count - 1]

    def connection(self, host: int = 0) -> Connection:
        """Return the connection to a host."""
        pool: Pool = self._pools[self.hosts[host]]
        return pool.connection


def prepare(text: str, *names: str, kind: Any = Int32Type) -> Any:
    """Return a prepared statement of the driver, with a marker of `kind` for each name."""
    columns = [ColumnMetadata("ks", "t", name, kind) for name in names]
    return PreparedStatement(columns, text.encode(), None, text, "ks", 4, None, None)
