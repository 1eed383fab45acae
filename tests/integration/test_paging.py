"""Promises 13, 14 and 22 with the real driver: later pages, fetched as they are iterated."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cassandra import InvalidRequest
from cassandra.connection import ConnectionShutdown
from cassandra.policies import ConstantSpeculativeExecutionPolicy
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import UNSET_VALUE, SimpleStatement, dict_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from cassconc import CassandraExecutor, execute_concurrent
from tests.integration.helpers import (
    COLUMNS,
    LIMIT,
    SELECT,
    connected,
    done,
    executing,
    in_flight,
    profile_of,
    serving,
    settle,
)
from tests.protocol import ScriptedCluster, ScriptedServer, ServerRequest
from tests.waits import eventually

NUMBER = [("n", "int")]


def pages_of(size: int, count: int) -> Callable[[ServerRequest], object]:
    """A handler that answers any SELECT with the numbers below `count`, so many on a page."""

    def answer(request: ServerRequest) -> None:
        first = int(request.paging_state or b"0")
        last = min(first + size, count)
        more = str(last).encode() if last < count else None
        request.rows(NUMBER, [(n,) for n in range(first, last)], paging_state=more)

    return answer


def numbers(rows: Any) -> list[int]:
    """The rows of `pages_of` as numbers."""
    return [row[0] for row in rows]


@pytest.mark.parametrize("prepared", [False, True], ids=["simple", "prepared"])
def test_pages_come_as_they_are_iterated(
    server: ScriptedServer, session: Any, prepared: bool, parts: str
) -> None:
    """A page is asked for when the one before it was consumed, and not earlier."""
    server.on_request = pages_of(10, 45)
    statement = session.prepare("SELECT n FROM ks.t") if prepared else "SELECT n FROM ks.t"
    with executing(session) as executor:
        rows = executor.submit(statement).result(LIMIT)
        asked_for = []
        for row in rows:
            asked_for.append((row.n, server.statistics().requests))
    assert asked_for == [(n, n // 10 + 1) for n in range(45)]
    assert not rows.has_more_pages
    assert rows.paging_state is None


@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=8),
    how=st.sampled_from(["iterate", "all", "fetch", "index", "equal"]),
)
@settings(max_examples=40)
def test_pages_of_any_size(paged: PagedServer, sizes: list[int], how: str) -> None:
    """Whatever the sizes of the pages, none among them, all rows are there, once, in order."""
    expected, pages = [], []
    for size in sizes:
        pages.append(list(range(len(expected), len(expected) + size)))
        expected += pages[-1]

    def answer(request: ServerRequest) -> None:
        page = int(request.paging_state or b"0")
        more = str(page + 1).encode() if page + 1 < len(pages) else None
        request.rows(NUMBER, [(n,) for n in pages[page]], paging_state=more)

    paged.server.on_request = answer
    result = paged.executor.submit("SELECT n FROM ks.t").result(LIMIT)
    if how == "iterate":
        assert numbers(result) == expected
    elif how == "all":
        assert numbers(result.all()) == expected
    elif how == "fetch":
        found = numbers(result.current_rows)
        while result.has_more_pages:
            result.fetch_next_page()
            found += numbers(result.current_rows)
        assert found == expected
    elif how == "index":
        assert numbers(result[:]) == expected
        assert numbers(result) == expected
    else:
        assert result == [(n,) for n in expected]


class PagedServer:
    """A server, and an executor on a session on it, for all examples of a property."""

    def __init__(self, server: ScriptedServer, executor: CassandraExecutor) -> None:
        self.server = server
        self.executor = executor


@pytest.fixture(scope="module")
def paged() -> Any:
    """See `PagedServer`."""
    with serving(5) as (server, session), executing(session) as executor:
        yield PagedServer(server, executor)


def test_each_page_is_a_request_like_the_first(server: ScriptedServer) -> None:
    """Statement, parameters, options and page size are the same; only the paging state is not."""
    profiles = {"other": profile_of(row_factory=dict_factory, consistency_level=4)}
    with connected(server, profiles=profiles) as session, executing(session) as executor:
        select = session.prepare("SELECT id, name FROM ks.t WHERE id = ? AND name = ?").bind(
            (7, UNSET_VALUE)
        )
        select.fetch_size = 3
        select.serial_consistency_level = 8
        view = executor.with_options(
            execution_profile="other", custom_payload={"a": b"1"}, trace=True, timeout=5.0
        )
        future = view.submit(select)
        first = server.next_request()
        select.bind((8, "changed"))
        select.fetch_size = 99
        server.on_request = lambda r: later.append(r) or r.rows(COLUMNS, [(2, "b")])  # type: ignore[func-returns-value]
        later: list[ServerRequest] = []
        first.rows(COLUMNS, [(1, "a")], paging_state=b"more")
        rows = list(future.result(LIMIT))
        assert rows == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        (second,) = later
        assert second.paging_state == b"more"
        for name in (
            "opcode", "text", "values", "consistency", "serial_consistency", "page_size",
            "keyspace", "skip_metadata", "tracing", "custom_payload",
        ):  # fmt: skip
            assert getattr(second, name) == getattr(first, name), name


def test_a_page_may_be_asked_for_by_its_state(server: ScriptedServer, session: Any) -> None:
    """A paging state that was kept leads to the rest, through the option `paging_state`."""
    server.on_request = pages_of(10, 35)
    with executing(session) as executor:
        first = executor.submit("SELECT n FROM ks.t").result(LIMIT)
        view = executor.with_options(paging_state=first.paging_state)
        assert numbers(first.current_rows) == list(range(10))
        assert numbers(view.submit("SELECT n FROM ks.t").result(LIMIT)) == list(range(10, 35))
        assert numbers(first) == list(range(35))


def test_a_page_that_fails(server: ScriptedServer, session: Any, parts: str) -> None:
    """Its error is raised where its rows would have been, and it can be fetched again."""
    with executing(session) as executor:
        future = executor.submit("SELECT n FROM ks.t")
        server.next_request().rows(NUMBER, [(0,)], paging_state=b"1")
        result = future.result(LIMIT)
        failing = [True]

        def answer(request: ServerRequest) -> None:
            if failing.pop():
                request.error("overloaded")
            else:
                request.rows(NUMBER, [(1,)])

        server.on_request = answer
        rows = iter(result)
        assert next(rows) == (0,)
        with pytest.raises(OverloadedErrorMessage) as caught:
            next(rows)
        assert caught.value.call.statement == "SELECT n FROM ks.t"
        assert "SELECT n FROM ks.t" in caught.value.__notes__[0]
        assert result.has_more_pages
        failing.append(False)
        result.fetch_next_page()
        assert numbers(result.current_rows) == [1]


def test_pages_with_other_columns(server: ScriptedServer, session: Any, parts: str) -> None:
    """A page of a table that was changed meanwhile has rows with the columns that it has."""

    def answer(request: ServerRequest) -> None:
        if request.paging_state is None:
            request.rows(COLUMNS, [(1, "a")], paging_state=b"more")
        else:
            request.rows([*COLUMNS, ("age", "int")], [(2, "b", 41)])

    server.on_request = answer
    with executing(session) as executor:
        for statement in ("SELECT * FROM ks.t", session.prepare("SELECT id, name FROM ks.t")):
            first, second = executor.submit(statement).result(LIMIT)
            assert first._asdict() == {"id": 1, "name": "a"}
            assert second._asdict() == {"id": 2, "name": "b", "age": 41}


def test_what_comes_with_a_page(server: ScriptedServer, session: Any) -> None:
    """Warnings, payload and coordinator are those of the page that came last."""

    def answer(request: ServerRequest) -> None:
        page = int(request.paging_state or b"0")
        request.rows(
            NUMBER,
            [(page,)],
            paging_state=str(page + 1).encode() if page < 2 else None,
            warnings=[f"page {page}"],
            custom_payload={"page": str(page).encode()},
        )

    server.on_request = answer
    with executing(session) as executor:
        result = executor.submit("SELECT n FROM ks.t").result(LIMIT)
        for page in range(3):
            assert result.response_future.warnings == [f"page {page}"]
            assert result.response_future.custom_payload == {"page": str(page).encode()}
            assert result.response_future.coordinator_host.address == server.address
            assert result.has_more_pages is (page < 2)
            result.fetch_next_page()
        assert result.current_rows == []


def test_later_pages_are_not_counted(server: ScriptedServer, session: Any) -> None:
    """They need no place in the concurrency: who iterates while it is used up is served."""
    with executing(session, concurrency=2) as executor:
        futures = [executor.submit("SELECT n FROM ks.t") for _ in range(2)]
        for request in server.requests(2):
            request.rows(NUMBER, [(0,)], paging_state=b"1")
        results = [future.result(LIMIT) for future in futures]
        blocking = [executor.submit("SELECT 1") for _ in range(3)]
        waiting = server.requests(2)
        server.on_request = pages_of(1, 5)
        assert [numbers(result) for result in results] == [[0, 1, 2, 3, 4]] * 2
        assert executor.stats().in_flight == 2
        server.on_request = done
        for request in waiting:
            request.void()
        for future in blocking:
            future.result(LIMIT)


def test_pages_after_the_executor(server: ScriptedServer, session: Any) -> None:
    """A result fetches its pages also when its executor was shut down, and is gone."""
    server.on_request = pages_of(2, 7)
    with CassandraExecutor(session) as executor:
        result = executor.submit("SELECT n FROM ks.t").result(LIMIT)
    del executor
    gc.collect()
    assert numbers(result) == list(range(7))


def test_pages_in_the_body_of_a_map(server: ScriptedServer, session: Any) -> None:
    """A consumer may fetch pages while the map goes on; each result has its own."""

    def answer(request: ServerRequest) -> None:
        page = int(request.paging_state or b"0")
        (key,) = request.parameters
        more = str(page + 1).encode() if page < 3 else None
        request.rows(rows=[(key, f"page {page}")], paging_state=more)

    server.on_request = answer
    with executing(session, concurrency=10) as executor:
        select = session.prepare(SELECT)
        found = [
            [(row.id, row.name) for row in rows]
            for rows in executor.map(select, range(100), buffersize=20)
        ]
    assert found == [[(n, f"page {page}") for page in range(4)] for n in range(100)]


def test_pages_of_the_drop_ins(server: ScriptedServer, session: Any) -> None:
    """Their results have later pages as well."""
    server.on_request = pages_of(3, 10)
    pairs = [("SELECT n FROM ks.t", None)] * 5
    for generator in (False, True):
        for success, rows in execute_concurrent(session, pairs, results_generator=generator):
            assert success
            assert numbers(rows) == list(range(10))


def test_many_threads_fetch_pages(server: ScriptedServer, session: Any) -> None:
    """Several results are iterated at once, each on a thread of its own, on one executor."""
    server.on_request = pages_of(7, 100)
    found: list[list[int]] = []
    with executing(session, concurrency=3) as executor:

        def run() -> None:
            found.append(numbers(executor.submit("SELECT n FROM ks.t").result(LIMIT)))

        threads = [threading.Thread(target=run) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert found == [list(range(100))] * 10


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_connection_lost_under_a_page(server: ScriptedServer, session: Any, reset: bool) -> None:
    """Who waits for the page gets the driver's error."""
    with executing(session) as executor:
        future = executor.with_options(timeout=None).submit("SELECT n FROM ks.t")
        server.next_request().rows(NUMBER, [(0,)], paging_state=b"1")
        result = future.result(LIMIT)
        server.on_request = lambda r: r.connection.drop(reset=reset)
        with pytest.raises(ConnectionShutdown):
            result.fetch_next_page()


# -- more answers than one


def test_an_execution_too_many() -> None:
    """The first answer counts; one of another execution is not taken for the next page."""
    policy = ConstantSpeculativeExecutionPolicy(0.01, 1)
    profile = profile_of(speculative_execution_policy=policy)
    with ScriptedCluster(2) as server, connected(server, profile=profile) as session:
        with executing(session) as executor:
            future = executor.submit(SimpleStatement("SELECT n FROM ks.t", is_idempotent=True))
            first, second = server.requests(2)
            second.rows(NUMBER, [(0,)], paging_state=b"1")
            result = future.result(LIMIT)
            rows = iter(result)
            assert next(rows).n == 0
            fetching = threading.Thread(target=lambda: found.append(next(rows)), daemon=True)
            found: list[Any] = []
            fetching.start()
            page = server.requests(2)[0]
            first.rows(NUMBER, [(100,)], paging_state=b"wrong")
            for _ in range(10):
                session.execute("SELECT key FROM system.local")
            assert fetching.is_alive()
            page.rows(NUMBER, [(1,)])
            fetching.join(LIMIT)
            assert numbers(found) == [1]


@pytest.mark.parametrize("first", ["result", "error"])
@pytest.mark.parametrize("second", ["result", "error", "the end"])
def test_the_first_of_two_executions_counts(first: str, second: str) -> None:
    """Whatever the second one brings, result or error, it changes nothing."""
    policy = ConstantSpeculativeExecutionPolicy(0.01, 1)
    profile = profile_of(speculative_execution_policy=policy)
    with ScriptedCluster(2) as server, connected(server, profile=profile) as session:
        with executing(session, concurrency=1) as executor:
            futures = [
                executor.submit(SimpleStatement("SELECT n FROM ks.t", is_idempotent=True))
                for _ in range(5)
            ]
            for n, future in enumerate(futures):
                one, two = server.requests(2)
                assert executor.stats().in_flight == 1, "an execution is no call"
                calls: list[Any] = []
                future.add_done_callback(calls.append)
                if first == "result":
                    two.rows(NUMBER, [(n,)])
                else:
                    two.error("invalid")
                error = future.exception(LIMIT)
                if second == "result":
                    one.rows(NUMBER, [(-1,)])
                elif second == "error":
                    one.error("overloaded")
                else:
                    one.void()
                for _ in range(4):
                    session.execute("SELECT key FROM system.local")
                assert future.exception(0) is error
                if first == "result":
                    assert future.result(0).one().n == n
                else:
                    assert isinstance(error, InvalidRequest)
                eventually(lambda calls=calls: len(calls) == 1)  # type: ignore[misc]
            counts = executor.stats()
            assert counts.succeeded + sum(counts.failed.values()) == counts.submitted == 5
            assert in_flight(session) == 0


def test_the_answer_again(server: ScriptedServer, session: Any) -> None:
    """An answer that comes twice is neither the next page, nor another call's result."""
    with executing(session) as executor:
        future = executor.submit("SELECT n FROM ks.t")
        request = server.next_request()
        request.rows(NUMBER, [(0,)], paging_state=b"1")
        result = future.result(LIMIT)
        request.rows(NUMBER, [(100,)], paging_state=b"wrong")
        settle(session)
        assert numbers(result.current_rows) == [0]
        server.on_request = pages_of(1, 3)
        assert numbers(result) == [0, 1, 2]


def test_an_error_after_the_page(server: ScriptedServer, session: Any) -> None:
    """Nor does an error that comes after the rows change anything."""
    with executing(session) as executor:
        future = executor.submit("SELECT n FROM ks.t")
        request = server.next_request()
        request.rows(NUMBER, [(0,)], paging_state=b"1")
        result = future.result(LIMIT)
        request.error("overloaded")
        settle(session)
        assert future.exception(0) is None
        server.on_request = pages_of(1, 3)
        assert numbers(result) == [0, 1, 2]
        assert executor.stats().failed == {}


def test_pages_leave_no_stream_behind(server: ScriptedServer, session: Any) -> None:
    """Results that are dropped before their last page hold nothing of the connection."""
    server.on_request = pages_of(1, 3)
    with executing(session) as executor:
        for _ in range(50):
            rows = iter(executor.submit("SELECT n FROM ks.t").result(LIMIT))
            next(rows)
            next(rows)
        settle(session)
        assert in_flight(session) == 0


def test_a_page_that_no_host_can_give(server: ScriptedServer, session: Any) -> None:
    """A page is asked for with the session as it is then: shut down, it says so."""
    with executing(session) as executor:
        future = executor.submit("SELECT n FROM ks.t")
        server.next_request().rows(NUMBER, [(0,)], paging_state=b"1")
        result = future.result(LIMIT)
        session.shutdown()
        with pytest.raises(Exception, match=r"(?i)shut ?down|unable to complete"):
            result.fetch_next_page()
