"""Promise 22: results are the driver's `ResultSet`, all of whose public members work."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Sequence, Tuple

import pytest
from cassandra.cluster import ResultSet
from cassandra.query import (
    BatchStatement,
    SimpleStatement,
    dict_factory,
    named_tuple_factory,
    ordered_dict_factory,
    tuple_factory,
)
from hypothesis import given
from hypothesis import strategies as st

import cassconc
from cassconc import CassandraExecutor, execute_concurrent
from cassconc.testing import ScriptedSession
from tests.driver import DriverRequest, DriverSession, prepare
from tests.parts import needs
from tests.waits import LIMIT

ignore_driver_warnings = pytest.mark.filterwarnings("ignore:ResultSet indexing")


class Applied:
    """A row of a kind that the driver does not know."""

    def __init__(self, row: Sequence[Any]) -> None:
        self.row = row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Applied) and self.row == other.row

    __hash__ = None  # type: ignore[assignment]


FACTORIES: Dict[str, Callable[[Sequence[str], Sequence[Any]], Any]] = {
    "named": named_tuple_factory,
    "tuple": tuple_factory,
    "dict": dict_factory,
    "ordered": ordered_dict_factory,
    "objects": lambda names, rows: [Applied(row) for row in rows],
    "generator": lambda names, rows: (list(row) for row in rows),
    "one tuple": lambda names, rows: tuple(rows),
    "number": lambda names, rows: len(rows),
    "mapping": lambda names, rows: OrderedDict(enumerate(rows)),
    "none": lambda names, rows: None,
}

STATEMENTS: Dict[str, Any] = {
    "text": "SELECT 1",
    "simple": SimpleStatement("UPDATE t SET a = 1 IF b = 2"),
    "simple batch": SimpleStatement("BEGIN BATCH INSERT 1; APPLY BATCH"),
    "bound": prepare("SELECT 1").bind(()),
    "batch": BatchStatement().add("INSERT 1"),
}

# Each looks at a result in one way; all but the last two leave it as it was.
LOOKS: Dict[str, Callable[[Any], Any]] = {
    "all": lambda result: result.all(),
    "one": lambda result: result.one(),
    "list": list,
    "list twice": lambda result: (list(result), list(result)),
    "next": lambda result: next(iter(result)),
    "iterate and look": lambda result: (list(result), result.current_rows, bool(result)),
    "bool": bool,
    "[0]": lambda result: result[0],
    "[-1]": lambda result: result[-1],
    "[:1]": lambda result: result[:1],
    "== list": lambda result: (result == [(1, 2)], result == [], result == result.current_rows),
    "current_rows": lambda result: result.current_rows,
    "has_more_pages": lambda result: result.has_more_pages,
    "paging_state": lambda result: result.paging_state,
    "column_names": lambda result: result.column_names,
    "column_types": lambda result: result.column_types,
    "was_applied": lambda result: result.was_applied,
    "was_applied, iterated": lambda result: (list(result), result.was_applied),
    "fetch_next_page": lambda result: (result.fetch_next_page(), result.current_rows),
    "cancel_continuous_paging": lambda result: result.cancel_continuous_paging(),
    "get_all_query_traces": lambda result: result.get_all_query_traces(),
    "get_query_trace": lambda result: result.get_query_trace(),
    "coordinator_host": lambda result: str(result.response_future.coordinator_host),
    "warnings": lambda result: result.response_future.warnings,
    "custom_payload": lambda result: result.response_future.custom_payload,
    "future.has_more_pages": lambda result: result.response_future.has_more_pages,
    "future.is_schema_agreed": lambda result: result.response_future.is_schema_agreed,
    "future.get_query_trace_ids": lambda result: result.response_future.get_query_trace_ids(),
    "future.get_all_query_traces": lambda result: result.response_future.get_all_query_traces(),
    "future.get_query_trace": lambda result: result.response_future.get_query_trace(),
    "future.row_factory": lambda result: result.response_future.row_factory,
}


def look(result: Any, how: str) -> Any:
    """Return what a look at a result shows: what is returned or raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            shown = LOOKS[how](result)
        except Exception as error:
            return type(error), str(error)
    return list(shown) if how == "current_rows" and not isinstance(shown, list) else shown


def result_of(
    session: DriverSession, statement: Any, answer: Callable[[DriverRequest], None], ours: bool
) -> Any:
    """Return the driver's result of a request, or ours."""
    session.respond = answer
    if ours:
        return CassandraExecutor(session).submit(statement).result(LIMIT)
    return session.execute_async(statement).result()


COLUMNS = st.lists(
    st.sampled_from(["a", "b", "[applied]", "count(*)", "class", "a.b", "1st", "_x", "", "é", "a"]),
    max_size=4,
)


@st.composite
def answers(draw: st.DrawFn) -> Tuple[str, Callable[[DriverRequest], None]]:
    """Draw an answer of the server: no rows, or some, and what comes with them."""
    more: Dict[str, Any] = {}
    if draw(st.booleans()):
        more["warnings"] = ["too large"]
    if draw(st.booleans()):
        more["custom_payload"] = {"k": b"v"}
    if draw(st.booleans()):
        return f"void {more}", lambda request: request.void(**more)
    columns = draw(COLUMNS)
    row = st.tuples(*[st.booleans() | st.integers(0, 9) for _ in columns])
    rows = draw(st.lists(row, max_size=3))
    return f"{columns} {rows} {more}", lambda request: request.rows(rows, columns, **more)


@pytest.mark.parametrize("how", list(LOOKS))
@given(answers(), st.sampled_from(sorted(FACTORIES)), st.sampled_from(sorted(STATEMENTS)))
def test_a_result_shows_what_the_drivers_would(
    how: str, answer: Tuple[str, Callable[[DriverRequest], None]], factory: str, statement: str
) -> None:
    """Whatever the statement, the rows and the row factory: the same values, or exceptions."""
    session = DriverSession(row_factory=FACTORIES[factory])
    ours, drivers = [
        look(result_of(session, STATEMENTS[statement], answer[1], side), how)
        for side in (True, False)
    ]
    assert ours == drivers


def test_every_public_member_is_looked_at() -> None:
    """A member of the driver's `ResultSet` that is new is missing in the test above."""
    public = {name for name in dir(ResultSet) if not name.startswith("_")}
    looked_at = " ".join(LOOKS)
    assert {name for name in public if name not in looked_at} <= {"next", "batch_regex"}


@pytest.mark.parametrize("statement", list(STATEMENTS))
@pytest.mark.parametrize("paging_state", [None, b"more"])
def test_a_result_is_a_result_set(statement: str, paging_state: Any) -> None:
    """It is an instance of the driver's class, which is what `cassconc.ResultSet` is."""
    session = DriverSession()
    result = result_of(
        session,
        STATEMENTS[statement],
        lambda request: request.rows([(1,)], ["a"], paging_state=paging_state),
        True,
    )
    assert isinstance(result, ResultSet)
    assert cassconc.ResultSet is ResultSet


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("factory", [named_tuple_factory, dict_factory, tuple_factory])
@pytest.mark.parametrize("statement", list(STATEMENTS))
def test_was_applied(statement: str, factory: Any, applied: bool) -> None:
    """A conditional statement or batch tells whether it was applied."""
    session = DriverSession(row_factory=factory)
    result = result_of(
        session,
        STATEMENTS[statement],
        lambda request: request.rows([(applied, 1)], ["[applied]", "a"]),
        True,
    )
    assert result.was_applied is applied


@needs("results")
@pytest.mark.parametrize("name", ["query", "message", "result", "add_callback", "session"])
def test_what_is_not_kept_says_so_by_name(name: str) -> None:
    """What a slim result can't tell any more is an `AttributeError` that names it."""
    result = result_of(DriverSession(), "SELECT 1", DriverRequest.void, True)
    with pytest.raises(AttributeError, match=f"'{name}' .* is not kept"):
        getattr(result.response_future, name)


def test_traces_are_kept() -> None:
    """With `trace=True`, the ids of the traces are those that the server sent."""
    session = DriverSession(lambda request: request.void(trace_id="id"))
    result = CassandraExecutor(session).with_options(trace=True).submit("SELECT 1").result(LIMIT)
    assert result.response_future.get_query_trace_ids() == ["id"]
    [trace] = result.response_future._query_traces
    trace.events = ["there already"]
    assert result.get_query_trace() is trace
    assert result.get_all_query_traces() == [trace]


# Rows

ODD_NAMES = [
    ["a", "b"],
    ["class", "def"],
    ["a", "a"],
    ["count(*)", "system.max(a)"],
    ["_private", "1st", ""],
    ["Ünïcode", "名前"],
    ["index", "count"],
    [f"column_{n}" for n in range(300)],
    [],
]


@pytest.mark.parametrize("names", ODD_NAMES, ids=[str(names)[:30] for names in ODD_NAMES])
@pytest.mark.parametrize("when", ["at once", "later"])
def test_rows_are_what_the_default_factory_makes(names: List[str], when: str) -> None:
    """Names, their order, the rules for names that are none in Python, and equality stay.

    Also when the answer is there before the row factory could be set.
    """
    values = tuple(range(len(names)))
    session = DriverSession()
    executor = CassandraExecutor(session)
    if when == "at once":
        session.respond = lambda request: request.rows([values] * 2, names)
        future = executor.submit("SELECT")
    else:
        future = executor.submit("SELECT")
        session.requests[0].rows([values] * 2, names)
    [expected] = named_tuple_factory(names, [values])
    first, second = future.result(LIMIT)
    assert first == second == expected == values
    assert first._fields == expected._fields
    assert first._asdict() == expected._asdict()
    assert repr(first) == repr(expected)
    assert type(first).__mro__[1:] == type(expected).__mro__[1:]
    assert hash(first) == hash(values)
    if names:
        assert first._replace(**{expected._fields[0]: "new"})[0] == "new"


@pytest.mark.parametrize("names", ODD_NAMES, ids=[str(names)[:30] for names in ODD_NAMES])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_rows_can_be_pickled(names: List[str], protocol: int) -> None:
    """A row that was pickled and read again is equal, and has its names."""
    values = tuple([n] for n in range(len(names)))
    answer: Callable[[DriverRequest], None] = lambda request: request.rows([values], names)  # noqa: E731
    row = result_of(DriverSession(), "SELECT", answer, True).one()
    for again in (
        pickle.loads(pickle.dumps(row, protocol)),
        copy.copy(row),
        copy.deepcopy(row),
    ):
        assert again == row
        assert again._asdict() == row._asdict()


def test_a_factory_of_ones_own_is_left_alone() -> None:
    """A user's row factory makes the rows, and is asked once for each answer."""
    asked: List[Any] = []

    def factory(names: Sequence[str], rows: Sequence[Any]) -> Any:
        asked.append((names, rows))
        return named_tuple_factory(names, rows)

    session = DriverSession(lambda request: request.rows([(1,)], ["a"]), row_factory=factory)
    result = CassandraExecutor(session).submit("SELECT").result(LIMIT)
    assert asked == [(["a"], [(1,)])]
    assert result.one() == (1,)
    assert result.response_future.row_factory is factory


def test_row_classes_are_not_kept_for_ever() -> None:
    """However many shapes of rows there were, the memory of their classes is bounded."""
    session = DriverSession(lambda request: request.rows([(1,)], [request.message.query]))
    executor = CassandraExecutor(session)
    classes = [
        weakref.ref(type(executor.submit(f"column_{n}").result(LIMIT).one())) for n in range(2000)
    ]
    gc.collect()
    assert sum(each() is not None for each in classes) <= 1000


# Pages


class Pages:
    """A server that has pages of one row each."""

    def __init__(self, count: int, row_factory: Any = named_tuple_factory) -> None:
        self.count = count
        self.session = DriverSession(self.answer, row_factory=row_factory)
        self.sent = 0

    def answer(self, request: DriverRequest) -> None:
        """Answer with the page that is asked for."""
        self.sent += 1
        page = int(request.message.paging_state or b"0")
        more = b"%d" % (page + 1) if page + 1 < self.count else None
        request.rows(
            [(page,)],
            ["page"],
            paging_state=more,
            warnings=[f"page {page}"],
            trace_id=f"trace {page}",
        )

    def result(self, ours: bool) -> Any:
        """Return the driver's result, or ours."""
        if ours:
            executor = CassandraExecutor(self.session).with_options(trace=True)
            return executor.submit("SELECT page").result(LIMIT)
        return self.session.execute_async("SELECT page", trace=True).result()


def step_by_step(result: Any) -> List[Any]:
    """Fetch all pages by hand, and note what each of them shows."""
    seen = []
    while True:
        future = result.response_future
        seen.append(
            (
                list(result.current_rows),
                result.has_more_pages,
                result.paging_state,
                result.column_names,
                bool(result),
                result.one(),
                future.warnings,
                future.has_more_pages,
                str(future.coordinator_host),
            )
        )
        if not result.has_more_pages:
            return seen
        result.fetch_next_page()


PAGED_LOOKS: Dict[str, Callable[[Any], Any]] = {
    "list": list,
    "all": lambda result: result.all(),
    "for": lambda result: [row for row in result],  # noqa: C416
    "next": lambda result: [next(result) for _ in [iter(result)] for _ in range(2)],
    "[-1]": lambda result: result[-1],
    "==": lambda result: result == [(0,), (1,), (2,)],
    "step by step": step_by_step,
    "beyond the end": lambda result: (
        [result.fetch_next_page() for _ in range(5)],
        result.current_rows,
        result.has_more_pages,
    ),
    "list twice": lambda result: (list(result), list(result)),
    "was_applied": lambda result: result.was_applied,
}


@ignore_driver_warnings
@pytest.mark.parametrize("factory", ["named", "tuple", "dict", "objects"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("how", list(PAGED_LOOKS))
def test_pages_are_what_the_drivers_would_be(how: str, count: int, factory: str) -> None:
    """A paged result fetches its pages when it is iterated, and shows what the driver's would."""
    shown = []
    for ours in (True, False):
        pages = Pages(count, FACTORIES[factory])
        try:
            value = PAGED_LOOKS[how](pages.result(ours))
        except Exception as error:
            value = type(error), str(error)
        shown.append((value, pages.sent))
    assert shown[0] == shown[1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_traces_of_all_pages_are_kept(count: int) -> None:
    """`get_all_query_traces` has a trace for each page that was fetched, as the driver's has."""
    ids = []
    for ours in (True, False):
        result = Pages(count).result(ours)
        for trace in result.response_future._query_traces:
            trace.events = ["there already"]
        while result.has_more_pages:
            result.fetch_next_page()
            for trace in result.response_future._query_traces:
                trace.events = ["there already"]
        ids.append([trace.trace_id for trace in result.get_all_query_traces()])
    assert ids[0] == ids[1] == [f"trace {n}" for n in range(count)]


def test_pages_are_fetched_when_they_are_asked_for() -> None:
    """The first page alone is fetched until somebody iterates further."""
    pages = Pages(3)
    result = pages.result(True)
    rows = iter(result)
    assert (next(rows).page, pages.sent) == (0, 1)
    assert (next(rows).page, pages.sent) == (1, 2)


@pytest.mark.parametrize("way", ["map", "drop-in"])
def test_pages_of_many_results(way: str) -> None:
    """The results of a map, and of the drop-ins, have later pages as well."""
    pages = Pages(3)
    statements = [("SELECT page", None)] * 4
    if way == "map":
        results = list(CassandraExecutor(pages.session).execute_concurrent(statements))
    else:
        results = [each.result_or_exc for each in execute_concurrent(pages.session, statements)]
    assert [[row.page for row in result] for result in results] == [[0, 1, 2]] * 4


def test_pages_of_a_session_that_is_not_the_drivers(session: ScriptedSession) -> None:
    """What behaves like a session has results with pages too."""
    future = CassandraExecutor(session).submit("SELECT n")
    session.pending[0].succeed([(1,)], ["n"], paging_state=b"1")
    session.respond = lambda request: request.succeed([(2,)], ["n"])
    assert list(future.result(0)) == [(1,), (2,)]
