"""What the tests of this directory share: sessions of the real driver on scripted servers."""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from queue import Queue
from types import TracebackType
from typing import Any

import pytest
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    DefaultConnection,
    ExecutionProfile,
    ResultSet,
)
from cassandra.policies import (
    ConstantReconnectionPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
)

from cassconc import CassandraExecutor
from tests.protocol import ScriptedCluster, ScriptedServer, ServerRequest

LIMIT = 10.0  # seconds after which a wait is a failure of the test
USERS = {"id": "int", "name": "text"}
COLUMNS = [("id", "int"), ("name", "text")]
INSERT = "INSERT INTO ks.t (id, name) VALUES (?, ?)"
SELECT = "SELECT id, name FROM ks.t WHERE id = ?"


# -- sessions

IS_SCYLLA = hasattr(ResultSet, "batch_regex")  # scylla-driver has the same names as the other

# another reactor than the driver's own choice: "cassandra.io.asyncioreactor.AsyncioConnection"
REACTOR = os.environ.get("CASSCONC_REACTOR", "")
Connection: Any = DefaultConnection
if REACTOR:
    Connection = getattr(import_module(REACTOR.rpartition(".")[0]), REACTOR.rpartition(".")[2])

IS_ASYNCIO = REACTOR.endswith("AsyncioConnection")
# With version 5 the driver (3.30.1) loses the connection where a read ends within the header of a
# segment: `_process_segment_buffer` forgets these bytes. asyncio's reads end anywhere.
VERSIONS = [4] if IS_ASYNCIO else [4, 5]


def not_with_asyncio(reason: str) -> pytest.MarkDecorator:
    """Skip a test of what the driver's asyncio reactor cannot do."""
    return pytest.mark.skipif(IS_ASYNCIO, reason=reason)


def profile_of(policy: Any = None, **options: Any) -> ExecutionProfile:
    """An execution profile that retries nothing, with a time limit."""
    options.setdefault("retry_policy", FallthroughRetryPolicy())
    options.setdefault("request_timeout", LIMIT)
    return ExecutionProfile(load_balancing_policy=policy or RoundRobinPolicy(), **options)


@contextmanager
def connected(
    server: ScriptedCluster,
    *,
    policy: Any = None,
    profile: ExecutionProfile | None = None,
    profiles: dict[Any, ExecutionProfile] | None = None,
    legacy: bool = False,
    **options: Any,
) -> Iterator[Any]:
    """A session of the real driver, that retries nothing; all its waits are limited.

    Args:
        server: What it connects to.
        policy: The load balancing policy, where no profile is given.
        profile: The default profile, and `profiles` the others by name.
        profiles: See there.
        legacy: Whether the session has no profiles.
        options: Those of `Cluster`, and `keyspace`.
    """
    options.setdefault("reconnection_policy", ConstantReconnectionPolicy(0.02))
    # the driver does not set it; a request that follows another unanswered one takes 40 ms without
    options.setdefault("sockopts", [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)])
    options.setdefault("connection_class", Connection)
    if IS_ASYNCIO and 4 in server.protocol_versions:
        options.setdefault("protocol_version", 4)
    keyspace = options.pop("keyspace", None)
    if legacy:
        options.setdefault("default_retry_policy", FallthroughRetryPolicy())
        options["load_balancing_policy"] = policy or RoundRobinPolicy()
    else:
        default = {EXEC_PROFILE_DEFAULT: profile or profile_of(policy)}
        options["execution_profiles"] = {**default, **(profiles or {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of legacy mode
        cluster = Cluster(
            server.addresses[:1],
            port=server.port,
            status_event_refresh_window=0,
            topology_event_refresh_window=0,
            schema_event_refresh_window=0,
            **options,
        )
    try:
        # All pools: a node that refuses while its first pool is being made may stay "up" without
        # one (seen with 3.30.1, in 2 of 4 tries, for the 6 s that were watched).
        yield cluster.connect(keyspace, wait_for_all_pools=True)
    finally:
        cluster.shutdown()


@contextmanager
def serving(version: int, **options: Any) -> Iterator[tuple[ScriptedServer, Any]]:
    """A server of one version and a session on it."""
    with ScriptedServer(protocol_versions=[version], types=USERS, **options) as server:
        with connected(server) as session:
            yield server, session


@contextmanager
def executing(session: Any, concurrency: int = 100, **options: Any) -> Iterator[CassandraExecutor]:
    """An executor that is not waited for: a failing test need not answer what it left behind."""
    executor = CassandraExecutor(session, concurrency, **options)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


class Listener:
    """What the driver tells about hosts, as (event, address)."""

    def __init__(self) -> None:
        self.heard: Queue[tuple[str, str]] = Queue()
        for event in ("up", "down", "add", "remove"):
            setattr(self, f"on_{event}", self._hear(event))

    def _hear(self, event: str) -> Callable[[Any], None]:
        return lambda host: self.heard.put((event, host.address))

    def wait_for(self, event: str, address: str) -> None:
        """Waits for an event, and forgets what came before it."""
        while self.heard.get(timeout=LIMIT) != (event, address):
            pass


def settle(session: Any) -> None:
    """Return when all answers so far are processed, and all that they led to has arrived.

    With one node there is one connection, and one event loop: the first request here is answered
    after what was answered before it was processed, and the second one arrives after what was sent
    meanwhile. That is so as long as no helper thread sends.
    """
    for _ in range(2):
        session.execute("SELECT key FROM system.local", timeout=LIMIT)


def in_flight(session: Any) -> int:
    """How many streams are taken, on all connections of all pools."""
    pools = list(session.get_pools())
    return sum(each.in_flight for pool in pools for each in pool.get_connections())


# -- answers


def done(request: ServerRequest) -> None:
    """A handler that answers everything as written."""
    request.void()


def user(request: ServerRequest) -> None:
    """A handler that answers each `SELECT` with the user that it asks for."""
    request.rows(rows=[(request.parameters[0], name_of(request.parameters[0]))])


def name_of(number: int) -> str:
    """The name that `user` gives to a user."""
    return f"user {number}"


def asked(requests: Iterable[ServerRequest]) -> list[Any]:
    """The first parameter of each request."""
    return [request.parameters[0] for request in requests]


# -- outcomes


def failure(future: Any) -> Exception | None:
    """What a request of the driver, or a future, failed with."""
    try:
        future.result()
    except Exception as raised:
        return raised
    return None


def failure_of(future: Any, limit: float = LIMIT) -> BaseException:
    """The exception of a future of ours; it has to fail within `limit` seconds."""
    error = future.exception(limit)
    assert error is not None, f"succeeded: {future.result()!r}"
    assert isinstance(error, BaseException)
    return error


class Timed:
    """Measures how long a block takes, and how late this machine is with everything meanwhile.

    A thread that does nothing but wait for short times sees the latter: on loaded cores even a
    perfect timer is late.
    """

    _STEP = 0.005

    def __enter__(self) -> Timed:
        self.seconds = self.lateness = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._start = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.monotonic() - self._start
        self._over.set()
        self._thread.join(LIMIT)

    def _watch(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            self._over.wait(self._STEP)
            self.lateness = max(self.lateness, time.monotonic() - before - self._STEP)

    def assert_limit(self, limit: float) -> None:
        """Assert that the block took one time limit: not less, and 10 % plus 50 ms more at most."""
        latest = limit * 1.1 + 0.05 + self.lateness
        assert limit <= self.seconds <= latest, (
            f"took {self.seconds:.3f} s at a time limit of {limit} s, on a machine that was "
            f"{self.lateness:.3f} s late"
        )
