"""Each line of the interface (design.md) on a real node, or on that of CASSCONC_CONTACT_POINTS."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError, as_completed, wait
from contextlib import contextmanager
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, ResultSet
from cassandra.policies import RoundRobinPolicy
from cassandra.protocol import SyntaxException
from cassandra.query import BatchStatement, SimpleStatement, dict_factory, tuple_factory

from cassconc import (
    Call,
    CassandraExecutor,
    ExecutionResult,
    TooManyErrors,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)

LIMIT = 60  # seconds after which a wait is a failure of the test
ROWS = 25
READ = "SELECT id, name FROM users WHERE id = %s"
READ_NAMED = "SELECT id, name FROM users WHERE id = %(id)s"
READ_PREPARED = "SELECT id, name FROM users WHERE id = ?"
WRITE = "INSERT INTO users (id, name) VALUES (?, ?)"
NO_SUCH_TABLE = "SELECT nothing FROM nowhere"


@pytest.fixture(scope="module")
def session(local_cluster: Any) -> Iterator[Any]:
    """A session in a keyspace of its own, in which there are 25 users and a wide partition."""
    profiles = {
        EXEC_PROFILE_DEFAULT: ExecutionProfile(RoundRobinPolicy(), request_timeout=LIMIT),
        "dicts": ExecutionProfile(RoundRobinPolicy(), row_factory=dict_factory),
        "impatient": ExecutionProfile(RoundRobinPolicy(), request_timeout=0.5),
    }
    keyspace = f"cassconc_test_{uuid.uuid4().hex[:12]}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    with Cluster(
        local_cluster.contact_points,
        port=local_cluster.port,
        execution_profiles=profiles,
        connect_timeout=LIMIT,  # a loaded machine may take longer than the default
        control_connection_timeout=LIMIT,
    ) as driver:
        session = driver.connect()
        session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}")
        try:
            session.set_keyspace(keyspace)
            session.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
            session.execute("CREATE TABLE wide (id int, n int, PRIMARY KEY (id, n))")
            for n in range(ROWS):
                session.execute("INSERT INTO users (id, name) VALUES (%s, %s)", (n, f"user {n}"))
                session.execute("INSERT INTO wide (id, n) VALUES (1, %s)", (n,))
            yield session
        finally:
            session.execute(f"DROP KEYSPACE {keyspace}", timeout=LIMIT)


@pytest.fixture
def executor(session: Any) -> Iterator[CassandraExecutor]:
    """An executor on that session."""
    with CassandraExecutor(session, concurrency=10) as executor:
        yield executor


@pytest.fixture(scope="module")
def read(session: Any) -> Any:
    """A prepared statement that reads one user."""
    return session.prepare(READ_PREPARED)


@pytest.fixture(scope="module")
def write(session: Any) -> Any:
    """A prepared statement that writes one user."""
    return session.prepare(WRITE)


@contextmanager
def requests_of(session: Any) -> Iterator[list[Any]]:
    """Collect the driver's response futures as the requests are made."""
    made: list[Any] = []
    session.add_request_init_listener(made.append)
    try:
        yield made
    finally:
        session.remove_request_init_listener(made.append)


def names(results: Any) -> list[str]:
    """The name of the one user in each of the results."""
    return [rows.one().name for rows in results]


def user(number: int) -> str:
    """The name of a user."""
    return f"user {number}"


def pairs(statement: Any, count: int = ROWS) -> Iterator[tuple[Any, tuple[int]]]:
    """A statement with parameters for each user."""
    return ((statement, (n,)) for n in range(count))


# --- submit -------------------------------------------------------------------------------------

STATEMENTS: dict[str, Callable[[CassandraExecutor, Any], Future[Any]]] = {
    "string without": lambda e, s: e.submit("SELECT id, name FROM users WHERE id = 7"),
    "string positional": lambda e, s: e.submit(READ, 7),
    "string named": lambda e, s: e.submit(READ_NAMED, id=7),
    "simple positional": lambda e, s: e.submit(SimpleStatement(READ), 7),
    "simple named": lambda e, s: e.submit(SimpleStatement(READ_NAMED), id=7),
    "prepared positional": lambda e, s: e.submit(s.prepare(READ_PREPARED), 7),
    "prepared named": lambda e, s: e.submit(s.prepare(READ_PREPARED), id=7),
    "bound": lambda e, s: e.submit(s.prepare(READ_PREPARED).bind((7,))),
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_submit_of_each_kind_of_statement(
    kind: str, session: Any, executor: CassandraExecutor
) -> None:
    """One request, with positional or named parameters; its result is the driver's `ResultSet`."""
    future = STATEMENTS[kind](executor, session)
    assert isinstance(future, Future)
    rows = future.result(LIMIT)
    assert isinstance(rows, ResultSet)
    assert [(row.id, row.name) for row in rows] == [(7, "user 7")]


def test_submit_of_a_batch(session: Any, write: Any, executor: CassandraExecutor) -> None:
    """A batch of statements of several kinds is one request."""
    batch = BatchStatement()
    batch.add(write, (100, "a"))
    batch.add(write.bind((101, "b")))
    batch.add(SimpleStatement("INSERT INTO users (id, name) VALUES (%s, %s)"), (102, "c"))
    batch.add("DELETE FROM users WHERE id = 102")
    executor.submit(batch).result(LIMIT)
    found = [session.execute(READ, (n,)).all() for n in (100, 101, 102)]
    assert [[tuple(row) for row in rows] for rows in found] == [[(100, "a")], [(101, "b")], []]


def test_submit_of_positional_and_named_parameters(executor: CassandraExecutor) -> None:
    """Both at once are a `TypeError`."""
    with pytest.raises(TypeError, match="positional or named"):
        executor.submit(READ, 7, id=7)


def test_submit_of_a_callable(session: Any, executor: CassandraExecutor) -> None:
    """It runs on a worker thread, where it may use the session, and its workers start with it."""
    threads = set(threading.enumerate())

    def fetch(number: int, *, table: str) -> tuple[str, threading.Thread]:
        rows = session.execute(f"SELECT name FROM {table} WHERE id = %s", (number,))
        return rows.one().name, threading.current_thread()

    executor.submit(READ, 7).result(LIMIT)
    name, thread = executor.submit(fetch, 7, table="users").result(LIMIT)
    assert name == user(7)
    assert thread not in threads
    assert isinstance(executor.submit(fetch, 7).exception(LIMIT), TypeError)


def test_failures_of_submit(executor: CassandraExecutor) -> None:
    """What the server rejects is the driver's exception in that future, and harms no other."""
    futures = [
        executor.submit(NO_SUCH_TABLE),
        executor.submit("SELEKT"),
        executor.submit(READ, "no number"),
        executor.submit(READ, 7),
    ]
    errors = [type(future.exception(LIMIT)) for future in futures]
    assert errors == [InvalidRequest, SyntaxException, InvalidRequest, type(None)]
    assert futures[3].result().one().name == user(7)


def test_futures_are_standard(executor: CassandraExecutor) -> None:
    """`wait`, `as_completed`, done-callbacks and `asyncio.wrap_future` take them."""
    futures = [executor.submit(READ, n) for n in range(ROWS)]
    assert sorted(names(f.result() for f in as_completed(futures, LIMIT))) == sorted(
        map(user, range(ROWS))
    )
    assert wait(futures, LIMIT).not_done == set()
    called = threading.Event()
    futures[0].add_done_callback(lambda future: called.set())
    assert called.wait(LIMIT)

    async def main() -> list[Any]:
        return await asyncio.gather(
            *(asyncio.wrap_future(executor.submit(READ, n)) for n in range(ROWS))
        )

    assert names(asyncio.run(main())) == [user(n) for n in range(ROWS)]


# --- map, starmap, execute_concurrent -----------------------------------------------------------


def test_map_takes_one_iterable_per_marker(
    session: Any, write: Any, read: Any, executor: CassandraExecutor
) -> None:
    """Results come in the order of the input, and the shortest iterable ends it."""
    written = executor.map(write, range(200, 300), (f"name {n}" for n in range(200, 250)))
    assert len(list(written)) == 50
    assert names(executor.map(read, range(200, 250))) == [f"name {n}" for n in range(200, 250)]
    assert executor.submit(read, 250).result(LIMIT).all() == []


@pytest.mark.parametrize("statement", [READ, SimpleStatement(READ)], ids=["string", "simple"])
def test_map_of_statements_that_are_not_prepared(
    statement: Any, executor: CassandraExecutor
) -> None:
    """A string and a `SimpleStatement` take the parameters as a prepared one does."""
    assert names(executor.map(statement, range(ROWS))) == [user(n) for n in range(ROWS)]


def test_map_of_a_callable(executor: CassandraExecutor) -> None:
    """It runs on worker threads, and the results come in the order of the input."""
    assert list(executor.map(pow, range(5), [2] * 5, chunksize=2)) == [0, 1, 4, 9, 16]


def test_buffersize(read: Any, executor: CassandraExecutor) -> None:
    """At most so many calls are taken ahead of the consumer."""
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for n in range(10 * ROWS):
            taken.append(n)
            yield n % ROWS

    for yielded, rows in enumerate(executor.map(read, numbers(), buffersize=7)):
        assert rows.one().name == user(yielded % ROWS)
        assert len(taken) <= yielded + 1 + 7
    assert len(taken) == 10 * ROWS


def test_ordered_false(read: Any, executor: CassandraExecutor) -> None:
    """Results come as they are there; `with_calls` tells whose they are."""
    results = executor.map(read, range(ROWS), ordered=False, with_calls=True, buffersize=10)
    found = {call.position: (call.parameters, rows.one().name) for call, rows in results}
    assert found == {n: ((n,), user(n)) for n in range(ROWS)}


def test_timeout_of_a_map(read: Any, session: Any) -> None:
    """A result that is not there in time is a `TimeoutError`, and ends the map."""
    with CassandraExecutor(session, concurrency=1) as executor:
        results = executor.map(read, [1] * 10_000, timeout=0)
        with pytest.raises(TimeoutError):
            list(results)
        assert list(results) == []
        assert names(executor.map(read, [1], timeout=LIMIT)) == [user(1)]


def test_the_first_failure_of_a_map(executor: CassandraExecutor) -> None:
    """Results before it are yielded, then it is raised; it says which call it was."""
    yielded = []
    with pytest.raises(InvalidRequest) as raised:
        for rows in executor.map(READ, [0, 1, 2, "no number", 4]):
            yielded.append(rows.one().name)
    assert yielded == [user(0), user(1), user(2)]
    assert raised.value.call.position == 3
    assert "no number" not in "".join(raised.value.__notes__)


def test_return_exceptions(executor: CassandraExecutor) -> None:
    """Failures are yielded in their place, and nothing stops."""
    results = list(executor.map(READ, [0, "no number", 2], return_exceptions=True))
    assert isinstance(results[1], InvalidRequest)
    assert names([results[0], results[2]]) == [user(0), user(2)]


def test_with_calls(read: Any, executor: CassandraExecutor) -> None:
    """Each result comes with its call."""
    (call, rows), *_ = executor.map(read, [3, 4], with_calls=True)
    assert call == Call(read, (3,), 0)
    assert rows.one().name == user(3)
    assert "3" not in repr(call)


def test_max_errors(executor: CassandraExecutor) -> None:
    """So many failures are yielded; the next one ends the map, with a report."""
    results = executor.starmap(NO_SUCH_TABLE, [()] * 10, max_errors=3, buffersize=1)
    errors = [next(results) for _ in range(3)]
    assert {type(error) for error in errors} == {InvalidRequest}
    with pytest.raises(TooManyErrors) as raised:
        next(results)
    # the result that is asked for, and one ahead of it
    assert raised.value.failed in (4, 5)
    assert raised.value.succeeded == 0
    assert "InvalidRequest" in str(raised.value)


def test_starmap(write: Any, executor: CassandraExecutor) -> None:
    """Each item has all parameters of a call: a sequence, or a dict of named ones."""
    people = [(300, "a"), [301, "b"], {"id": 302, "name": "c"}]
    assert len(list(executor.starmap(write, people, buffersize=2))) == 3
    numbers = [{"id": n} for n in (300, 301, 302)]
    assert names(executor.starmap(READ_NAMED, numbers)) == ["a", "b", "c"]
    assert list(executor.starmap(divmod, [(7, 2), (9, 4)])) == [(3, 1), (2, 1)]


def test_execute_concurrent_of_the_executor(
    read: Any, write: Any, executor: CassandraExecutor
) -> None:
    """A statement per item, of any kind, with its parameters or `None`; options are `map`'s."""
    batch = BatchStatement().add(write, (400, "a"))
    statements = [
        (batch, None),
        (READ, (1,)),
        (READ_NAMED, {"id": 2}),
        (read, [3]),
        (read, {"id": 4}),
        (read.bind((5,)), None),
        (SimpleStatement("SELECT id, name FROM users WHERE id = 6"), None),
    ]
    results = executor.execute_concurrent(iter(statements), buffersize=3, with_calls=True)
    (call, _), *others = results
    assert call.statement is batch
    assert names(rows for _, rows in others) == [user(n) for n in range(1, 7)]
    results = executor.execute_concurrent([(NO_SUCH_TABLE, None), (READ, (1,))], ordered=False,
                                          return_exceptions=True)  # fmt: skip
    assert {type(result) for result in results} == {
        InvalidRequest,
        type(executor.submit(READ, 1).result()),
    }


# --- later pages --------------------------------------------------------------------------------


def test_later_pages(executor: CassandraExecutor) -> None:
    """A result that is paged fetches its next page when the consumer comes to it."""
    statement = SimpleStatement("SELECT n FROM wide WHERE id = 1", fetch_size=10)
    rows = executor.submit(statement).result(LIMIT)
    assert rows.has_more_pages
    assert len(rows.current_rows) == 10
    assert [row.n for row in rows] == list(range(ROWS))
    by_hand = executor.submit(statement).result(LIMIT)
    by_hand.fetch_next_page()
    assert [row.n for row in by_hand.current_rows] == list(range(10, 20))
    several = executor.map(
        SimpleStatement("SELECT n FROM wide WHERE id = %s", fetch_size=7), [1, 1]
    )
    assert [[row.n for row in rows] for rows in several] == [list(range(ROWS))] * 2


# --- with_options -------------------------------------------------------------------------------


def test_option_execution_profile(session: Any, executor: CassandraExecutor) -> None:
    """A profile, or its name, decides how the statements of the view are run."""
    view = executor.with_options(execution_profile="dicts")
    expected = {"id": 7, "name": "user 7"}
    assert view.submit(READ, 7).result(LIMIT).all() == [expected]
    assert [rows.one() for rows in view.map(READ, [7])] == [expected]
    own = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=tuple_factory)
    rows = executor.with_options(execution_profile=own).submit(READ, 7).result(LIMIT)
    assert rows.all() == [(7, "user 7")]
    assert executor.submit(READ, 7).result(LIMIT).one().name == user(7)


def test_option_timeout(local_cluster: Any, executor: CassandraExecutor) -> None:
    """A request has the time limit of its view, or of its profile; `None` means none."""
    if not local_cluster.nodes:
        pytest.skip("a cluster of others is not made to hang")
    node = local_cluster.nodes[0]
    impatient = executor.with_options(execution_profile="impatient")
    node.hang()
    try:
        ends = [
            executor.with_options(timeout=0.2).submit(READ, 7),
            impatient.submit(READ, 7),
            impatient.map(READ, [7]),
        ]
        stays = impatient.with_options(timeout=None).submit(READ, 7)
        assert isinstance(ends[0].exception(LIMIT), OperationTimedOut)
        assert isinstance(ends[1].exception(LIMIT), OperationTimedOut)
        with pytest.raises(OperationTimedOut):
            next(ends[2])
        assert not stays.done()
    finally:
        node.resume()
    assert stays.result(LIMIT).one().name == user(7)


def test_option_trace(executor: CassandraExecutor) -> None:
    """The node traces the request, and the result tells it."""
    rows = executor.with_options(trace=True).submit(READ, 7).result(LIMIT)
    trace = rows.get_query_trace(max_wait_sec=LIMIT)
    assert trace.request_type == "Execute CQL3 query"
    assert trace.events
    assert executor.submit(READ, 7).result(LIMIT).get_query_trace() is None


def test_options_custom_payload_and_execute_as(session: Any, executor: CassandraExecutor) -> None:
    """Both go out with the request; a node that knows neither ignores them."""
    view = executor.with_options(custom_payload={"key": b"value"})
    with requests_of(session) as made:
        assert view.submit(READ, 7).result(LIMIT).one().name == user(7)
        assert executor.with_options(execute_as="somebody").submit(READ, 7).result(LIMIT)
        view.with_options(execute_as="somebody").submit(READ, 7).result(LIMIT)
    payloads = [request.message.custom_payload for request in made]
    proxy = {"ProxyExecute": b"somebody"}
    assert payloads == [{"key": b"value"}, proxy, {"key": b"value", **proxy}]


def test_option_paging_state(executor: CassandraExecutor) -> None:
    """A query goes on where the paging state says."""
    statement = SimpleStatement("SELECT n FROM wide WHERE id = 1", fetch_size=10)
    state = executor.submit(statement).result(LIMIT).paging_state
    rest = executor.with_options(paging_state=state).submit(statement).result(LIMIT)
    assert [row.n for row in rest] == list(range(10, ROWS))


def test_option_host(session: Any, executor: CassandraExecutor) -> None:
    """The request goes to that host."""
    for host in session.cluster.metadata.all_hosts():
        rows = executor.with_options(host=host).submit(READ, 7).result(LIMIT)
        assert rows.response_future.coordinator_host == host


def test_a_view(executor: CassandraExecutor) -> None:
    """Options merge; a view has its executor's gate, and closes nothing."""
    with executor.with_options(timeout=LIMIT).with_options(execution_profile="dicts") as view:
        assert view.submit(READ, 7).result(LIMIT).one() == {"id": 7, "name": "user 7"}
    view.shutdown()
    assert view.submit(READ, 7).result(LIMIT)
    assert executor.submit(READ, 7).result(LIMIT)
    assert view.stats() == executor.stats()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        view.submit(READ, 7)


# --- shutdown -----------------------------------------------------------------------------------


def test_shutdown(session: Any, read: Any) -> None:
    """It waits until every future has ended, and leaves the session as it is."""
    executor = CassandraExecutor(session, concurrency=2)
    futures = [executor.submit(read, n) for n in range(ROWS)]
    executor.shutdown(wait=True)
    assert all(future.done() for future in futures)
    assert names(future.result() for future in futures) == [user(n) for n in range(ROWS)]
    for what in (READ, len):
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(what, "a")
    assert session.execute(READ, (7,)).one().name == user(7)


def test_shutdown_that_cancels(session: Any, read: Any) -> None:
    """What was not sent is cancelled, what was sent is waited for."""
    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit(read, n % ROWS) for n in range(5000)]
    executor.shutdown(wait=True, cancel_futures=True)
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()
    sent = [n for n, future in enumerate(futures) if not future.cancelled()]
    assert names(futures[n].result() for n in sent) == [user(n % ROWS) for n in sent]


# --- the drop-ins -------------------------------------------------------------------------------


@pytest.mark.parametrize("results_generator", [False, True])
def test_drop_in_execute_concurrent(session: Any, read: Any, results_generator: bool) -> None:
    """An `ExecutionResult` for each pair, in the order of the input."""
    results = execute_concurrent(
        session, pairs(read), concurrency=5, results_generator=results_generator
    )
    assert isinstance(results, list) is not results_generator
    results = list(results)
    assert {type(result) for result in results} == {ExecutionResult}
    assert all(result.success for result in results)
    assert names(result.result_or_exc for result in results) == [user(n) for n in range(ROWS)]


@pytest.mark.parametrize("results_generator", [False, True])
def test_failures_of_the_drop_in(session: Any, results_generator: bool) -> None:
    """The first failure is raised, or each is in its place."""
    statements = [(READ, (0,)), (READ, ("no number",)), (NO_SUCH_TABLE, None), (READ, (3,))]

    def execute(raise_on_first_error: bool) -> list[Any]:
        return list(
            execute_concurrent(
                session,
                statements,
                raise_on_first_error=raise_on_first_error,
                results_generator=results_generator,
            )
        )

    with pytest.raises(InvalidRequest):
        execute(True)
    results = execute(False)
    assert [success for success, _ in results] == [True, False, False, True]
    assert [type(result.result_or_exc) for result in results[1:3]] == [InvalidRequest] * 2


@pytest.mark.parametrize("results_generator", [False, True])
def test_drop_in_execute_concurrent_with_args(
    session: Any, read: Any, write: Any, results_generator: bool
) -> None:
    """One statement with each of the parameters, sequences or dicts."""
    parameters = ((n, f"name {n}") for n in range(500, 520))
    options = {"concurrency": 5, "results_generator": results_generator}
    written = list(execute_concurrent_with_args(session, write, parameters, **options))
    assert [success for success, _ in written] == [True] * 20
    keys = [{"id": n} for n in range(500, 520)]
    results = execute_concurrent_with_args(
        session, read, keys, execution_profile="dicts", **options
    )
    assert [rows.one() for _, rows in results] == [
        {"id": n, "name": f"name {n}"} for n in range(500, 520)
    ]


def test_drop_in_execute_concurrent_async(session: Any, read: Any) -> None:
    """It returns a future of the list at once, also for `asyncio`."""
    future = execute_concurrent_async(session, pairs(read), concurrency=5)
    assert isinstance(future, Future)
    assert names(result.result_or_exc for result in future.result(LIMIT)) == [
        user(n) for n in range(ROWS)
    ]

    async def main() -> list[Any]:
        return await asyncio.wrap_future(execute_concurrent_async(session, pairs(read)))

    assert [success for success, _ in asyncio.run(main())] == [True] * ROWS
    failing = [(NO_SUCH_TABLE, None)]
    assert not execute_concurrent_async(session, failing).result(LIMIT)[0].success
    failed = execute_concurrent_async(session, failing, raise_on_first_error=True)
    assert isinstance(failed.exception(LIMIT), InvalidRequest)


def test_drop_ins_with_empty_input(session: Any, read: Any) -> None:
    """Nothing in, nothing out, of all of them."""
    assert execute_concurrent(session, []) == []
    assert list(execute_concurrent(session, iter([]), results_generator=True)) == []
    assert execute_concurrent_with_args(session, read, []) == []
    assert execute_concurrent_async(session, []).result(LIMIT) == []
