"""What a type checker knows of the public interface. Checked by mypy (`make types`), never run.

A line with `type: ignore[...]` is a wrong use: mypy fails where it is not seen to be one, as
`warn_unused_ignores` is on. The driver has no types: its statements are `Any`, and what depends on
one alone is `Any` too; a string is known to be a statement.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from typing_extensions import assert_type

from cassconc import (
    Call,
    CassandraExecutor,
    ExecutionResult,
    FailureReport,
    ResultSet,
    Retry,
    RetryEvent,
    Stats,
    TooManyErrors,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)

CQL = "SELECT name FROM users WHERE id = ?"


def add(one: int, two: int, *, more: int = 0) -> int:
    """A callable with types."""
    return one + two + more


def pool_of(pool: ThreadPoolExecutor) -> ThreadPoolExecutor:
    """What insists on a pool."""
    return pool


class Tenants(CassandraExecutor):
    """A subclass of a user's."""

    def of_tenant(self, name: str) -> Tenants:
        """Return a view; its type is the subclass."""
        return self.with_options(execute_as=name)


def making_one(session: Any, retry: Retry) -> None:
    """It takes a session and numbers; what changes how it works is keyword-only."""
    executor = CassandraExecutor(session)
    assert_type(executor, CassandraExecutor)
    CassandraExecutor(session, 100)
    CassandraExecutor(session, concurrency=100, max_workers=4, retry=retry, host_isolation=False)
    CassandraExecutor(session, initializer=print, initargs=(1, "a"), thread_name_prefix="users")
    CassandraExecutor()  # type: ignore[call-arg]
    CassandraExecutor(session, "100")  # type: ignore[arg-type]
    CassandraExecutor(session, 100, 4)  # type: ignore[call-arg]
    CassandraExecutor(session, retry=True)  # type: ignore[arg-type]
    CassandraExecutor(session, concurency=100)  # type: ignore[call-arg]


def it_is_an_executor(executor: CassandraExecutor, subclass: Tenants) -> None:
    """It goes wherever a standard executor goes, and `with` gives the type that it has."""
    standard: Executor = executor
    assert_type(standard.submit(len, "a"), Future[int])
    with executor as entered, subclass as tenants:
        assert_type(entered, CassandraExecutor)
        assert_type(tenants, Tenants)
    assert_type(executor.shutdown(), None)
    assert_type(executor.shutdown(wait=False, cancel_futures=True), None)
    assert_type(executor.stats(), Stats)
    assert_type(pool_of(executor), ThreadPoolExecutor)  # type: ignore[arg-type]


def submit_of_callables(executor: CassandraExecutor) -> None:
    """The future is of what the callable returns, and its arguments are checked."""
    assert_type(executor.submit(len, "a"), Future[int])
    assert_type(executor.submit(add, 1, two=2), Future[int])
    assert_type(executor.submit(add, 1, 2, more=3), Future[int])
    assert_type(executor.submit(str), Future[str])
    executor.submit(len)  # type: ignore[call-overload]
    executor.submit(add, "a", 2)  # type: ignore[call-overload]


def submit_of_statements(executor: CassandraExecutor, prepared: Any) -> None:
    """The future is of a result set; a statement of the driver's, which is `Any`, gives `Any`."""
    assert_type(executor.submit(CQL, 1), Future[ResultSet])
    assert_type(executor.submit(CQL), Future[ResultSet])
    assert_type(executor.submit(CQL, id=1), Future[ResultSet])
    of_any: Future[ResultSet] = executor.submit(prepared, 1)
    executor.submit()  # type: ignore[call-overload]
    executor.submit(42)  # type: ignore[call-overload]
    not_a_number: Future[int] = executor.submit(CQL, 1)  # type: ignore[assignment]
    print(of_any, not_a_number)


def futures_are_standard(executor: CassandraExecutor) -> None:
    """What takes standard futures takes ours, and keeps the type of the result."""
    future = executor.submit(CQL, 1)
    assert_type(future.result(timeout=1), ResultSet)
    assert_type(wait([future]).done, set[Future[ResultSet]])
    assert_type(list(as_completed([future])), list[Future[ResultSet]])
    assert_type(asyncio.wrap_future(future), asyncio.Future[ResultSet])


def results(rows: ResultSet) -> None:
    """The driver's `ResultSet` with types; rows are what the row factory makes."""
    assert_type(rows.one(), Any)
    assert_type(rows.all(), List[Any])
    assert_type([*rows], List[Any])
    assert_type(rows[0], Any)
    assert_type(rows.was_applied, bool)
    assert_type(rows.has_more_pages, bool)
    assert_type(rows.paging_state, Optional[bytes])
    assert_type(rows.column_names, Optional[List[str]])
    print(rows.no_such_member)  # type: ignore[attr-defined]


def map_of_callables(executor: CassandraExecutor) -> None:
    """The iterator is of what the callable returns."""
    assert_type(executor.map(len, ["a", "b"]), Iterator[int])
    assert_type(executor.map(add, [1, 2], [3, 4]), Iterator[int])
    assert_type(executor.map(len, ["a"], timeout=1.5, chunksize=10), Iterator[int])
    assert_type(executor.map(len, ["a"], buffersize=10, ordered=False), Iterator[int])
    assert_type(executor.starmap(add, [(1, 2)], buffersize=10), Iterator[int])


def map_of_statements(executor: CassandraExecutor) -> None:
    """The iterator is of result sets."""
    assert_type(executor.map(CQL, [1, 2]), Iterator[ResultSet])
    assert_type(executor.map(CQL, range(9), range(9)), Iterator[ResultSet])
    assert_type(executor.map(CQL, [1], timeout=None, buffersize=None), Iterator[ResultSet])
    assert_type(executor.map(CQL, [1], ordered=False), Iterator[ResultSet])
    assert_type(executor.starmap(CQL, [(1, "a")], buffersize=10), Iterator[ResultSet])
    assert_type(executor.starmap(CQL, ({"id": n} for n in range(9))), Iterator[ResultSet])


def execute_concurrent_of_an_executor(executor: CassandraExecutor, prepared: Any) -> None:
    """The iterator is of result sets, whatever the kinds of the statements."""
    pairs = [(CQL, (1,)), (CQL, {"id": 1}), (prepared, None)]
    assert_type(executor.execute_concurrent(pairs), Iterator[ResultSet])
    assert_type(executor.execute_concurrent(iter(pairs), buffersize=10), Iterator[ResultSet])
    assert_type(executor.execute_concurrent(pairs, with_calls=True), Iterator[Tuple[Call, Any]])
    assert_type(executor.execute_concurrent(pairs, return_exceptions=True), Iterator[Any])


def with_calls(executor: CassandraExecutor) -> None:
    """Each result comes with its call."""
    assert_type(executor.map(CQL, [1], with_calls=True), Iterator[Tuple[Call, Any]])
    assert_type(executor.map(len, ["a"], with_calls=True), Iterator[Tuple[Call, Any]])
    assert_type(executor.starmap(CQL, [(1,)], with_calls=True), Iterator[Tuple[Call, Any]])
    assert_type(
        executor.starmap(CQL, [(1,)], return_exceptions=True, with_calls=True, ordered=False),
        Iterator[Tuple[Call, Any]],
    )
    for call, _ in executor.map(CQL, [1], with_calls=True):
        assert_type(call.position, Optional[int])
        print(call.statment)  # type: ignore[attr-defined]


def failures_in_place(executor: CassandraExecutor) -> None:
    """A result may be an exception, and then the type is left open."""
    assert_type(executor.map(CQL, [1], return_exceptions=True), Iterator[Any])
    assert_type(executor.starmap(CQL, [(1,)], return_exceptions=True), Iterator[Any])
    assert_type(executor.map(CQL, [1], max_errors=0.01), Iterator[Any])
    assert_type(executor.starmap(CQL, [(1,)], max_errors=3), Iterator[Any])
    assert_type(executor.execute_concurrent([(CQL, ())], max_errors=3), Iterator[Any])
    assert_type(executor.map(CQL, [1], max_errors=3, with_calls=True), Iterator[Tuple[Call, Any]])
    assert_type(
        executor.map(CQL, [1], return_exceptions=False, max_errors=None), Iterator[ResultSet]
    )


def options_that_are_variables(executor: CassandraExecutor, flag: bool) -> None:
    """Where an option is not known, neither is the type of the results."""
    assert_type(executor.map(len, ["a"], with_calls=flag), Iterator[Any])
    assert_type(executor.starmap(CQL, [(1,)], return_exceptions=flag), Iterator[Any])


def wrong_options_of_maps(executor: CassandraExecutor) -> None:
    """Options that do not exist, and those of the wrong type, are seen."""
    executor.map(CQL, 1)  # type: ignore[call-overload]
    executor.map(42, [1])  # type: ignore[call-overload]
    executor.map(CQL, [1], max_errors="3")  # type: ignore[call-overload]
    executor.map(CQL, [1], buffersize="10")  # type: ignore[call-overload]
    executor.map(CQL, [1], bufferSize=10)  # type: ignore[call-overload]
    executor.map(len, ["a"], timeout="1")  # type: ignore[call-overload]
    executor.starmap(CQL)  # type: ignore[call-overload]
    executor.starmap(CQL, [(1,)], [(2,)])  # type: ignore[call-overload]
    executor.execute_concurrent(CQL)  # type: ignore[arg-type]
    executor.execute_concurrent([CQL])  # type: ignore[list-item]
    executor.execute_concurrent([(CQL, ())], concurrency=5)  # type: ignore[call-overload]


def views(executor: CassandraExecutor, tenants: Tenants, retry: Retry, host: Any) -> None:
    """A view has the type of what it is a view on, and its options are those that there are."""
    assert_type(executor.with_options(), CassandraExecutor)
    assert_type(executor.with_options(timeout=1), CassandraExecutor)
    assert_type(executor.with_options(timeout=1.5).with_options(trace=True), CassandraExecutor)
    assert_type(executor.with_options(execution_profile="fast", host=host), CassandraExecutor)
    assert_type(executor.with_options(custom_payload={"key": b"value"}), CassandraExecutor)
    assert_type(executor.with_options(paging_state=b"", retry=retry), CassandraExecutor)
    assert_type(executor.with_options(timeout=None, execute_as=None, retry=None), CassandraExecutor)
    assert_type(tenants.with_options(timeout=1), Tenants)
    assert_type(tenants.of_tenant("a").submit(CQL), Future[ResultSet])
    executor.with_options(tiemout=1)  # type: ignore[call-arg]
    executor.with_options(timeout="1")  # type: ignore[arg-type]
    executor.with_options(custom_payload={"key": "value"})  # type: ignore[dict-item]
    executor.with_options(concurrency=5)  # type: ignore[call-arg]


def retries(event: RetryEvent) -> None:
    """A `Retry` takes numbers and a callback, and does not change."""
    callback: Callable[[RetryEvent], None] = print
    retry = Retry(attempts=3, delay=0.1, max_delay=1, total_time=None, on_retry=callback)
    assert_type(retry.attempts, int)
    retry.attempts = 4  # type: ignore[misc]
    Retry(attempts="3")  # type: ignore[arg-type]
    assert_type(event.call, Call)
    assert_type(event.attempt, int)
    assert_type(event.exception, BaseException)
    assert_type(event.delay, float)


def reports(stats: Stats, error: TooManyErrors) -> None:
    """What tells how it went."""
    assert_type(stats.submitted, int)
    assert_type(stats.failed, Dict[str, int])
    assert_type(error.report, FailureReport)
    assert_type((error.taken, error.succeeded, error.failed, error.never_sent)[0], int)


def drop_ins(session: Any, prepared: Any) -> None:
    """The names and arguments of `cassandra.concurrent`; what they return depends on arguments."""
    assert_type(execute_concurrent(session, [(CQL, (1,))]), Any)
    assert_type(execute_concurrent(session, [(CQL, (1,))], 50, False, True, "fast"), Any)
    assert_type(execute_concurrent_with_args(session, prepared, [(1,)], concurrency=50), Any)
    future = execute_concurrent_async(session, [(CQL, (1,))], raise_on_first_error=True)
    assert_type(future, Future[List[ExecutionResult]])
    execute_concurrent(session)  # type: ignore[call-arg]
    execute_concurrent(session, [(CQL, (1,))], results_generators=True)  # type: ignore[call-arg]
    execute_concurrent_async(session, [], results_generator=True)  # type: ignore[call-arg]
    execute_concurrent_with_args(session, prepared, 1)  # type: ignore[arg-type]
