"""What others build on futures works over a `CassandraExecutor`: asyncio, Dask, tqdm and so on.

Dask, tqdm and more-executors are tested where they are installed.
"""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, wait
from typing import Any, Callable, List, Optional, TypeVar

import pytest
from cassandra import InvalidRequest

from cassconc import CassandraExecutor
from cassconc.testing import DriverThread, ScriptedRequest, ScriptedSession, echo

T = TypeVar("T")

CQL = "SELECT v FROM t WHERE k = %s"
LIMIT = 10.0  # real seconds after which a wait is a failure of the test


def within(code: Callable[[], T]) -> T:
    """Run code that has no time limit of its own; fail if it does not come back."""
    outcome: List[Any] = []

    def run() -> None:
        try:
            outcome.append((code(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert outcome, f"{code} has not come back after {LIMIT} s"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def values(results: Any) -> List[Any]:
    """Return the first value of each result."""
    return [rows.one()[0] for rows in results]


def failing(*numbers: int) -> Callable[[ScriptedRequest], None]:
    """Return what answers with the parameters, and fails the requests with these numbers."""

    def respond(request: ScriptedRequest) -> None:
        if request.number in numbers:
            request.fail(InvalidRequest(f"request {request.number}"))
        else:
            echo(request)

    return respond


# concurrent.futures


def test_wait_for_the_first_that_has_ended() -> None:
    """`FIRST_COMPLETED` returns when one has ended, whether or not it failed."""
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    futures = [executor.submit(CQL, n) for n in range(3)]
    session.pending[1].fail(InvalidRequest("1"))
    done, pending = wait(futures, LIMIT, FIRST_COMPLETED)
    assert (done, pending) == ({futures[1]}, {futures[0], futures[2]})
    for request in session.pending:
        request.succeed()


def test_wait_for_the_first_that_has_failed() -> None:
    """`FIRST_EXCEPTION` is not content with results, and returns at the first failure."""
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    futures = [executor.submit(CQL, n) for n in range(3)]
    returned: List[Any] = []
    waiter = threading.Thread(
        target=lambda: returned.append(wait(futures, LIMIT, FIRST_EXCEPTION)), daemon=True
    )
    waiter.start()
    session.pending[0].succeed()
    assert futures[0].result(LIMIT) is not None
    session.pending[1].fail(InvalidRequest("2"))
    waiter.join(LIMIT)
    assert returned == [({futures[0], futures[2]}, {futures[1]})]
    session.pending[0].succeed()


def test_wait_for_all() -> None:
    """`ALL_COMPLETED` returns what has ended by its time limit, and all when all have ended."""
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    futures = [executor.submit(CQL, n) for n in range(3)]
    session.pending[0].succeed()
    assert wait(futures, 0.0, ALL_COMPLETED) == ({futures[0]}, {futures[1], futures[2]})
    with DriverThread(session):
        assert wait(futures, LIMIT, ALL_COMPLETED) == (set(futures), set())


# asyncio


def run(code: Any, debug: Optional[bool] = None) -> Any:
    """Run a coroutine, with a limit."""

    async def limited() -> Any:
        return await asyncio.wait_for(code, LIMIT)

    return asyncio.run(limited(), debug=debug)


def test_results_are_awaited() -> None:
    """`wrap_future` gives what the statement returns, or raises what the driver raised."""
    session = ScriptedSession()
    executor = CassandraExecutor(session)

    async def main() -> None:
        futures = [asyncio.wrap_future(executor.submit(CQL, n)) for n in range(2)]
        assert not futures[0].done()
        answer = threading.Thread(
            target=lambda: [failing(1)(request) for request in session.pending], daemon=True
        )
        answer.start()
        assert (await futures[0]).one() == (0,)
        with pytest.raises(InvalidRequest, match="request 1"):
            await futures[1]

    run(main())


def test_a_thousand_statements_are_gathered() -> None:
    """`gather` has all results in its own order, in whatever order they come."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency=10)

    async def main() -> List[Any]:
        futures = [asyncio.wrap_future(executor.submit(CQL, n)) for n in range(1000)]
        return values(await asyncio.gather(*futures))

    with DriverThread(session):
        assert run(main()) == list(range(1000))
    assert session.most_pending <= 10


def test_a_time_limit_of_asyncio_cancels_what_was_not_sent() -> None:
    """`wait_for` that runs out cancels a call that waits: it is never sent."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency=1)
    sent, waiting = executor.submit(CQL, 0), executor.submit(CQL, 1)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(waiting), 0.01)

    run(main())
    assert waiting.cancelled()
    session.pending[0].succeed()
    assert sent.result(LIMIT) is not None
    executor.shutdown()
    assert len(session.requests) == 1


def test_a_callable_in_an_executor() -> None:
    """`run_in_executor` runs a callable on a worker thread, also with asyncio's debug mode."""
    executor = CassandraExecutor(ScriptedSession(), max_workers=1)

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        thread = await loop.run_in_executor(executor, threading.current_thread)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, divmod, 1, 0)
        return thread

    for debug in (False, True):
        assert run(main(), debug) is not threading.current_thread()
    executor.shutdown()


def test_a_statement_in_an_executor() -> None:
    """`run_in_executor` takes a statement with its parameters (not so in asyncio's debug mode)."""
    executor = CassandraExecutor(ScriptedSession(echo))

    async def main() -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, CQL, 7)

    assert run(main(), debug=False).one() == (7,)


def test_a_loop_that_is_closed_loses_nothing() -> None:
    """A future whose loop has gone ends all the same, and so do the others."""
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    futures = [executor.submit(CQL, n) for n in range(2)]

    async def main() -> None:
        asyncio.wrap_future(futures[0])

    run(main())
    for request in session.pending:
        request.succeed()
    # cancelled by the loop's end, or sent already: in either case it has ended
    assert wait(futures, LIMIT).not_done == set()
    executor.shutdown()


# Dask


def test_dask_computes_on_the_workers() -> None:
    """`scheduler=executor` runs the tasks on the workers, as many at once as there are."""
    dask = pytest.importorskip("dask")
    executor = CassandraExecutor(ScriptedSession(), max_workers=3)
    together = threading.Barrier(3, timeout=LIMIT)

    def task(n: int) -> Any:
        together.wait()
        return n, threading.current_thread()

    tasks = [dask.delayed(task)(n) for n in range(6)]
    results = within(lambda: dask.compute(*tasks, scheduler=executor))
    assert [n for n, _ in results] == list(range(6))
    assert len({thread for _, thread in results}) == 3
    executor.shutdown()


def test_dask_takes_it_as_its_pool() -> None:
    """So does the setting `pool` of Dask's scheduler of threads."""
    dask = pytest.importorskip("dask")
    executor = CassandraExecutor(ScriptedSession(), max_workers=2, thread_name_prefix="ours")

    def compute() -> Any:
        with dask.config.set(pool=executor):
            return dask.delayed(threading.current_thread)().compute(scheduler="threads")

    assert within(compute).name.startswith("ours")
    executor.shutdown()


def test_dask_tasks_use_the_executor() -> None:
    """Tasks may run statements on the very executor on whose workers they run."""
    dask = pytest.importorskip("dask")
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency=1, max_workers=2)

    @dask.delayed
    def read(n: int) -> Any:
        return executor.submit(CQL, n).result(LIMIT).one()[0]

    total = dask.delayed(sum)([read(n) for n in range(20)])
    with DriverThread(session):
        assert within(lambda: total.compute(scheduler=executor)) == sum(range(20))
    assert session.most_pending == 1
    executor.shutdown()


def test_dask_raises_what_a_task_raised() -> None:
    """A failing statement in a task ends the computation with the driver's exception."""
    dask = pytest.importorskip("dask")
    executor = CassandraExecutor(ScriptedSession(failing(0)), max_workers=1)

    @dask.delayed
    def read() -> Any:
        return executor.submit(CQL, 0).result(LIMIT)

    with pytest.raises(InvalidRequest, match="request 0"):
        within(lambda: read().compute(scheduler=executor))
    executor.shutdown()


# tqdm


def bar_over(results: Any, **options: Any) -> Any:
    """Return a progress bar that shows nothing."""
    tqdm = pytest.importorskip("tqdm")
    return tqdm.tqdm(results, file=io.StringIO(), **options)


@pytest.mark.parametrize("buffersize", [None, 3])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_progress_bar_counts(buffersize: Optional[int], ordered: bool) -> None:
    """A bar over `map` yields every result and counts them."""
    session = ScriptedSession(echo)
    executor = CassandraExecutor(session)
    bar = bar_over(executor.map(CQL, range(20), buffersize=buffersize, ordered=ordered), total=20)
    assert values(bar) == list(range(20))
    assert bar.n == 20


def test_a_progress_bar_stops_at_the_failure() -> None:
    """What failed is raised through the bar, which has counted what came before."""
    executor = CassandraExecutor(ScriptedSession(failing(4)), concurrency=1)
    bar = bar_over(executor.map(CQL, range(10), buffersize=2), mininterval=0.0, miniters=1)
    seen: List[int] = []
    with pytest.raises(InvalidRequest, match="request 4"):
        seen.extend(rows.one()[0] for rows in bar)
    assert seen == [0, 1, 2, 3]
    assert bar.n == 4


def test_a_progress_bar_that_is_left() -> None:
    """Leaving the loop over a bar and dropping the bar ends the map: nothing more is sent."""

    def first_only(request: ScriptedRequest) -> None:
        if request.number == 0:
            echo(request)

    session = ScriptedSession(first_only)
    executor = CassandraExecutor(session, concurrency=1)
    bar = bar_over(executor.map(CQL, range(5), buffersize=3))
    for _ in bar:
        break
    del bar
    session.wait_for(2)[1].succeed()
    executor.shutdown()
    assert len(session.requests) == 2


# more-executors


def test_statements_are_retried() -> None:
    """`with_retry` over the executor sends a failing statement again."""
    executors = pytest.importorskip("more_executors").Executors
    session = ScriptedSession(failing(0, 1))
    executor = executors.with_retry(
        CassandraExecutor(session), max_attempts=3, sleep=0.001, max_sleep=0.001
    )
    assert executor.submit(CQL, 7).result(LIMIT).one() == (7,)
    assert [request.parameters for request in session.requests] == [(7,)] * 3
    within(executor.shutdown)


def test_results_are_mapped() -> None:
    """`with_map` makes a function of the rows, `with_flat_map` a further statement."""
    executors = pytest.importorskip("more_executors").Executors
    base = CassandraExecutor(ScriptedSession(echo))
    mapped = executors.with_map(base, lambda rows: rows.one()[0])
    chained = executors.with_flat_map(mapped, lambda value: mapped.submit(CQL, value + 1))
    assert mapped.submit(CQL, 7).result(LIMIT) == 7
    assert chained.submit(CQL, 7).result(LIMIT) == 8
    within(chained.shutdown)


def test_few_at_a_time() -> None:
    """`with_throttle` keeps its own bound below that of the executor."""
    executors = pytest.importorskip("more_executors").Executors
    session = ScriptedSession()
    executor = executors.with_throttle(CassandraExecutor(session), 2)
    futures = [executor.submit(CQL, n) for n in range(20)]
    with DriverThread(session):
        assert values([future.result(LIMIT) for future in futures]) == list(range(20))
    assert session.most_pending <= 2
    within(executor.shutdown)


def test_the_end_cancels() -> None:
    """`with_cancel_on_shutdown` cancels what was not sent; what was sent is waited for."""
    executors = pytest.importorskip("more_executors").Executors
    session = ScriptedSession()
    executor = executors.with_cancel_on_shutdown(CassandraExecutor(session, concurrency=1))
    sent, waiting = executor.submit(CQL, 0), executor.submit(CQL, 1)
    executor.shutdown(wait=False)
    with pytest.raises(CancelledError):
        waiting.result(LIMIT)
    session.pending[0].succeed()
    assert sent.result(LIMIT) is not None
    within(executor.shutdown)
    assert len(session.requests) == 1
