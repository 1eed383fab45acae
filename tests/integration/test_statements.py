"""Promises 18 and 19 with the real driver: what is given is what is sent, or it is refused."""

from __future__ import annotations

from typing import Any

import pytest
from cassandra import ConsistencyLevel
from cassandra.query import (
    UNSET_VALUE,
    BatchStatement,
    BatchType,
    SimpleStatement,
    dict_factory,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from tests.integration.helpers import (
    COLUMNS,
    INSERT,
    LIMIT,
    SELECT,
    connected,
    done,
    executing,
    failure_of,
    name_of,
    profile_of,
    serving,
    settle,
    user,
)
from tests.protocol import UNSET, ScriptedServer, Statement

UPDATE = "UPDATE ks.t SET name = ? WHERE id = ?"


# -- prepared statements


def test_by_position(server: ScriptedServer, session: Any, executor: CassandraExecutor) -> None:
    """Positional parameters arrive in the order of the markers, nulls as nulls."""
    insert = session.prepare(INSERT)
    for given_values, arrived in (
        ((1, "Ann"), [1, "Ann"]),
        ((2, None), [2, None]),
        ((3, UNSET_VALUE), [3, UNSET]),
        ((4, ""), [4, ""]),
    ):
        future = executor.submit(insert, *given_values)
        request = server.next_request()
        assert (request.opcode, request.text, request.parameters) == ("EXECUTE", INSERT, arrived)
        request.void()
        assert future.result(LIMIT).all() == []


def test_by_name(server: ScriptedServer, session: Any, executor: CassandraExecutor) -> None:
    """Named parameters arrive at their markers, in whatever order they were given."""
    update = session.prepare(UPDATE)
    for named in ({"id": 1, "name": "Ann"}, {"name": "Ann", "id": 1}):
        executor.submit(update, **named)
        request = server.next_request()
        assert request.parameters == ["Ann", 1]
        assert request.named_values == {"name": b"Ann", "id": b"\0\0\0\1"}
        request.void()
    executor.submit(update, id=1, name=UNSET_VALUE)
    assert server.next_request().parameters == [UNSET, 1]
    executor.submit(update, id=1, name=None)
    assert server.next_request().parameters == [None, 1]


WRONG: dict[str, Any] = {
    "one too few": (1,),
    "none": (),
    "one too many": (1, "Ann", 2),
    "a name is missing": {"id": 1},
    "a name too many": {"id": 1, "name": "Ann", "age": 3},
    "a wrong name": {"id": 1, "nome": "Ann"},
    "a name in another case": {"ID": 1, "name": "Ann"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_parameters_that_do_not_fit(
    server: ScriptedServer, session: Any, executor: CassandraExecutor, wrong: Any
) -> None:
    """They are a `ValueError` at once that names the markers, and nothing is sent."""
    insert = session.prepare(INSERT)
    with pytest.raises(ValueError, match="id, name") as caught:
        if isinstance(wrong, dict):
            executor.submit(insert, **wrong)
        else:
            executor.submit(insert, *wrong)
    assert INSERT in str(caught.value)
    assert "Ann" not in str(caught.value)
    with pytest.raises(ValueError, match=r"item 0.*id, name"):
        executor.starmap(insert, [wrong])
    with pytest.raises(ValueError, match=r"item 0.*id, name"):
        next(executor.starmap(insert, [wrong], buffersize=1))
    with pytest.raises(ValueError, match=r"item 0.*id, name"):
        executor.execute_concurrent([(insert, wrong)])
    settle(session)
    assert server.statistics().requests == 0


@pytest.mark.parametrize("wrong", ["ab", b"ab", bytearray(b"ab")], ids=lambda w: type(w).__name__)
def test_text_is_no_sequence_of_parameters(
    server: ScriptedServer, session: Any, executor: CassandraExecutor, wrong: Any
) -> None:
    """A `str` or `bytes` in the place of parameters is a `TypeError`, also where it would fit."""
    insert = session.prepare("INSERT INTO ks.t (a, b) VALUES (?, ?)")
    for statement in (insert, "INSERT INTO ks.t (a, b) VALUES (%s, %s)"):
        with pytest.raises(TypeError, match="sequence"):
            executor.starmap(statement, [wrong])
        with pytest.raises(TypeError, match="sequence"):
            executor.execute_concurrent([(statement, wrong)])
    assert server.statistics().requests == 0


def test_no_parameters(server: ScriptedServer, session: Any, executor: CassandraExecutor) -> None:
    """A prepared statement without markers takes none."""
    server.on_request = lambda r: r.rows(rows=[("x",)])
    select = session.prepare("SELECT name FROM ks.t")
    assert executor.submit(select).result(LIMIT).one() == ("x",)
    for result in executor.starmap(select, [(), [], {}, None]):
        assert result.one() == ("x",)
    with pytest.raises(ValueError, match="none"):
        executor.submit(select, 1)


def test_markers_with_names_that_are_none_in_python(session: Any, server: ScriptedServer) -> None:
    """Markers of any name, of `LIMIT ?` and such, can be given by name as by position."""
    with executing(session) as executor:
        select = session.prepare("SELECT name FROM ks.t WHERE id IN ? LIMIT ?")
        executor.submit(select, [1, 2], 5)
        executor.submit(select, **{"in(id)": [1, 2], "[limit]": 5})
        for request in server.requests(2):
            assert request.parameters == [[1, 2], 5]


def test_one_marker_twice(session: Any) -> None:
    """A marker that stands twice is given once by name."""
    statement = Statement.of([("a", "int"), ("b", "int"), ("a", "int")])
    with ScriptedServer(statements={"twice": statement}) as server, connected(server) as session:
        with executing(session) as executor:
            twice = session.prepare("twice")
            executor.submit(twice, a=1, b=2)
            assert server.next_request().parameters == [1, 2, 1]
            executor.submit(twice, 1, 2, 3)
            assert server.next_request().parameters == [1, 2, 3]


VALUES = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))


@pytest.fixture(scope="module")
def echo() -> Any:
    """A server that answers with what was bound, and an executor on it."""
    with serving(5) as (server, session), executing(session, concurrency=7) as executor:
        server.on_request = lambda r: r.rows(COLUMNS, [r.parameters])
        yield executor, session.prepare(INSERT)


@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), VALUES), max_size=30))
@settings(max_examples=40)
def test_what_is_given_is_what_arrives(echo: Any, items: list[tuple[int, Any]]) -> None:
    """Values arrive at the call that they were given for, however they were given."""
    executor, insert = echo
    named = [dict(zip(("id", "name"), item)) for item in items]
    for results in (
        executor.starmap(insert, items),
        executor.starmap(insert, named, buffersize=4),
        executor.map(insert, [i for i, _ in items], [v for _, v in items]),
        executor.execute_concurrent((insert, item) for item in items),
        [executor.submit(insert, **item).result(LIMIT) for item in named],
        [executor.submit(insert.bind(item)).result(LIMIT) for item in items],
    ):
        assert [result.one() for result in results] == items


# -- other statements


def test_simple_statements(
    server: ScriptedServer, session: Any, executor: CassandraExecutor
) -> None:
    """Parameters become part of the text as the driver has it, by position and by name."""
    for statement in ("SELECT %s, %s", SimpleStatement("SELECT %s, %s")):
        executor.submit(statement, 1, "it's")
        assert server.next_request().text == "SELECT 1, 'it''s'"
    executor.submit("SELECT %(a)s, %(b)s", b=None, a=[1, 2])
    assert server.next_request().text == "SELECT [1, 2], NULL"
    executor.submit("SELECT 100%")
    assert server.next_request().text == "SELECT 100%"


def test_bound_statements(
    server: ScriptedServer, session: Any, executor: CassandraExecutor
) -> None:
    """A bound statement has its own parameters; others are a `TypeError`."""
    bound = session.prepare(INSERT).bind((1, "Ann"))
    executor.submit(bound)
    assert server.next_request().parameters == [1, "Ann"]
    with pytest.raises(TypeError, match="its own"):
        executor.submit(bound, 1)
    with pytest.raises(TypeError, match="its own"):
        executor.submit(bound, id=1)
    with pytest.raises(TypeError, match="its own"):
        executor.execute_concurrent([(bound, (1, "Ann"))])


@pytest.mark.parametrize("kind", [BatchType.LOGGED, BatchType.UNLOGGED, BatchType.COUNTER])
def test_batches(
    server: ScriptedServer, session: Any, executor: CassandraExecutor, kind: BatchType
) -> None:
    """A batch arrives with all its statements, of every kind, and takes no parameters."""
    insert = session.prepare(INSERT)
    batch = BatchStatement(kind, consistency_level=ConsistencyLevel.QUORUM)
    batch.add(insert, (1, "Ann"))
    batch.add(insert.bind((2, None)))
    batch.add(SimpleStatement("DELETE FROM ks.t WHERE id = %s"), (3,))
    batch.add("DELETE FROM ks.t WHERE id = 4")
    future = executor.submit(batch)
    request = server.next_request()
    assert (request.opcode, request.batch_type) == ("BATCH", kind.value)
    assert request.consistency == ConsistencyLevel.QUORUM
    assert [(item.text, item.values) for item in request.batch] == [
        (INSERT, [b"\0\0\0\1", b"Ann"]),
        (INSERT, [b"\0\0\0\2", None]),
        ("DELETE FROM ks.t WHERE id = 3", []),
        ("DELETE FROM ks.t WHERE id = 4", []),
    ]
    request.void()
    assert future.result(LIMIT).all() == []
    with pytest.raises(TypeError, match="its own"):
        executor.submit(batch, 1)


def test_an_empty_batch(server: ScriptedServer, executor: CassandraExecutor) -> None:
    """It is sent like any other."""
    server.on_request = done
    assert executor.submit(BatchStatement()).result(LIMIT).all() == []


def test_options_of_statements(
    server: ScriptedServer, session: Any, executor: CassandraExecutor
) -> None:
    """What is set on a statement is sent with it, whether bound by us or by the caller."""
    prepared = session.prepare(SELECT)
    prepared.consistency_level = ConsistencyLevel.ALL
    prepared.serial_consistency_level = ConsistencyLevel.LOCAL_SERIAL
    prepared.fetch_size = 77
    prepared.custom_payload = {"k": b"v"}
    simple = SimpleStatement(
        "SELECT 1",
        consistency_level=ConsistencyLevel.ALL,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        fetch_size=77,
        custom_payload={"k": b"v"},
    )
    for statement, given_values in ((prepared, (1,)), (prepared.bind((1,)), ()), (simple, ())):
        executor.submit(statement, *given_values)
        request = server.next_request()
        assert request.consistency == ConsistencyLevel.ALL
        assert request.serial_consistency == ConsistencyLevel.LOCAL_SERIAL
        assert request.page_size == 77
        assert request.custom_payload == {"k": b"v"}


def test_options_of_requests(server: ScriptedServer) -> None:
    """Those of `execute_async` can be given with `with_options`, and are sent."""
    profiles = {"all": profile_of(consistency_level=ConsistencyLevel.ALL, row_factory=dict_factory)}
    with connected(server, profiles=profiles) as session, executing(session) as executor:
        (host,) = session.cluster.metadata.all_hosts()
        view = executor.with_options(
            trace=True,
            custom_payload={"a": b"1"},
            execution_profile="all",
            paging_state=b"state",
            host=host,
            execute_as="root",
        )
        future = view.submit("SELECT 1")
        request = server.next_request()
        assert request.tracing
        assert request.custom_payload == {"a": b"1", "ProxyExecute": b"root"}
        assert request.consistency == ConsistencyLevel.ALL
        assert request.paging_state == b"state"
        request.rows(COLUMNS, [(1, "x")])
        assert future.result(LIMIT).one() == {"id": 1, "name": "x"}
        executor.submit("SELECT 1")
        request = server.next_request()
        assert (request.tracing, request.custom_payload, request.paging_state) == (False, {}, None)
        with pytest.raises(ValueError, match="nonsense"):
            executor.with_options(execution_profile="nonsense")


# -- what is taken is fixed


def test_what_changes_while_it_waits(server: ScriptedServer, session: Any, parts: str) -> None:
    """What is bound again, cleared, changed or reused afterwards does not change a waiting call."""
    with executing(session, concurrency=1) as executor:
        insert = session.prepare(INSERT)
        executor.submit("SELECT 1")
        first = server.next_request()
        bound = insert.bind((1, "Ann"))
        batch = BatchStatement()
        batch.add(insert, (1, "Ann"))
        values = [1, 2]
        simple = SimpleStatement("SELECT 1", consistency_level=ConsistencyLevel.ONE)
        select = session.prepare("SELECT name FROM ks.t WHERE id IN ?")
        for statement, given_values in (
            (bound, ()),
            (batch, ()),
            ("SELECT %s", (values,)),
            (select, (values,)),
            (simple, ()),
        ):
            executor.submit(statement, *given_values)
        bound.bind((2, "Bob"))
        bound.consistency_level = ConsistencyLevel.ALL
        if parts == "private":
            batch.clear()
        values.append(3)
        simple.consistency_level = ConsistencyLevel.ALL
        first.void()
        request = server.next_request()
        assert request.parameters == [1, "Ann"]
        assert request.consistency == ConsistencyLevel.LOCAL_ONE
        request.void()
        request = server.next_request()
        assert [item.values for item in request.batch] == [[b"\0\0\0\1", b"Ann"]]
        request.void()
        request = server.next_request()
        assert request.text == "SELECT [1, 2]"
        request.void()
        request = server.next_request()
        assert request.parameters == [[1, 2]]
        request.void()
        request = server.next_request()
        assert request.consistency == ConsistencyLevel.ONE
        request.void()


def test_values_deep_inside(server: ScriptedServer, session: Any) -> None:
    """Nor does a list that changes inside of a tuple, or of another list."""
    with executing(session, concurrency=1) as executor:
        executor.submit("SELECT 1")
        first = server.next_request()
        inner = [1]
        for value in ([inner], {"a": inner}, (inner, 2)):
            executor.submit("SELECT %s", value)
        inner.append(99)
        first.void()
        for _ in range(3):
            request = server.next_request()
            assert "99" not in (request.text or "")
            request.void()


def test_one_bound_statement_for_all(server: ScriptedServer, session: Any) -> None:
    """An input that binds one statement again and again sends each of the values."""
    server.on_request = user
    with executing(session, concurrency=3) as executor:
        bound = session.prepare(SELECT).bind((0,))

        def pairs() -> Any:
            for n in range(100):
                yield bound.bind((n,)), None

        for n, result in enumerate(executor.execute_concurrent(pairs(), buffersize=50)):
            assert result.one() == (n, name_of(n))


def test_one_list_of_parameters_for_all(server: ScriptedServer, session: Any) -> None:
    """An input that reuses one list, or dict, of parameters sends each of the values."""
    server.on_request = user
    select = session.prepare(SELECT)

    def lists() -> Any:
        values = [0]
        for n in range(100):
            values[0] = n
            yield values

    def dicts() -> Any:
        values = {"id": 0}
        for n in range(100):
            values["id"] = n
            yield values

    with executing(session, concurrency=3) as executor:
        for items in (lists(), dicts()):
            for n, result in enumerate(executor.starmap(select, items)):
                assert result.one() == (n, name_of(n))
    for pairs in ([(select, values)] for values in ([5], {"id": 5})):
        assert execute_concurrent(session, pairs)[0].result_or_exc.one().id == 5
    for results in (
        execute_concurrent_with_args(session, select, lists(), concurrency=3),
        execute_concurrent_with_args(session, select, dicts(), 3, results_generator=True),
        execute_concurrent_async(session, ((select, v) for v in lists()), 3).result(LIMIT),
    ):
        assert [each.result_or_exc.one().id for each in results] == list(range(100))


# -- the drop-ins keep the driver's rules


def test_the_drop_ins_take_what_the_driver_takes(server: ScriptedServer, session: Any) -> None:
    """Fewer parameters than markers leave the rest unset, and superfluous names are ignored."""
    insert = session.prepare(INSERT)
    server.on_request = lambda r: r.rows(COLUMNS, [[r.parameters[0], repr(r.parameters[1:])]])
    pairs = [
        (insert, (1,)),
        (insert, {"id": 1}),
        (insert, {"id": 1, "nonsense": 5}),
        (insert, [1, "x"]),
        (insert.bind((1, "x")), None),
        (insert.bind((1, "x")), ()),
        (insert.bind((1, "x")), (5, 6)),
    ]
    ours = [each.result_or_exc for each in execute_concurrent(session, pairs)]
    theirs = [session.execute(*pair) for pair in pairs]
    assert [result.one() for result in ours] == [result.one() for result in theirs]


# -- a statement that is not known any more


def test_unprepared_statements_are_prepared_again(
    server: ScriptedServer, session: Any, executor: CassandraExecutor
) -> None:
    """A node that forgot its statements costs no call: the driver prepares them again."""
    server.on_request = user
    select = session.prepare(SELECT)
    for n in range(20):
        server.forget(once=n % 2 == 0)
        for k, result in enumerate(executor.map(select, range(20))):
            assert result.one() == (k, name_of(k))


def test_a_statement_that_cannot_be_prepared_again(server: ScriptedServer, session: Any) -> None:
    """Its calls end with the server's error, each with its own; others go on."""
    server.on_request = user
    with executing(session) as executor:
        select, insert = session.prepare(SELECT), session.prepare(INSERT)
        server.forget(INSERT)
        server.hand_over = {"PREPARE"}
        server.on_request = lambda r: r.error("invalid") if r.opcode == "PREPARE" else user(r)
        futures = [executor.submit(insert, n, "") for n in range(10)]
        assert executor.submit(select, 5).result(LIMIT).one() == (5, name_of(5))
        errors = [failure_of(future) for future in futures]
        assert len(set(map(id, errors))) == 10
