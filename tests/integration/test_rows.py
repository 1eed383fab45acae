"""Rows with the real driver: they are what the driver's row factories make of them."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
from cassandra import protocol
from cassandra.query import (
    dict_factory,
    named_tuple_factory,
    ordered_dict_factory,
    tuple_factory,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cassconc import CassandraExecutor, execute_concurrent
from tests.integration.helpers import (
    COLUMNS,
    LIMIT,
    SELECT,
    connected,
    executing,
    profile_of,
    serving,
    user,
)
from tests.protocol import ScriptedServer, ServerRequest

USERS = [(1, "Ann"), (2, None)]

NAMES = [
    ["id", "name"],
    ["name", "id"],
    ["[applied]", "id"],
    ["class", "def", "None"],
    ["1st", "2nd"],
    ["_private", "__dunder__"],
    ["a b", "a-b", "a.b", "count(*)", "system.now()"],
    ["a", "a"],
    ["a", "A"],
    ["", " ", "_"],
    ["größe", "名前", "имя", "🙂"],
    ["count", "index", "_fields", "_make", "_asdict"],
    ["x" * 1000],
    [f"c{n}" for n in range(300)],
]


class Wired:
    """A server that answers with what is asked of it, an executor on it, and its session."""

    def __init__(self, server: ScriptedServer, session: Any, executor: CassandraExecutor) -> None:
        self.session = session
        self.executor = executor
        self.columns: list[tuple[str, str]] = []
        self.data: list[Any] = []
        server.on_request = self._answer

    def _answer(self, request: ServerRequest) -> None:
        request.rows(self.columns, self.data)

    def rows(self, columns: list[tuple[str, str]], data: list[Any]) -> list[Any]:
        """What an executor makes of an answer."""
        self.columns, self.data = columns, data
        return self.executor.submit("SELECT 1").result(LIMIT).all()


@pytest.fixture(scope="module")
def wired() -> Iterator[Wired]:
    """See `Wired`."""
    with serving(5) as (server, session), executing(session) as executor:
        yield Wired(server, session, executor)


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    """Rows are equal in all that can be asked of them."""
    assert ours == theirs
    assert [tuple(row) for row in ours] == [tuple(row) for row in theirs]
    for mine, driver in zip(ours, theirs):
        assert isinstance(mine, tuple)
        assert type(mine).__name__ == "Row"
        assert mine._fields == driver._fields
        assert repr(mine) == repr(driver)
        assert hash(mine) == hash(driver)
        assert mine._asdict() == driver._asdict()
        assert [getattr(mine, name) for name in mine._fields] == list(mine)
        assert mine._replace() == driver
        if len(mine):
            assert mine._replace(**{mine._fields[0]: "other"})[0] == "other"


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0][:10])
def test_names(wired: Wired, names: list[str], parts: str) -> None:
    """Columns of whatever names give rows with the driver's fields, in its order."""
    columns = [(name, "int") for name in names]
    data = [tuple(range(n, n + len(names))) for n in range(3)]
    assert_same(wired.rows(columns, data), named_tuple_factory(names, data))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(names=st.lists(TEXT, min_size=1, max_size=6), count=st.integers(0, 3))
@settings(max_examples=60)
def test_any_names(wired: Wired, names: list[str], count: int) -> None:
    """The same for names of every class of Unicode."""
    data = [tuple(f"{n} {k}" for k in range(len(names))) for n in range(count)]
    rows = wired.rows([(name, "text") for name in names], data)
    assert_same(rows, named_tuple_factory(names, data))
    assert pickle.loads(pickle.dumps(rows)) == rows


@given(st.lists(st.sampled_from(NAMES), min_size=2, max_size=20))
@settings(max_examples=20)
def test_one_set_of_columns_after_another(wired: Wired, order: list[list[str]]) -> None:
    """The rows of each answer have its own columns, whatever came before."""
    for at, names in enumerate(order):
        data = [(at,) * len(names)]
        (row,) = wired.rows([(name, "int") for name in names], data)
        assert row._fields == named_tuple_factory(names, data)[0]._fields
        assert row == data[0]


def test_rows_of_several_answers_are_of_one_class(wired: Wired) -> None:
    """The class of the rows is remembered by the names of their columns."""
    first = wired.rows(COLUMNS, USERS)
    second = wired.rows(COLUMNS, USERS)
    other = wired.rows(COLUMNS[::-1], [row[::-1] for row in USERS])
    assert type(first[0]) is type(first[1]) is type(second[0])
    assert type(other[0]) is not type(first[0])


def test_names_are_not_mixed_up(wired: Wired) -> None:
    """Names that become the same fields, in another order or number, are apart."""
    for names in (["a", "b c"], ["a", "b_c"], ["b c", "a"], ["a", "b c", "d"]):
        (row,) = wired.rows([(name, "int") for name in names], [tuple(range(len(names)))])
        assert row._fields == named_tuple_factory(names, [range(len(names))])[0]._fields


def test_classes_are_not_remembered_for_ever(wired: Wired) -> None:
    """A program that asks for ever other columns does not keep all their classes."""
    classes = []
    for n in range(1100):
        (row,) = wired.rows([(f"c{n}", "int")], [(n,)])
        assert row._asdict() == {f"c{n}": n}
        classes.append(weakref.ref(type(row)))
        del row
    gc.collect()
    assert sum(each() is not None for each in classes) < 600


@pytest.mark.parametrize("protocol_number", range(pickle.HIGHEST_PROTOCOL + 1))
def test_rows_can_be_pickled(wired: Wired, protocol_number: int) -> None:
    """With every protocol of pickle; what comes out is a row again."""
    rows = wired.rows([("id", "int"), ("a b", "text"), ("1", "text")], [(1, "x", None)])
    again = pickle.loads(pickle.dumps(rows, protocol_number))
    assert_same(again, rows)


def test_rows_can_be_copied(wired: Wired) -> None:
    """A copy is equal, and a deep copy has values of its own."""
    (row,) = wired.rows([("id", "int"), ("tags", "list<text>")], [(1, ["a"])])
    assert copy.copy(row) == row
    deep = copy.deepcopy(row)
    assert deep == row
    assert deep._fields == row._fields
    assert deep.tags is not row.tags


def test_rows_of_many_threads(server: ScriptedServer, session: Any) -> None:
    """Threads that meet the same columns for the first time at once get the same rows."""
    server.on_request = lambda r: r.rows([(f"x{r.text}", "int")], [(int(r.text or ""),)])
    wrong: list[Any] = []

    def run() -> None:
        with executing(session) as executor:
            for n in range(200):
                row = executor.submit(str(n)).result(LIMIT).one()
                if row._asdict() != {f"x{n}": n}:
                    wrong.append(row)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not wrong


# -- other row factories

FACTORIES: list[tuple[Any, Any]] = [
    (dict_factory, [{"id": 1, "name": "Ann"}, {"id": 2, "name": None}]),
    (tuple_factory, USERS),
    (
        ordered_dict_factory,
        [OrderedDict(id=1, name="Ann"), OrderedDict(id=2, name=None)],
    ),
    (lambda names, rows: [list(zip(names, row)) for row in rows],
     [[("id", 1), ("name", "Ann")], [("id", 2), ("name", None)]]),
]  # fmt: skip
IDS = ["dict", "tuple", "ordered dict", "a user's own"]


@pytest.mark.parametrize("legacy", [False, True], ids=["profiles", "legacy"])
@pytest.mark.parametrize(("factory", "expected"), FACTORIES, ids=IDS)
def test_other_factories_are_left_alone(
    server: ScriptedServer, factory: Any, expected: Any, legacy: bool, parts: str
) -> None:
    """Rows are what the row factory of profile or session makes."""
    server.on_request = lambda r: r.rows(COLUMNS, USERS)
    with connected(server, legacy=legacy, profile=profile_of(row_factory=factory)) as session:
        if legacy:
            session.row_factory = factory
        with executing(session) as executor:
            rows = executor.submit("SELECT 1").result(LIMIT).all()
            (pair,) = execute_concurrent(session, [("SELECT 1", None)])
    assert rows == pair.result_or_exc.all() == expected
    assert type(rows[0]) is type(expected[0])


def test_a_factory_that_calls_the_drivers(server: ScriptedServer) -> None:
    """A user's factory sees names and rows as the driver gives them, on the driver's thread."""
    seen: list[Any] = []

    def factory(names: Any, rows: Any) -> Any:
        seen.append((list(names), list(rows), threading.current_thread()))
        return named_tuple_factory(names, seen[-1][1])

    server.on_request = user
    with connected(server, profile=profile_of(row_factory=factory)) as session:
        with executing(session) as executor:
            select = session.prepare(SELECT)
            row = executor.submit(select, 7).result(LIMIT).one()
    assert row == (7, "user 7")
    ((names, rows, thread),) = seen
    assert (names, rows) == (["id", "name"], [(7, "user 7")])
    assert thread is not threading.current_thread()


def test_the_factory_of_a_legacy_session_may_change(server: ScriptedServer) -> None:
    """`session.row_factory` counts as it is when a request is sent."""
    server.on_request = lambda r: r.rows(COLUMNS, USERS[:1])
    with connected(server, legacy=True) as session, executing(session) as executor:
        found = []
        for factory in (named_tuple_factory, dict_factory, tuple_factory, named_tuple_factory):
            session.row_factory = factory
            found.append(executor.submit("SELECT 1").result(LIMIT).one())
    assert found == [USERS[0], {"id": 1, "name": "Ann"}, USERS[0], USERS[0]]
    assert found[0]._fields == found[3]._fields == ("id", "name")
    assert type(found[2]) is tuple


@pytest.mark.skipif(protocol.LazyProtocolHandler is None, reason="the driver was not compiled")
@pytest.mark.parametrize("factory", [named_tuple_factory, tuple_factory])
def test_rows_that_are_parsed_as_they_are_read(
    server: ScriptedServer, factory: Any, parts: str
) -> None:
    """The driver's `LazyProtocolHandler` gives an iterator of rows: all come, once."""
    server.on_request = lambda r: r.rows(COLUMNS, USERS)
    with connected(server, profile=profile_of(row_factory=factory)) as session:
        session.client_protocol_handler = protocol.LazyProtocolHandler
        with executing(session) as executor:
            assert executor.submit("SELECT 1").result(LIMIT).all() == USERS
            assert executor.submit("SELECT 1").result(LIMIT).one() == USERS[0]


def test_a_changed_table(server: ScriptedServer, session: Any) -> None:
    """Rows of a prepared statement whose columns have changed have the new ones."""
    with executing(session) as executor:
        select = session.prepare(SELECT)
        for columns, row in (
            (COLUMNS, (1, "Ann")),
            ([*COLUMNS, ("age", "int")], (1, "Ann", 41)),
            (COLUMNS[:1], (1,)),
        ):
            future = executor.submit(select, 1)
            server.next_request().rows(columns, [row])
            found = future.result(LIMIT).one()
            assert found._asdict() == dict(zip([name for name, _ in columns], row))
