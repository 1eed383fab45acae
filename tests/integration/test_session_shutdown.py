"""Promise 1 with the real driver: every future ends, whatever becomes of session and nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException, ConnectionShutdown
from cassandra.policies import FallthroughRetryPolicy, RetryPolicy
from cassandra.query import SimpleStatement

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from tests.integration.helpers import (
    INSERT,
    IS_SCYLLA,
    LIMIT,
    SELECT,
    Listener,
    Timed,
    connected,
    done,
    executing,
    failure,
    failure_of,
    name_of,
    profile_of,
    settle,
    user,
)
from tests.protocol import ScriptedCluster, ScriptedServer, ServerRequest
from tests.waits import eventually

SOON = 1.0  # seconds, in which all that was in flight has ended after a shutdown
OFTEN = {"idle_heartbeat_interval": 0.05, "idle_heartbeat_timeout": 0.1}
PATIENCE = {"connect_timeout": 0.5, "control_connection_timeout": 0.5}
POLICIES: list[type[RetryPolicy]] = [RetryPolicy, FallthroughRetryPolicy]
SHUTDOWNS: dict[str, Callable[[Any], object]] = {
    "session.shutdown": lambda session: session.shutdown(),
    "cluster.shutdown": lambda session: session.cluster.shutdown(),
}


def assert_all_end(futures: list[Future[Any]]) -> None:
    """None of the futures is left pending for ever."""
    pending = wait(futures, LIMIT).not_done
    assert not pending, f"{len(pending)} of {len(futures)} are pending for ever"


# -- the session is shut down


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("limit", [60.0, None])
@pytest.mark.parametrize("shut_down", SHUTDOWNS.values(), ids=SHUTDOWNS)
def test_what_is_in_flight_ends(
    shut_down: Callable[[Any], object], limit: float | None, policy: type[RetryPolicy]
) -> None:
    """After a shutdown what was in flight ends with `ConnectionShutdown`, also without limit.

    Where scylla-driver ends it itself, its retry policy may find that there is no other host.
    """
    profile = profile_of(request_timeout=limit, retry_policy=policy())
    with ScriptedServer() as server, connected(server, profile=profile) as session:
        with executing(session) as executor:
            futures = [executor.submit("SELECT 1") for _ in range(100)]
            server.requests(100)
            with Timed() as timed:
                shut_down(session)
                assert_all_end(futures)
            assert timed.seconds <= SOON + timed.lateness
            ends = {type(future.exception()) for future in futures}
            assert ends - ({NoHostAvailable} if IS_SCYLLA else set()) <= {ConnectionShutdown}


@pytest.mark.parametrize("retry", [None, Retry(delay=0.01)], ids=["no retry", "retry"])
@pytest.mark.parametrize("limit", [60.0, None])
def test_what_waits_ends_as_well(limit: float | None, retry: Retry | None) -> None:
    """After a shutdown nothing that waits for its turn, or to be tried again, is forgotten."""
    with ScriptedServer() as server, connected(server) as session:
        with executing(session, concurrency=10, retry=retry) as executor:
            view = executor.with_options(timeout=limit)
            statement = SimpleStatement("SELECT 1", is_idempotent=True)
            futures = [view.submit(statement) for _ in range(500)]
            for request in server.requests(10):
                request.error("overloaded")
            server.requests(10)
            with Timed() as timed:
                session.shutdown()
                assert_all_end(futures)
            # each of those that had to wait is sent in vain after the others
            assert timed.seconds <= SOON + 500 * 0.005 + timed.lateness
            assert all(future.exception() is not None for future in futures)
            counts = executor.stats()
            assert (counts.queued, counts.in_flight, counts.waiting_for_retry) == (0, 0, 0)
            assert sum(counts.failed.values()) == 500
            executor.shutdown(wait=True)


def test_each_has_an_error_of_its_own() -> None:
    """What ends at a shutdown tells which call it was, each with its own exception."""
    with ScriptedServer() as server, connected(server) as session, executing(session) as executor:
        futures = [executor.submit(f"SELECT {n}") for n in range(50)]
        server.requests(50)
        session.shutdown()
        errors: list[Any] = [failure_of(future) for future in futures]
        assert len(set(map(id, errors))) == 50
        assert [error.call.statement for error in errors] == [f"SELECT {n}" for n in range(50)]


def test_after_the_shutdown() -> None:
    """What is submitted after a shutdown ends with an error, soon."""
    with ScriptedServer() as server, connected(server) as session, executing(session) as executor:
        session.shutdown()
        with Timed() as timed:
            futures = [executor.submit("SELECT 1") for _ in range(20)]
            for future in futures:
                assert isinstance(failure_of(future), (NoHostAvailable, ConnectionException))
        assert timed.seconds <= SOON + timed.lateness


def test_a_map_ends() -> None:
    """A map that waits for its results when the session is shut down raises, and ends."""
    with ScriptedServer() as server, connected(server) as session:
        with executing(session, concurrency=5) as executor:
            select = session.prepare(SELECT)
            results = executor.with_options(timeout=None).map(select, range(1000), buffersize=20)
            shut_down_after(server, session, 5)
            with pytest.raises(ConnectionShutdown):
                next(results)
            with pytest.raises(StopIteration):
                next(results)


def shut_down_after(server: ScriptedServer, session: Any, requests: int) -> None:
    """Shut the session down, on another thread, when so many requests have come."""

    def run() -> None:
        server.requests(requests)
        session.shutdown()

    threading.Thread(target=run, daemon=True).start()


def test_the_drop_ins_end() -> None:
    """All of them end when the session is shut down under them."""
    for generator in (False, True):
        with ScriptedServer() as server, connected(server) as session:
            select = session.prepare(SELECT)
            shut_down_after(server, session, 10)
            results = execute_concurrent_with_args(
                session,
                select,
                [(n,) for n in range(10)],
                raise_on_first_error=False,
                results_generator=generator,
            )
            kinds = [(each.success, type(each.result_or_exc)) for each in results]
            assert kinds == [(False, ConnectionShutdown)] * 10
    with ScriptedServer() as server, connected(server) as session:
        future = execute_concurrent_async(session, [("SELECT 1", None)] * 10)
        server.requests(10)
        session.shutdown()
        assert [type(each.result_or_exc) for each in future.result(LIMIT)] == [
            ConnectionShutdown
        ] * 10
        with pytest.raises((NoHostAvailable, ConnectionException)):
            execute_concurrent(session, [("SELECT 1", None)])


def test_a_later_page_ends() -> None:
    """Who waits for a later page gets the error when the session is shut down."""
    with ScriptedServer() as server, connected(server) as session, executing(session) as executor:
        future = executor.with_options(timeout=None).submit("SELECT id FROM ks.t")
        server.next_request().rows([("id", "int")], [(0,)], paging_state=b"1")
        rows = iter(future.result(LIMIT))
        assert next(rows) == (0,)
        shut_down_after(server, session, 1)
        with pytest.raises(ConnectionShutdown):
            next(rows)


def test_work_on_the_drivers_own_threads_ends() -> None:
    """What waited for the driver to prepare it again, or to read the schema, ends as well."""
    with ScriptedServer() as server, connected(server, **PATIENCE) as session:
        with executing(session) as executor:
            view = executor.with_options(timeout=None)
            insert = session.prepare(INSERT)
            server.forget()
            server.hand_over = {"PREPARE", "SYSTEM"}
            futures = [view.submit(insert, n, "") for n in range(5)]
            futures.append(view.submit("CREATE TABLE ks.t (id int PRIMARY KEY)"))
            for request in server.requests(6):
                if request.opcode == "QUERY":
                    request.schema_change("CREATED", "TABLE", "ks", "t")
            session.shutdown()
            assert_all_end(futures)
            # the schema could not be read any more; the statement itself was executed
            assert all(future.exception() is not None for future in futures[:5])


def test_a_shutdown_from_a_callback() -> None:
    """A done-callback may shut the session down; all that is in flight ends."""
    with ScriptedServer() as server, connected(server) as session, executing(session) as executor:
        view = executor.with_options(timeout=None)
        futures = [view.submit("SELECT 1") for _ in range(20)]
        futures[0].add_done_callback(lambda _: session.cluster.shutdown())
        server.requests(20)[0].void()
        assert futures[0].result(LIMIT).current_rows == []
        assert {type(failure_of(future)) for future in futures[1:]} == {ConnectionShutdown}


def test_an_answer_and_the_shutdown_at_once() -> None:
    """Whatever comes first, each future ends with its own result, or with `ConnectionShutdown`."""
    for _ in range(10):
        with ScriptedServer() as server, connected(server) as session:
            with executing(session, concurrency=200) as executor:
                select = session.prepare(SELECT)
                futures = [executor.submit(select, n) for n in range(200)]
                requests = server.requests(200)
                together = threading.Barrier(2, timeout=LIMIT)

                def answer(
                    requests: list[ServerRequest] = requests, together: Any = together
                ) -> None:
                    together.wait()
                    for request in requests:
                        user(request)

                thread = threading.Thread(target=answer)
                thread.start()
                together.wait()
                session.shutdown()
                thread.join(LIMIT)
                assert_all_end(futures)
                for n, future in enumerate(futures):
                    error = future.exception()
                    if error is None:
                        assert future.result().one() == (n, name_of(n))
                    else:
                        assert isinstance(error, ConnectionShutdown)


# -- connections are lost


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("limit", [60.0, None])
def test_a_dropped_connection(
    server: ScriptedServer, session: Any, limit: float | None, reset: bool
) -> None:
    """What was in flight on it ends with `ConnectionShutdown`; on the next one all goes on."""
    with executing(session) as executor:
        view = executor.with_options(timeout=limit)
        futures = [view.submit("SELECT 1") for _ in range(100)]
        server.requests(100)
        listener = Listener()
        session.cluster.register_listener(listener)
        server.drop_all(reset=reset)
        errors = [failure_of(future) for future in futures]
        assert {type(error) for error in errors} == {ConnectionShutdown}
        listener.wait_for("up", server.address)
        server.on_request = done
        for future in [view.submit("SELECT 1") for _ in range(100)]:
            future.result(LIMIT)


def test_the_driver_asks_another_host() -> None:
    """A lost connection that the driver's retry policy gets over costs no call."""
    profile = profile_of(retry_policy=RetryPolicy())
    with ScriptedCluster(3) as server, connected(server, profile=profile) as session:
        with executing(session) as executor:
            select = session.prepare(SELECT)
            futures = [executor.submit(select, n) for n in range(90)]
            requests = server.requests(90)
            lost = server.nodes[2]
            lost.refuse_connections()
            lost.drop_all()
            again = server.requests(sum(each.node is lost for each in requests))
            for request in requests + again:
                if request.node is not lost:
                    user(request)
            for n, future in enumerate(futures):
                assert future.result(LIMIT).one() == (n, name_of(n))


def test_a_node_dies_and_comes_back() -> None:
    """What waited for a node that is gone ends with errors; when it is back, all goes on."""
    with ScriptedServer() as server, connected(server) as session:
        with executing(session, concurrency=10) as executor:
            view = executor.with_options(timeout=None)
            futures = [view.submit("SELECT 1") for _ in range(1000)]
            server.requests(10)
            listener = Listener()
            session.cluster.register_listener(listener)
            server.refuse_connections()
            server.drop_all()
            assert_all_end(futures)
            kinds = {type(future.exception()) for future in futures}
            assert kinds <= {ConnectionShutdown, NoHostAvailable}
            assert server.statistics().requests == 10
            server.accept_connections()
            listener.wait_for("up", server.address)
            server.on_request = done
            for future in [view.submit("SELECT 1") for _ in range(100)]:
                future.result(LIMIT)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_heartbeat_gives_up(policy: type[RetryPolicy]) -> None:
    """Without time limit, what a hung node owes ends when the driver's heartbeat gives it up."""
    profile = profile_of(request_timeout=None, retry_policy=policy())
    with ScriptedServer() as server, connected(server, profile=profile, **OFTEN) as session:
        with executing(session, concurrency=50) as executor:
            futures = [executor.submit("SELECT 1") for _ in range(60)]
            server.requests(50)
            server.refuse_connections()
            server.hang()
            assert_all_end(futures)
            kinds = {type(future.exception()) for future in futures}
            assert kinds <= {ConnectionShutdown, NoHostAvailable, OperationTimedOut}


def test_a_heartbeat_that_is_answered() -> None:
    """A node that is slow, but answers heartbeats, is waited for."""
    with ScriptedServer() as server, connected(server, **OFTEN) as session:
        with executing(session) as executor:
            future = executor.with_options(timeout=None).submit("SELECT 1")
            request = server.next_request()
            before = server.statistics().automatic["OPTIONS"]
            server.wait_until(lambda now: now.automatic["OPTIONS"] > before + 5)
            assert not future.done()
            request.void()
            future.result(LIMIT)


def test_a_node_hangs_and_resumes(server: ScriptedServer, session: Any) -> None:
    """What a hung node holds back arrives when it resumes, each answer at its call."""
    with executing(session, concurrency=50) as executor:
        select = session.prepare(SELECT)
        server.hang()
        server.on_request = user
        futures = [executor.submit(select, n) for n in range(200)]
        server.wait_until(lambda now: now.requests == 50)
        assert not any(future.done() for future in futures)
        server.resume()
        for n, future in enumerate(futures):
            assert future.result(LIMIT).one() == (n, name_of(n))
        settle(session)
        assert server.statistics().max_unanswered == 50


def test_connections_are_lost_again_and_again(server: ScriptedServer) -> None:
    """Under connections that are lost all the time, every call ends, with its own result or not."""
    profile = profile_of(retry_policy=RetryPolicy(), request_timeout=5.0)
    with connected(server, profile=profile) as session:
        with executing(session, concurrency=50) as executor:
            select = session.prepare(SELECT)
            count = 0

            def answer(request: ServerRequest) -> None:
                nonlocal count
                count += 1
                if count % 400 == 0:
                    request.connection.drop(reset=bool(count % 800))
                else:
                    user(request)

            server.on_request = answer
            outcomes = []
            for n in range(0, 3000, 100):
                futures = [executor.submit(select, n + k) for k in range(100)]
                assert_all_end(futures)
                outcomes += [future.exception() or future.result().one() for future in futures]
                eventually(lambda: failure(session.execute_async(select, (0,))) is None)
            kinds = (ConnectionException, NoHostAvailable)
            for n, outcome in enumerate(outcomes):
                assert isinstance(outcome, kinds) or outcome == (n, name_of(n)), outcome
            assert sum(not isinstance(outcome, Exception) for outcome in outcomes) > 1500


def test_the_executor_waits_for_what_a_shutdown_ended() -> None:
    """`executor.shutdown(wait=True)` returns when the session was shut down meanwhile."""
    with ScriptedServer() as server, connected(server) as session:
        executor = CassandraExecutor(session, 10)
        view = executor.with_options(timeout=None)
        futures = [view.submit("SELECT 1") for _ in range(30)]
        shut_down_after(server, session, 10)
        thread = threading.Thread(target=executor.shutdown, daemon=True)
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive(), "still waits"
        assert all(future.done() for future in futures)
