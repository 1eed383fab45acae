"""The scripted server, tried with the real driver and, where that hides too much, a bare socket."""

import io
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from queue import Queue
from typing import Any, cast
from uuid import UUID

import pytest
from cassandra import (
    AlreadyExists,
    ConsistencyLevel,
    FunctionFailure,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    WriteFailure,
    WriteTimeout,
    WriteType,
    protocol,
)
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.policies import (
    ConstantReconnectionPolicy,
    FallthroughRetryPolicy,
    HostFilterPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, SimpleStatement
from cassandra.segment import SegmentCodec

from tests.protocol import (
    ALL_KINDS,
    UNSET,
    FrameReader,
    Opcode,
    ScriptedCluster,
    ScriptedError,
    ScriptedServer,
    ServerRequest,
    Statement,
    encode_frame,
    encode_segments,
)
from tests.protocol.errors import ErrorKind, error
from tests.protocol.frames import MAX_PAYLOAD
from tests.protocol.statements import statement_id
from tests.protocol.values import cql_type
from tests.protocol.wire import NULL, long_string, string

LIMIT = 10.0
INSERT = "INSERT INTO ks.t (id, name) VALUES (?, ?)"
UNSET_RAW = b"\xff\xff\xff\xfe"
COLUMNS = [("id", "int"), ("name", "text")]
USERS = {"id": "int", "name": "text"}


@pytest.fixture(params=[4, 5], ids=["v4", "v5"])
def version(request: pytest.FixtureRequest) -> int:
    """Each protocol version."""
    return cast(int, request.param)


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


@contextmanager
def connected(server: ScriptedCluster, *, policy: Any = None, **options: Any) -> Iterator[Any]:
    """A session of the real driver, that retries nothing; all its waits are limited."""
    profile = ExecutionProfile(
        load_balancing_policy=policy or RoundRobinPolicy(),
        retry_policy=FallthroughRetryPolicy(),
        request_timeout=LIMIT,
    )
    options.setdefault("reconnection_policy", ConstantReconnectionPolicy(0.02))
    keyspace = options.pop("keyspace", None)
    cluster = Cluster(
        server.addresses[:1],
        port=server.port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
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


def done(request: ServerRequest) -> None:
    """A handler that answers everything as written."""
    request.void()


def failure(future: Any) -> Exception | None:
    """What a request of the driver failed with."""
    try:
        future.result()
    except Exception as raised:
        return raised
    return None


def query_body(text: str, version: int, flags: int = 0) -> bytes:
    """The body of a QUERY with consistency ONE, as far as the flags."""
    size = 4 if version >= 5 else 1
    return long_string(text) + b"\x00\x01" + flags.to_bytes(size, "big")


class BareClient:
    """A client without a driver, that sees every read apart."""

    def __init__(self, server: ScriptedServer, version: int) -> None:
        self.version = version
        self.socket = socket.create_connection((server.address, server.port), LIMIT)
        self.reader = FrameReader()
        self.segmented = False
        self.ask(Opcode.STARTUP, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0")
        assert self.answer().opcode == Opcode.READY
        if version >= 5:
            self.segmented = True
            self.reader.start_segments()

    def __enter__(self) -> "BareClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, opcode: Opcode, body: bytes, *, cut: int | None = None) -> None:
        """Sends a request, or its first `cut` bytes."""
        data = encode_frame(self.version, 1, opcode, body, direction=0)
        data = encode_segments(data) if self.segmented else data
        self.socket.sendall(data[:cut])

    def query(self, text: str) -> None:
        """Sends a QUERY."""
        self.ask(Opcode.QUERY, query_body(text, self.version))

    def execute(self, text: str) -> None:
        """Sends an EXECUTE that asks for no metadata."""
        statement = statement_id(text)
        body = len(statement).to_bytes(2, "big") + statement
        if self.version >= 5:
            body += b"\x00\x00" + b"\x00\x01" + b"\x00\x00\x00\x02"
        else:
            body += b"\x00\x01" + b"\x02"
        self.ask(Opcode.EXECUTE, body)

    def answer(self) -> Any:
        """Receives one frame."""
        while True:
            data = self.socket.recv(65536)
            assert data, "the server ended the connection"
            for frame in self.reader.feed(data):
                return frame


# -- connecting


def test_connects(version: int) -> None:
    """The driver asks with its highest version, is told which are there, and takes the highest."""
    with serving(version) as (server, session):
        assert session.cluster.protocol_version == version
        assert {each.version for each in server.connections} == {version}
        row = session.execute("SELECT cluster_name, rpc_address FROM system.local").one()
        assert row == ("scripted", server.address)
        assert server.statistics().requests == 0


def test_both_versions() -> None:
    """A server of both versions is used with v5, or with v4 where the client says so."""
    with ScriptedServer() as server:
        with connected(server) as newer, connected(server, protocol_version=4) as older:
            assert newer.cluster.protocol_version == 5
            assert older.cluster.protocol_version == 4


def test_without_peers_v2() -> None:
    """Where there is no system.peers_v2, the driver finds the nodes in system.peers."""
    with ScriptedCluster(2, peers_v2=False) as server, connected(server) as session:
        assert {host.address for host in session.cluster.metadata.all_hosts()} == set(
            server.addresses
        )


# -- statements


def test_simple_statements(version: int) -> None:
    """A simple statement reaches the test as text; rows with nulls come back."""
    with serving(version) as (server, session):
        future = session.execute_async("SELECT id, name FROM ks.t")
        request = server.next_request()
        assert (request.opcode, request.text) == ("QUERY", "SELECT id, name FROM ks.t")
        assert (request.values, request.page_size, request.tracing) == ([], 5000, False)
        assert request.timestamp is not None
        assert request.consistency == ConsistencyLevel.LOCAL_ONE
        assert request.rows(COLUMNS, [(1, "Ann"), (2, None)])
        assert list(future.result()) == [(1, "Ann"), (2, None)]


def test_prepared_statements(version: int) -> None:
    """A prepared statement has the columns that its text suggests; values arrive as bytes."""
    with serving(version) as (server, session):
        insert = session.prepare(INSERT)
        assert [(each.name, each.type.typename) for each in insert.column_metadata] == [
            ("id", "int"),
            ("name", "varchar"),
        ]
        assert insert.routing_key_indexes == [0]
        future = session.execute_async(insert, (7, None))
        request = server.next_request()
        assert (request.opcode, request.text) == ("EXECUTE", INSERT)
        assert request.values == [b"\x00\x00\x00\x07", None]
        assert request.named_values == {"id": b"\x00\x00\x00\x07", "name": None}
        request.void()
        assert future.result().current_rows == []
        session.execute_async(insert, (7, UNSET_VALUE))
        request = server.next_request()
        assert request.parameters == [7, UNSET]
        request.void()


def test_rows_as_prepared(version: int) -> None:
    """Rows of a prepared SELECT have the columns it was prepared with, unless others are given."""
    with serving(version) as (server, session):
        select = session.prepare("SELECT id, name FROM ks.t WHERE id = ?")
        future = session.execute_async(select, (1,))
        server.next_request().rows(rows=[(1, "Ann")])
        assert future.result().one() == (1, "Ann")
        for _ in range(2):
            future = session.execute_async(select, (1,))
            server.next_request().rows([*COLUMNS, ("age", "int")], [(1, "Ann", 41)])
            assert future.result().one()._asdict() == {"id": 1, "name": "Ann", "age": 41}


@pytest.mark.parametrize(("others", "v4_flags", "v5_flags"), [(False, 4, 4), (True, 1, 9)])
def test_skipped_metadata(version: int, others: bool, v4_flags: int, v5_flags: int) -> None:
    """A client that asks to skip it gets no metadata, or, with v5 marked, a changed one."""
    with ScriptedServer(types=USERS) as server, BareClient(server, version) as client:
        text = "SELECT id, name FROM t"
        server.node.prepare(text)
        client.execute(text)
        request = server.next_request()
        assert (request.skip_metadata, request.text) == (True, text)
        request.rows([("x", "int")] if others else None, [(1,)] if others else [(1, "Ann")])
        body = client.answer().body
        assert int.from_bytes(body[4:8], "big") == (v5_flags if version >= 5 else v4_flags)


VALUES: list[tuple[str, Any]] = [
    ("int", -5),
    ("bigint", 2**40),
    ("text", "käse"),
    ("boolean", True),
    ("double", 0.25),
    ("float", -0.5),
    ("smallint", -3),
    ("tinyint", 100),
    ("varint", -(2**70)),
    ("varint", 128),
    ("uuid", UUID(int=77)),
    ("timestamp", datetime(2001, 2, 3, 4, 5, 6, 7000)),
    ("timestamp", datetime(1955, 11, 5, 6, 15)),
    ("blob", b"\x00\xff"),
    ("inet", "10.1.2.3"),
    ("inet", "2001:db8::1"),
    ("list<text>", ["b", "a", "b"]),
    ("set<int>", {3, 1}),
    ("map<text, bigint>", {"x": 1, "y": 2}),
    ("map<text, frozen<list<int>>>", {"x": [1, 2], "y": []}),
    ("tuple<int, text>", (1, None)),
    ("text", None),
]


def test_values(version: int) -> None:
    """Values of every type arrive as they were bound, and come back as they were given."""
    columns = [(f"c{at}", kind) for at, (kind, _) in enumerate(VALUES)]
    values = [value for _, value in VALUES]
    statement = Statement.of(bind=columns, result=columns)
    with serving(version, statements={"everything": statement}) as (server, session):
        future = session.execute_async(session.prepare("everything"), values)
        request = server.next_request()
        assert request.parameters == values
        request.rows(rows=[values, [None] * len(values)])
        first, second = future.result()
        collections = (list, set, dict, tuple)
        plain = [
            type(mine)(theirs) if isinstance(mine, collections) else theirs
            for mine, theirs in zip(values, first)
        ]
        assert plain == values
        assert set(second) <= {None}


def test_types() -> None:
    """Types have names that say them in full; unknown ones are refused by name."""
    assert cql_type("Map<text,frozen<list<int>>>").name == "map<text, list<int>>"
    for wrong in ("nonsense", "list<int", "map<int>", "list<nonsense>"):
        with pytest.raises(ValueError, match="no CQL type"):
            cql_type(wrong)


@pytest.mark.parametrize(
    ("text", "bind", "result", "key"),
    [
        ("INSERT INTO t (id, a, b) VALUES (?, 'x?', :bee) USING TTL ?",
         "id int, bee text, [ttl] int", "", [0]),
        ("INSERT INTO ks.t (id, name) VALUES (?, ?) IF NOT EXISTS", "id int, name text", "", [0]),
        ("SELECT * FROM t WHERE id = ? AND name >= ? LIMIT ?",
         "id int, name text, [limit] int", "id int, name text", [0]),
        ("SELECT name AS n, count(*) FROM t WHERE id IN ?",
         "in(id) list<int>", "n text, count bigint", [0]),
        ("UPDATE t USING TIMESTAMP ? SET name = ? WHERE user_id = ? IF name = ?",
         "[timestamp] bigint, name text, user_id int, name text", "", [2]),
        ("DELETE FROM t WHERE id = ?", "id int", "", [0]),
        ("SELECT name FROM t", "", "name text", []),
    ],
)  # fmt: skip
def test_guessed_metadata(text: str, bind: str, result: str, key: list[int]) -> None:
    """What is not declared is guessed from the text of plain statements."""
    with serving(4) as (_, session):
        prepared = session.prepare(text)
        told = [
            f"{each.name} {each.type.cql_parameterized_type()}" for each in prepared.column_metadata
        ]
        assert ", ".join(told).replace("varchar", "text") == bind
        columns = [
            f"{each[2]} {each[3].cql_parameterized_type()}"
            for each in prepared.result_metadata or ()
        ]
        assert ", ".join(columns).replace("varchar", "text") == result
        assert (prepared.routing_key_indexes or []) == key


def test_declared_by_a_function() -> None:
    """A function may declare statements, and refuse them with an error of its choice."""

    def declare(text: str) -> Statement | None:
        if "nowhere" in text:
            raise ScriptedError("invalid", "unconfigured table nowhere")
        return Statement.of([("a", "blob")]) if text == "odd" else None

    with serving(5, statements=declare) as (_, session):
        assert [each.name for each in session.prepare("odd").column_metadata] == ["a"]
        assert len(session.prepare(INSERT).column_metadata) == 2
        with pytest.raises(InvalidRequest, match="nowhere"):
            session.prepare("SELECT a FROM nowhere")


def test_batches(version: int) -> None:
    """A batch arrives with the texts and values of its statements, prepared or not."""
    with serving(version) as (server, session):
        batch = BatchStatement(BatchType.UNLOGGED)
        batch.add(session.prepare(INSERT), (1, "Ann"))
        batch.add(SimpleStatement("DELETE FROM ks.t WHERE id = 2"))
        future = session.execute_async(batch)
        request = server.next_request()
        assert (request.opcode, request.batch_type) == ("BATCH", 1)
        assert [(item.text, item.values) for item in request.batch] == [
            (INSERT, [b"\x00\x00\x00\x01", b"Ann"]),
            ("DELETE FROM ks.t WHERE id = 2", []),
        ]
        request.void()
        future.result()


def test_options_of_a_statement(version: int) -> None:
    """Consistencies, page size, timestamp and, with v5, keyspace are as the client set them."""
    with serving(version) as (server, session):
        session.default_fetch_size = None
        session.use_client_timestamp = False
        statement = SimpleStatement(
            "x",
            consistency_level=ConsistencyLevel.QUORUM,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
            keyspace="mine" if version >= 5 else None,
        )
        session.execute_async(statement)
        request = server.next_request()
        assert request.consistency == ConsistencyLevel.QUORUM
        assert request.serial_consistency == ConsistencyLevel.LOCAL_SERIAL
        assert (request.page_size, request.paging_state, request.timestamp) == (None, None, None)
        assert request.keyspace == ("mine" if version >= 5 else None)


def test_named_values(version: int) -> None:
    """Values with names, which this driver never sends, are understood."""
    values = b"\x00\x03" + b"".join(
        string(name) + value for name, value in [("a", b"\0\0\0\1x"), ("b", NULL), ("c", UNSET_RAW)]
    )
    with ScriptedServer() as server, BareClient(server, version) as client:
        client.ask(Opcode.QUERY, query_body("x", version, 0x41) + values)
        request = server.next_request()
        assert request.named_values == {"a": b"x", "b": None, "c": UNSET}


def test_conditional_statements(version: int) -> None:
    """A conditional statement is answered with whether it was applied, and what was in its way."""
    with serving(version) as (server, session):
        insert = session.prepare(INSERT + " IF NOT EXISTS")
        for applied, columns, rows in ((True, [], [()]), (False, COLUMNS, [(1, "Bob")])):
            future = session.execute_async(insert, (1, "Ann"))
            server.next_request().applied(applied, columns, rows)
            result = future.result()
            assert result.was_applied is applied
            assert result.one() == (applied, *rows[0])


def test_paging(version: int) -> None:
    """A paging state goes out with a page and comes back with the request for the next."""

    def page(request: ServerRequest) -> None:
        first = int(request.paging_state or b"0")
        last = first + (request.page_size or 0)
        state = str(last).encode() if last < 25 else None
        request.rows(COLUMNS, [(n, None) for n in range(first, min(last, 25))], paging_state=state)

    with serving(version, on_request=page) as (server, session):
        for statement in (
            SimpleStatement("SELECT id, name FROM ks.t", fetch_size=10),
            session.prepare("SELECT id, name FROM ks.t WHERE id > ?").bind((0,)),
        ):
            statement.fetch_size = 10
            assert [row.id for row in session.execute(statement)] == list(range(25))
        assert server.statistics().requests == 6


def test_keyspaces(version: int) -> None:
    """A USE is answered without the test; each request knows the keyspace of its connection."""
    with serving(version) as (server, session):
        session.execute("USE Shop")
        session.execute_async("SELECT 1")
        assert server.next_request().keyspace == "shop"
        session.set_keyspace("other")
        session.execute_async("SELECT 1")
        assert server.next_request().keyspace == "other"
        assert session.keyspace == "other"
        with connected(server, keyspace="ks") as third:
            third.execute_async("SELECT 1")
            assert server.next_request().keyspace == "ks"


def test_schema_changes() -> None:
    """After a schema change, answered or pushed, the driver reads the schema again."""
    with serving(5) as (server, session):
        for change in (
            lambda: session.execute("CREATE TABLE ks.t (id int PRIMARY KEY)"),
            lambda: server.push_schema("UPDATED", "KEYSPACE", "ks"),
        ):
            before = server.statistics().automatic["SYSTEM"]
            server.on_request = lambda r: r.schema_change("CREATED", "TABLE", "ks", "t")
            change()
            server.wait_until(lambda now, then=before: now.automatic["SYSTEM"] > then)  # type: ignore[misc]


def test_what_comes_along(version: int) -> None:
    """Warnings, custom payload and tracing id reach the driver, payload and tracing the server."""
    with serving(version) as (server, session):
        future = session.execute_async("x", trace=True, custom_payload={"in": b"1"})
        request = server.next_request()
        assert (request.tracing, request.custom_payload) == (True, {"in": b"1"})
        trace = UUID(int=5)
        request.void(warnings=["a", "b"], custom_payload={"out": b"2"}, tracing_id=trace)
        future.result()
        assert (future.warnings, future.custom_payload) == (["a", "b"], {"out": b"2"})
        assert [each.trace_id for each in future._query_traces] == [trace]


# -- errors

REPLICAS = {"consistency": 4, "received_responses": 1, "required_responses": 2}
ERRORS: list[tuple[str, type[BaseException], dict[str, Any]]] = [
    ("server_error", protocol.ServerError, {}),
    ("overloaded", protocol.OverloadedErrorMessage, {}),
    ("is_bootstrapping", protocol.IsBootstrappingErrorMessage, {}),
    ("truncate_error", protocol.TruncateError, {}),
    ("unavailable", Unavailable,
     {"consistency": 4, "required_replicas": 3, "alive_replicas": 2}),
    ("write_timeout", WriteTimeout, {**REPLICAS, "write_type": "CAS"}),
    ("read_timeout", ReadTimeout, {**REPLICAS, "data_retrieved": True}),
    ("write_failure", WriteFailure, {**REPLICAS, "write_type": "BATCH", "failures": 2}),
    ("read_failure", ReadFailure, {**REPLICAS, "data_retrieved": True, "failures": 1}),
    ("function_failure", FunctionFailure,
     {"keyspace": "k", "function": "fun", "arg_types": ["int", "text"]}),
    ("cdc_write_failure", protocol.CDCWriteException, {}),
    ("cas_write_unknown", protocol.ErrorMessage, REPLICAS),
    ("syntax_error", protocol.SyntaxException, {}),
    ("unauthorized", Unauthorized, {}),
    ("invalid", InvalidRequest, {}),
    ("config_error", protocol.ConfigurationException, {}),
    ("already_exists", AlreadyExists, {"keyspace": "k", "table": "t"}),
    ("bad_credentials", protocol.BadCredentials, {}),
    ("protocol_error", protocol.ProtocolException, {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "expected", "info"), ERRORS, ids=[each[0] for each in ERRORS])
def test_errors(
    version: int, kind: ErrorKind, expected: type[BaseException], info: dict[str, Any]
) -> None:
    """Each error of the protocol is the driver's own exception, with its fields."""
    with serving(version) as (server, session):
        server.on_request = lambda request: request.error(kind, "so it goes", **info)
        with pytest.raises(expected) as caught:
            session.execute("x")
        assert kind == "already_exists" or "so it goes" in str(caught.value)
        for name, value in info.items():
            if name == "write_type":
                value = WriteType.name_to_value[value]
            assert kind == "cas_write_unknown" or getattr(caught.value, name) == value


def test_all_errors_are_tried() -> None:
    """The table above has every kind, but for that which the driver answers by itself."""
    assert {each[0] for each in ERRORS} == set(ALL_KINDS) - {"unprepared"}


def test_error_fields() -> None:
    """Reasons of failures by address reach v5 clients; a field that a kind has not is refused."""
    with serving(5) as (server, session):
        codes = {"127.0.0.2": 1, "127.0.0.3": 0}
        server.on_request = lambda request: request.error("read_failure", error_code_map=codes)
        with pytest.raises(ReadFailure) as caught:
            session.execute("x")
        assert caught.value.error_code_map == codes
    with pytest.raises(TypeError, match="overloaded has no field table"):
        error("overloaded", table="t")


def test_unprepared(version: int) -> None:
    """A statement that the node forgot is prepared again by the driver, also for a batch."""
    with serving(version, on_request=done) as (server, session):
        insert = session.prepare(INSERT)
        server.forget()
        session.execute(insert, (1, "Ann"))
        server.forget(INSERT, once=True)
        batch = BatchStatement()
        batch.add(insert, (2, "Bob"))
        session.execute(batch)
        session.execute(batch)
        counts = server.statistics()
        assert (counts.automatic["UNPREPARED"], counts.automatic["PREPARE"]) == (2, 3)
        assert counts.requests == 3


# -- when, and whether, it is answered


def test_out_of_order(version: int) -> None:
    """Answers in any order, from any thread, reach the requests that they are for."""
    with serving(version) as (server, session):
        futures = [session.execute_async(f"SELECT {n}") for n in range(50)]
        requests = server.requests(50)
        assert [request.text for request in requests] == [f"SELECT {n}" for n in range(50)]
        assert [request.number for request in requests] == list(range(1, 51))
        statistics = server.statistics()
        assert (statistics.unanswered, statistics.max_unanswered) == (50, 50)
        assert statistics.max_unanswered_per_connection == 50

        def answer(some: list[ServerRequest]) -> None:
            for request in some:
                request.rows([("n", "int")], [(request.number - 1,)])

        backwards = requests[::-1]
        threads = [threading.Thread(target=answer, args=(backwards[at::4],)) for at in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert [future.result().one().n for future in futures] == list(range(50))
        assert server.unanswered == []
        assert server.statistics().max_unanswered == 50


def test_silence(version: int) -> None:
    """Without an answer the driver times out; the late answer then harms nobody."""
    with serving(version) as (server, session):
        future = session.execute_async("x", timeout=0.05)
        request = server.next_request()
        request.silence()
        with pytest.raises(OperationTimedOut):
            future.result()
        assert request.silent
        assert server.unanswered == [request]
        request.void()
        server.on_request = done
        session.execute("y")


def test_heartbeats() -> None:
    """Heartbeats are answered while requests are not."""
    with ScriptedServer() as server:
        often = {"idle_heartbeat_interval": 0.02, "idle_heartbeat_timeout": LIMIT}
        with connected(server, **often) as session:
            future = session.execute_async("x")
            request = server.next_request()
            before = server.statistics().automatic["OPTIONS"]
            server.wait_until(lambda now: now.automatic["OPTIONS"] > before + 2)
            request.void()
            future.result()


def test_hang(version: int) -> None:
    """A server that hangs answers nothing at all, and everything when it resumes."""
    with serving(version) as (server, session):
        server.hang()
        futures = [session.execute_async(f"{n}") for n in range(3)]
        for request in server.requests(3):
            assert request.void()
        assert server.statistics().unanswered == 3
        with pytest.raises((OperationTimedOut, NoHostAvailable)):
            with connected(server, connect_timeout=0.05):
                pass
        server.resume()
        for future in futures:
            future.result()
        server.hang()
        lost = session.execute_async("lost", timeout=0.05)
        server.next_request().void()
        with pytest.raises(OperationTimedOut):
            lost.result()
        server.resume(discard=True)
        assert [request.text for request in server.unanswered] == ["lost"]


def test_handed_over() -> None:
    """What the server answers by itself can be given to the test, by kind."""
    with serving(5, on_request=done) as (server, session):
        server.hand_over = {"PREPARE"}
        server.on_request = None
        prepared: Queue[Any] = Queue()
        thread = threading.Thread(target=lambda: prepared.put(session.prepare(INSERT)))
        thread.start()
        request = server.next_request()
        assert (request.opcode, request.automatic_kind) == ("PREPARE", "PREPARE")
        request.automatic()
        assert len(prepared.get(timeout=LIMIT).column_metadata) == 2
        thread.join(LIMIT)
    with ScriptedServer(hand_over=["STARTUP"]) as server:
        server.on_request = lambda request: request.error("bad_credentials")
        with pytest.raises(NoHostAvailable):
            with connected(server):
                pass


# -- connections


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_drop(version: int, reset: bool) -> None:
    """A dropped connection fails what was on it, and the driver connects anew."""
    with serving(version) as (server, session):
        listener = Listener()
        session.cluster.register_listener(listener)
        future = session.execute_async("x")
        request = server.next_request()
        server.drop_all(reset=reset)
        with pytest.raises(ConnectionShutdown):
            future.result()
        assert not request.connection.is_open
        assert not request.void()
        listener.wait_for("up", server.address)
        server.on_request = done
        session.execute("y")
        server.wait_until(lambda now: now.unanswered == 0)


def test_refuse_connections() -> None:
    """A server that refuses connections is down for the driver until it accepts them again."""
    with serving(5) as (server, session):
        listener = Listener()
        session.cluster.register_listener(listener)
        server.refuse_connections()
        session.execute_async("x")
        server.next_request()
        server.drop_all()
        listener.wait_for("down", server.address)
        with pytest.raises(OSError):
            socket.create_connection((server.address, server.port), LIMIT)
        server.accept_connections()
        listener.wait_for("up", server.address)


def test_two_clients(version: int) -> None:
    """Two clients have connections, streams and keyspaces of their own."""
    with serving(version) as (server, first), connected(server) as second:
        futures = [first.execute_async("first"), second.execute_async("second")]
        one, two = sorted(server.requests(2), key=lambda request: request.text or "")
        assert one.connection is not two.connection
        two.rows([("who", "text")], [("second",)])
        one.rows([("who", "text")], [("first",)])
        assert [future.result().one().who for future in futures] == ["first", "second"]
        assert server.statistics().max_unanswered_per_connection == 1
        assert server.statistics().max_unanswered == 2


def test_backpressure() -> None:
    """A server that does not read fills the client's buffers; then it gets all that was sent."""
    with ScriptedServer(protocol_versions=[4], receive_buffer=8192) as server:
        with connected(server) as session:
            insert = session.prepare("INSERT INTO ks.t (id, data) VALUES (?, ?)")
            server.stop_reading()
            futures = [session.execute_async(insert, (n, "x" * 100_000)) for n in range(60)]
            assert server.statistics().requests == 0
            server.on_request = done
            server.resume_reading()
            refused = [each for each in map(failure, futures) if each]
            assert all("overloaded" in str(each) for each in refused)
            assert 0 < len(futures) - len(refused) == server.statistics().requests


def test_stopped_reading_blocks_the_client() -> None:
    """The client's writes are held up by a node that does not read, and arrive when it does."""
    with ScriptedServer(receive_buffer=8192) as server, BareClient(server, 4) as client:
        server.node.stop_reading()
        client.socket.setblocking(False)
        data = encode_frame(4, 1, Opcode.QUERY, query_body("x" * 50_000, 4), direction=0)
        sent = 0
        with pytest.raises(BlockingIOError):  # noqa: PT012
            while sent < 100 * 2**20:
                sent += client.socket.send(data[sent % len(data) :])
        assert server.statistics().requests == 0
        server.node.resume_reading()
        client.socket.settimeout(LIMIT)
        client.socket.sendall(data[sent % len(data) :])
        whole = sent // len(data) + 1
        assert [len(each.text or "") for each in server.requests(whole)] == [50_000] * whole


# -- large, torn and wrong


@pytest.mark.parametrize("size", [131_000, 131_071, 300_000, 3_000_000])
def test_large_bodies(version: int, size: int) -> None:
    """Bodies that need several segments go through both ways, each segment whole (see below)."""
    with serving(version) as (server, session):
        insert = session.prepare(INSERT)
        future = session.execute_async(insert, (1, "x" * size))
        request = server.next_request()
        assert request.values[1] == b"x" * size
        pieces = [MAX_PAYLOAD + 10] * (size // MAX_PAYLOAD)
        request.rows([("name", "text")], [("y" * size,)], pieces=pieces)
        assert future.result().one().name == "y" * size


def test_torn_answers(version: int) -> None:
    """An answer that comes in pieces is the answer.

    With v5 no piece ends within a segment's header: the driver loses such a beginning (tried with
    3.29.0, 3.30.1 and Scylla's 3.29.12; known as PYTHON-1337, "CRC mismatch on header").
    """
    least = 6 if version >= 5 else 1
    with serving(version) as (server, session):
        server.on_request = lambda request: request.rows(
            COLUMNS, [(1, "Ann")], pieces=[int(request.text or 0)] * 4
        )
        for size in range(least, 24):
            assert session.execute(str(size)).one() == (1, "Ann")
        server.on_request = lambda request: request.rows(
            [("name", "text")], [("y" * 300_000,)], pieces=[least, 100_000, 100_000]
        )
        assert session.execute("x").one().name == "y" * 300_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/net/tcp")
def test_pieces_are_read_apart() -> None:
    """Each piece is sent only after the client has read the one before."""
    with ScriptedServer() as server, BareClient(server, 4) as client:
        client.query("x")
        request = server.next_request()
        thread = threading.Thread(target=lambda: request.void(pieces=[1, 3, 5]))
        thread.start()
        assert [len(client.socket.recv(100)) for _ in range(4)] == [1, 3, 5, 4]
        thread.join(LIMIT)


def test_torn_requests(version: int) -> None:
    """A request that comes in pieces is understood; one that never ends is none."""
    with ScriptedServer() as server:
        with BareClient(server, version) as client:
            client.query("whole")
            assert server.next_request().text == "whole"
            client.ask(Opcode.OPTIONS, b"", cut=5)
        server.wait_until(lambda now: now.connections_open == 0)
        assert server.statistics().requests == 1
        assert not server.errors


def test_several_frames_in_one_segment() -> None:
    """Answers that share a segment reach each their request."""
    with serving(5) as (server, session):
        futures = [session.execute_async("x") for _ in range(5)]
        requests = server.requests(5)
        frames = [encode_frame(5, each.stream, Opcode.RESULT, b"\0\0\0\1") for each in requests]
        requests[0].connection.send_frames(frames)
        for future in futures:
            future.result()
        assert server.statistics().unanswered == 5


def test_hostile_frames(version: int) -> None:
    """Wrong streams and second answers go through; what breaks the framing ends the connection."""
    with serving(version) as (server, session):
        future = session.execute_async("x")
        request = server.next_request()
        request.connection.send_frame(request.stream + 77, Opcode.RESULT, b"\0\0\0\1")
        assert request.void(stream=request.stream + 78)
        assert request.void()
        assert request.void()
        assert request.answers == 3
        future.result()


BROKEN: dict[str, Callable[[ServerRequest], object]] = {
    "negative length": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, length=-1),
    "unknown opcode": lambda r: r.connection.send_frame(r.stream, 0x66, b"?"),
    "garbage version": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, version=0x33),
    "short body": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, b"\0\0"),
    "unknown result": lambda r: r.connection.send_frame(r.stream, Opcode.RESULT, b"\0\0\0\x99"),
    "bad header checksum": lambda r: r.connection.send_segment(b"x" * 20, corrupt="header"),
    "bad payload checksum": lambda r: r.connection.send_segment(b"x" * 20, corrupt="payload"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_frames(version: int, how: str) -> None:
    """What cannot be a frame fails the request, and the driver ends the connection."""
    if "checksum" in how and version < 5:
        pytest.skip("v4 has no checksums")
    with serving(version) as (server, session):
        future = session.execute_async("x")
        request = server.next_request()
        BROKEN[how](request)
        with pytest.raises(Exception) as caught:
            future.result()
        assert not isinstance(caught.value, OperationTimedOut)
        server.wait_until(lambda _: not request.connection.is_open)


def test_huge_length(version: int) -> None:
    """A frame that announces more than ever comes keeps the driver waiting."""
    with serving(version) as (server, session):
        future = session.execute_async("x", timeout=0.05)
        request = server.next_request()
        request.connection.send_frame(request.stream, Opcode.RESULT, b"\0\0\0\1", length=2**31 - 1)
        with pytest.raises(OperationTimedOut):
            future.result()


# -- several nodes


def test_cluster_uses_all_nodes() -> None:
    """The driver sees every node of a cluster, with its own host id, and uses them all."""
    with ScriptedCluster(3) as server, connected(server) as session:
        hosts = session.cluster.metadata.all_hosts()
        assert {host.host_id for host in hosts} == {node.host_id for node in server.nodes}
        assert all(host.is_up for host in hosts)
        futures = [session.execute_async("x") for _ in range(6)]
        requests = server.requests(6)
        assert {request.node.address for request in requests} == set(server.addresses)
        for request in requests:
            request.void()
        for future in futures:
            future.result()


def test_cluster_routes_by_token() -> None:
    """The client's token map is as declared: a statement goes to the one node that has its key."""
    with ScriptedCluster(3, keyspaces={"ks": 1}, types=USERS) as server:
        with connected(server, policy=TokenAwarePolicy(RoundRobinPolicy())) as session:
            insert = session.prepare(INSERT)
            owners = set()
            for key in range(30):
                bound = insert.bind((key, ""))
                (owner,) = session.cluster.metadata.get_replicas("ks", bound.routing_key)
                session.execute_async(bound)
                request = server.next_request()
                assert request.node.address == owner.address
                request.void()
                owners.add(owner.address)
            assert owners == set(server.addresses)


def test_status_events() -> None:
    """A DOWN and an UP event reach the driver; it believes them for nodes that it does not use."""
    ignored: set[str] = set()
    policy = HostFilterPolicy(RoundRobinPolicy(), lambda host: host.address not in ignored)
    with ScriptedCluster(2) as server, connected(server, policy=policy) as session:
        listener = Listener()
        session.cluster.register_listener(listener)
        node = server.nodes[1]
        host = session.cluster.metadata.get_host(node.address, node.port)
        ignored.add(node.address)
        assert server.push_status("DOWN", node) == 1
        listener.wait_for("down", node.address)
        assert not host.is_up
        ignored.clear()
        assert server.push_status("UP", node) == 1
        listener.wait_for("up", node.address)
        assert host.is_up


def test_topology_events() -> None:
    """A node that leaves the ring is removed by the driver, one that comes is added."""
    with ScriptedCluster(2) as server, connected(server) as session:
        listener = Listener()
        session.cluster.register_listener(listener)
        node = server.nodes[1]
        node.in_ring = False
        assert server.push_topology("REMOVED_NODE", node) == 1
        listener.wait_for("remove", node.address)
        node.in_ring = True
        assert server.push_topology("NEW_NODE", node) == 1
        listener.wait_for("add", node.address)


def test_one_node_fails() -> None:
    """What befalls one node leaves the others alone."""
    with ScriptedCluster(3) as server, connected(server) as session:
        listener = Listener()
        session.cluster.register_listener(listener)
        futures = [session.execute_async("x") for _ in range(3)]
        lost = next(each for each in server.requests(3) if each.node is server.nodes[2])
        lost.node.refuse_connections()
        lost.node.drop_all()
        listener.wait_for("down", lost.node.address)
        assert {each.node.address for each in server.unanswered} == set(server.addresses[:2])
        for request in server.unanswered:
            request.void()
        (lost_connection,) = [each for each in map(failure, futures) if each]
        assert isinstance(lost_connection, ConnectionShutdown)
        lost.node.accept_connections()
        listener.wait_for("up", lost.node.address)


# -- the server's own manners


def test_failing_handler() -> None:
    """A handler that raises answers with a server error; its exception is raised at the end."""

    def fail(request: ServerRequest) -> None:
        raise LookupError("my bad")

    with pytest.raises(LookupError, match="my bad"):  # noqa: PT012
        with serving(5, on_request=fail) as (server, session):
            with pytest.raises(protocol.ServerError, match="my bad"):
                session.execute("x")
            assert len(server.errors) == 1


def test_not_the_protocol() -> None:
    """A client that sends garbage is told so and dropped, and it is raised at the end."""
    with pytest.raises(ValueError, match="bytes wanted"):  # noqa: PT012
        with ScriptedServer() as server, BareClient(server, 4) as client:
            client.ask(Opcode.QUERY, b"\x00\x00")
            assert client.answer().opcode == Opcode.ERROR
            assert client.socket.recv(100) == b""


def test_no_request() -> None:
    """A wait for a request that does not come says what did come."""
    with ScriptedServer() as server:
        with pytest.raises(TimeoutError, match="0 of 2 requests came"):
            server.requests(2, timeout=0.01)
        with pytest.raises(TimeoutError, match="connections_open=0"):
            server.wait_until(lambda now: now.connections_open > 0, timeout=0.01)


def test_close_leaves_nothing() -> None:
    """After close no thread is left and the port is free, whatever went on."""
    before = set(threading.enumerate())
    server = ScriptedServer()
    with connected(server, reconnection_policy=ConstantReconnectionPolicy(60)) as session:
        session.execute_async("x")
        server.next_request()
        server.hang()
        server.stop_reading()
        server.close()
        server.close()
    left = [each for each in threading.enumerate() if each not in before]
    assert not [each for each in left if each.name.startswith("scripted")]
    with socket.create_server((server.address, server.port)):
        pass
    assert not server.errors


@pytest.mark.parametrize("size", [0, 1, 5000, 131_071, 131_072, 400_000])
def test_segments_are_the_drivers(size: int) -> None:
    """Segments are made bit by bit as the driver makes them, and read back from any pieces."""
    frame = encode_frame(5, 3, Opcode.RESULT, bytes(size))
    mine, theirs = encode_segments(frame), io.BytesIO()
    SegmentCodec().encode(theirs, frame)
    assert mine == theirs.getvalue()
    for step in (1, 7, 1000, 10**6) if size < 6000 else (4096, 10**6):
        reader = FrameReader()
        reader.start_segments()
        found = [
            each for at in range(0, len(mine), step) for each in reader.feed(mine[at : at + step])
        ]
        assert [(each.stream, len(each.body)) for each in found] == [(3, size)]
