"""Attacks with threads: what is checked without a lock and used a moment later."""

from __future__ import annotations

import threading
from typing import Any, Iterator, List

from cassandra import OperationTimedOut

from cassconc import CassandraExecutor, Retry
from cassconc._futures import CallFuture
from cassconc._gate import Gate
from cassconc.testing import ManualClock, ScriptedSession
from tests.attacks.helpers import PlainSession, shut_down
from tests.tracing import At
from tests.waits import Background, eventually, logged, occurs, outcome

CQL = "SELECT 1"
LIMIT = 5.0


def sent(session: ScriptedSession, count: int) -> None:
    """Wait until so many requests were sent."""
    with session._changed:
        is_so = session._changed.wait_for(lambda: len(session.requests) >= count, LIMIT)
    assert is_so, f"{len(session.requests)} requests were sent, not {count}"


class _Hooked(dict):  # type: ignore[type-arg]
    """A dict that runs `hook()` when an iterator over it was made and not used yet."""

    hook: Any = None

    def __iter__(self) -> Iterator[Any]:
        iterator = super().__iter__()
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
        return iterator


def test_the_helper_looks_for_a_call_while_another_thread_claims_one() -> None:
    """Promise 1: a call is claimed without the gate's lock, also while a helper thread looks.

    `next(iter(unsent))` fails when another thread takes one out between the two. The helper that
    dies of it must not keep all that is left to helpers from being sent, for ever.
    """
    session, clock = ScriptedSession(), ManualClock()
    executor = CassandraExecutor(session, 2, clock=clock)
    gate = executor._gate
    unsent = gate._unsent = _Hooked()
    _, _, third, fourth = [executor.submit(CQL) for _ in range(4)]

    claimed = threading.Event()
    claim = gate.claim

    def claim_and_tell(call: CallFuture) -> bool:
        is_mine = claim(call)
        claimed.set()
        return is_mine

    gate.claim = claim_and_tell  # type: ignore[method-assign]

    def other_thread_sends() -> None:
        # two calls were admitted when two have timed out: some thread sends the last of them
        call = list(dict.keys(unsent))[-1]
        Background(lambda: dispatcher._adapter.send(call, dispatcher))
        claimed.wait(0.5)  # it can't, where claiming takes the lock

    dispatcher = executor._starter.dispatcher
    unsent.hook = other_thread_sends
    clock.advance(10.0)
    sent(session, 4)
    for request in session.pending[-2:]:
        request.succeed()
    assert outcome(third) is None
    assert outcome(fourth) is None
    # the next that is left to a helper is sent, too
    for _ in range(3):
        executor.submit(CQL)
    clock.advance(10.0)
    sent(session, 7)


def test_looking_for_a_call_while_others_are_claimed() -> None:
    """The same by chance alone: the gate never fails to say what is to be sent."""
    import sys

    gate, over = Gate(10**9), threading.Event()

    def claim() -> None:
        while not over.is_set():
            call = CallFuture(gate, None, (CQL, None))
            gate.enter(call)
            gate.claim(call)
            gate._in_flight.discard(call)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    claiming = [Background(claim) for _ in range(3)]
    try:
        for _ in range(300_000):
            gate.next_unsent()
    finally:
        sys.setswitchinterval(interval)
        over.set()
        for each in claiming:
            each.result()


def test_callbacks_run_one_at_a_time_when_two_answers_come_at_once() -> None:
    """Promises 7 and 13: two outcomes come at once; callbacks stay in order, one at a time.

    An answer and a time-out, say. The thread of the first is held up as it finishes the future.
    The second does not count, and must not start the callbacks a second time.
    """
    session = PlainSession()
    executor = CassandraExecutor(session)
    future = executor.submit(CQL)
    inside, leave, overtaken = threading.Event(), threading.Event(), threading.Event()

    def first(_: Any) -> None:
        inside.set()
        leave.wait(LIMIT)

    future.add_done_callback(first)
    future.add_done_callback(lambda _: overtaken.set())
    _answer_twice(session)
    occurs(inside, "the first callback runs")
    try:
        assert not overtaken.wait(0.5), "the second callback runs beside the first one"
    finally:
        leave.set()
    occurs(overtaken, "the second callback runs")


def test_shutdown_waits_for_callbacks_when_two_answers_come_at_once() -> None:
    """Promise 3: `shutdown` returns when the callbacks have run, however often it was answered."""
    session = PlainSession()
    executor = CassandraExecutor(session)
    future = executor.submit(CQL)
    inside, leave = threading.Event(), threading.Event()

    def callback(_: Any) -> None:
        inside.set()
        leave.wait(LIMIT)

    future.add_done_callback(callback)
    _answer_twice(session)
    occurs(inside, "the callback runs")
    logged()
    shutdown = Background(executor.shutdown)
    shutdown._thread.join(0.5)
    try:
        assert not shutdown.is_over, "shutdown does not wait for a callback"
    finally:
        leave.set()
    shutdown.result()


def _answer_twice(session: PlainSession) -> None:
    """Answer, and while that thread finishes the future, fail on another thread."""

    def again() -> None:
        Background(lambda: session.responses[0].fail(OperationTimedOut())).result()

    def answer() -> None:
        with At("let_go", again) as at:
            session.responses[0].succeed()
        assert at.happened

    Background(answer).result()


def test_a_call_that_is_put_aside_is_ended_at_that_moment() -> None:
    """Promise 1: `shutdown(cancel_futures=True)` strikes just as a call was put aside.

    Who was admitted in its place ends as well.
    """
    session, clock = ScriptedSession(), ManualClock()
    events: List[Any] = []
    retry = Retry(on_retry=events.append)
    executor = CassandraExecutor(session, 1, retry=retry, clock=clock)
    from cassandra.query import SimpleStatement

    statement = SimpleStatement(CQL, is_idempotent=True)
    first, second = executor.submit(statement), executor.submit(statement)

    def fail() -> None:
        def shutdown() -> None:
            Background(lambda: executor.shutdown(False, cancel_futures=True)).result()

        with At("_tell", shutdown) as at:
            session.pending[0].fail(OperationTimedOut())
        assert at.happened

    Background(fail).result()
    assert isinstance(outcome(first), OperationTimedOut)
    # it had its turn, and was sent before the shutdown or not at all
    eventually(lambda: second.cancelled() or len(session.pending) == 1, lambda: second)
    if session.pending:
        session.pending[0].succeed()
        assert outcome(second) is None
    shut_down(executor)
