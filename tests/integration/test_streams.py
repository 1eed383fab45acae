"""Promise 8 with the real driver: where streams run out, no driver thread waits for one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import Any

import pytest
from cassandra.cluster import NoHostAvailable
from cassandra.policies import RetryPolicy
from hypothesis import given, settings
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, execute_concurrent_with_args
from cassconc.testing import ManualClock
from tests.integration.helpers import (
    LIMIT,
    SELECT,
    USERS,
    Connection,
    Timed,
    connected,
    done,
    executing,
    failure_of,
    in_flight,
    name_of,
    profile_of,
    user,
)
from tests.parts import needs
from tests.protocol import ScriptedCluster, ScriptedServer, ServerRequest
from tests.waits import eventually


def connection_of(streams: int) -> type[Any]:
    """A connection class with so few streams that are used at once."""

    class Narrow(Connection):  # type: ignore[misc]
        max_in_flight = streams + 1  # the driver lends one less than it has

    return Narrow


@contextmanager
def sending_threads(session: Any) -> Iterator[set[threading.Thread]]:
    """The threads on which requests were made."""
    seen: set[threading.Thread] = set()

    def on_request(response: Any) -> None:
        seen.add(threading.current_thread())

    session.add_request_init_listener(on_request)
    yield seen
    session.remove_request_init_listener(on_request)


@pytest.mark.parametrize("streams", [1, 2, 7, 50])
def test_everything_is_sent_in_the_end(version: int, streams: int) -> None:
    """More calls in flight than there are streams: all are sent, and get their own answers."""
    with ScriptedServer(protocol_versions=[version], types=USERS, on_request=user) as server:
        with connected(server, connection_class=connection_of(streams)) as session:
            select = session.prepare(SELECT)
            with sending_threads(session) as threads, executing(session, 100) as executor:
                results = executor.map(select, range(500), buffersize=200)
                for n, result in enumerate(results):
                    assert result.one() == (n, name_of(n))
            assert server.statistics().max_unanswered <= streams
            allowed = ("MainThread", "cassconc-helper")
            assert {each.name for each in threads if not each.name.startswith(allowed)} == set()


@needs("streams")
def test_driver_threads_send_where_streams_are_many(version: int) -> None:
    """With free streams enough, what follows an answer is sent on the driver's own thread."""
    with ScriptedServer(protocol_versions=[version], types=USERS, on_request=user) as server:
        with connected(server) as session, executing(session, 10) as executor:
            select = session.prepare(SELECT)
            with sending_threads(session) as threads:
                for _ in executor.map(select, range(200)):
                    pass
        helpers = {each.name for each in threads if each.name.startswith("cassconc-helper")}
        assert not helpers
        assert len(threads) >= 2


class TwoNodes:
    """Two nodes, of which the first is silent until it is told to answer."""

    def __init__(self, cluster: ScriptedCluster, session: Any) -> None:
        self.session = session
        self.cluster = cluster
        self.owed: list[ServerRequest] = []
        self.select = session.prepare(SELECT)
        self.silent, self.other = cluster.nodes
        self._answers = False
        cluster.on_request = self._answer

    def _answer(self, request: ServerRequest) -> None:
        if request.node is self.silent and not self._answers:
            self.owed.append(request)
        else:
            user(request)

    def host(self, node: Any) -> Any:
        """The driver's host for a node."""
        return self.session.cluster.metadata.get_host(node.address, node.port)

    def assert_the_loop_goes_on(self) -> None:
        """Requests to the other node are answered at once."""
        with Timed() as timed:
            for n in range(5):
                host = self.host(self.other)
                assert self.session.execute(self.select, (n,), host=host).one().id == n
        assert timed.seconds < 0.5 + timed.lateness, "the event loop was blocked"

    def resume(self) -> None:
        """Have the silent node answer."""
        self._answers = True
        for request in self.owed:
            user(request)


@contextmanager
def two_nodes(streams: int) -> Iterator[TwoNodes]:
    """Two nodes and a session with so many streams to each."""
    with ScriptedCluster(2, types=USERS) as cluster:
        with connected(cluster, connection_class=connection_of(streams)) as session:
            yield TwoNodes(cluster, session)


@pytest.mark.parametrize("streams", [1, 5])
def test_a_caller_waits_for_a_stream(streams: int) -> None:
    """While a caller's thread waits for a stream of one host, another host is served."""
    with two_nodes(streams) as nodes, executing(nodes.session, 20) as executor:
        view = executor.with_options(host=nodes.host(nodes.silent))
        futures: list[Any] = []
        submitting = threading.Thread(
            target=lambda: futures.extend(view.submit(nodes.select, n) for n in range(60)),
            daemon=True,
        )
        submitting.start()
        eventually(lambda: len(nodes.owed) == streams)
        nodes.assert_the_loop_goes_on()
        nodes.resume()
        submitting.join(LIMIT)
        assert [future.result(LIMIT).one().id for future in futures] == list(range(60))


@pytest.mark.parametrize("streams", [2, 5])
def test_what_an_answer_admits_waits_for_a_stream(streams: int) -> None:
    """An answer of one host admits a call for another that has no stream: the loop goes on."""
    with two_nodes(streams) as nodes, executing(nodes.session, streams + 1) as executor:
        to_silent = executor.with_options(host=nodes.host(nodes.silent))
        to_other = executor.with_options(host=nodes.host(nodes.other))
        futures = [to_silent.submit(nodes.select, n) for n in range(streams)]
        eventually(lambda: len(nodes.owed) == streams)
        nodes.cluster.on_request = None
        answered = to_other.submit(nodes.select, 1000)
        request = nodes.cluster.next_request()
        nodes.cluster.on_request = nodes._answer
        futures += [to_silent.submit(nodes.select, n) for n in range(streams, 30)]
        user(request)
        assert answered.result(LIMIT).one().id == 1000
        nodes.assert_the_loop_goes_on()
        nodes.resume()
        assert [future.result(LIMIT).one().id for future in futures] == list(range(30))


def test_streams_that_others_use_up() -> None:
    """Nor is the loop blocked when somebody else has taken all streams since the last look."""
    streams = 1100
    with two_nodes(streams) as nodes, executing(nodes.session, 1) as executor:
        to_silent = executor.with_options(host=nodes.host(nodes.silent))
        to_other = executor.with_options(host=nodes.host(nodes.other))
        for future in [to_other.submit(nodes.select, n) for n in range(5)]:
            future.result(LIMIT)
        nodes.cluster.on_request = None
        first = to_other.submit(nodes.select, 1)
        request = nodes.cluster.next_request()
        nodes.cluster.on_request = nodes._answer
        second = to_silent.submit(nodes.select, 2)
        host = nodes.host(nodes.silent)
        others = [
            nodes.session.execute_async(nodes.select, (n,), host=host) for n in range(streams)
        ]
        eventually(lambda: len(nodes.owed) == streams)
        user(request)
        assert first.result(LIMIT).one().id == 1
        nodes.assert_the_loop_goes_on()
        nodes.resume()
        assert second.result(LIMIT).one().id == 2
        for other in others:
            other.result()


def test_an_answer_is_seen_while_others_wait_for_streams() -> None:
    """A call that was sent ends with its answer at once, although others wait for a stream."""
    with ScriptedServer(types=USERS) as server:
        with connected(server, connection_class=connection_of(3)) as session:
            select = session.prepare(SELECT)
            with executing(session, 50) as executor:
                futures: list[Any] = []
                submitting = threading.Thread(
                    target=lambda: futures.extend(executor.submit(select, n) for n in range(50)),
                    daemon=True,
                )
                submitting.start()
                for _ in range(50):
                    with Timed() as timed:
                        request = server.next_request()
                        number = request.parameters[0]
                        user(request)
                        eventually(lambda n=number: len(futures) > n)  # type: ignore[misc]
                        assert futures[number].result(LIMIT).one() == (number, name_of(number))
                    assert timed.seconds < 1 + timed.lateness
                submitting.join(LIMIT)


def test_callbacks_and_consumers_may_block(version: int) -> None:
    """A done-callback, or the body of a loop, may wait for other requests: the driver goes on."""
    with ScriptedServer(protocol_versions=[version], types=USERS, on_request=user) as server:
        with connected(server) as session, executing(session, 10) as executor:
            select = session.prepare(SELECT)
            found: list[int] = []

            def wait_for_others(future: Any) -> None:
                number = future.result().one().id
                assert session.execute(select, (number,)).one().id == number
                found.append(executor.submit(select, number).result(LIMIT).one().id)

            for number, result in enumerate(executor.map(select, range(100), buffersize=20)):
                future = executor.submit(select, result.one().id)
                future.add_done_callback(wait_for_others)
                assert session.execute(select, (number,)).one().id == number
            eventually(lambda: len(found) == 100)
            assert sorted(found) == list(range(100))


def test_what_finds_no_stream_fails_as_with_the_driver() -> None:
    """When none comes free for the driver's two seconds, the call ends with its error."""
    with ScriptedServer(types=USERS) as server:
        with connected(server, connection_class=connection_of(1)) as session:
            select = session.prepare(SELECT)
            with executing(session, 2) as executor:
                first = executor.submit(select, 1)
                request = server.next_request()
                second = executor.submit(select, 2)
                error: Any = failure_of(second)
                assert isinstance(error, NoHostAvailable)
                assert "request IDs" in str(error.errors)
                user(request)
                assert first.result(LIMIT).one() == (1, name_of(1))


def test_retries_wait_for_streams(version: int) -> None:
    """What fails for want of a stream can be tried again, and succeeds."""
    with ScriptedServer(protocol_versions=[version], types=USERS) as server:
        with connected(server, connection_class=connection_of(4)) as session:
            select = session.prepare(SELECT)
            select.is_idempotent = True
            count = 0

            def answer(request: ServerRequest) -> None:
                nonlocal count
                count += 1
                if count % 3 == 0:
                    request.error("overloaded")
                else:
                    user(request)

            server.on_request = answer
            with executing(session, 30, retry=Retry(delay=0.001, budget=1000)) as executor:
                for n, result in enumerate(executor.map(select, range(300))):
                    assert result.one() == (n, name_of(n))


def test_time_limits_while_streams_are_few() -> None:
    """Time-outs hold their streams until the late answers come; what comes then is served."""
    clock = ManualClock()
    with ScriptedServer(types=USERS) as server:
        with connected(server, connection_class=connection_of(10)) as session:
            select = session.prepare(SELECT)
            with executing(session, 5, clock=clock) as executor:
                lost = [executor.submit(select, n) for n in range(5)]
                owed = server.requests(5)
                clock.advance(LIMIT)
                for future in lost:
                    failure_of(future)
                assert in_flight(session) == 5
                server.on_request = user
                for n, result in enumerate(executor.map(select, range(100))):
                    assert result.one() == (n, name_of(n))
                for request in owed:
                    user(request)
                eventually(lambda: in_flight(session) == 0)


def test_driver_retries_while_streams_are_few(version: int) -> None:
    """The driver's own retries and preparing anew need streams as well: all gets through."""
    profile = profile_of(retry_policy=RetryPolicy())
    with ScriptedServer(protocol_versions=[version], types=USERS) as server:
        options = {"profile": profile, "connection_class": connection_of(6)}
        with connected(server, **options) as session, executing(session, 5) as executor:
            select = session.prepare(SELECT)
            seen: set[int] = set()

            def answer(request: ServerRequest) -> None:
                number = request.parameters[0]
                if number % 5 == 0 and number not in seen:
                    seen.add(number)
                    request.error(
                        "read_timeout", received_responses=1, required_responses=1,
                        data_retrieved=False,
                    )  # fmt: skip
                else:
                    user(request)

            server.on_request = answer
            server.forget()
            for n, result in enumerate(executor.map(select, range(200))):
                assert result.one() == (n, name_of(n))
            assert len(seen) == 40


def test_the_drop_ins_with_few_streams(version: int) -> None:
    """All of the input is sent, in order, with more concurrency than there are streams."""
    with ScriptedServer(protocol_versions=[version], types=USERS, on_request=user) as server:
        with connected(server, connection_class=connection_of(3)) as session:
            select = session.prepare(SELECT)
            for generator in (False, True):
                results = execute_concurrent_with_args(
                    session, select, [(n,) for n in range(300)], 50, results_generator=generator
                )
                for n, (success, result) in enumerate(results):
                    assert success
                    assert result.one() == (n, name_of(n))


def test_a_connection_is_lost_while_others_wait_for_streams(version: int) -> None:
    """Then all ends, with errors or, on the next connection, with results."""
    with ScriptedServer(protocol_versions=[version], types=USERS) as server:
        with connected(server, connection_class=connection_of(3)) as session:
            select = session.prepare(SELECT)
            with executing(session, 20) as executor:
                futures: list[Any] = []
                submitting = threading.Thread(
                    target=lambda: futures.extend(executor.submit(select, n) for n in range(30)),
                    daemon=True,
                )
                submitting.start()
                server.requests(3)
                server.on_request = user
                server.drop_all()
                submitting.join(LIMIT)
                assert len(futures) == 30
                assert not wait(futures, LIMIT).not_done, "some are pending for ever"
                for n, future in enumerate(futures):
                    if future.exception() is None:
                        assert future.result().one() == (n, name_of(n))


def test_the_session_is_shut_down_while_others_wait_for_streams(version: int) -> None:
    """Then all ends soon."""
    with ScriptedServer(protocol_versions=[version], types=USERS) as server:
        with connected(server, connection_class=connection_of(3)) as session:
            select = session.prepare(SELECT)
            with executing(session, 20) as executor:
                view = executor.with_options(timeout=None)
                futures: list[Any] = []
                submitting = threading.Thread(
                    target=lambda: futures.extend(view.submit(select, n) for n in range(30)),
                    daemon=True,
                )
                submitting.start()
                server.requests(3)
                with Timed() as timed:
                    session.shutdown()
                    submitting.join(LIMIT)
                    assert len(futures) == 30
                    assert not wait(futures, LIMIT).not_done, "some are pending for ever"
                assert timed.seconds < 3 + timed.lateness


def test_many_that_fail_at_once() -> None:
    """Requests that end within `execute_async` end one after the other, not within another."""
    with ScriptedServer() as server, connected(server) as session:
        session.shutdown()
        with executing(session, 1) as executor:
            results = executor.map("SELECT %s", range(20_000), return_exceptions=True)
            assert sum(isinstance(each, Exception) for each in results) == 20_000


@pytest.fixture(scope="module")
def narrow() -> Iterator[tuple[Any, Any]]:
    """A session with three streams, for all examples of a property."""
    with ScriptedServer(types=USERS, on_request=user) as server:
        with connected(server, connection_class=connection_of(3)) as session:
            yield session, session.prepare(SELECT)


@given(
    count=st.integers(0, 60),
    concurrency=st.integers(1, 30),
    buffersize=st.none() | st.integers(1, 30),
    ordered=st.booleans(),
)
@settings(max_examples=30)
def test_any_map_with_few_streams(
    narrow: tuple[Any, Any], count: int, concurrency: int, buffersize: int | None, ordered: bool
) -> None:
    """Whatever the sizes, all results come, each once."""
    session, select = narrow
    with CassandraExecutor(session, concurrency) as executor:
        results = executor.map(select, range(count), buffersize=buffersize, ordered=ordered)
        found = [result.one().id for result in results]
    assert (found if ordered else sorted(found)) == list(range(count))


def test_schema_changes_need_no_stream_of_ours(version: int) -> None:
    """A statement that changes the schema ends although all streams are used up."""
    with ScriptedServer(protocol_versions=[version]) as server:
        with connected(server, connection_class=connection_of(3)) as session:
            with executing(session, 3) as executor:
                waiting = [executor.submit("SELECT 1") for _ in range(2)]
                requests = server.requests(2)
                change = executor.submit("CREATE TABLE ks.t (id int PRIMARY KEY)")
                server.next_request().schema_change("CREATED", "TABLE", "ks", "t")
                assert change.result(LIMIT).all() == []
                for request in requests:
                    done(request)
                for future in waiting:
                    future.result(LIMIT)
