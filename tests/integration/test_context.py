"""Promise 21 with the real driver: a call is sent in the context in which it was taken."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from cassandra.query import SimpleStatement

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from tests.integration.helpers import (
    COLUMNS,
    LIMIT,
    SELECT,
    Connection,
    connected,
    done,
    executing,
    user,
)
from tests.protocol import ScriptedServer, ServerRequest

span: contextvars.ContextVar[Any] = contextvars.ContextVar("span", default="none")


class Narrow(Connection):  # type: ignore[misc]
    """A connection of so few streams that driver threads leave sending to others."""

    max_in_flight = 50


@contextmanager
def traced(session: Any) -> Iterator[list[Any]]:
    """Do what a tracing library does: note the current span as each request is made."""
    seen: list[Any] = []

    def on_request(response: Any) -> None:
        values = getattr(response.query, "values", None)
        what = values[0] if values else response.query.query_string
        seen.append((span.get(), what))

    session.add_request_init_listener(on_request)
    yield seen
    session.remove_request_init_listener(on_request)


def key(number: int) -> bytes:
    """A number as the wire has it."""
    return number.to_bytes(4, "big")


def in_span(name: Any, code: Callable[[], Any]) -> Any:
    """Run `code` in a span, and in a context of its own."""

    def run() -> Any:
        span.set(name)
        return code()

    return contextvars.copy_context().run(run)


@pytest.mark.parametrize("few_streams", [False, True], ids=["driver sends", "helper sends"])
def test_calls_that_waited(server: ScriptedServer, few_streams: bool) -> None:
    """A call that waited for its turn is sent in the context of its `submit`."""
    options = {"connection_class": Narrow} if few_streams else {}
    with connected(server, **options) as session, executing(session, 2) as executor:
        with traced(session) as seen:
            blocking = [executor.submit("SELECT 'first'") for _ in range(2)]
            requests = server.requests(2)
            futures = [
                in_span(n, lambda n=n: executor.submit(f"SELECT {n}"))  # type: ignore[misc]
                for n in range(50)
            ]
            server.on_request = done
            for request in requests:
                request.void()
            for future in [*blocking, *futures]:
                future.result(LIMIT)
    assert span.get() == "none"
    assert seen[:2] == [("none", "SELECT 'first'")] * 2
    assert seen[2:] == [(n, f"SELECT {n}") for n in range(50)]


def test_what_a_listener_sets(server: ScriptedServer, session: Any) -> None:
    """It changes neither the caller's context nor another call's."""
    server.on_request = done
    seen: list[Any] = []

    def on_request(response: Any) -> None:
        seen.append(span.get())
        span.set("set by the listener")

    with executing(session, concurrency=1) as executor:
        session.add_request_init_listener(on_request)
        for _ in range(5):
            executor.submit("SELECT 1").result(LIMIT)
        list(executor.map("SELECT %s", range(5)))
        session.remove_request_init_listener(on_request)
    assert seen == ["none"] * 10
    assert span.get() == "none"


def numbers() -> Iterator[int]:
    """An input that is in another span at each item."""
    for n in range(100):
        span.set(n)
        yield n


def pairs(statement: Any) -> Iterator[Any]:
    """The same with a statement in each item."""
    for n in numbers():
        yield statement, (n,)


def of_map(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """`map` without a bound."""
    list(executor.map(select, numbers()))


def of_bounded_map(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """`map` in generator mode."""
    list(executor.map(select, numbers(), buffersize=10))


def of_unordered_map(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """`starmap`, unordered."""
    list(executor.starmap(select, ((n,) for n in numbers()), ordered=False, buffersize=7))


def of_pairs(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """`execute_concurrent` of the executor."""
    list(executor.execute_concurrent(pairs(select)))


def of_the_list(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """The drop-in that returns a list."""
    execute_concurrent(session, pairs(select), concurrency=3)


def of_the_generator(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """The drop-in that returns a generator."""
    parameters = ((n,) for n in numbers())
    list(execute_concurrent_with_args(session, select, parameters, 3, results_generator=True))


def of_the_future(session: Any, executor: CassandraExecutor, select: Any) -> None:
    """The drop-in that returns a future."""
    execute_concurrent_async(session, pairs(select), 3).result(LIMIT)


WAYS = [
    of_map, of_bounded_map, of_unordered_map, of_pairs, of_the_list, of_the_generator,
    of_the_future,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_items_of_a_map(
    server: ScriptedServer, session: Any, way: Callable[[Any, CassandraExecutor, Any], None]
) -> None:
    """Each call has the context that was current as its item was taken from the input."""
    server.on_request = user
    select = session.prepare(SELECT)
    with executing(session, concurrency=3) as executor, traced(session) as seen:
        contextvars.copy_context().run(way, session, executor, select)
    assert sorted(seen) == [(n, key(n)) for n in range(100)]
    assert span.get() == "none"


def test_the_input_of_the_async_drop_in(server: ScriptedServer, session: Any) -> None:
    """It is taken on another thread, in a copy of the context of the call."""
    server.on_request = user
    seen: list[Any] = []

    def items() -> Iterator[Any]:
        seen.append((span.get(), threading.current_thread() is caller))
        yield select, (1,)

    select, caller = session.prepare(SELECT), threading.current_thread()
    future = in_span("mine", lambda: execute_concurrent_async(session, items()))
    future.result(LIMIT)
    assert seen == [("mine", False)]


def test_retries(server: ScriptedServer, session: Any) -> None:
    """A call that is tried again is sent in its own context again."""
    requests: list[ServerRequest] = []

    def answer(request: ServerRequest) -> None:
        requests.append(request)
        if len(requests) % 3:
            request.error("overloaded")
        else:
            request.void()

    server.on_request = answer
    statement = SimpleStatement("INSERT 1", is_idempotent=True)
    with executing(session, retry=Retry(delay=0.001)) as executor, traced(session) as seen:
        for n in range(5):
            in_span(n, lambda: executor.submit(statement)).result(LIMIT)
    assert seen == [(n, "INSERT 1") for n in range(5) for _ in range(3)]


def test_later_pages(server: ScriptedServer, session: Any) -> None:
    """A later page belongs to its call: it is asked for in the context of the call."""

    def answer(request: ServerRequest) -> None:
        page = int(request.paging_state or b"0")
        more = str(page + 1).encode() if page < 3 else None
        request.rows(COLUMNS, [(page, "")], paging_state=more)

    server.on_request = answer
    with executing(session) as executor, traced(session) as seen:
        result = in_span("mine", lambda: executor.submit("SELECT 1")).result(LIMIT)
        assert len(in_span("another", lambda: list(result))) == 4
    assert seen == [("mine", "SELECT 1")] * 4


def test_callables_have_what_they_have_in_a_thread_pool(executor: CassandraExecutor) -> None:
    """A plain callable sees of the context what it sees in a `ThreadPoolExecutor`."""
    with ThreadPoolExecutor(1) as pool:
        theirs = in_span("mine", lambda: pool.submit(span.get)).result(LIMIT)
    assert in_span("mine", lambda: executor.submit(span.get)).result(LIMIT) == theirs
