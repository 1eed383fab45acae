"""Host isolation: hosts whose requests run into their time limits are asked last for a while."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.connection import ConnectionShutdown
from cassandra.policies import FallthroughRetryPolicy, HostDistance
from cassandra.protocol import SyntaxException
from cassandra.query import SimpleStatement, tuple_factory
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry
from cassconc.testing import ManualClock, ScriptedSession

from ..promises.helpers_gamma import (  # noqa: F401
    LIMIT,
    DriverRequest,
    DriverSession,
    InThread,
    nothing_is_left,
)

HOSTS = ["one", "two", "three"]


class Ring:
    """Three hosts, of which some hang, and an executor; every request is to reach the first host.

    Attributes:
        hung: The names of the hosts that do not answer.
        refusal: What all of them answer instead, or `None`.
        asked: The names of the hosts to which requests were sent.
    """

    def __init__(self, *hung: str, concurrency: int = 100, **options: Any) -> None:
        self.hung = set(hung)
        self.refusal: Optional[Exception] = None
        self.asked: List[str] = []
        self.clock = ManualClock()
        session: Dict[str, Any] = {
            key: options.pop(key) for key in ("legacy", "row_factory") if key in options
        }
        self.session = DriverSession(self.answer, HOSTS, **session)
        self.executor = CassandraExecutor(self.session, concurrency, clock=self.clock, **options)

    def answer(self, request: DriverRequest) -> None:
        """Answer unless the host hangs."""
        self.asked.append(request.host.endpoint)
        if self.refusal is not None:
            request.answer(self.refusal)
        elif request.host.endpoint not in self.hung:
            request.void()

    def ask(self, executor: Optional[CassandraExecutor] = None) -> str:
        """Send a request, and return the name of the host that was asked."""
        (executor or self.executor).submit("SELECT 1")
        return self.asked[-1]

    def suspect(self) -> None:
        """Have a request to each host that hangs run into its time limit."""
        hung = [host for host in self.session.hosts if host.endpoint in self.hung]
        futures = [self.executor.with_options(host=host).submit("SELECT 1") for host in hung]
        self.clock.advance(10.0)
        assert {type(future.exception(LIMIT)) for future in futures} == {OperationTimedOut}
        self.asked.clear()


def test_a_host_that_hangs_is_asked_last() -> None:
    """After a time-out, requests go to the others first, in the order of the policy."""
    ring = Ring("one")
    assert ring.ask() == "one"
    ring.clock.advance(10.0)
    ring.clock.advance(0.0)
    assert [ring.ask() for _ in range(5)] == ["two"] * 5
    plan = ring.session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT)
    assert [str(host.endpoint) for host in plan.load_balancing_policy.make_query_plan()] == HOSTS


def test_the_whole_plan_is_kept() -> None:
    """A suspect is asked when no other can be: it is last, not missing."""
    ring = Ring("one")
    ring.suspect()
    for host in ring.session.hosts[1:]:
        ring.session._pools[host].is_shutdown = True
    assert ring.ask() == "one"


def test_all_hosts_may_be_suspect() -> None:
    """When all hang, they are asked in the order of the policy."""
    ring = Ring(*HOSTS)
    ring.suspect()
    assert ring.ask() == "one"
    ring.hung.clear()
    assert ring.executor.submit("SELECT 1").result(LIMIT).all() == []


def test_a_suspect_is_tried_again_soon_with_few_requests() -> None:
    """Once a second one request asks it as if nothing had happened; the others go elsewhere."""
    ring = Ring("one")
    ring.suspect()
    for _ in range(50):
        ring.ask()
        ring.clock.advance(0.1)
    assert 4 <= ring.asked.count("one") <= 5
    assert ring.asked.count("two") == 50 - ring.asked.count("one")


def test_a_suspect_comes_back_when_it_answers() -> None:
    """The answer to one such request clears it: all requests ask it again."""
    ring = Ring("one")
    ring.suspect()
    ring.hung.clear()
    assert ring.ask() == "two"
    ring.clock.advance(1.0)
    assert [ring.ask() for _ in range(3)] == ["one"] * 3


def test_an_error_of_the_server_is_an_answer() -> None:
    """A host that refuses a statement is there: it is suspect no more."""
    ring = Ring("one")
    ring.suspect()
    ring.refusal = SyntaxException(0x2000, "wrong", None)
    ring.clock.advance(1.0)
    assert ring.ask() == "one"
    assert ring.ask() == "one"


def test_a_lost_connection_is_no_answer() -> None:
    """A suspect whose connection is lost has not answered."""
    ring = Ring("one")
    ring.suspect()
    ring.refusal = ConnectionShutdown("lost")
    ring.clock.advance(1.0)
    assert ring.ask() == "one"
    ring.refusal = None
    ring.session.run_tasks()
    assert ring.ask() == "two"


def test_an_answer_of_another_host_clears_nobody() -> None:
    """Only its own answer brings a suspect back."""
    ring = Ring("one", "two")
    ring.suspect()
    assert ring.ask() == "three"
    ring.hung.remove("two")
    ring.clock.advance(1.0)
    assert ring.ask() == "one"
    assert ring.ask() == "two"
    assert ring.ask() == "two"


def test_a_probe_that_times_out_changes_nothing() -> None:
    """The host stays suspect, and is probed at the same pace."""
    ring = Ring("one")
    ring.suspect()
    ring.clock.advance(1.0)
    assert ring.ask() == "one"
    ring.clock.advance(10.0)
    assert ring.executor.stats().failed == {"OperationTimedOut": 2}
    ring.asked.clear()
    for _ in range(10):
        ring.ask()
    assert ring.asked.count("one") <= 1


def test_nothing_is_changed_while_all_is_well() -> None:
    """Without a suspect, requests are sent with the profile that they would have."""
    session = DriverSession(hosts=HOSTS)
    CassandraExecutor(session, clock=ManualClock()).submit("SELECT 1")
    assert session.arguments == [{"timeout": None}]


def test_it_can_be_turned_off() -> None:
    """With `host_isolation=False` the policy alone decides."""
    ring = Ring("one", host_isolation=False)
    ring.suspect()
    assert ring.ask() == "one"


def test_a_session_without_profiles_does_without() -> None:
    """A session in legacy mode refuses other profiles: its requests are sent as they are."""
    ring = Ring("one", legacy=True)
    ring.suspect()
    assert ring.ask() == "one"
    ring.hung.clear()
    assert ring.executor.submit("SELECT 1").result(LIMIT).all() == []


def test_a_session_that_is_not_the_drivers_does_without(
    session: ScriptedSession, clock: ManualClock
) -> None:
    """What knows no hosts and no profiles is used as it is."""
    executor = CassandraExecutor(session, clock=clock)
    executor.submit("SELECT 1")
    clock.advance(10.0)
    future = executor.submit("SELECT 2")
    session.requests[1].succeed()
    assert future.result(LIMIT).all() == []
    assert session.requests[1].options["execution_profile"] is EXEC_PROFILE_DEFAULT


def test_the_rest_of_the_profile_stays() -> None:
    """Consistency level, row factory, retry policy and the policy's other parts are the profile's.

    And the user's profile is not touched.
    """
    ring = Ring("one")
    ring.suspect()
    default = ring.session.profiles[EXEC_PROFILE_DEFAULT]
    profile = ring.session.execution_profile_clone_update(
        EXEC_PROFILE_DEFAULT,
        consistency_level=ConsistencyLevel.QUORUM,
        row_factory=tuple_factory,
        retry_policy=FallthroughRetryPolicy(),
        request_timeout=3.0,
    )
    policy = default.load_balancing_policy
    policy.distance = lambda host: HostDistance.LOCAL
    before = dict(vars(profile)), dict(vars(default))
    requests: List[DriverRequest] = []
    ring.session.respond = requests.append
    view = ring.executor.with_options(execution_profile=profile)
    future = view.submit("SELECT a")
    assert requests[0].host.endpoint == "two"
    assert requests[0].message.consistency_level == ConsistencyLevel.QUORUM
    requests[0].rows([(1,)], ["a"])
    result = future.result(LIMIT)
    assert type(result.one()) is tuple
    assert (dict(vars(profile)), dict(vars(default))) == before
    slow = view.submit("SELECT a")
    ring.clock.advance(3.0)
    assert type(slow.exception(LIMIT)) is OperationTimedOut


def test_views_share_what_is_known() -> None:
    """A host that hangs in one view is suspect in all; another executor learns it by itself."""
    ring = Ring("one")
    view = ring.executor.with_options(timeout=5)
    view.submit("SELECT 1")
    ring.clock.advance(5.0)
    assert ring.ask() == "two"
    assert ring.ask(ring.executor.with_options(trace=True)) == "two"
    assert ring.ask(CassandraExecutor(ring.session, clock=ring.clock)) == "one"


def test_a_host_that_was_asked_for_is_asked() -> None:
    """The option `host` is the user's word, whatever is known of the host."""
    ring = Ring("one")
    ring.suspect()
    assert ring.ask(ring.executor.with_options(host=ring.session.hosts[0])) == "one"


def test_a_retry_goes_to_another_host() -> None:
    """With retries, a statement that ran into its limit is asked of the next host, and succeeds."""
    ring = Ring("one", retry=Retry(delay=1.0))
    future = ring.executor.submit(SimpleStatement("SELECT 1", is_idempotent=True))
    ring.clock.advance(10.0)
    ring.clock.advance(0.999)
    assert future.result(LIMIT).all() == []
    assert ring.asked == ["one", "two"]


def test_a_later_page_goes_to_another_host() -> None:
    """A page that ran into its limit is asked of the next host when it is fetched again."""
    ring = Ring()
    ring.session.respond = lambda request: request.rows([(1,)], ["a"], paging_state=b"1")
    rows = ring.executor.submit("SELECT a").result(LIMIT)
    ring.session.respond = None
    fetching = InThread(rows.fetch_next_page)
    first = ring.session.wait_for(2)
    assert first.host.endpoint == "one"
    ring.clock.advance(10.0)
    with pytest.raises(OperationTimedOut):
        fetching.join()
    again = InThread(rows.fetch_next_page)
    second = ring.session.wait_for(3)
    assert second.host.endpoint == "two"
    second.rows([(2,)], ["a"])
    again.join()


def test_a_hung_host_does_not_eat_the_concurrency() -> None:
    """Of many calls only those in flight at first, and a few probes, wait for a host that hangs."""
    ring = Ring("one", concurrency=10)
    results = ring.executor.map("SELECT %s", range(1000), return_exceptions=True)
    ring.clock.advance(10.0)
    failures = sum(isinstance(result, OperationTimedOut) for result in results)
    assert 10 <= failures <= 12
    assert ring.asked.count("two") == 1000 - failures


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "hang", "wake", "pass"]), st.integers(0, 2)), max_size=40
    )
)
def test_every_request_is_sent_to_the_first_host_that_is_no_suspect(steps: Any) -> None:
    """Whatever hangs and comes back: a host is asked early only if it is trusted, or probed.

    A plain model: a host is suspect from a time-out until it answers.
    """
    ring = Ring()
    suspects: Dict[str, float] = {}  # with the time from which it may be probed
    for what, number in steps:
        note(f"{what} {number}")
        name = HOSTS[number]
        if what == "hang":
            ring.hung.add(name)
        elif what == "wake":
            ring.hung.discard(name)
        elif what == "pass":
            ring.clock.advance(number / 4)
        else:
            now = ring.clock.monotonic()
            expected = None
            for host in HOSTS:
                if host not in suspects:
                    expected = host
                elif suspects[host] <= now:
                    suspects[host] = now + 1.0
                    expected = host
                if expected:
                    break
            asked = ring.ask()
            assert asked == (expected or HOSTS[0])
            if asked in ring.hung:
                ring.clock.advance(10.0)
                suspects.setdefault(asked, ring.clock.monotonic() + 1.0)
            else:
                suspects.pop(asked, None)
