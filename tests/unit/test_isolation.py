"""Host isolation: hosts whose requests run into their time limits are asked last for a while."""

from __future__ import annotations

import contextvars
import logging
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.connection import ConnectionShutdown
from cassandra.policies import FallthroughRetryPolicy, HostDistance
from cassandra.protocol import OverloadedErrorMessage, SyntaxException
from cassandra.query import SimpleStatement, tuple_factory
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, _isolation
from cassconc._threads import helper_threads
from cassconc.testing import ManualClock, ScriptedSession
from tests.driver import DriverRequest, DriverSession
from tests.parts import needs
from tests.waits import LIMIT, Background

pytestmark = needs("profiles")

HOSTS = ["one", "two", "three"]
PROBE = "SELECT key FROM system.local"

jobs: List[Callable[[], object]] = []  # what isolation has left to helper threads


@pytest.fixture(autouse=True)
def helpers_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what isolation leaves to helper threads until `Ring.run_jobs`."""
    jobs.clear()

    class Helpers:
        run = staticmethod(jobs.append)

    monkeypatch.setattr(_isolation, "helper_threads", Helpers)
    yield
    jobs.clear()


class TimedSession(DriverSession):
    """The driver's session, with its timers on a clock."""

    clock = ManualClock()

    def create_timer(self, timeout: float, callback: Callable[[], None]) -> Any:
        """Start a timer."""
        return self.clock.call_at(self.clock.monotonic() + timeout, callback)


class Ring:
    """Three hosts, of which some hang, and an executor; every request is to reach the first host.

    Attributes:
        hung: The names of the hosts that do not answer.
        busy: The names of the hosts that answer nothing but probes.
        refusal: What all of them answer instead, or `None`.
        asked: The names of the hosts to which calls were sent.
        probed: The names of the hosts to which probes were sent.
    """

    def __init__(self, *hung: str, concurrency: int = 100, **options: Any) -> None:
        self.hung = set(hung)
        self.busy: set[str] = set()
        self.refusal: Optional[Exception] = None
        self.asked: List[str] = []
        self.probed: List[str] = []
        self.clock = ManualClock()
        session: Dict[str, Any] = {
            key: options.pop(key) for key in ("legacy", "row_factory") if key in options
        }
        self.session = TimedSession(self.answer, HOSTS, **session)
        self.session.clock = self.clock
        self.executor = CassandraExecutor(self.session, concurrency, clock=self.clock, **options)

    def answer(self, request: DriverRequest) -> None:
        """Answer unless the host hangs."""
        name = request.host.endpoint
        is_probe = request.message.query == PROBE
        (self.probed if is_probe else self.asked).append(name)
        if self.refusal is not None:
            request.answer(self.refusal)
        elif name in self.hung or (name in self.busy and not is_probe):
            pass
        elif is_probe:
            request.rows([("local",)], ["key"])
        else:
            request.void()

    def ask(self, executor: Optional[CassandraExecutor] = None) -> str:
        """Send a request, and return the name of the host that was asked; then send probes."""
        (executor or self.executor).submit("SELECT 1")
        asked = self.asked[-1]
        self.run_jobs()
        return asked

    def run_jobs(self) -> None:
        """Do what was left to helper threads; as of Python 3.14 they may inherit a context."""
        while jobs:
            job, context = jobs.pop(0), contextvars.copy_context()
            Background(lambda: context.run(job)).result()  # noqa: B023

    def suspect(self) -> None:
        """Have a request to each host that hangs run into its time limit."""
        hung = [each for each in self.session.hosts if each.endpoint in self.hung | self.busy]
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


def test_a_suspect_that_is_taken_out_of_the_cluster_is_forgotten() -> None:
    """From then on requests are sent as they are again, for no plan would have it probed."""
    ring = Ring("one")
    ring.suspect()
    assert ring.ask() == "two"
    assert "execution_profile" in ring.session.arguments[-1]
    del ring.session.hosts[0]
    ring.clock.advance(1.0)
    for _ in range(2):
        assert ring.ask() == "two"
    assert "execution_profile" not in ring.session.arguments[-1]
    assert ring.probed == []


def test_all_hosts_may_be_suspect() -> None:
    """When all hang, they are asked in the order of the policy."""
    ring = Ring(*HOSTS)
    ring.suspect()
    assert ring.ask() == "one"
    ring.hung.clear()
    assert ring.executor.submit("SELECT 1").result(LIMIT).all() == []


def test_a_suspect_is_probed_once_a_second() -> None:
    """By a request of the executor's own: no call of the caller waits for it."""
    ring = Ring("one")
    ring.suspect()
    for _ in range(50):
        assert ring.ask() == "two"
        ring.clock.advance(0.1)
    assert ring.probed == ["one"] * len(ring.probed)
    assert 4 <= len(ring.probed) <= 5


def test_a_probe_is_not_sent_by_the_thread_that_meets_the_suspect() -> None:
    """Nor by one of the driver: a send may have to wait there."""
    ring = Ring("one")
    ring.suspect()
    ring.clock.advance(1.0)
    ring.executor.submit("SELECT 1")
    assert (ring.asked, ring.probed, len(jobs)) == (["two"], [], 1)


def test_helper_threads_send_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not wait for anybody."""
    monkeypatch.setattr(_isolation, "helper_threads", helper_threads)
    ring = Ring("one")
    ring.suspect()
    ring.clock.advance(1.0)
    sent, names = threading.Event(), []

    def answer(request: DriverRequest) -> None:
        if request.message.query == PROBE:
            names.append(threading.current_thread().name)
            sent.set()

    ring.session.respond = answer
    ring.executor.submit("SELECT 1")
    assert sent.wait(LIMIT)
    assert names[0].startswith("cassconc-helper")


def test_nothing_is_sent_while_nobody_sends() -> None:
    """No timer probes a suspect: the next call that could have gone there does."""
    ring = Ring("one")
    ring.suspect()
    ring.clock.advance(1000.0)
    assert not jobs
    assert ring.ask() == "two"
    assert ring.probed == ["one"]


def test_one_probe_is_under_way_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one waits for the end of the last, even if the driver is late with that."""
    ring = Ring("one")
    late = ManualClock()
    monkeypatch.setattr(ring.session, "create_timer", late.call_at)
    ring.suspect()
    for _ in range(5):
        ring.clock.advance(1.0)
        ring.executor.submit("SELECT 1")
        ring.clock.advance(1.0)
        ring.ask()
    assert ring.probed == ["one"]
    late.advance(1.0)
    ring.ask()
    assert ring.probed == ["one"] * 2


def test_a_suspect_comes_back_when_it_answers() -> None:
    """The answer to a probe clears it: all requests ask it again."""
    ring = Ring("one")
    ring.suspect()
    ring.hung.clear()
    assert ring.ask() == "two"
    assert not ring.probed, "it is not yet due"
    ring.clock.advance(1.0)
    assert [ring.ask() for _ in range(3)] == ["two", "one", "one"]
    assert ring.probed == ["one"]


def test_an_answer_to_a_call_clears_as_well() -> None:
    """A call that reached the suspect nevertheless says as much as a probe."""
    ring = Ring("one")
    ring.suspect()
    ring.hung.clear()
    assert ring.ask(ring.executor.with_options(host=ring.session.hosts[0])) == "one"
    assert ring.ask() == "one"
    assert not ring.probed


def test_a_probe_that_comes_too_late() -> None:
    """When a call has cleared the host, none is sent, and what one finds out does not matter."""
    ring = Ring("one")
    ring.suspect()
    at_one = ring.executor.with_options(host=ring.session.hosts[0])
    ring.clock.advance(1.0)
    ring.executor.submit("SELECT 1")
    ring.hung.clear()
    ring.ask(at_one)
    assert (ring.probed, jobs) == ([], [])
    ring.hung.add("one")
    ring.suspect()
    ring.clock.advance(1.0)
    ring.ask()
    probe = ring.session.requests[-1]
    ring.hung.clear()
    ring.ask(at_one)
    ring.hung.add("one")
    ring.executor.with_options(timeout=0.5).submit("SELECT 1")
    ring.clock.advance(0.5)
    probe.rows([("local",)], ["key"])
    assert ring.ask() == "two", "it is suspect for what came after the probe was sent"


@pytest.mark.parametrize(
    "refusal", [SyntaxException(0x2000, "wrong", None), OverloadedErrorMessage(0x1001, "", None)]
)
def test_an_error_of_the_server_is_an_answer(refusal: Exception) -> None:
    """A host that refuses a statement is there: it is suspect no more."""
    ring = Ring("one")
    ring.suspect()
    ring.clock.advance(1.0)
    ring.executor.submit("SELECT 1")
    ring.refusal = refusal
    ring.run_jobs()
    ring.refusal = None
    assert ring.ask() == "one"


def test_a_lost_connection_is_no_answer() -> None:
    """A suspect whose connection is lost has not answered."""
    ring = Ring("one")
    ring.suspect()
    ring.clock.advance(1.0)
    ring.executor.submit("SELECT 1")
    ring.refusal = ConnectionShutdown("lost")
    ring.run_jobs()
    ring.refusal = None
    ring.session.run_tasks()
    assert ring.ask() == "two"
    assert ring.probed == ["one"]


def test_an_answer_of_another_host_clears_nobody() -> None:
    """Only its own answer brings a suspect back."""
    ring = Ring("one", "two")
    ring.suspect()
    assert ring.ask() == "three"
    ring.hung.remove("two")
    ring.clock.advance(1.0)
    assert ring.ask() == "three"
    assert ring.probed == ["one", "two"]
    assert ring.ask() == "two"
    assert ring.ask() == "two"


def test_a_probe_that_times_out_changes_nothing() -> None:
    """The host stays suspect, and is probed at the same pace; no call has failed of it."""
    ring = Ring("one")
    ring.suspect()
    for count in range(1, 4):
        ring.clock.advance(1.0)
        assert [ring.ask() for _ in range(10)] == ["two"] * 10
        assert ring.probed == ["one"] * count
    assert ring.executor.stats().failed == {"OperationTimedOut": 1}


def test_a_session_that_can_not_probe(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises leaves the host where it is, and is not told to anybody."""
    ring = Ring("one")
    ring.suspect()
    send = ring.session.execute_async

    class Unheard(BaseException):
        pass

    for error in (TypeError("no such argument"), Unheard()):

        def fail(*args: Any, error: BaseException = error, **kwargs: Any) -> Any:
            if args[0] == PROBE:
                raise error
            return send(*args, **kwargs)

        ring.session.execute_async = fail  # type: ignore[method-assign]
        ring.clock.advance(1.0)
        with caplog.at_level(logging.INFO):
            assert [ring.ask() for _ in range(3)] == ["two"] * 3
    assert not caplog.records
    ring.session.execute_async = send  # type: ignore[method-assign]
    ring.hung.clear()
    ring.clock.advance(1.0)
    assert [ring.ask(), ring.ask()] == ["two", "one"]


def test_a_probe_is_none_of_the_callers_requests() -> None:
    """It has no place in the concurrency and the statistics, and not the caller's context."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    ring = Ring("one", "two", concurrency=1)
    ring.executor.submit("SELECT 1")
    ring.clock.advance(11.0)
    seen = []
    respond = ring.answer

    def answer(request: DriverRequest) -> None:
        seen.append((request.host.endpoint, request.message.query, variable.get(None)))
        respond(request)

    ring.session.respond = answer
    contextvars.copy_context().run(lambda: (variable.set("the caller's"), ring.ask()))
    assert seen == [("two", "SELECT 1", "the caller's"), ("one", PROBE, None)]
    stats = ring.executor.stats()
    assert (stats.submitted, stats.in_flight, stats.succeeded) == (2, 1, 0)


def test_the_callers_profile_has_no_say_in_a_probe() -> None:
    """Neither the row factory nor the consistency level is for the system's tables."""
    rows: List[Any] = []
    ring = Ring("one", row_factory=lambda names, found: rows.append(found))
    default = ring.session.profiles[EXEC_PROFILE_DEFAULT]
    default.consistency_level = ConsistencyLevel.EACH_QUORUM
    ring.suspect()
    ring.hung.clear()
    ring.clock.advance(1.0)
    assert [ring.ask(), ring.ask()] == ["two", "one"]
    probe = next(each for each in ring.session.requests if each.message.query == PROBE)
    assert probe.message.consistency_level == ConsistencyLevel.ONE
    assert not rows


def test_who_answers_probes_alone_is_probed_less_and_less() -> None:
    """Each time that it is suspect again soon after a probe cleared it, the interval doubles."""
    ring = Ring()
    ring.busy.add("one")
    intervals = []
    for _ in range(9):
        assert ring.ask() == "one"
        ring.clock.advance(10.0)
        since = ring.clock.monotonic()
        while not ring.probed:
            assert ring.ask() == "two"
            ring.clock.advance(0.25 if not ring.probed else 0.0)
        intervals.append(ring.clock.monotonic() - since)
        ring.probed.clear()
    assert intervals == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    ring.busy.clear()
    assert ring.ask() == "one"
    ring.clock.advance(110.0)
    ring.hung.add("one")
    assert ring.ask() == "one"
    ring.clock.advance(10.0)
    ring.clock.advance(1.0)
    assert ring.ask() == "two"
    assert ring.probed == ["one"], "it was well for a while"


def test_who_answers_a_call_is_probed_soon_the_next_time() -> None:
    """The interval is for hosts of which nothing but the answers to probes is known."""
    ring = Ring()
    ring.busy.add("one")
    for _ in range(3):
        assert ring.ask() == "one"
        ring.clock.advance(10.0)
        ring.clock.advance(4.0)
        assert ring.ask() == "two"
    assert ring.probed == ["one"] * 3
    ring.suspect()
    ring.busy.clear()
    assert ring.ask(ring.executor.with_options(host=ring.session.hosts[0])) == "one"
    ring.hung.add("one")
    ring.suspect()
    ring.clock.advance(1.0)
    assert ring.ask() == "two"
    assert ring.probed == ["one"] * 4


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
    ring.clock.advance(5.0)
    assert ring.ask(ring.executor.with_options(host=ring.session.hosts[0])) == "one"
    assert not ring.probed


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
    fetching = Background(rows.fetch_next_page)
    first = ring.session.wait_for(2)
    assert first.host.endpoint == "one"
    ring.clock.advance(10.0)
    with pytest.raises(OperationTimedOut):
        fetching.result()
    again = Background(rows.fetch_next_page)
    second = ring.session.wait_for(3)
    assert second.host.endpoint == "two"
    second.rows([(2,)], ["a"])
    again.result()


def test_a_hung_host_does_not_eat_the_concurrency() -> None:
    """Of many calls only those in flight at first wait for a host that hangs."""
    ring = Ring("one", concurrency=10)
    results = ring.executor.map("SELECT %s", range(1000), return_exceptions=True)
    ring.clock.advance(10.0)
    failures = sum(isinstance(result, OperationTimedOut) for result in results)
    assert failures == 10
    assert ring.asked.count("two") == 1000 - failures


def test_an_ordered_map_with_a_window_is_not_held_up() -> None:
    """Probes go on, and nothing that the map waits for is among them."""
    ring = Ring("one", concurrency=10)
    results = ring.executor.map("SELECT %s", range(1000), buffersize=20, return_exceptions=True)
    ring.clock.advance(10.0)
    failures = 0
    for number, result in enumerate(results):
        failures += isinstance(result, OperationTimedOut)
        if number >= 20 and number % 10 == 0:
            ring.clock.advance(0.25)
            ring.run_jobs()
    assert failures == 10
    assert 15 <= len(ring.probed) <= 98 * 0.25
    assert ring.clock.monotonic() == 10.0 + 98 * 0.25, "nothing has waited for a time limit"


PAUSES = [0.5, 3.0, 70.0]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "ask", "hang", "work", "wake", "pass"]), st.integers(0, 2)
        ),
        max_size=40,
    )
)
def test_every_request_is_sent_to_the_first_host_that_is_no_suspect(steps: Any) -> None:
    """Whatever hangs and comes back: a host is asked early only if it is trusted.

    A plain model: a host is suspect from a time-out until it answers, and suspects that come
    before the host that is asked are probed when it is time.
    """
    ring = Ring()
    suspects: Dict[str, List[float]] = {}  # with the interval, and the time of the next probe
    cleared: Dict[str, List[float]] = {}  # by a probe; with the interval, and when
    for what, number in steps:
        note(f"{what} {number}")
        name = HOSTS[number]
        if what == "hang":
            ring.hung.add(name)
        elif what == "work":
            ring.busy.add(name)
        elif what == "wake":
            ring.hung.discard(name)
            ring.busy.discard(name)
        elif what == "pass":
            ring.clock.advance(PAUSES[number])
        else:
            now = ring.clock.monotonic()
            trusted = [host for host in HOSTS if host not in suspects]
            expected = trusted[0] if trusted else HOSTS[0]
            met = HOSTS[: HOSTS.index(expected)] if trusted else HOSTS
            due = [host for host in met if suspects[host][1] <= now]
            hangs = expected in ring.hung | ring.busy
            if not hangs:
                suspects.pop(expected, None)
            ring.probed.clear()
            assert ring.ask() == expected
            assert ring.probed == [host for host in due if host in suspects]
            for host in ring.probed:
                suspects[host][1] = now + suspects[host][0]
                if host not in ring.hung:
                    cleared[host] = [suspects.pop(host)[0], now]
            if hangs:
                ring.clock.advance(10.0)
                now = ring.clock.monotonic()
                interval, when = cleared.get(expected, [0.0, -1000.0])
                if expected not in suspects:
                    cleared.pop(expected, None)
                    interval = min(60.0, 2 * interval) if now < when + 120.0 else 1.0
                    suspects[expected] = [interval, now + interval]
