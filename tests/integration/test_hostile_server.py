"""A hostile server: whatever it sends, each call ends, nothing hangs, nothing else is harmed."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from cassandra.cluster import QueryExhausted
from cassandra.query import tuple_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.helpers import (
    COLUMNS,
    INSERT,
    LIMIT,
    SELECT,
    USERS,
    connected,
    done,
    executing,
    name_of,
    profile_of,
    user,
)
from tests.protocol import (
    Opcode,
    ScriptedCluster,
    ScriptedServer,
    ServerRequest,
    Statement,
    encode_frame,
)
from tests.protocol.frames import MAX_PAYLOAD
from tests.protocol.results import prepared as prepared_body
from tests.protocol.wire import blob, integer, short, string
from tests.waits import eventually

SHORT = 0.3  # seconds, the time limit of the calls that are attacked
# a loaded machine may take long for an answer of the kind node
OFTEN = {"idle_heartbeat_interval": 0.1, "idle_heartbeat_timeout": 1.5}
ROWS, GLOBAL, MORE, NO_METADATA = integer(2), 1, 2, 4
WHERE = string("ks") + string("t")
VOID = integer(1)

Attack = Callable[[ServerRequest], object]


def frame(opcode: int = Opcode.RESULT, body: bytes = VOID, **how: Any) -> Attack:
    """An attack that is one frame on the stream of the request."""
    return lambda r: r.connection.send_frame(r.stream, opcode, body, **how)


def other(stream: Callable[[int], int], opcode: int = Opcode.RESULT, body: bytes = VOID) -> Attack:
    """An attack that is one frame on another stream."""
    return lambda r: r.connection.send_frame(stream(r.stream), opcode, body)


def result(flags: int, columns: int, rest: bytes) -> Attack:
    """An attack that is a RESULT with rows."""
    return frame(body=ROWS + integer(flags) + integer(columns) + rest)


def typed(option: bytes, value: bytes, count: int = 1) -> Attack:
    """An attack that is a row with one column of a type, and a value."""
    specification = WHERE + string("x") + option
    return result(GLOBAL, 1, specification + integer(count) + blob(value))


def both(*attacks: Attack) -> Attack:
    """One attack after the other."""
    return lambda r: [attack(r) for attack in attacks]


FRAMES: dict[str, Attack] = {
    "negative length": frame(body=b"", length=-1),
    "huge length": frame(length=2**31 - 1),
    "length of 100 MB": frame(length=100 * 2**20),
    "length too short": frame(body=VOID * 50, length=4),
    "no body": frame(body=b""),
    "short body": frame(body=b"\0\0"),
    "garbage version": frame(version=0x33),
    "another version": frame(version=3),
    "a request": lambda r: r.connection.send_raw(
        encode_frame(r.version, r.stream, Opcode.QUERY, b"x", direction=0)
    ),
    "unknown opcode": frame(0x66, b"?"),
    "unknown result": frame(body=integer(0x99)),
    "negative result": frame(body=integer(-1)),
    "all flags": frame(flags=0xFF),
    "compressed": frame(flags=0x01, body=b"\xff" * 40),
    "a trace that ends early": frame(flags=0x02, body=b"\0" * 7),
    "warnings that end early": frame(flags=0x08, body=b"\xff\xff\0\1"),
    "a payload that ends early": frame(flags=0x04, body=b"\xff\xff\0\1"),
    "warnings that are no text": frame(flags=0x08, body=short(1) + short(2) + b"\xff\xfe" + VOID),
    "many warnings": lambda r: r.void(warnings=["x"] * 500),
    "a large payload": lambda r: r.void(custom_payload={"k": b"x" * 2**22}),
    "not a frame": lambda r: r.connection.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "zeros": lambda r: r.connection.send_raw(b"\0" * 5000),
    "ones": lambda r: r.connection.send_raw(b"\xff" * 5000),
    "half a frame, then the end": lambda r: (
        r.connection.send_frame(r.stream, Opcode.RESULT, VOID, length=50),
        r.connection.drop(),
    ),
}
SEGMENTS: dict[str, Attack] = {
    "bad header checksum": lambda r: r.connection.send_segment(b"x" * 20, corrupt="header"),
    "bad payload checksum": lambda r: r.connection.send_segment(b"x" * 20, corrupt="payload"),
    "an empty segment": lambda r: r.connection.send_segment(b""),
    "half a frame that stands alone": lambda r: r.connection.send_segment(
        encode_frame(5, r.stream, Opcode.RESULT, VOID)[:11]
    ),
}
STREAMS: dict[str, Attack] = {
    "the answer twice": both(user, user),
    "the answer ten times": both(*[user] * 10),
    "an error after the answer": both(user, frame(Opcode.ERROR, integer(0) + string("no"))),
    "an answer nobody asked for": both(other(lambda stream: stream + 77), user),
    "the last stream": both(other(lambda stream: 32767), user),
    "a negative stream": both(other(lambda stream: -1), user),
    "another negative stream": both(other(lambda stream: -32768), user),
    "only another stream": other(lambda stream: stream + 77),
    "all streams": lambda r: [
        r.connection.send_frame(n, Opcode.RESULT, VOID) for n in range(200, 400)
    ],
    "an event on the stream": frame(Opcode.EVENT, string("STATUS_CHANGE")),
    "an unknown event": both(other(lambda stream: -1, Opcode.EVENT, string("PARTY")), user),
    "an event that ends early": both(
        other(lambda stream: -1, Opcode.EVENT, string("STATUS_CHANGE") + string("UP")), user
    ),
}
MESSAGES: dict[str, Attack] = {
    "ready": frame(Opcode.READY, b""),
    "supported": frame(Opcode.SUPPORTED, short(0)),
    "authenticate": frame(Opcode.AUTHENTICATE, string("x")),
    "a challenge": frame(Opcode.AUTH_CHALLENGE, blob(b"x")),
    "success": frame(Opcode.AUTH_SUCCESS, blob(b"x")),
    "prepared": frame(body=prepared_body(4, b"x" * 16, (("id", "int"),))),
    "a schema change of nothing": frame(body=integer(5) + string("X") + string("Y") + string("Z")),
    "a schema change that ends early": frame(body=integer(5) + string("CREATED")),
    "an unknown error": frame(Opcode.ERROR, integer(0x7777) + string("what?")),
    "an error that ends early": frame(Opcode.ERROR, integer(0x1000) + string("x") + b"\0"),
    "an error without text": frame(Opcode.ERROR, integer(0)),
    "an error of odd text": frame(Opcode.ERROR, integer(0x2200) + short(2) + b"\xff\xfe"),
    "a long error": frame(Opcode.ERROR, integer(0x2200) + string("x" * 65535)),
    "unprepared, of another": frame(
        Opcode.ERROR, integer(0x2500) + string("x") + short(4) + b"what"
    ),
    "unprepared, of nothing": frame(Opcode.ERROR, integer(0x2500) + string("x") + short(0)),
    "a write time-out of odd type": frame(
        Opcode.ERROR,
        integer(0x1100) + string("x") + short(1) + integer(1) + integer(1) + string("PARTY"),
    ),
    "an odd consistency": frame(
        Opcode.ERROR, integer(0x1000) + string("x") + short(999) + integer(1) + integer(1)
    ),
}
RESULTS: dict[str, Attack] = {
    "rows without columns": result(GLOBAL, 0, WHERE + integer(5)),
    "billions of rows without columns": result(GLOBAL, 0, WHERE + integer(2**31 - 1)),
    "billions of rows that are not there": result(
        GLOBAL, 1, WHERE + string("x") + short(9) + integer(2**31 - 1)
    ),
    "billions of columns": result(GLOBAL, 2**31 - 1, WHERE + integer(0)),
    "fewer columns than none": result(GLOBAL, -1, WHERE + integer(0)),
    "fewer rows than none": result(GLOBAL, 1, WHERE + string("x") + short(9) + integer(-1)),
    "unknown metadata": result(NO_METADATA, 1, integer(1) + blob(b"x")),
    "other metadata": result(NO_METADATA, 7, integer(1) + blob(b"x") * 7),
    "all result flags": result(-1, 1, WHERE),
    "a name that is no text": result(
        GLOBAL, 1, WHERE + short(2) + b"\xff\xfe" + short(9) + integer(0)
    ),
    "a name of 64 KB": result(GLOBAL, 1, WHERE + string("x" * 65535) + short(9) + integer(0)),
    "an unknown type": typed(short(0x7777), b"x"),
    "a class as type": typed(short(0) + string("java.lang.Runtime"), b"x"),
    "a python class as type": typed(short(0) + string("os.system"), b"x"),
    "a class that does not end": typed(short(0) + string("ListType(" * 300), b"x"),
    # not more: the driver reads types by recursion, which takes it longer than a time limit at
    # 500, and a crash of the process at 50,000 (tried)
    "types in types": typed(short(0x20) * 100 + short(9), b"x"),
    "a tuple of 65535": typed(short(0x31) + short(65535), b"x"),
    "text that is none": typed(short(0x0D), b"\xff\xfe"),
    "an int of 3 bytes": typed(short(0x09), b"abc"),
    "an int of 9 bytes": typed(short(0x09), b"123456789"),
    "a boolean of nothing": typed(short(0x04), b""),
    "an inet of 7 bytes": typed(short(0x10), b"1234567"),
    "a uuid of 3 bytes": typed(short(0x0C), b"abc"),
    "a list of billions": typed(short(0x20) + short(9), integer(2**31 - 1)),
    "a list of less than none": typed(short(0x20) + short(9), integer(-1)),
    "a map that ends early": typed(
        short(0x21) + short(0x0D) * 2, integer(2) + blob(b"k") + blob(b"v")
    ),
    "a timestamp of long ago": typed(short(0x0B), struct.pack(">q", -(2**63))),
    "a decimal of billions": typed(short(0x06), integer(2**31 - 1) + b"\x01"),
    "a varint of 64 KB": typed(short(0x0E), b"\x7f" * 65536),
    "a date of long ago": typed(short(0x11), b"\0\0\0\0"),
    "rows that are too short": typed(short(0x09), b"1234", count=2),
    "a row too many": result(
        GLOBAL, 1, WHERE + string("x") + short(9) + integer(1) + blob(b"1234") * 100
    ),
    "a large paging state": lambda r: r.rows(COLUMNS, [(1, "x")], paging_state=b"x" * 2**20),
}
# the bodies of messages are alike in both versions
ATTACKS = [
    pytest.param(version, attack, id=f"v{version}-{name}")
    for version, attacks in ((4, {**FRAMES, **STREAMS}), (5, {**FRAMES, **SEGMENTS, **STREAMS}))
    for name, attack in attacks.items()
] + [pytest.param(5, attack, id=f"v5-{name}") for name, attack in {**MESSAGES, **RESULTS}.items()]


class Victims:
    """Two nodes, an executor, and what it may rely on whatever the first node does."""

    def __init__(self, cluster: ScriptedCluster, session: Any, executor: Any) -> None:
        self.cluster = cluster
        self.session = session
        self.select = session.prepare(SELECT)
        self.hostile, self.kind = cluster.nodes
        self.views = {
            node: executor.with_options(
                # the kind one answers, however long a loaded machine takes for it
                timeout=SHORT if node is self.hostile else LIMIT,
                host=session.cluster.metadata.get_host(node.address, node.port),
            )
            for node in cluster.nodes
        }

    def attack(self, attack: Attack) -> None:
        """Attack one request among others; all have to end, and the node has to be of use again."""
        views, hostile, kind = self.views, self.hostile, self.kind
        near = [views[hostile].submit(self.select, n) for n in range(5)]
        far = [views[kind].submit(self.select, n) for n in range(5)]
        victim = views[hostile].submit(self.select, 100)
        requests = self.cluster.requests(11)
        for request in requests:
            if request.parameters[0] == 100:
                attack(request)
        for request in requests:
            if request.parameters[0] != 100:
                user(request)
        victim.exception(LIMIT)
        for n, future in enumerate(far):
            assert future.result(LIMIT).one() == (n, name_of(n)), "another node's call is harmed"
        for n, future in enumerate(near):
            if future.exception(LIMIT) is None:
                assert future.result().one() == (n, name_of(n)), "a wrong answer"
        self.cluster.on_request = user
        eventually(self.is_of_use)
        self.cluster.on_request = None

    def is_of_use(self) -> bool:
        """Whether the hostile node, which answers rightly now, is asked again."""
        future = self.views[self.hostile].submit(self.select, 7)
        return future.exception(LIMIT) is None and future.result().one() == (7, name_of(7))


@pytest.fixture
def victims(version: int) -> Iterator[Victims]:
    """See `Victims`."""
    with ScriptedCluster(2, protocol_versions=[version], types=USERS) as cluster:
        with connected(cluster, **OFTEN) as session, executing(session) as executor:
            yield Victims(cluster, session, executor)


@pytest.mark.parametrize(("version", "attack"), ATTACKS, indirect=["version"])
def test_an_attack(victims: Victims, attack: Attack) -> None:
    """Whatever is sent, the call ends, others get their own answers, and the node is used again."""
    victims.attack(attack)


# -- large


@pytest.mark.parametrize("size", [2**20, 64 * 2**20], ids=["1 MB", "64 MB"])
def test_large_values(version: int, size: int) -> None:
    """A value of 64 MB goes through both ways, and calls beside it are served."""
    with ScriptedServer(protocol_versions=[version], types={"data": "blob"}) as server:
        with connected(server) as session, executing(session) as executor:
            view = executor.with_options(timeout=6 * LIMIT)
            insert = session.prepare("INSERT INTO ks.t (id, data) VALUES (?, ?)")
            future = view.submit(insert, 1, b"x" * size)
            request = server.next_request(6 * LIMIT)
            assert request.values[1] == b"x" * size
            beside = view.submit("SELECT 1")
            server.next_request().void()
            # segment by segment; see test_torn_answers in test_protocol_frames.py
            pieces = [MAX_PAYLOAD + 10] * (size // MAX_PAYLOAD) if version >= 5 else []
            request.rows([("data", "blob")], [(b"y" * size,)], pieces=pieces)
            assert beside.result(LIMIT).all() == []
            assert future.result(6 * LIMIT).one() == (b"y" * size,)
            server.on_request = done
            assert view.submit("SELECT 1").result(LIMIT).all() == []


def test_a_million_columns() -> None:
    """A row of 1,000,000 columns is a row."""
    count = 1_000_000
    columns = [(f"c{n}", "int") for n in range(count)]
    profile = profile_of(row_factory=tuple_factory)
    # reading it may take a loaded machine longer than the heartbeat bears
    calm = {"profile": profile, "idle_heartbeat_interval": 0}
    with ScriptedServer() as server, connected(server, **calm) as session:
        with executing(session) as executor:
            future = executor.with_options(timeout=60.0).submit("SELECT 1")
            server.next_request().rows(columns, [range(count)])
            row = future.result(60).one()
            assert len(row) == count
            assert row[-1] == count - 1
            server.on_request = done
            executor.submit("SELECT 1").result(LIMIT)


def test_many_columns_as_named_tuple() -> None:
    """A named row of 50,000 columns is a row with the driver's names."""
    count = 50_000
    columns = [(f"c{n}", "int") for n in range(count)]
    with ScriptedServer() as server, connected(server) as session:
        with executing(session) as executor:
            for _ in range(2):
                future = executor.with_options(timeout=60.0).submit("SELECT 1")
                server.next_request().rows(columns, [range(count)])
                row = future.result(60).one()
                assert row.c49999 == row[-1] == count - 1
            server.on_request = done
            executor.submit("SELECT 1").result(LIMIT)


def test_many_rows() -> None:
    """A page of a million rows is a list of as many."""
    with ScriptedServer() as server, connected(server) as session:
        with executing(session) as executor:
            future = executor.with_options(timeout=60.0).submit("SELECT 1")
            server.next_request().rows([("n", "int")], ((n,) for n in range(1_000_000)))
            rows = future.result(60).all()
            assert (len(rows), rows[-1].n) == (1_000_000, 999_999)
            del rows, future
            gc.collect()


# -- odd


ODD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def wired() -> Iterator[Any]:
    """A server and an executor for all examples of a property."""
    with ScriptedServer() as server, connected(server) as session, executing(session) as executor:
        yield server, session, executor


@given(names=st.lists(ODD, min_size=1, max_size=4), text=ODD)
@settings(max_examples=50)
def test_names_of_every_kind(wired: Any, names: list[str], text: str) -> None:
    """Names, warnings, payloads and errors may be of every class of Unicode."""
    server, _, executor = wired

    def answer(request: ServerRequest) -> None:
        if request.text == "fail":
            request.error("invalid", text)
        else:
            request.rows(
                [(name, "text") for name in names],
                [[text] * len(names)],
                warnings=[text],
                custom_payload={text: text.encode()},
            )

    server.on_request = answer
    result = executor.submit("SELECT 1").result(LIMIT)
    assert result.one() == (text,) * len(names)
    assert result.column_names == names
    assert result.response_future.warnings == [text]
    assert result.response_future.custom_payload == {text: text.encode()}
    error: Any = executor.submit("fail").exception(LIMIT)
    assert text in str(error)


@given(
    markers=st.lists(ODD, min_size=1, max_size=4, unique=True),
    statement=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
@settings(max_examples=50)
def test_markers_and_statements_of_every_kind(
    wired: Any, markers: list[str], statement: str
) -> None:
    """So may statements and the names of their markers; errors of ours name them."""
    server, session, executor = wired
    columns = [(name, "text") for name in markers]
    server.hand_over = {"PREPARE"}
    server.on_request = lambda r: r.prepared(Statement.of(columns))
    prepared = session.prepare("SELECT " + statement)
    server.hand_over = set()
    server.on_request = lambda r: r.rows(columns, [r.values])
    named = {name: f"for {name}" for name in markers}
    assert executor.starmap(prepared, [named]).__next__().one() == tuple(named.values())
    with pytest.raises(ValueError, match="markers") as caught:
        executor.submit(prepared, **{**named, "one\ntoo many": 1})
    assert all(name in str(caught.value) for name in markers)


def test_a_paging_state_of_nothing(server: ScriptedServer, session: Any) -> None:
    """A paging state of no bytes leads nowhere: the first page is not taken for the next one."""
    server.on_request = lambda r: r.rows(COLUMNS, [(1, "x")], paging_state=b"")
    with pytest.raises(QueryExhausted):
        list(session.execute("SELECT 1"))
    with executing(session) as executor:
        result = executor.submit("SELECT 1").result(LIMIT)
        rows = iter(result)
        assert next(rows) == (1, "x")
        with pytest.raises((QueryExhausted, StopIteration)):
            next(rows)


def test_a_trace_id_that_was_not_asked_for(server: ScriptedServer, session: Any) -> None:
    """What comes along unasked is kept as the driver keeps it."""
    server.on_request = lambda r: r.void(tracing_id=UUID(int=1), warnings=["w"])
    with executing(session) as executor:
        result = executor.submit("INSERT 1").result(LIMIT)
        assert result.response_future.get_query_trace_ids() == [UUID(int=1)]
        assert result.response_future.warnings == ["w"]


def test_a_statement_prepared_with_other_markers(server: ScriptedServer, session: Any) -> None:
    """A server that says of a statement what is not so gets what it asked for, or an error."""
    server.hand_over = {"PREPARE"}
    for columns, values in (
        ([], ()),
        ([("a", "int")] * 3, (1, 2, 3)),
        ([("", "int")], (1,)),
        ([(f"c{n}", "int") for n in range(5000)], tuple(range(5000))),
    ):
        server.on_request = lambda r, c=columns: (  # type: ignore[misc]
            r.prepared(Statement.of(c)) if r.opcode == "PREPARE" else r.void()
        )
        statement = session.prepare(f"{INSERT} -- {len(columns)}")
        with executing(session) as executor:
            assert executor.submit(statement, *values).result(LIMIT).all() == []
