"""Promise 22 with the real driver: results have all that the driver's have, and say the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from cassandra import DriverException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ResultSet
from cassandra.query import (
    BatchStatement,
    SimpleStatement,
    TraceUnavailable,
    dict_factory,
    named_tuple_factory,
    ordered_dict_factory,
    tuple_factory,
)

from cassconc import CassandraExecutor, execute_concurrent
from tests.integration.helpers import (
    COLUMNS,
    INSERT,
    LIMIT,
    SELECT,
    VERSIONS,
    connected,
    done,
    executing,
    profile_of,
)
from tests.parts import needs
from tests.protocol import ScriptedServer, ServerRequest

TYPES = dict(COLUMNS)
USERS = [(1, "Ann"), (2, None), (3, "Bob")]
TRACE = UUID(int=5)
APPLIED = [("[applied]", "boolean"), *COLUMNS]


def count_rows(names: Any, rows: Any) -> int:
    """A row factory of a user, that makes no rows."""
    return len(list(rows))


def mapping(names: Any, rows: Any) -> dict[str, Any]:
    """A row factory of a user, that makes one dict of all rows."""
    return {str(row[0]): row for row in rows}


FACTORIES: list[Callable[[Any, Any], Any]] = [
    named_tuple_factory,
    dict_factory,
    ordered_dict_factory,
    tuple_factory,
    count_rows,
    mapping,
]


def lazy(names: Any, rows: Any) -> Any:
    """A row factory of a user, that is a generator."""
    yield from rows


# -- what is answered


@dataclass
class Case:
    """A statement, and how a server answers it."""

    statement: Any
    answer: Callable[[ServerRequest], object]
    options: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[Any, ...] = ()


def two_pages(request: ServerRequest) -> None:
    """Three users, on two pages."""
    if request.paging_state is None:
        request.rows(COLUMNS, USERS[:2], paging_state=b"more")
    else:
        request.rows(COLUMNS, USERS[2:])


def with_everything(request: ServerRequest) -> None:
    """Rows, and all that can come with them."""
    request.rows(COLUMNS, USERS, warnings=["careful"], custom_payload={"k": b"v"}, tracing_id=TRACE)


BATCH = BatchStatement()
BATCH.add("INSERT INTO ks.t (id) VALUES (1) IF NOT EXISTS")

CASES: dict[str, Case] = {
    "nothing": Case("INSERT INTO ks.t (id) VALUES (1)", done),
    "no rows": Case("SELECT 1", lambda r: r.rows(COLUMNS, [])),
    "one row": Case("SELECT 1", lambda r: r.rows(COLUMNS, USERS[:1])),
    "rows": Case("SELECT 1", lambda r: r.rows(COLUMNS, USERS)),
    "false": Case("SELECT 1", lambda r: r.rows([("b", "boolean")], [(False,)])),
    "prepared, nothing": Case(INSERT, done, parameters=(1, "Ann")),
    "prepared, rows": Case(SELECT, lambda r: r.rows(rows=USERS), parameters=(1,)),
    "prepared, no rows": Case(SELECT, lambda r: r.rows(rows=[]), parameters=(1,)),
    "applied": Case("UPDATE 1", lambda r: r.applied()),
    "not applied": Case("UPDATE 1", lambda r: r.applied(False, COLUMNS, USERS[:1])),
    "prepared, applied": Case(
        INSERT + " IF NOT EXISTS", lambda r: r.applied(), parameters=(1, "Ann")
    ),
    "prepared, not applied": Case(
        INSERT + " IF NOT EXISTS",
        lambda r: r.applied(False, COLUMNS, USERS[:1]),
        parameters=(1, "Ann"),
    ),
    "batch": Case(BATCH, done),
    "batch, applied": Case(BATCH, lambda r: r.rows(APPLIED[:1], [(True,)])),
    "batch, not applied": Case(
        BATCH, lambda r: r.rows(APPLIED, [(False, 1, "Ann"), (False, 2, "Bob")])
    ),
    "batch, other rows": Case(BATCH, lambda r: r.rows(COLUMNS, USERS)),
    "warnings": Case("SELECT 1", lambda r: r.rows(COLUMNS, USERS, warnings=["a", "b"])),
    "nothing, warnings": Case("INSERT 1", lambda r: r.void(warnings=["a", "b"])),
    "payload": Case("SELECT 1", lambda r: r.rows(COLUMNS, USERS, custom_payload={"a": b"1"})),
    "trace": Case("SELECT 1", lambda r: r.rows(COLUMNS, tracing_id=TRACE), {"trace": True}),
    "everything": Case("SELECT 1", with_everything, {"trace": True}),
    "pages": Case("SELECT 1", two_pages),
    "prepared, pages": Case(SELECT, two_pages, parameters=(1,)),
    "schema": Case("CREATE 1", lambda r: r.schema_change("CREATED", "TABLE", "ks", "t")),
    "keyspace": Case("something", lambda r: r.set_keyspace("ks")),
}


# -- what is asked


def first_row_by_index(result: Any) -> Any:
    """Index a result, which the driver warns of."""
    with pytest.warns(DeprecationWarning, match="indexing"):
        return result[0]


def fetch_all(result: Any) -> Any:
    """Fetch the pages one by one."""
    pages = [list(result.current_rows)]
    while result.has_more_pages:
        result.fetch_next_page()
        pages.append(list(result.current_rows))
    result.fetch_next_page()
    return pages, result.current_rows, result.paging_state, result.column_names


def iterate_in_turns(result: Any) -> Any:
    """Iterate a while, and look at the result meanwhile."""
    rows = iter(result)
    found = []
    for row in rows:
        found.append((row, list(result.current_rows), result.has_more_pages, result.one()))
    return found, result.current_rows, list(result)


def compare(result: Any) -> Any:
    """Compare a result with its rows."""
    rows = list(result.current_rows)
    return result == rows, result != rows, result == [], result == result.current_rows


def trace_of(result: Any) -> Any:
    """The ids of the traces, and what comes of asking for one."""
    return result.response_future.get_query_trace_ids()


QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "has_more_pages": lambda r: r.has_more_pages,
    "current_rows": lambda r: r.current_rows,
    "all": lambda r: r.all(),
    "one": lambda r: (r.one(), r.one()),
    "__iter__": list,
    "next": lambda r: (iter(r).next(), r.next()),
    "next without iter": lambda r: r.next(),
    "iterate in turns": iterate_in_turns,
    "fetch_next_page": fetch_all,
    "__eq__": compare,
    "== of another": lambda r: (r == 5, r == [(0,)], r == r),
    "__eq__ after iteration": lambda r: (next(iter(r), None), r == [], 0),
    "[0]": first_row_by_index,
    "[1]": lambda r: r[1],
    "[-1]": lambda r: r[-1],
    "[:2]": lambda r: r[:2],
    "[99]": lambda r: r[99],
    "index, then iterate": lambda r: (r[1:], list(r), list(r), r.all()),
    "__bool__": bool,
    "len": len,
    "hash": hash,
    "get_query_trace": lambda r: r.get_query_trace(max_wait_sec=0.01),
    "get_all_query_traces": lambda r: r.get_all_query_traces(max_wait_sec_per=0.01),
    "cancel_continuous_paging": lambda r: r.cancel_continuous_paging(),
    "was_applied": lambda r: r.was_applied,
    "was_applied, after iteration": lambda r: (list(r), r.was_applied),
    "paging_state": lambda r: r.paging_state,
    "column_names": lambda r: r.column_names,
    "column_types": lambda r: r.column_types,
    "coordinator": lambda r: r.response_future.coordinator_host.address,
    "warnings": lambda r: r.response_future.warnings,
    "payload": lambda r: r.response_future.custom_payload,
    "more pages": lambda r: r.response_future.has_more_pages,
    "trace ids": trace_of,
    "trace of the future": lambda r: r.response_future.get_query_trace(max_wait=0.01),
    "traces of the future": lambda r: r.response_future.get_all_query_traces(max_wait_per=0.01),
    "schema": lambda r: r.response_future.is_schema_agreed,
    "row factory": lambda r: r.response_future.row_factory,
}


def outcome_of(question: Callable[[Any], Any], result: Any) -> Any:
    """What a result answers, or how it refuses; `repr` also compares types."""
    try:
        answer = question(result)
    except TraceUnavailable:
        return TraceUnavailable  # its text depends on how long that took
    except Exception as error:
        return type(error), str(error).replace(type(result).__name__, "ResultSet")
    if "object at" in repr(answer):
        return answer
    return repr(answer)


def differences(
    theirs: Callable[[], Any], ours: Callable[[], Any], questions: Any = QUESTIONS
) -> dict[str, Any]:
    """What two results answer differently: by question, ours and theirs."""
    found = {}
    for name in questions:
        outcomes = outcome_of(QUESTIONS[name], ours()), outcome_of(QUESTIONS[name], theirs())
        if outcomes[0] != outcomes[1]:
            found[name] = outcomes
    return found


def started(session: Any, case: Case) -> tuple[Any, tuple[Any, ...]]:
    """The statement of a case, prepared where it has parameters, and these."""
    statement = case.statement
    if case.parameters:
        statement = session.prepare(statement)
    return statement, case.parameters


@pytest.fixture(scope="module", params=VERSIONS, ids="v{}".format)
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[ScriptedServer, Any]]:
    """A server and a session for all tests whose requests are all answered."""
    with ScriptedServer(protocol_versions=[request.param], types=TYPES) as server:
        with connected(server, schema_metadata_enabled=False) as session:
            yield server, session


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_result_answers_as_the_drivers(
    shared: tuple[ScriptedServer, Any], case: Case, parts: str
) -> None:
    """Whatever a result is asked, it answers, or refuses, as the driver's own would have."""
    server, session = shared
    server.on_request = case.answer
    with executing(session) as executor:
        statement, parameters = started(session, case)
        view = executor.with_options(**case.options)
        assert isinstance(view.submit(statement, *parameters).result(LIMIT), ResultSet)
        assert not differences(
            lambda: session.execute(statement, parameters or None, **case.options),
            lambda: view.submit(statement, *parameters).result(LIMIT),
        )


def test_every_public_member_is_asked() -> None:
    """The questions above are about all that a `ResultSet` has."""
    members = {name for name in dir(ResultSet) if not name.startswith("_")}
    asked = set(QUESTIONS) | {"response_future", "batch_regex"}  # that is scylla-driver's
    assert members <= asked


OTHERS = [
    (name, factory)
    for name in ("rows", "no rows", "applied", "not applied", "nothing", "pages")
    for factory in FACTORIES
    if name != "pages" or factory not in (count_rows, mapping)  # nor could the driver iterate them
]


@pytest.mark.parametrize("shared", [5], ids=["v5"], indirect=True)
@pytest.mark.parametrize(("name", "factory"), OTHERS)
def test_other_row_factories(
    shared: tuple[ScriptedServer, Any], name: str, factory: Callable[[Any, Any], Any], parts: str
) -> None:
    """With whatever row factory, a result answers as the driver's own would have."""
    server, session = shared
    case = CASES[name]
    server.on_request = case.answer
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=factory)
    with executing(session) as executor:
        view = executor.with_options(execution_profile=profile)
        assert not differences(
            lambda: session.execute(case.statement, execution_profile=profile),
            lambda: view.submit(case.statement).result(LIMIT),
        )


def test_a_generator_as_row_factory(server: ScriptedServer, parts: str) -> None:
    """A row factory may be a generator: its rows are there, once, as with the driver."""
    server.on_request = lambda r: r.rows(COLUMNS, USERS)
    with connected(server, profile=profile_of(row_factory=lazy)) as session:
        with executing(session) as executor:
            assert list(executor.submit("SELECT 1").result(LIMIT)) == USERS
            assert executor.submit("SELECT 1").result(LIMIT).one() == USERS[0]
            assert executor.submit("SELECT 1").result(LIMIT).all() == USERS


def test_a_failing_row_factory(server: ScriptedServer, parts: str) -> None:
    """What a row factory raises ends its own call, and no other."""

    def fail_for_two(names: Any, rows: Any) -> Any:
        if next(iter(rows))[0] == 2:
            raise ZeroDivisionError("of two")
        return rows

    server.on_request = lambda r: r.rows([("n", "int")], [(int(r.text or ""),)])
    with connected(server, profile=profile_of(row_factory=fail_for_two)) as session:
        with executing(session) as executor:
            futures = [executor.submit(str(n)) for n in range(4)]
            assert isinstance(futures.pop(2).exception(LIMIT), ZeroDivisionError)
            assert [future.result(LIMIT).one()[0] for future in futures] == [0, 1, 3]


def test_a_trace_can_be_read(server: ScriptedServer, parts: str) -> None:
    """The trace of a request is fetched from the system tables, from a slim result as well."""

    def answer(request: ServerRequest) -> None:
        text = request.text or ""
        if "system_traces.sessions" in text:
            request.rows(
                [
                    ("request", "text"),
                    ("duration", "int"),
                    ("coordinator", "inet"),
                    ("parameters", "map<text, text>"),
                    ("started_at", "timestamp"),
                    ("client", "inet"),
                ],
                [("Execute", 1000, "127.0.0.1", {}, datetime(2020, 1, 1), "127.0.0.1")],
            )
        elif "system_traces.events" in text:
            request.rows(
                [
                    ("activity", "text"),
                    ("source", "inet"),
                    ("source_elapsed", "int"),
                    ("thread", "text"),
                    ("event_id", "timeuuid"),
                ],
                [("seeks", "127.0.0.1", 5, "main", UUID("50554d6e-29bb-11e5-b345-feff819cdc9f"))],
            )
        elif request.automatic_kind:
            request.automatic()
        else:
            request.rows(COLUMNS, USERS, tracing_id=TRACE)

    with connected(server) as session, executing(session) as executor:
        server.on_request = answer
        server.hand_over = {"SYSTEM"}
        result = executor.with_options(trace=True).submit("SELECT 1").result(LIMIT)
        trace = result.get_query_trace()
        assert (trace.trace_id, trace.request_type, trace.duration.microseconds) == (
            TRACE, "Execute", 1000,
        )  # fmt: skip
        assert [event.description for event in trace.events] == ["seeks"]
        assert result.get_all_query_traces() == [trace]
        assert result.response_future.get_query_trace_ids() == [TRACE]


def test_a_trace_that_is_not_there(server: ScriptedServer, session: Any, parts: str) -> None:
    """A trace that the server has not says so with the driver's exception."""
    server.on_request = lambda r: r.void(tracing_id=TRACE)
    with executing(session) as executor:
        result = executor.with_options(trace=True).submit("INSERT 1").result(LIMIT)
        with pytest.raises(TraceUnavailable):
            result.get_query_trace(max_wait_sec=0.01)


@needs("results")
def test_what_is_not_kept_says_so(server: ScriptedServer, session: Any) -> None:
    """Asked for what it does not keep, the response future of a slim result names it."""
    server.on_request = done
    with executing(session) as executor:
        slim = executor.submit("INSERT 1").result(LIMIT).response_future
        for name in ("message", "query_plan", "add_callback", "attempted_hosts"):
            with pytest.raises(AttributeError, match=name):
                getattr(slim, name)
        assert not hasattr(slim, "nonsense")


def test_cancelling_continuous_paging(executor: CassandraExecutor, server: ScriptedServer) -> None:
    """There is none, and that is said as the driver says it."""
    server.on_request = done
    with pytest.raises(DriverException, match="no active session"):
        executor.submit("INSERT 1").result(LIMIT).cancel_continuous_paging()


# -- how it came about


def answered_already(execute_async: Callable[..., Any]) -> Callable[..., Any]:
    """An `execute_async` that returns when the answer is there, and was processed."""

    def execute_and_wait(*args: Any, **kwargs: Any) -> Any:
        response = execute_async(*args, **kwargs)
        assert response._event.wait(LIMIT)
        return response

    return execute_and_wait


@pytest.mark.parametrize("shared", [5], ids=["v5"], indirect=True)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_answer_may_be_there_already(
    shared: tuple[ScriptedServer, Any], case: Case, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the answer comes before `execute_async` has returned, the result is the same."""
    server, session = shared
    server.on_request = case.answer
    with executing(session) as executor:
        statement, parameters = started(session, case)
        theirs = iter(
            [session.execute(statement, parameters or None, **case.options) for _ in QUESTIONS]
        )
        monkeypatch.setattr(session, "execute_async", answered_already(session.execute_async))
        view = executor.with_options(**case.options)
        assert not differences(
            lambda: next(theirs), lambda: view.submit(statement, *parameters).result(LIMIT)
        )


@pytest.mark.parametrize("generator", [False, True])
def test_results_of_the_drop_ins(server: ScriptedServer, session: Any, generator: bool) -> None:
    """They are the same as those of an executor: all members work."""
    cases = [CASES[name] for name in ("rows", "applied", "batch, applied", "pages")]
    for case in cases:
        server.on_request = case.answer

        def ours(statement: Any = case.statement) -> Any:
            (pair,) = execute_concurrent(session, [(statement, None)], results_generator=generator)
            return pair.result_or_exc

        def theirs(statement: Any = case.statement) -> Any:
            return session.execute(statement)

        assert not differences(theirs, ours)


def test_results_in_a_callback(server: ScriptedServer, executor: CassandraExecutor) -> None:
    """A done-callback may ask a result all that blocks: it fetches pages, and traces."""
    server.on_request = two_pages
    found: list[Any] = []
    called = threading.Event()

    def look(future: Any) -> None:
        found.extend(future.result())
        called.set()

    executor.submit("SELECT 1").add_done_callback(look)
    assert called.wait(LIMIT)
    assert found == USERS


def test_a_batch_that_is_cleared_afterwards(
    server: ScriptedServer, executor: CassandraExecutor
) -> None:
    """What becomes of a batch later is no matter for its result."""
    server.on_request = lambda r: r.rows(APPLIED[:1], [(True,)])
    batch = BatchStatement()
    batch.add(SimpleStatement("INSERT 1"))
    result = executor.submit(batch).result(LIMIT)
    batch.clear()
    assert result.was_applied is True
