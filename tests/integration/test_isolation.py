"""Host isolation with the real driver: a node that hangs does not eat the concurrency."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import as_completed
from itertools import islice
from typing import Any

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
    WhiteListRoundRobinPolicy,
)
from cassandra.query import SimpleStatement, dict_factory

from cassconc import CassandraExecutor, execute_concurrent_with_args
from cassconc._threads import helper_threads
from cassconc.testing import ManualClock
from tests.integration.helpers import (
    INSERT,
    LIMIT,
    SELECT,
    USERS,
    connected,
    done,
    executing,
    failure_of,
    name_of,
    profile_of,
    user,
)
from tests.parts import needs
from tests.protocol import ScriptedCluster, ServerRequest
from tests.waits import eventually

pytestmark = needs("profiles")

PROBE = "SELECT key FROM system.local"


class Nodes:
    """Three nodes, of which some do not answer; and who was asked how often.

    Attributes:
        silent: Nodes that answer no request.
        busy: Nodes that answer nothing but probes.
        asked: How often each node was asked, not counting probes.
        probed: The nodes that were probed.
        probed_at: When, in seconds.
    """

    def __init__(self, **options: Any) -> None:
        self.cluster = ScriptedCluster(3, on_request=self._answer, types=USERS, **options)
        self.silent: set[Any] = set()
        self.busy: set[Any] = set()
        self.probed: list[Any] = []
        self.probed_at: list[float] = []
        self.cluster.hand_over.add("SYSTEM")
        self.asked = Counter(dict.fromkeys(self.cluster.nodes, 0))
        self._before: Counter[Any] = Counter()
        self.owed: list[ServerRequest] = []

    def _answer(self, request: ServerRequest) -> None:
        if self.is_systems(request):
            return
        self.asked[request.node] += 1
        if request.node in self.silent | self.busy:
            self.owed.append(request)
        elif request.statement is not None and request.statement.result:
            user(request)
        else:
            request.void()

    def is_systems(self, request: ServerRequest) -> bool:
        """Whether this is no call; it is answered then, unless it is a probe of a silent node."""
        if request.automatic_kind is None:
            return False
        is_probe = request.text == PROBE
        if is_probe:
            self.probed.append(request.node)
            self.probed_at.append(time.monotonic())
        if not is_probe or request.node not in self.silent:
            request.automatic()
        return True

    @property
    def hung(self) -> Any:
        """The node that hangs in these tests."""
        return self.cluster.nodes[1]

    def counts(self) -> list[int]:
        """How often each node was asked since the last look."""
        asked, before = Counter(self.asked), self._before
        self._before = asked
        return [asked[node] - before[node] for node in self.cluster.nodes]

    @property
    def total(self) -> int:
        """How many requests came in all."""
        return sum(self.asked.values())


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Three nodes that answer."""
    nodes = Nodes()
    with nodes.cluster:
        yield nodes


def run(executor: CassandraExecutor, count: int = 30) -> list[Any]:
    """Run statements that all have to succeed."""
    futures = [executor.submit("INSERT 1") for _ in range(count)]
    return [future.result(LIMIT) for future in futures]


def wait_for(nodes: Nodes, executor: CassandraExecutor, futures: list[Any], count: int) -> None:
    """Wait until all has arrived at the nodes, and so many of the futures have ended."""
    for _ in islice(as_completed(futures, LIMIT), count):
        pass
    eventually(lambda: nodes.total == executor.stats().submitted)


def failures(futures: list[Any]) -> list[BaseException]:
    """The exceptions of those that fail."""
    return [each for each in (future.exception(LIMIT) for future in futures) if each]


def hang(nodes: Nodes, executor: CassandraExecutor, clock: ManualClock) -> None:
    """Have one node hang, until the executor knows."""
    nodes.silent.add(nodes.hung)
    until_suspect(nodes, executor, clock)


def until_suspect(nodes: Nodes, executor: CassandraExecutor, clock: ManualClock) -> None:
    """Send until a call has gone to the hung node, and have it run into the time limit."""
    before = nodes.asked[nodes.hung]
    futures = until_asked(nodes, executor)
    hung = nodes.asked[nodes.hung] - before
    # the answers of the others are on their way, and the time must not run out for them
    eventually(lambda: sum(not each.done() for each in futures) == hung)
    clock.advance(LIMIT)
    found = [type(error) for error in failures(futures)]
    assert found == [OperationTimedOut] * nodes.counts()[1] != []


def until_asked(nodes: Nodes, executor: CassandraExecutor) -> list[Any]:
    """Send, and see it arrive, until a call has gone to the node that hangs or did."""
    before = nodes.asked[nodes.hung]
    futures: list[Any] = []

    def is_asked() -> bool:
        futures.extend(executor.submit("INSERT 1") for _ in range(3))
        eventually(lambda: nodes.total == executor.stats().submitted)
        return nodes.asked[nodes.hung] > before

    eventually(is_asked)
    return futures


def test_a_node_that_hangs_is_asked_last(nodes: Nodes) -> None:
    """After the first time-outs all requests go to the others; probes are none of them."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        run(executor)
        assert nodes.counts() == [10, 10, 10]
        hang(nodes, executor, clock)
        run(executor, 300)
        a, b, c = nodes.counts()
        assert (a + c, b) == (300, 0)
        assert min(a, c) > 0
        assert not nodes.probed
        clock.advance(1)
        for _ in range(5):
            run(executor, 100)
            a, b, c = nodes.counts()
            assert (a + c, b) == (100, 0)
        eventually(lambda: bool(nodes.probed))
        assert nodes.probed == [nodes.hung]
        assert executor.stats().submitted == sum(nodes.asked.values())


def test_it_comes_back_when_it_answers(nodes: Nodes) -> None:
    """A probe that is answered ends it: the node is asked like the others again."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        hang(nodes, executor, clock)
        nodes.silent.clear()
        run(executor)
        assert nodes.counts()[1] == 0, "nobody has asked it yet"
        clock.advance(1)
        assert not failures(until_asked(nodes, executor))
        nodes.counts()
        assert nodes.probed == [nodes.hung]
        run(executor, 300)
        assert nodes.counts() == [100, 100, 100]


def test_a_probe_without_an_answer(nodes: Nodes) -> None:
    """It costs no call; it ends after a second, and then another one is sent."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        hang(nodes, executor, clock)
        for count in range(1, 3):
            clock.advance(1)

            def is_probed(count: int = count) -> bool:
                run(executor, 3)
                return len(nodes.probed) == count

            eventually(is_probed)
        first, second = nodes.probed_at
        assert second - first > 0.8, "the last one was under way"
        assert nodes.counts()[1] == 0
        nodes.silent.clear()
        clock.advance(1)
        assert not failures(until_asked(nodes, executor))


def test_a_node_that_answers_nothing_but_probes(nodes: Nodes) -> None:
    """It does not come back once a second: the interval doubles each time."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        nodes.busy.add(nodes.hung)
        until_suspect(nodes, executor, clock)
        for count, interval in enumerate([1, 2, 4, 8], 1):
            clock.advance(interval - 0.25)
            run(executor, 30)
            assert (nodes.counts()[1], len(nodes.probed)) == (0, count - 1)
            clock.advance(0.25)
            until_suspect(nodes, executor, clock)
            assert nodes.probed == [nodes.hung] * count


def test_a_session_that_is_shut_down(nodes: Nodes, caplog: pytest.LogCaptureFixture) -> None:
    """Probes under way or due then are nobody's concern: nothing hangs, nothing is logged."""
    clock = ManualClock()
    with connected(nodes.cluster) as session:
        with executing(session, clock=clock) as executor, caplog.at_level(logging.INFO, "cassconc"):
            hang(nodes, executor, clock)
            clock.advance(1)
            run(executor, 30)
            eventually(lambda: bool(nodes.probed))
            session.shutdown()
            for _ in range(3):
                clock.advance(1)
                future = executor.submit("INSERT 1")
                assert isinstance(failure_of(future), NoHostAvailable)
            ended = threading.Event()
            helper_threads.run(ended.set)
            assert ended.wait(LIMIT)
    assert not [each for each in caplog.records if each.name == "cassconc"]


def test_without_isolation(nodes: Nodes) -> None:
    """`host_isolation=False` asks all nodes alike, whatever they do."""
    clock = ManualClock()
    with connected(nodes.cluster) as session:
        with executing(session, clock=clock, host_isolation=False) as executor:
            hang(nodes, executor, clock)
            futures = [executor.submit("INSERT 1") for _ in range(60)]
            wait_for(nodes, executor, futures, 40)
            assert nodes.counts() == [20, 20, 20]
            clock.advance(LIMIT)
            assert [type(error) for error in failures(futures)] == [OperationTimedOut] * 20


def test_sessions_without_profiles(nodes: Nodes) -> None:
    """They do without: all goes on as if nothing was asked for."""
    clock = ManualClock()
    with connected(nodes.cluster, legacy=True) as session:
        with executing(session, clock=clock) as executor:
            hang(nodes, executor, clock)
            futures = [executor.submit("INSERT 1") for _ in range(60)]
            wait_for(nodes, executor, futures, 40)
            assert nodes.counts() == [20, 20, 20]
            clock.advance(LIMIT)
            assert [type(error) for error in failures(futures)] == [OperationTimedOut] * 20


def test_when_all_hang(nodes: Nodes) -> None:
    """Suspects are asked when there is nobody else: nothing fails that would not have failed."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        nodes.silent.update(nodes.cluster.nodes)
        futures = [executor.submit("INSERT 1") for _ in range(30)]
        wait_for(nodes, executor, futures, 0)
        clock.advance(LIMIT)
        assert {type(failure_of(future)) for future in futures} == {OperationTimedOut}
        nodes.silent.clear()
        nodes.counts()
        run(executor, 300)
        assert sum(nodes.counts()) == 300
        clock.advance(1)

        def are_back() -> bool:
            nodes.counts()
            run(executor, 3)
            return nodes.counts() == [1, 1, 1]

        eventually(are_back)
        run(executor, 300)
        assert nodes.counts() == [100, 100, 100]


def test_other_failures_are_no_reason(nodes: Nodes) -> None:
    """A node that answers, if only with errors, is not set apart."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        answer = nodes.cluster.on_request
        for kind in ("overloaded", "read_timeout", "unavailable", "server_error"):

            def fail(request: ServerRequest, kind: Any = kind) -> None:
                if request.node is nodes.hung:
                    request.error(kind)
                else:
                    request.void()

            nodes.cluster.on_request = fail
            futures = [executor.submit("INSERT 1") for _ in range(30)]
            assert sum(future.exception(LIMIT) is not None for future in futures) == 10
        nodes.cluster.on_request = answer
        run(executor, 300)
        assert nodes.counts() == [100, 100, 100]


def test_the_profile_is_kept(nodes: Nodes) -> None:
    """Requests have all that their profile says while a node is suspect, by name or object."""
    clock = ManualClock()
    profiles = {
        "all": profile_of(
            consistency_level=ConsistencyLevel.ALL,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
            row_factory=dict_factory,
        )
    }
    with connected(nodes.cluster, profiles=profiles) as session:
        select = session.prepare(SELECT)
        with executing(session, clock=clock) as executor:
            hang(nodes, executor, clock)
            seen: list[ServerRequest] = []

            def answer(request: ServerRequest) -> None:
                seen.append(request)
                user(request)

            nodes.cluster.on_request = answer
            clone = session.execution_profile_clone_update("all")
            for profile in ("all", clone):
                view = executor.with_options(execution_profile=profile, timeout=3.0)
                for n in range(10):
                    row = view.submit(select, n).result(LIMIT).one()
                    assert row == {"id": n, "name": name_of(n)}
            for request in seen:
                assert request.consistency == ConsistencyLevel.ALL
                assert request.serial_consistency == ConsistencyLevel.LOCAL_SERIAL
                assert request.node is not nodes.hung
            row = executor.submit(select, 1).result(LIMIT).one()
            assert row._asdict() == {"id": 1, "name": name_of(1)}
            assert seen[-1].consistency == ConsistencyLevel.LOCAL_ONE


def test_who_asks_for_a_host_gets_it(nodes: Nodes) -> None:
    """The option `host` is obeyed, suspect or not."""
    clock = ManualClock()
    with connected(nodes.cluster) as session, executing(session, clock=clock) as executor:
        hang(nodes, executor, clock)
        nodes.cluster.on_request = done
        host = session.cluster.metadata.get_host(nodes.hung.address, nodes.hung.port)
        view = executor.with_options(host=host)
        result = view.submit("INSERT 1").result(LIMIT)
        assert result.response_future.coordinator_host is host


def test_other_policies_are_wrapped() -> None:
    """A policy that looks at keys goes on doing so, but for those of the suspect."""
    nodes, clock = Nodes(keyspaces={"ks": 1}), ManualClock()
    policy = TokenAwarePolicy(RoundRobinPolicy())
    with nodes.cluster, connected(nodes.cluster, policy=policy) as session:
        insert = session.prepare(INSERT)
        with executing(session, clock=clock) as executor:

            def asked() -> list[str]:
                futures = [executor.submit(insert, n, "") for n in range(60)]
                hosts = [f.result(LIMIT).response_future.coordinator_host for f in futures]
                return [host.address for host in hosts]

            owners = asked()
            assert set(owners) == set(nodes.cluster.addresses)
            nodes.silent.add(nodes.hung)
            futures = [executor.submit(insert, n, "") for n in range(60)]
            wait_for(nodes, executor, futures, 60 - owners.count(nodes.hung.address))
            clock.advance(LIMIT)
            failures(futures)
            for owner, now in zip(owners, asked()):
                assert now == owner or owner == nodes.hung.address != now


def test_a_policy_of_one_host(nodes: Nodes) -> None:
    """Where the plan has but the suspect, it is asked."""
    clock = ManualClock()
    policy = WhiteListRoundRobinPolicy([nodes.cluster.nodes[0].address])
    with connected(nodes.cluster, policy=policy) as session:
        with executing(session, clock=clock) as executor:
            nodes.silent.add(nodes.cluster.nodes[0])
            future = executor.submit("INSERT 1")
            wait_for(nodes, executor, [future], 0)
            clock.advance(LIMIT)
            assert isinstance(failure_of(future), OperationTimedOut)
            nodes.silent.clear()
            run(executor, 30)
            assert nodes.counts() == [31, 0, 0]


def test_speculative_executions_go_round(nodes: Nodes) -> None:
    """With them a hung node costs no call at all, and is asked last after a time-out as well."""
    policy = ConstantSpeculativeExecutionPolicy(0.01, 2)
    profile = profile_of(speculative_execution_policy=policy)
    with connected(nodes.cluster, profile=profile) as session, executing(session) as executor:
        nodes.silent.add(nodes.hung)
        statement = SimpleStatement("INSERT 1", is_idempotent=True)
        futures = [executor.submit(statement) for _ in range(60)]
        assert [future.exception(LIMIT) for future in futures] == [None] * 60


def test_a_run_on_a_hung_node() -> None:
    """Of a long run only what was in flight at first runs into the time limit."""
    nodes = Nodes()
    with nodes.cluster, connected(nodes.cluster) as session:
        select = session.prepare(SELECT)
        nodes.hung.hang()
        with executing(session, concurrency=30) as executor:
            view = executor.with_options(timeout=1.0)
            results = view.map(select, range(2000), buffersize=200, return_exceptions=True)
            failed = 0
            for n, result in enumerate(results):
                if isinstance(result, OperationTimedOut):
                    failed += 1
                else:
                    assert result.one() == (n, name_of(n))
            counts = executor.stats()
    # 30 at first; then some, if this machine stands still for as long as the limit
    assert 1 <= failed <= 30 + 10
    assert counts.succeeded == 2000 - failed


def test_the_drop_ins_have_it_as_well() -> None:
    """A run of a drop-in on a hung node loses what was in flight at first."""
    nodes = Nodes()
    profile = profile_of(request_timeout=1.0)
    with nodes.cluster, connected(nodes.cluster, profile=profile) as session:
        select = session.prepare(SELECT)
        nodes.hung.hang()
        results = execute_concurrent_with_args(
            session, select, [(n,) for n in range(1000)], 30, raise_on_first_error=False
        )
        assert 1 <= sum(not success for success, _ in results) <= 30 + 10
