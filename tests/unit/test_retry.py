"""Retries: transient failures of idempotent statements are tried again, when the user asks."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import queue
import random
import threading
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import pytest
from cassandra import (
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unauthorized,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException, ConnectionShutdown
from cassandra.protocol import (
    IsBootstrappingErrorMessage,
    OverloadedErrorMessage,
    SyntaxException,
)
from cassandra.query import BatchStatement, SimpleStatement
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, RetryEvent
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.driver import DriverSession, prepare
from tests.stage import CallbackWatch
from tests.waits import LIMIT, Background, outcome

INSERT = SimpleStatement("INSERT %s", is_idempotent=True)
SELECT = SimpleStatement("SELECT %s", is_idempotent=True)


def overloaded() -> Exception:
    """Return a transient failure."""
    error: Exception = OverloadedErrorMessage(0x1001, "busy", None)
    return error


def sent(session: ScriptedSession, count: int) -> List[ScriptedRequest]:
    """Wait until `count` requests were sent, and check that it is no more than that."""
    requests = Background(lambda: session.wait_for(count)).result()
    assert len(requests) == count
    return requests


class Setting:
    """An executor with retries on a scripted session and a clock.

    Attributes:
        events: What the hook was told.
    """

    def __init__(
        self,
        retry: Optional[Retry] = None,
        *,
        session: Optional[ScriptedSession] = None,
        concurrency: int = 100,
        **arguments: Any,
    ) -> None:
        self.session = session or ScriptedSession()
        self._callbacks = CallbackWatch(self.session)
        self.clock = ManualClock()
        self.events: queue.Queue[RetryEvent] = queue.Queue()
        retry = retry or Retry(**{"delay": 1.0, "on_retry": self.events.put, **arguments})
        self.executor = CassandraExecutor(self.session, concurrency, clock=self.clock, retry=retry)

    def sent(self, count: int) -> List[ScriptedRequest]:
        """Wait until `count` requests were sent and the last one can be answered; see `sent`."""
        requests = sent(self.session, count)
        last = requests[-1].response
        assert self._callbacks.wait_until(lambda: last in self._callbacks.responses)
        return requests

    def fail(self, error: Optional[Exception] = None) -> None:
        """Fail what was sent last."""
        self.session.requests[-1].fail(error or overloaded())

    def fail_and_wait(self, error: Optional[Exception] = None) -> ScriptedRequest:
        """Fail what was sent last, and let its retry be sent."""
        count = len(self.session.requests)
        self.fail(error)
        self.clock.advance(2.0**count)
        return self.sent(count + 1)[-1]


# What is tried again

TRANSIENT: Dict[str, Callable[[], Exception]] = {
    "client time-out": lambda: OperationTimedOut({}, None),
    "read time-out": lambda: ReadTimeout("slow", consistency=1),
    "write time-out": lambda: WriteTimeout("slow", consistency=1, write_type=0),
    "unavailable": lambda: Unavailable("few", consistency=1),
    "overloaded": overloaded,
    "bootstrapping": lambda: IsBootstrappingErrorMessage(0x1002, "soon", None),
    "no host": lambda: NoHostAvailable("none", {}),
    "connection lost": lambda: ConnectionException("lost"),
    "connection shut down": lambda: ConnectionShutdown("lost"),
}

LASTING: Dict[str, Callable[[], Exception]] = {
    "invalid": lambda: InvalidRequest("wrong"),
    "syntax": lambda: SyntaxException(0x2000, "wrong", None),
    "unauthorized": lambda: Unauthorized("not you"),
    "read failure": lambda: ReadFailure("failed"),
    "write failure": lambda: WriteFailure("failed", write_type=0),
    "type": lambda: TypeError("wrong"),
    "value": lambda: ValueError("wrong"),
}


@pytest.mark.parametrize("make", list(TRANSIENT.values()), ids=list(TRANSIENT))
def test_transient_failures_are_tried_again(make: Callable[[], Exception]) -> None:
    """A failure that may be over soon is hidden, and the answer to the retry is the result."""
    setting = Setting()
    future = setting.executor.submit(SELECT, 1)
    retry = setting.fail_and_wait(make())
    assert not future.done()
    retry.succeed([(1,)], ["one"])
    assert future.result(LIMIT).one() == (1,)


@pytest.mark.parametrize("make", list(LASTING.values()), ids=list(LASTING))
def test_lasting_failures_are_not_tried_again(make: Callable[[], Exception]) -> None:
    """A failure that would come again ends the call at once."""
    setting, error = Setting(), make()
    future = setting.executor.submit(SELECT, 1)
    setting.fail(error)
    assert future.exception(0) is error
    assert setting.executor.stats().retried == 0


@pytest.mark.parametrize("make", list(TRANSIENT.values()), ids=list(TRANSIENT))
def test_failures_of_the_send_are_tried_again(make: Callable[[], Exception]) -> None:
    """What `execute_async` raises is treated as what it answers."""

    def respond(request: ScriptedRequest) -> None:
        if request.number == 0:
            raise make()
        request.succeed()

    setting = Setting(session=ScriptedSession(respond))
    future = setting.executor.submit(SELECT, 1)
    assert not future.done()
    setting.clock.advance(1.0)
    assert future.result(LIMIT).all() == []


def test_nothing_is_tried_again_unless_asked(session: ScriptedSession) -> None:
    """Without `retry`, and in a view without it, the first failure is the outcome."""
    plain = CassandraExecutor(session).submit(SELECT, 1)
    view = CassandraExecutor(session, retry=Retry()).with_options(retry=None).submit(SELECT, 1)
    for request in session.pending:
        request.fail(overloaded())
    for future in (plain, view):
        error = future.exception(0)
        assert type(error) is OverloadedErrorMessage
        assert not hasattr(error, "attempts")


def test_a_view_may_ask_for_retries(session: ScriptedSession, clock: ManualClock) -> None:
    """`with_options(retry=...)` is for the calls of that view."""
    executor = CassandraExecutor(session, clock=clock)
    view = executor.with_options(retry=Retry(delay=1.0))
    future = view.with_options(timeout=5).submit(SELECT, 1)
    session.pending[0].fail(overloaded())
    clock.advance(1.0)
    sent(session, 2)[1].succeed()
    assert future.result(LIMIT).all() == []


STATEMENTS: Dict[str, Callable[[], Any]] = {
    "simple": lambda: SimpleStatement("INSERT 1"),
    "prepared": lambda: prepare("INSERT 1"),
    "bound": lambda: prepare("INSERT 1").bind(()),
    "batch": lambda: BatchStatement().add("INSERT 1"),
}


@pytest.mark.parametrize("kind", [*STATEMENTS, "text"])
def test_what_is_not_idempotent_is_never_tried_again(kind: str) -> None:
    """A statement that is not marked fails at once, and the exception says why."""
    setting = Setting()
    statement = "INSERT 1" if kind == "text" else STATEMENTS[kind]()
    future = setting.executor.submit(statement)
    setting.fail()
    error = future.exception(0)
    assert any("not marked as idempotent" in each for each in vars(error)["__notes__"])


@pytest.mark.parametrize("kind", list(STATEMENTS))
def test_what_is_idempotent_is_tried_again(kind: str) -> None:
    """Every kind of statement can be marked."""
    setting = Setting()
    statement = STATEMENTS[kind]()
    statement.is_idempotent = True
    future = setting.executor.submit(statement)
    setting.fail_and_wait().succeed()
    assert future.result(LIMIT).all() == []


# When

DELAYS = st.floats(0.001, 10.0)


@given(DELAYS, DELAYS, st.integers(1, 200))
def test_the_wait_doubles_up_to_its_bound(delay: float, max_delay: float, attempt: int) -> None:
    """The longest wait before a retry is `delay`, doubled with each attempt, up to `max_delay`."""
    retry = Retry(delay=delay, max_delay=max_delay)
    longest = min(max_delay, delay * 2.0 ** (attempt - 1))
    assert 0 <= retry.wait(attempt) <= longest


def test_the_wait_is_drawn_evenly() -> None:
    """Full jitter: waits are spread evenly from 0 to the longest, so retries don't come at once."""
    random.seed(5)
    retry = Retry(delay=1.0, max_delay=4.0)
    waits = [retry.wait(10) for _ in range(1000)]
    for low in range(4):
        assert 200 <= sum(low <= wait < low + 1 for wait in waits) <= 300


def test_a_retry_is_sent_when_its_wait_is_over() -> None:
    """Not before, and then at once."""
    setting = Setting(delay=100.0, max_delay=100.0, total_time=None)
    setting.executor.submit(SELECT, 1)
    setting.fail()
    delay = setting.events.get(timeout=LIMIT).delay
    setting.clock.advance(delay * 0.999)
    assert setting.executor.stats().waiting_for_retry == 1
    setting.clock.advance(delay * 0.002)
    setting.sent(2)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_limited(attempts: int) -> None:
    """A statement is sent so often; then its last failure is the outcome, with all the others."""
    setting = Setting(attempts=attempts, total_time=None)
    future = setting.executor.submit(SELECT, 1)
    errors = [Unavailable(f"number {n}") for n in range(attempts)]
    for error in errors[:-1]:
        setting.fail_and_wait(error)
    setting.fail(errors[-1])
    last = future.exception(0)
    assert last is errors[-1]
    assert vars(last)["attempts"] == tuple(errors)
    assert len(setting.session.requests) == attempts


def test_the_exception_tells_of_the_attempts() -> None:
    """The note of the last failure says how often, and what the others were."""
    setting = Setting(attempts=3)
    future = setting.executor.submit(SELECT, 1)
    setting.fail_and_wait(overloaded())
    setting.fail_and_wait(ReadTimeout("slow", consistency=1))
    setting.fail(Unavailable("few"))
    notes = "\n".join(vars(future.exception(0))["__notes__"])
    assert "attempt 3" in notes
    assert "1 OverloadedErrorMessage, 1 ReadTimeout" in notes


@pytest.mark.parametrize("make", list(LASTING.values()), ids=list(LASTING))
def test_a_lasting_failure_carries_the_attempts_before_it(make: Callable[[], Exception]) -> None:
    """The final exception carries the attempts whatever it is, for one of them may have worked."""
    setting, first, last = Setting(), overloaded(), make()
    future = setting.executor.submit(SELECT, 1)
    setting.fail_and_wait(first)
    setting.fail(last)
    assert future.exception(0) is last
    assert vars(last).get("attempts") == (first, last)


def test_the_same_exception_again_and_again() -> None:
    """Attempts that fail with one and the same object are told apart all the same."""
    setting, error = Setting(attempts=3), overloaded()
    future = setting.executor.submit(SELECT, 1)
    setting.fail_and_wait(error)
    setting.fail_and_wait(error)
    setting.fail(error)
    attempts = vars(future.exception(0))["attempts"]
    assert len({id(each) for each in attempts}) == 3


def test_what_a_call_keeps_grows_evenly_with_its_attempts() -> None:
    """Only the last failure carries the attempts; its note counts them by type."""
    setting = Setting(attempts=50, max_delay=1.0, total_time=None)
    future = setting.executor.submit(SELECT, 1)
    for count in range(1, 50):
        setting.fail(overloaded())
        setting.clock.advance(1.0)
        setting.sent(count + 1)
    setting.fail(Unavailable("few"))
    last = future.exception(0)
    assert last is not None
    *earlier, same = vars(last)["attempts"]
    assert (len(earlier), same) == (49, last)
    assert not any("attempts" in vars(each) for each in earlier)
    assert "attempt 50; before it: 49 OverloadedErrorMessage" in vars(last)["__notes__"]


def test_a_wait_that_raises_where_there_is_no_budget_loses_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A `Retry` of the caller's own fails when it is asked again: the call ends, it is logged."""

    class Odd(Retry):
        def wait(self, attempt: int) -> float:
            asked.append(attempt)
            if len(asked) > 2:
                raise OSError("no")
            return 0.1

    asked: List[int] = []
    session, clock = ScriptedSession(), ManualClock()
    executor = CassandraExecutor(session, 2, retry=Odd(budget=1), clock=clock)
    futures = [executor.submit(SELECT, n) for n in range(2)]
    for request in session.pending:
        request.fail(overloaded())
    clock.advance(0.1)
    sent(session, 3)[-1].succeed()
    assert sorted(type(outcome(each)).__name__ for each in futures) == [
        "NoneType",
        "OverloadedErrorMessage",
    ]
    assert "a retry can't be scheduled" in caplog.text


def test_the_total_time_is_limited() -> None:
    """No retry is decided on that would be sent later than `total_time` after the first attempt."""
    setting = Setting(attempts=1000, delay=1.0, max_delay=1.0, total_time=30.0)
    future = setting.executor.submit(SELECT, 1)
    last = 0.0
    while not future.done():
        count = len(setting.session.requests)
        last = setting.clock.monotonic()
        setting.fail()
        setting.clock.advance(1.0)
        if not future.done():
            setting.sent(count + 1)
    assert last <= 30.0
    assert len(setting.session.requests) > 20


def test_the_total_time_is_kept_when_there_is_no_room() -> None:
    """A retry that had to wait for its turn is not sent after `total_time` either."""
    setting = Setting(concurrency=1, total_time=30.0, delay=1.0)
    future = setting.executor.submit(SELECT, 1)
    setting.executor.with_options(timeout=None).submit("SELECT 2")
    setting.session.requests[0].fail(overloaded())  # the other one takes its place
    setting.clock.advance(1000.0)
    setting.session.requests[1].succeed()
    assert type(future.exception(LIMIT)) is OverloadedErrorMessage
    assert len(setting.session.requests) == 2


def test_a_call_that_timed_out_is_tried_again() -> None:
    """Each attempt has the full time limit, and a late answer to an earlier one is not heard."""
    setting = Setting(attempts=2)
    future = setting.executor.submit(SELECT, 1)
    setting.clock.advance(10.0)
    setting.clock.advance(1.0)
    first, second = setting.sent(2)
    setting.clock.advance(8.0)
    first.succeed([("late",)], ["a"])
    assert not future.done()
    second.succeed([("in time",)], ["a"])
    assert future.result(LIMIT).one() == ("in time",)


# Races


@pytest.mark.parametrize("second", ["fail", "succeed"])
def test_a_second_outcome_of_an_attempt_changes_nothing(second: str) -> None:
    """A driver that calls back twice does not end, or send, a call that waits for its retry."""
    setting = Setting()
    future = setting.executor.submit(SELECT, 1)
    request = setting.session.requests[0]
    request.fail(overloaded())
    request.fail(overloaded()) if second == "fail" else request.succeed([("late",)], ["a"])
    assert not future.done()
    assert setting.executor.stats().waiting_for_retry == 1
    setting.clock.advance(1.0)
    setting.sent(2)[1].succeed([("retry",)], ["a"])
    assert future.result(LIMIT).one() == ("retry",)
    assert setting.events.qsize() == 1


def test_a_time_out_while_the_driver_is_still_sending() -> None:
    """The limit is reached before `execute_async` has returned: the retry is sent all the same."""
    setting = Setting()

    # 1. execute_async is called  2. the limit is reached: the call is put aside  3. it returns
    def respond(request: ScriptedRequest) -> None:
        setting.session.respond = None
        setting.clock.advance(10.0)

    setting.session.respond = respond
    future = setting.executor.submit(SELECT, 1)
    assert setting.executor.stats().waiting_for_retry + setting.executor.stats().in_flight == 1
    setting.clock.advance(1.0)  # 4. the retry is due
    setting.sent(2)[1].succeed([("retry",)], ["a"])
    assert future.result(LIMIT).one() == ("retry",)
    assert setting.executor.stats().in_flight == 0


@pytest.mark.parametrize("ending", ["succeed", "fail"])
def test_an_answer_to_what_timed_out_while_it_was_sent(ending: str) -> None:
    """Such an attempt has ended: what it is answered later is not heard, and the retry counts."""
    setting = Setting()

    def respond(request: ScriptedRequest) -> None:
        setting.session.respond = None
        setting.clock.advance(10.0)

    setting.session.respond = respond
    future = setting.executor.submit(SELECT, 1)
    late = setting.session.requests[0]
    late.succeed([("late",)], ["a"]) if ending == "succeed" else late.fail(InvalidRequest("late"))
    assert not future.done()
    stats = setting.executor.stats()
    assert (stats.waiting_for_retry, stats.succeeded, stats.failed) == (1, 0, {})
    setting.clock.advance(1.0)
    setting.sent(2)[1].succeed([("retry",)], ["a"])
    assert future.result(LIMIT).one() == ("retry",)


def test_a_retry_while_the_first_attempt_blocks() -> None:
    """A retry is sent although `execute_async` has not returned from the first attempt.

    The driver blocks there when it has no free stream, for 2 seconds a host.
    """
    setting = Setting()
    sending, goes_on = threading.Event(), threading.Event()

    def respond(request: ScriptedRequest) -> None:
        if request.number == 0:
            sending.set()
            assert goes_on.wait(LIMIT)

    setting.session.respond = respond
    submitting = Background(lambda: setting.executor.submit(SELECT, 1))
    assert sending.wait(LIMIT)
    setting.clock.advance(10.0)  # the first attempt times out
    setting.clock.advance(1.0)  # and is tried again
    try:
        setting.sent(2)[1].succeed([("retry",)], ["a"])
    finally:
        goes_on.set()
    future = submitting.result()
    assert future.result(LIMIT).one() == ("retry",)
    stats = setting.executor.stats()
    assert (stats.in_flight, stats.waiting_for_retry, stats.succeeded) == (0, 0, 1)


# The hook


def test_the_hook_is_told_of_each_retry() -> None:
    """It gets the call, the number of the attempt, its failure, and how long the wait is."""
    setting = Setting(delay=1.0)
    results = setting.executor.map(SELECT, [7])
    errors = [overloaded(), Unavailable("few")]
    for error in errors:
        setting.fail_and_wait(error)
    setting.session.requests[-1].succeed()
    list(results)
    for number, error in enumerate(errors, 1):
        event = setting.events.get(timeout=LIMIT)
        assert event.call == (SELECT, (7,), 0)
        assert event.attempt == number
        assert event.exception is error
        assert 0 <= event.delay <= 2.0 ** (number - 1)
    assert setting.events.empty()


def test_a_call_of_submit_has_no_position_in_the_hook() -> None:
    """It is told `None`, as the exception is."""
    setting = Setting()
    setting.executor.submit(SELECT, 7)
    setting.fail()
    assert setting.events.get(timeout=LIMIT).call.position is None


def test_the_hook_may_do_what_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    """It runs on no driver thread, and may block, submit and raise; the retry is sent."""
    hooked, goes_on = threading.Event(), threading.Event()

    def hook(event: RetryEvent) -> None:
        setting.executor.submit("SELECT of the hook")
        hooked.set()
        assert goes_on.wait(LIMIT)
        raise KeyError("mine")

    session = ScriptedSession()
    setting = Setting(Retry(delay=0, on_retry=session.caller(hook)), session=session)
    future = setting.executor.submit(SELECT, 1)
    session.requests[0].fail(overloaded())
    assert hooked.wait(LIMIT)
    setting.clock.advance(1.0)
    sent(session, 3)[2].succeed()
    assert future.result(LIMIT).all() == []
    goes_on.set()
    assert not session.misplaced


# Timestamps


def test_a_retry_has_the_timestamp_of_the_first_attempt() -> None:
    """Each call keeps its own, so that a retry can't overwrite what was written since."""
    setting = Setting()
    setting.executor.submit(INSERT, 1)
    setting.executor.submit(INSERT, 2)
    setting.session.requests[0].fail(overloaded())
    setting.clock.advance(1.0)
    setting.executor.submit(INSERT, 3)
    setting.fail()
    setting.clock.advance(1.0)
    timestamps: Dict[int, List[Any]] = {}
    for request in Background(lambda: setting.session.wait_for(5)).result():
        timestamps.setdefault(request.parameters[0], []).append(request.timestamp)
    first, second, third = (timestamps[n] for n in (1, 2, 3))
    assert len(first) == len(third) == 2
    assert len({*first}) == len({*third}) == 1
    assert len({first[0], second[0], third[0]}) == 3


@pytest.mark.parametrize("kind", list(STATEMENTS))
def test_the_message_of_the_driver_has_it(kind: str) -> None:
    """What the driver sends for a retry has the timestamp of the first attempt."""
    session, clock = DriverSession(), ManualClock()
    executor = CassandraExecutor(session, clock=clock, retry=Retry(delay=1.0))
    statement = STATEMENTS[kind]()
    statement.is_idempotent = True
    future = executor.submit(statement)
    clock.advance(10.0)
    clock.advance(1.0)
    second = session.wait_for(2)
    first = session.requests[0]
    assert second.message is not first.message
    assert second.message.timestamp == first.message.timestamp
    assert isinstance(first.message.timestamp, int)
    second.void()
    assert future.result(LIMIT).all() == []


def test_what_others_send_keeps_its_timestamp() -> None:
    """Requests that the user sends on the same session are not touched."""
    setting = Setting()
    setting.executor.submit(INSERT, 1)
    setting.fail_and_wait()
    response = setting.session.execute_async("INSERT 2")
    assert response.message.timestamp == setting.session.requests[2].timestamp == 3


def test_the_listener_goes_with_the_executor() -> None:
    """The session has one listener, and none when the executor is gone."""
    session = ScriptedSession()
    added: List[Any] = []
    add, remove = session.add_request_init_listener, session.remove_request_init_listener
    session.add_request_init_listener = lambda fn: (added.append(fn), add(fn))  # type: ignore
    session.remove_request_init_listener = lambda fn: (added.remove(fn), remove(fn))  # type: ignore
    session.respond = lambda request: request.succeed()
    executor = CassandraExecutor(session, retry=Retry(), clock=ManualClock())
    for _ in range(3):
        executor.submit(INSERT, 1)
    assert len(added) == 1
    executor.shutdown()
    session.requests.clear()  # they lead to callbacks, and these to the executor
    del executor
    gc.collect()
    assert not added


class Untimed(ScriptedSession):
    """A session whose requests have no timestamp of the client."""

    def __init__(self) -> None:
        super().__init__()
        self._timestamps = itertools.repeat(None)  # type: ignore[assignment]


class Bare:
    """A session that has nothing but `execute_async`."""

    def __init__(self) -> None:
        self.scripted = ScriptedSession()

    def execute_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request."""
        return self.scripted.execute_async(*args, **kwargs)


def tried_again(session: Any, text: str) -> bool:
    """Return whether a statement is tried again on a session whose timestamps can't be set."""
    clock = ManualClock()
    executor = CassandraExecutor(session, clock=clock, retry=Retry(delay=1.0))
    future = executor.submit(SimpleStatement(text, is_idempotent=True))
    scripted = session.scripted if isinstance(session, Bare) else session
    scripted.pending[0].fail(overloaded())
    if not future.done():
        return True
    notes = vars(future.exception(0))["__notes__"]
    assert any("timestamp of the first attempt can't be kept" in each for each in notes)
    return False


any_untimed = pytest.mark.parametrize("session", [Untimed, Bare])


@any_untimed
@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t (a) VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "BEGIN BATCH INSERT 1; APPLY BATCH",
        "INSERT INTO t (a) VALUES ('SELECT')",
        "INSERT INTO t (a) VALUES ('USING TIMESTAMP 1')",
        "INSERT INTO t (a) VALUES (1) -- USING TIMESTAMP 1",
        "INSERT INTO t (a) VALUES (1) /* USING TIMESTAMP 1 */",
        "BEGIN BATCH INSERT 1 USING TIMESTAMP 1; INSERT 2; APPLY BATCH",
        "\n  BEGIN BATCH INSERT 1 USING TIMESTAMP 1; INSERT 2; APPLY BATCH",
        "/* a */ BEGIN BATCH INSERT 1 USING TIMESTAMP 1; INSERT 2; APPLY BATCH",
        "INSERT INTO t (a) VALUES (1) USING TTL 1",
    ],
)
def test_a_write_without_a_timestamp_is_not_tried_again(session: Any, text: str) -> None:
    """Where the timestamp can't be set, a write could overwrite what came since; it says so."""
    assert not tried_again(session(), text)


@any_untimed
@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "\n  select a from t",
        "INSERT INTO t (a) VALUES (1) USING TIMESTAMP 1",
        "INSERT INTO t (a) VALUES (1) using\ttimestamp ?",
        "INSERT INTO t (a) VALUES (1) USING TTL 5 AND TIMESTAMP ?",
        "INSERT INTO t (a) VALUES (1) USING TIMESTAMP ? AND TTL ?",
        "UPDATE t USING TIMESTAMP 1 SET a = 1",
        "DELETE FROM t USING TIMESTAMP 1 WHERE a = 1",
        "BEGIN BATCH USING TIMESTAMP 1 INSERT 1; INSERT 2; APPLY BATCH",
    ],
)
def test_what_has_its_own_timestamp_is_tried_again(session: Any, text: str) -> None:
    """A read, or a write with a timestamp of its own, does no harm."""
    assert tried_again(session(), text)


def test_a_batch_statement_without_a_timestamp_is_not_tried_again() -> None:
    """Nobody can tell what timestamps a `BatchStatement` has."""
    session, clock = Bare(), ManualClock()
    batch = BatchStatement().add("INSERT 1 USING TIMESTAMP 1")
    batch.is_idempotent = True
    future = CassandraExecutor(session, clock=clock, retry=Retry()).submit(batch)
    session.scripted.pending[0].fail(overloaded())
    assert type(future.exception(0)) is OverloadedErrorMessage


def test_what_was_never_made_has_no_timestamp_to_keep() -> None:
    """A first attempt that the driver refused to send is tried again with the next timestamp."""

    class Refusing(ScriptedSession):
        refused = False

        def execute_async(self, *args: Any, **kwargs: Any) -> Any:
            if not self.refused:
                self.refused = True
                raise NoHostAvailable("none", {})
            return super().execute_async(*args, **kwargs)

    setting = Setting(session=Refusing())
    future = setting.executor.submit(INSERT, 1)
    setting.clock.advance(1.0)
    setting.sent(1)
    setting.fail_and_wait().succeed()
    assert future.result(LIMIT).all() == []
    assert {request.timestamp for request in setting.session.requests} == {1}


# Waiting


def test_waiting_takes_no_place() -> None:
    """What waits for its retry is not in flight: others are sent in the meantime."""
    setting = Setting(concurrency=1)
    first = setting.executor.submit(SELECT, 1)
    second = setting.executor.submit(SELECT, 2)
    setting.session.requests[0].fail(overloaded())
    assert [request.parameters for request in setting.session.pending] == [(2,)]
    setting.session.requests[1].succeed()
    assert second.done()
    setting.clock.advance(1.0)
    setting.sent(3)[2].succeed()
    assert first.result(LIMIT).all() == []
    assert setting.session.most_pending == 1


def test_waiting_takes_no_thread() -> None:
    """A thousand calls may wait for their retries, and no thread more is there than before."""
    setting = Setting(Retry(delay=100.0), concurrency=1000)
    for n in range(1000):
        setting.executor.submit(SELECT, n)
    before = threading.active_count()
    for request in setting.session.pending:
        request.fail(overloaded())
    assert setting.executor.stats().waiting_for_retry == 1000
    assert threading.active_count() <= before


def test_a_retry_comes_before_what_waits() -> None:
    """It was there first: it is sent as soon as a place is free."""
    setting = Setting(concurrency=1)
    for n in range(3):
        setting.executor.submit(SELECT, n)
    setting.session.requests[0].fail(overloaded())
    setting.clock.advance(1.0)
    assert setting.executor.stats().waiting_for_retry == 0
    setting.session.requests[1].succeed()
    assert [request.parameters for request in setting.sent(3)] == [(0,), (1,), (0,)]


def test_retries_are_first_come_first_served() -> None:
    """Several retries that wait for a place are sent in the order of their calls."""
    setting = Setting(Retry(delay=0), concurrency=3)
    for n in range(6):
        setting.executor.submit(SELECT, n)
    for request in setting.session.pending:
        request.fail(overloaded())
    assert [request.parameters for request in setting.session.pending] == [(3,), (4,), (5,)]
    setting.clock.advance(1.0)
    for request in setting.session.pending:
        request.succeed()
    retried = [request.parameters for request in setting.sent(9)[6:]]
    assert retried == [(0,), (1,), (2,)]


def test_waiting_can_not_be_cancelled() -> None:
    """`cancel` returns False for a call that was sent, also while it waits for another attempt."""
    setting = Setting()
    future = setting.executor.submit(SELECT, 1)
    setting.fail()
    assert not future.cancel()
    assert future.running()
    assert not future.done()
    setting.clock.advance(1.0)
    assert not future.cancel()
    setting.sent(2)[1].succeed()
    assert future.result(LIMIT).all() == []


# Order, abort, end


def test_results_are_in_order() -> None:
    """`map` yields in input order although an early call was tried again."""
    setting = Setting()
    results = setting.executor.map(SELECT, range(3))
    for request in setting.session.pending[1:]:
        request.succeed([request.parameters], ["n"])
    setting.session.requests[0].fail(overloaded())
    setting.clock.advance(1.0)
    retry = setting.sent(4)[3]
    retry.succeed([retry.parameters], ["n"])
    assert [rows.one().n for rows in results] == [0, 1, 2]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_abort_ends_what_comes_later(ordered: bool) -> None:
    """After a failure, a waiting call that comes later ends with what it failed with."""
    setting = Setting()
    results = setting.executor.map(SELECT, range(3), ordered=ordered)
    setting.session.requests[2].fail(overloaded())
    setting.session.requests[1].fail(InvalidRequest("wrong"))
    stats = setting.executor.stats()
    assert stats.failed == {"OverloadedErrorMessage": 1, "InvalidRequest": 1}
    assert stats.waiting_for_retry == 0
    setting.session.requests[0].succeed()
    setting.clock.advance(1000.0)
    assert len(setting.session.requests) == 3
    with pytest.raises((InvalidRequest, OverloadedErrorMessage)):
        list(results)


def test_an_abort_lets_what_comes_earlier_go_on() -> None:
    """A waiting call that comes earlier than the failure is tried again and yielded."""
    setting = Setting()
    results = setting.executor.map(SELECT, range(3))
    setting.session.requests[0].fail(overloaded())
    setting.session.requests[1].fail(InvalidRequest("wrong"))
    setting.session.requests[2].succeed()
    assert setting.executor.stats().waiting_for_retry == 1
    setting.clock.advance(1.0)
    setting.sent(4)[3].succeed([("retry",)], ["a"])
    assert next(results).one() == ("retry",)
    with pytest.raises(InvalidRequest):
        next(results)


def test_a_failure_after_an_abort_is_not_tried_again() -> None:
    """What was in flight and comes later ends with its first failure; what is earlier does not."""
    setting = Setting()
    results = setting.executor.map(SELECT, range(3), return_exceptions=False)
    setting.session.requests[1].fail(InvalidRequest("wrong"))
    setting.session.requests[2].fail(overloaded())
    setting.session.requests[0].fail(overloaded())
    stats = setting.executor.stats()
    assert (stats.waiting_for_retry, sum(stats.failed.values())) == (1, 2)
    setting.clock.advance(1.0)
    setting.sent(4)[3].succeed()
    next(results)
    with pytest.raises(InvalidRequest):
        next(results)


@pytest.mark.parametrize("closes", ["close", "drop", "timeout"])
def test_a_map_that_is_over_tries_nothing_again(closes: str) -> None:
    """Closing, dropping and a `timeout` end what waits for its retry."""
    setting = Setting(delay=1e6, max_delay=1e6, total_time=None)
    results: Any = setting.executor.map(SELECT, range(2), timeout=0.5)
    setting.session.requests[0].succeed()
    next(results)
    setting.session.requests[1].fail(overloaded())
    if closes == "close":
        results.close()
    elif closes == "drop":
        del results
        gc.collect()
    else:
        setting.clock.advance(0.5)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(results)
    stats = setting.executor.stats()
    assert stats.failed == {"OverloadedErrorMessage": 1}
    assert stats.waiting_for_retry == 0


def test_cancel_futures_ends_what_waits() -> None:
    """After `shutdown(cancel_futures=True)` a waiting call ends with its last failure."""
    setting = Setting(concurrency=2)
    waits = setting.executor.submit(SELECT, 1)
    in_flight = setting.executor.submit(SELECT, 2)
    setting.session.requests[0].fail(overloaded())
    later = setting.executor.submit(SELECT, 3)
    queued = setting.executor.submit(SELECT, 4)
    setting.executor.shutdown(wait=False, cancel_futures=True)
    assert type(waits.exception(LIMIT)) is OverloadedErrorMessage
    assert queued.cancelled()
    setting.session.requests[1].fail(overloaded())
    assert type(in_flight.exception(LIMIT)) is OverloadedErrorMessage, "it is not tried again"
    assert not later.done()
    setting.session.requests[2].succeed()
    assert later.done()
    Background(setting.executor.shutdown).result()


def test_cancel_futures_ends_a_retry_that_waits_for_a_place() -> None:
    """Also when its wait is over and there was no room for it yet."""
    setting = Setting(concurrency=1)
    waits = setting.executor.submit(SELECT, 1)
    setting.executor.submit(SELECT, 2)
    setting.session.requests[0].fail(overloaded())
    setting.clock.advance(1.0)
    assert setting.executor.stats().queued == 1
    setting.executor.shutdown(wait=False, cancel_futures=True)
    assert type(waits.exception(LIMIT)) is OverloadedErrorMessage
    setting.session.requests[1].succeed()
    Background(setting.executor.shutdown).result()
    assert len(setting.session.requests) == 2


def test_shutdown_waits_for_retries() -> None:
    """`shutdown(wait=True)` returns when the last attempt has ended."""
    setting = Setting()
    future = setting.executor.submit(SELECT, 1)
    setting.fail()
    order: List[str] = []
    setting.executor.shutdown(wait=False)

    def close() -> None:
        setting.executor.shutdown()
        order.append("shut down")

    closing = Background(close)
    setting.clock.advance(1.0)
    retry = setting.sent(2)[1]
    order.append("answered")
    retry.succeed()
    closing.result()
    assert order == ["answered", "shut down"]
    assert future.result(0).all() == []


def test_a_session_that_is_shut_down_ends_retries() -> None:
    """What waits for its retry when the session is shut down ends too, and is not sent for ever."""
    setting = Setting(total_time=None, attempts=1000)
    waits, in_flight = setting.executor.submit(SELECT, 1), setting.executor.submit(SELECT, 2)
    setting.session.requests[0].fail(overloaded())
    setting.session.shutdown()
    setting.clock.advance(1.0)
    assert type(in_flight.exception(LIMIT)) is ConnectionShutdown
    assert isinstance(waits.exception(LIMIT), (NoHostAvailable, ConnectionShutdown))


def test_a_later_page_is_tried_again() -> None:
    """A request for the next page is a request like any other."""
    session, clock = DriverSession(), ManualClock()
    executor = CassandraExecutor(session, clock=clock, retry=Retry(delay=1.0))
    future = executor.submit(SimpleStatement("SELECT n", is_idempotent=True))
    session.requests[0].rows([(1,)], ["n"], paging_state=b"1")
    rows = future.result(LIMIT)
    fetching = Background(rows.fetch_next_page)
    session.wait_for(2)
    clock.advance(10.0)
    clock.advance(1.0)
    third = session.wait_for(3)
    assert third.message.paging_state == b"1"
    third.rows([(2,)], ["n"])
    fetching.result()
    assert list(rows) == [(2,)]


# The budget


def in_flight(setting: Setting) -> int:
    """Return how many calls are in flight now."""
    return setting.executor.stats().in_flight


def test_the_budget_limits_the_retries_of_a_sick_cluster() -> None:
    """Without success there are `budget` retries, and then ten a second."""
    setting = Setting(Retry(delay=0.0, budget=5, total_time=None), concurrency=1000)
    for n in range(100):
        setting.executor.submit(SELECT, n)
    for request in setting.session.pending:
        request.fail(overloaded())
    setting.clock.advance(0.0)
    assert in_flight(setting) == 5
    setting.clock.advance(1.0)
    assert 5 + 8 <= in_flight(setting) <= 5 + 10
    setting.clock.advance(10.0 - 1.001)
    assert in_flight(setting) <= 5 + 100


def test_a_retry_that_succeeds_gives_its_part_of_the_budget_back() -> None:
    """While retries succeed, there are as many as are needed."""
    setting = Setting(Retry(delay=0.0, budget=1, total_time=None), concurrency=1)
    for n in range(20):
        future = setting.executor.submit(SELECT, n)
        setting.fail()
        setting.clock.advance(0.0)
        setting.sent(2 * n + 2)[-1].succeed()
        assert future.result(LIMIT).all() == []
    assert setting.clock.monotonic() == 0.0


def test_successes_give_the_budget_back() -> None:
    """Five successes make room for one retry."""
    setting = Setting(Retry(delay=0.0, budget=1, total_time=None), concurrency=100)
    for n in range(2):
        setting.executor.submit(SELECT, n)
    for request in setting.session.pending:
        request.fail(overloaded())
    setting.clock.advance(0.0)
    setting.sent(3)  # one of them was sent, the budget is used up
    setting.session.respond = lambda request: request.succeed()
    for n in range(5):
        setting.executor.submit(SELECT, 10 + n)
    setting.executor.submit(INSERT, 1)
    before = len(setting.session.requests)
    setting.clock.advance(0.1)
    assert len(setting.sent(before + 1)) == before + 1


def test_the_budget_is_shared_by_the_views_of_one_retry() -> None:
    """A view with another time limit has no budget of its own; one with its own `retry` has."""
    setting = Setting(Retry(delay=0.0, budget=1, total_time=None))
    view = setting.executor.with_options(timeout=100)
    other = setting.executor.with_options(retry=Retry(delay=0.0, budget=1, total_time=None))
    for each in (setting.executor, view, other):
        each.submit(SELECT, 1)
    for request in setting.session.pending:
        request.fail(overloaded())
    setting.clock.advance(0.0)
    assert in_flight(setting) == 2


def test_a_call_without_budget_ends_at_its_total_time() -> None:
    """A call for whose retry there is never any budget ends with its failure."""
    setting = Setting(Retry(delay=0.0, budget=1, total_time=1.0), concurrency=1000)
    futures = [setting.executor.submit(SELECT, n) for n in range(100)]
    for request in setting.session.pending:
        request.fail(overloaded())
    setting.clock.advance(3.0)
    ended = [future for future in futures if future.done()]
    assert len(ended) >= 85
    assert {type(future.exception(0)) for future in ended} == {OverloadedErrorMessage}
    assert setting.executor.stats().waiting_for_retry == 0


# All of it


class HastyClock(ManualClock):
    """A clock that moves on, on a thread of its own, as long as anybody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = threading.Event()
        self._ended = False

    def call_at(self, when: float, action: Callable[[], None]) -> Any:
        """Run an action soon."""
        timer = super().call_at(when, action)
        self._asked.set()
        return timer

    def _move(self) -> None:
        while self._asked.wait(LIMIT):
            self._asked.clear()
            if self._ended:  # after the clearing: it is said before it is asked
                return
            self.advance(20.0)

    def __enter__(self) -> HastyClock:
        self._thread = Background(self._move)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._asked.set()
        self._thread.result()


@given(
    st.lists(st.lists(st.booleans(), max_size=4), min_size=1, max_size=8),
    st.integers(1, 4),
    st.integers(1, 4),
    st.booleans(),
)
def test_each_call_ends_as_its_attempts_say(
    scripts: List[List[bool]], attempts: int, concurrency: int, ordered: bool
) -> None:
    """Whatever fails how often, each call is sent as often as needed, and no more.

    For each call its attempts: True is a transient failure, False a lasting one; then it succeeds.
    """
    tries = [0] * len(scripts)
    stamps: Dict[Tuple[int], Set[Any]] = {}

    def respond(request: ScriptedRequest) -> None:
        [n] = request.parameters
        stamps.setdefault((n,), set()).add(request.timestamp)
        script, number = scripts[n], tries[n]
        tries[n] += 1
        if number >= len(script):
            request.succeed([(n,)], ["n"])
        else:
            request.fail(overloaded() if script[number] else InvalidRequest("wrong"))

    session = ScriptedSession(respond, request_timeout=None)
    with HastyClock() as clock:
        retry = Retry(attempts=attempts, total_time=None)
        executor = CassandraExecutor(session, concurrency, clock=clock, retry=retry)
        pairs = executor.map(
            INSERT, range(len(scripts)), ordered=ordered, return_exceptions=True, with_calls=True
        )
        results = {call.position: result for call, result in pairs}
    note(session.history)
    for n, script in enumerate(scripts):
        lasting = script.index(False) + 1 if False in script else len(script) + 1
        expected = min(lasting, attempts)
        assert tries[n] == expected
        result = results[n]
        if expected == len(script) + 1:
            assert result.one().n == n
        else:
            last = script[expected - 1]
            assert type(result) is (OverloadedErrorMessage if last else InvalidRequest)
        assert len(stamps[(n,)]) == 1, "all attempts have one timestamp"
    assert session.most_pending <= concurrency
    stats = executor.stats()
    assert stats.retried == sum(tries) - len(scripts)
    assert stats.waiting_for_retry == stats.in_flight == stats.queued == 0
