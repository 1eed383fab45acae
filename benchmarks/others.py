"""Further competitors: asyncio, and libraries that do the same job.

What PyPI has beside those that are here was looked at: aiocassandra 2.0.1 (2018, archived) hands
each send to a thread pool of asyncio, which `thread_pool` stands for; async-cassandra has no
release that installs; the rest are mappers, migrations and forks of the driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from cassandra.cluster import Cluster

from benchmarks import competitors
from benchmarks.clients import INSERT, session_on
from benchmarks.competitors import WINDOW, Competitor, windowed
from benchmarks.experiment import Context, Result
from benchmarks.rounds import Run, interleaved, rate_ratio, summary
from benchmarks.throughput import OURS, users


def throttled(session: Any, statement: Any, parameters: Iterable[Any], concurrency: int) -> int:
    """more-executors: its throttle over a thread pool."""
    from more_executors import Executors

    pool = Executors.thread_pool(max_workers=concurrency).with_throttle(concurrency)
    with pool:
        return windowed(lambda given: pool.submit(session.execute, statement, given), parameters)


async def _gate(
    execute: Callable[[Any], Awaitable[Any]], parameters: Iterable[Any], concurrency: int
) -> int:
    """Await one call for each of the parameters, with a semaphore."""
    semaphore, tasks, ended = asyncio.Semaphore(concurrency), set[asyncio.Task[None]](), 0

    async def one(given: Any) -> None:
        nonlocal ended
        try:
            await execute(given)
            ended += 1
        finally:
            semaphore.release()

    for number, given in enumerate(parameters, 1):
        await semaphore.acquire()
        tasks.add(asyncio.create_task(one(given)))
        if number % WINDOW == 0:
            # result() is None, or raises what one has raised
            tasks = {task for task in tasks if not task.done() or task.result()}
    await asyncio.gather(*tasks)
    return ended


def asyncio_wrapped(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
) -> int:
    """Asyncio with a semaphore over wrapped response futures, as it is written by hand."""

    async def main() -> int:
        loop = asyncio.get_running_loop()

        def execute(given: Any) -> asyncio.Future[Any]:
            future = loop.create_future()
            session.execute_async(statement, given).add_callbacks(
                lambda rows: loop.call_soon_threadsafe(future.set_result, rows),
                lambda error: loop.call_soon_threadsafe(future.set_exception, error),
            )
            return future

        return await _gate(execute, parameters, concurrency)

    return asyncio.run(main())


def asyncio_driver(
    session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
) -> int:
    """cassandra-asyncio-driver: `aexecute` with a semaphore; the session must be one of its own."""

    def execute(given: Any) -> Any:
        return session.aexecute(statement, given)

    return asyncio.run(_gate(execute, parameters, concurrency))


class Acsylla:
    """acsylla: another driver, the one for C++, under asyncio, with a semaphore.

    It connects in the round that is discarded.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._connected: tuple[Any, Any] | None = None

    def __call__(
        self, session: Any, statement: Any, parameters: Iterable[Any], concurrency: int
    ) -> int:
        """Run the statement's text on a session of its own."""
        return self._loop.run_until_complete(
            self._run(session, statement.query_string, parameters, concurrency)
        )

    async def _run(self, session: Any, text: str, parameters: Any, concurrency: int) -> int:
        import acsylla

        if self._connected is None:
            points, port = session.cluster.contact_points, session.cluster.port
            cluster = acsylla.create_cluster(points, port, protocol_version=4)
            acsylla.get_logger().setLevel("ERROR")  # it says that the stub is no Scylla
            own = await cluster.create_session(keyspace=session.keyspace)
            self._connected = own, await own.create_prepared(text)
        own, prepared = self._connected

        def execute(given: Any) -> Any:
            bound = prepared.bind()
            bound.bind_list(list(given))
            return own.execute(bound)

        return await _gate(execute, parameters, concurrency)

    def close(self) -> None:
        """Close the connection."""
        if self._connected is not None:
            self._loop.run_until_complete(self._connected[0].close())
        self._loop.close()


def stub_others(context: Context) -> Result:
    """Inserts on the stub by what else is used: chains, more-executors, asyncio, libraries."""
    settings, server, acsylla = context.settings, context.stub(), Acsylla()
    chosen: dict[str, tuple[str, Competitor]] = {
        OURS: ("", competitors.ours_map),
        "callback chain with time limits": ("", competitors.callback_chain_limited),
        "more-executors throttle": ("more_executors", throttled),
        "asyncio semaphore": ("", asyncio_wrapped),
        "cassandra-asyncio-driver": ("cassandra_asyncio", asyncio_driver),
        "acsylla (C++ driver)": ("acsylla", acsylla),
    }
    installed = {
        name: competitor
        for name, (package, competitor) in chosen.items()
        if not package or importlib.util.find_spec(package)
    }
    cluster_class: Any = Cluster
    if "cassandra-asyncio-driver" in installed:
        # it is the driver's, whose sessions get three more methods: all can share one
        cluster_class = importlib.import_module("cassandra_asyncio.cluster").Cluster
    with contextlib.closing(acsylla), session_on(server, cluster_class) as session:
        statement, rows = session.prepare(INSERT), users(settings.statements)

        def run_of(competitor: Competitor) -> Run:
            return lambda: competitor(session, statement, rows, settings.concurrency)

        samples = interleaved(
            {name: run_of(competitor) for name, competitor in installed.items()},
            settings.rounds,
            server.cpu_seconds,
            title="others, stub",
            check=settings.statements,
        )
    measures = {
        f"stub-others/{name}": rate_ratio(samples, OURS, name).asdict()
        for name in samples
        if name != OURS
    }
    missing = sorted(chosen.keys() - installed.keys())
    return {
        "statement": INSERT,
        "competitors": summary(samples),
        "not_installed": missing,
        "measures": measures,
    }
