"""The scripted server, tried with the real driver: what it is asked, and the rows it answers."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, SimpleStatement

from tests.integration.bare_client import BareClient, query_body
from tests.integration.helpers import COLUMNS, INSERT, USERS, connected, serving
from tests.protocol import UNSET, Opcode, ScriptedError, ScriptedServer, ServerRequest, Statement
from tests.protocol.values import cql_type
from tests.protocol.wire import NULL, string

UNSET_RAW = b"\xff\xff\xff\xfe"


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
