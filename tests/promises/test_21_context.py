"""Promise 21: each call is sent in its own copy of the context in which it was taken."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, Iterator, List, Optional

import pytest
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import SimpleStatement
from hypothesis import given
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.driver import DriverRequest, DriverSession
from tests.waits import LIMIT, Background

span: ContextVar[str] = ContextVar("span", default="none")


class Traced(ScriptedSession):
    """A session with tracing: it notes the span in which each request is sent, and makes its own.

    Attributes:
        parents: The span that was current when each request was sent.
    """

    def __init__(self, answers: bool = False) -> None:
        super().__init__(self.trace)
        self.answers = answers
        self.parents: List[str] = []

    def trace(self, request: ScriptedRequest) -> None:
        """Note the span, and leave another one behind."""
        self.parents.append(span.get())
        span.set(f"of request {request.number}")
        if self.answers:
            request.succeed()


def in_span(name: str, run: Any) -> Any:
    """Run something in a span, in a context of its own."""

    def inside() -> Any:
        span.set(name)
        return run()

    return copy_context().run(inside)


def test_a_call_that_waits_keeps_its_context() -> None:
    """What waits is sent in the context of its own `submit`, whoever sends it, and when."""
    session = Traced()
    executor = CassandraExecutor(session, concurrency=1)
    for name in "abc":
        in_span(name, lambda: executor.submit("SELECT 1"))
    in_span("of the answer", session.pending[0].succeed)
    Background(lambda: in_span("of a thread", session.pending[0].succeed)).result()
    assert session.parents == ["a", "b", "c"]


def test_what_a_send_changes_stays_in_its_copy() -> None:
    """The caller's context, and that of other calls, do not see what is set while sending."""
    session = Traced(answers=True)
    executor = CassandraExecutor(session)

    def run() -> str:
        for _ in range(3):
            executor.submit("SELECT 1")
        list(executor.map("SELECT %s", [1, 2]))
        return span.get()

    assert in_span("caller", run) == "caller"
    assert session.parents == ["caller"] * 5


@pytest.mark.parametrize("buffersize", [None, 1, 3])
def test_the_context_is_that_of_the_item(buffersize: Optional[int]) -> None:
    """A call of a `map` is sent in the context that was current when its item was pulled."""
    session = Traced(answers=True)

    def items() -> Iterator[int]:
        for n in range(6):
            span.set(f"item {n}")
            yield n

    def run() -> None:
        for _ in CassandraExecutor(session, 1).map("SELECT %s", items(), buffersize=buffersize):
            pass

    in_span("caller", run)
    assert session.parents == [f"item {n}" for n in range(6)]


def test_the_context_is_that_of_the_consumer() -> None:
    """With `buffersize` what is pulled later belongs to whoever asks for the next result."""
    session = Traced(answers=True)
    executor = CassandraExecutor(session)
    results = in_span("call", lambda: executor.map("SELECT %s", range(3), buffersize=1))
    assert session.parents == ["call"]
    in_span("first next", lambda: next(results))
    Background(lambda: in_span("second next", lambda: next(results))).result()
    assert session.parents == ["call", "first next", "second next"]


def test_tasks_of_asyncio_keep_their_contexts() -> None:
    """Each task's statements are sent in the context of that task."""
    session = Traced()
    executor = CassandraExecutor(session, concurrency=1)

    async def task(name: str) -> None:
        span.set(name)
        future = asyncio.wrap_future(executor.submit("SELECT 1"))
        await asyncio.wait_for(future, LIMIT)

    async def main() -> None:
        tasks = [asyncio.ensure_future(task(f"task {n}")) for n in range(3)]
        await asyncio.sleep(0)
        for number in range(3):
            session.wait_for(number + 1)[number].succeed()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert session.parents == ["task 0", "task 1", "task 2"]


def test_a_retry_is_sent_in_the_context_of_its_call(clock: ManualClock) -> None:
    """The second attempt has the first one's parent, although the clock's thread sends it."""
    session = Traced()
    executor = CassandraExecutor(session, clock=clock, retry=Retry())
    in_span("caller", lambda: executor.submit(SimpleStatement("SELECT 1", is_idempotent=True)))
    session.pending[0].fail(OverloadedErrorMessage(0x1001, "busy", None))
    in_span("clock", lambda: clock.advance(1.0))
    session.wait_for(2)
    assert session.parents == ["caller", "caller"]


def test_a_later_page_is_fetched_in_the_context_of_its_call() -> None:
    """The request for the next page is a part of the call, whoever iterates its rows."""
    parents: List[str] = []

    def respond(request: DriverRequest) -> None:
        parents.append(span.get())
        more = b"more" if len(parents) < 3 else None
        request.rows([(len(parents),)], ["n"], paging_state=more)

    executor = CassandraExecutor(DriverSession(respond))
    future = in_span("caller", lambda: executor.submit("SELECT n"))
    assert in_span("consumer", lambda: list(future.result(LIMIT))) == [(1,), (2,), (3,)]
    assert parents == ["caller"] * 3


def test_the_drop_ins_send_in_the_context_of_the_caller() -> None:
    """List and generator send in the context where they take their input."""
    pairs = [("SELECT 1", None)] * 3
    session = Traced(answers=True)
    in_span("list", lambda: execute_concurrent(session, pairs))
    in_span("args", lambda: execute_concurrent_with_args(session, "SELECT 1", [()] * 3))
    in_span("generator", lambda: list(execute_concurrent(session, pairs, results_generator=True)))
    assert session.parents == ["list"] * 3 + ["args"] * 3 + ["generator"] * 3


def test_the_helper_of_an_asynchronous_drop_in_has_a_copy() -> None:
    """`execute_concurrent_async` takes and sends in a copy of the context of its call."""
    session = Traced(answers=True)
    seen: List[str] = []
    goes_on = threading.Event()

    def pairs() -> Iterator[Any]:
        assert goes_on.wait(LIMIT)
        seen.append(span.get())
        span.set("input")
        yield "SELECT 1", None

    def run() -> str:
        future = execute_concurrent_async(session, pairs())
        span.set("changed after the call")
        goes_on.set()
        assert len(future.result(LIMIT)) == 1
        return span.get()

    assert in_span("caller", run) == "changed after the call"
    assert seen == ["caller"]
    assert session.parents == ["input"]


def test_callables_have_the_context_that_a_pool_gives_them() -> None:
    """A callable sees what it would see in a `ThreadPoolExecutor`."""

    def seen(executor: Executor) -> List[str]:
        with executor:
            return [
                executor.submit(span.get).result(LIMIT),
                *executor.map(lambda _: span.get(), "a"),
            ]

    ours = in_span("caller", lambda: seen(CassandraExecutor(ScriptedSession())))
    pools = in_span("caller", lambda: seen(ThreadPoolExecutor()))
    assert ours == pools


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.integers(1, 4), st.randoms())
def test_each_call_has_its_own(names: List[str], concurrency: int, random: Any) -> None:
    """Whatever the order of answers, each request is sent in the context of its own call."""
    session = Traced()
    executor = CassandraExecutor(session, concurrency)
    for n, name in enumerate(names):
        in_span(name, lambda n=n: executor.submit(f"SELECT {n}"))
    while session.pending:
        in_span("driver", random.choice(session.pending).succeed)
    sent = [int(request.statement.query_string[7:]) for request in session.requests]
    assert sorted(sent) == list(range(len(names)))
    assert session.parents == [names[n] for n in sent]
