"""Promise 14: never more than `concurrency` calls in flight; first come, first served."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Callable, List

import pytest
from cassandra import OperationTimedOut
from hypothesis import given
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry, execute_concurrent
from cassconc.testing import DriverThread, Script, ScriptedRequest, ScriptedSession, echo
from tests.driver import DriverSession
from tests.stage import CQL, Boom, Stage, Taken, failure, idempotent, staged, value, values
from tests.waits import LIMIT, Background, occurs, together

# Never more


@pytest.mark.parametrize("concurrency", [1, 2, 7])
def test_no_more_are_in_flight_than_allowed(concurrency: int) -> None:
    """All that is allowed is used, and no more, from the first call to the last."""
    with staged(concurrency) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(20)]
        for number in range(20):
            pending = len(stage.session.pending)
            assert pending == stage.executor.stats().in_flight == min(concurrency, 20 - number)
            stage.answer(number)
        assert all(future.done() for future in futures)
        assert stage.session.most_pending == concurrency


def test_threads_and_maps_share_it() -> None:
    """Threads, maps, views and futures of one executor have one concurrency together."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 5)
    view = executor.with_options(timeout=None).with_options(trace=True)
    running = [
        lambda: values(executor.map(CQL, range(200))),
        lambda: values(view.map(CQL, range(200), buffersize=3, ordered=False)),
        lambda: values(executor.starmap(CQL, [(i,) for i in range(200)], buffersize=50)),
        lambda: values(view.execute_concurrent([(CQL, (i,)) for i in range(200)], buffersize=9)),
        lambda: [value(executor.submit(CQL, i).result(LIMIT)) for i in range(100)],
        lambda: values(f.result(LIMIT) for f in [view.submit(CQL, i) for i in range(200)]),
    ]
    with DriverThread(session, Script([1, 3, 0, 2] * 300, bursts=[1, 4, 2] * 300)):
        results = together(*running)
    executor.shutdown()
    assert [sorted(each) for each in results] == [list(range(n)) for n in (200,) * 4 + (100, 200)]
    assert session.most_pending == 5
    assert len(session.requests) == 1100


def test_several_driver_threads_do_not_admit_too_many() -> None:
    """Answers from four threads at once, some twice, make room for one call each."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 6)
    over = threading.Event()

    def answer() -> None:
        while session.wait_for_pending(over.is_set):
            for request in session.pending:
                echo(request)

    drivers = [Background(answer) for _ in range(4)]
    results = together(*[lambda: values(executor.map(CQL, range(300))) for _ in range(3)])
    over.set()
    session.wake()
    for driver in drivers:
        driver.result()
    executor.shutdown()
    assert results == [list(range(300))] * 3
    assert session.most_pending <= 6
    assert len(session.requests) == 900


def test_it_is_per_executor() -> None:
    """Two executors on one session have each their own."""
    with staged(2) as stage:
        other = CassandraExecutor(stage.session, 3, clock=stage.clock)
        for number in range(5):
            stage.executor.submit(CQL, number)
            other.submit(CQL, 100 + number)
        assert len(stage.session.pending) == 5
        stage.answer_all()
        other.shutdown()


def test_the_drop_ins_keep_to_theirs() -> None:
    """`concurrency=` of the drop-ins is the number of requests without an answer, at most."""

    def respond(request: ScriptedRequest) -> None:
        if len(session.pending) == 3 or request.number >= 50:
            echo(session.pending[0])
        if request.number == 59:
            Script().play_all(session)

    session = ScriptedSession(respond)
    assert len(execute_concurrent(session, [(CQL, (i,)) for i in range(60)], 3)) == 60
    assert session.most_pending == 3


# What makes room


@pytest.mark.parametrize("how", ["succeeds", "fails", "times out", "raises", "succeeds twice"])
def test_each_end_makes_room_for_one(how: str) -> None:
    """Whatever ends a call admits one other call in its place."""
    with staged(2) as stage:
        if how == "raises":

            def respond(request: ScriptedRequest) -> None:
                if request.parameters == (2,):
                    raise Boom(2)

            stage.session.respond = respond
        futures = [stage.executor.submit(CQL, i) for i in range(9)]
        if how == "fails":
            stage.fail(0)
        elif how == "times out":
            stage.clock.advance(9)
            stage.answer(1)  # so it is call 0 alone that times out
            stage.clock.advance(1)
            stage.settle(4)
        else:
            stage.answer(*[0] * (2 if how == "succeeds twice" else 1))
        expected = {"times out": 4, "raises": 4}.get(how, 3)
        assert stage.sent == list(range(expected))
        assert stage.executor.stats().in_flight == 2
        assert [f.done() for f in futures[:expected]].count(False) == 2


def test_calls_that_timed_out_do_not_count() -> None:
    """Their requests have no answer yet, but others are sent in their place."""
    with staged(2) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(6)]
        for sent in (4, 6):
            stage.clock.advance(10)
            stage.settle(sent)
            assert stage.executor.stats().in_flight == 2
        assert len(stage.session.pending) == 6
        assert [f.done() for f in futures] == [True] * 4 + [False] * 2


def test_later_pages_do_not_count() -> None:
    """A later page is fetched at once, also while as many calls are in flight as may be."""
    with staged(1) as stage:
        first = stage.executor.submit(CQL, 0)
        stage.session.requests[0].succeed([(0,)], ["n"], paging_state=b"more")
        stage.executor.submit(CQL, 1)
        queued = stage.executor.submit(CQL, 2)
        stage.session.respond = lambda request: request.succeed([(1,)], ["n"])
        assert [row.n for row in first.result(0)] == [0, 1]
        stage.session.respond = None
        assert stage.executor.stats().in_flight == 1
        assert not queued.running(), "the later page has made room"


def test_later_pages_of_the_driver_do_not_count() -> None:
    """The same with the driver's own session, whose later pages are requests of their own."""
    session = DriverSession()
    executor = CassandraExecutor(session, concurrency=1)
    first = executor.submit("SELECT n")
    session.requests[0].rows([(0,)], ["n"], paging_state=b"more")
    executor.submit("SELECT 1")
    queued = executor.submit("SELECT 2")
    reading = Background(lambda: list(first.result(LIMIT)))
    session.wait_for(3).rows([(1,)], ["n"])
    assert reading.result() == [(0,), (1,)]
    assert executor.stats().in_flight == 1
    assert not queued.running(), "the later page has made room"
    session.requests[1].void()
    session.wait_for(4).void()
    executor.shutdown()


def test_a_call_that_waits_for_its_retry_does_not_count() -> None:
    """Others are sent meanwhile; when it is due it takes its turn."""
    with staged(1, retry=Retry(delay=1)) as stage:
        future = stage.executor.submit(idempotent("A"))
        stage.executor.submit(CQL, "B")
        stage.session.requests[0].fail(OperationTimedOut())
        assert stage.sent == ["A", "B"]
        stage.clock.advance(1)
        assert stage.sent == ["A", "B"], "two are in flight"
        assert stage.executor.stats().in_flight == 1
        stage.answer("B")
        stage.settle(3)
        assert stage.sent == ["A", "B", "A"]
        stage.session.requests[2].succeed()
        assert failure(future) is None


def test_what_was_cancelled_makes_no_room() -> None:
    """A call that was never sent has had no room; one end admits one call, however many went."""
    with staged(2) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(20)]
        for future in futures[2:10]:
            assert future.cancel()
        assert stage.sent == [0, 1]
        stage.answer(0)
        assert stage.sent == [0, 1, 10]


def test_a_dropped_map_gives_its_turns_to_others() -> None:
    """The room of calls that are not wanted any more is used at once by those who wait."""
    with staged(3) as stage:
        results: Any = stage.executor.map(CQL, range(50))
        stage.answer(0)
        next(results)
        futures = [stage.executor.submit(CQL, 100 + i) for i in range(5)]
        results.close()
        stage.answer(1, 2, 3)
        assert stage.sent == [0, 1, 2, 3, 100, 101, 102]
        assert stage.executor.stats().queued == 2
        stage.answer(*range(100, 105))
        assert all(future.done() for future in futures)


# First come, first served


def test_calls_are_sent_in_the_order_in_which_they_came() -> None:
    """Futures and maps, taken in turn, are sent in that order."""
    with staged(2) as stage:
        stage.executor.submit(CQL, 0)
        first = stage.executor.map(CQL, range(1, 4))
        stage.executor.submit(CQL, 4)
        second = stage.executor.starmap(CQL, [(5,), (6,)])
        stage.executor.submit(CQL, 7)
        for expected in range(2, 8):
            stage.answer(stage.session.pending[1 - expected % 2].parameters[0])
            assert stage.sent == list(range(expected + 1))
        stage.answer_all()
        assert values(first) + values(second) == [1, 2, 3, 5, 6]


def test_a_large_map_does_not_starve_a_bounded_one() -> None:
    """What a bounded map takes later comes after what was taken before, and before what was not."""
    with staged(1) as stage:
        stage.executor.map(CQL, range(5))
        bounded = stage.executor.map(CQL, [10, 11], buffersize=1)
        stage.executor.map(CQL, range(20, 23))
        stage.play()
        assert value(next(bounded)) == 10
        assert stage.sent[:6] == [0, 1, 2, 3, 4, 10]
        assert value(next(bounded)) == 11
        # 11 was taken when 10 was asked for: after those that were there, before what comes now
        assert stage.sent == [0, 1, 2, 3, 4, 10, 20, 21, 22, 11]


def test_what_is_submitted_during_a_send_waits_behind_those_who_came_before() -> None:
    """`submit` from code that runs in `execute_async` is no way past the queue."""
    with staged(1) as stage:
        stage.executor.submit(CQL, 0)
        stage.executor.submit(CQL, 1)
        stage.executor.submit(CQL, 2)

        def respond(request: ScriptedRequest) -> None:
            if request.parameters == (1,):
                stage.executor.submit(CQL, "late")

        stage.session.respond = respond
        stage.answer(0, 1, 2)
        assert stage.sent == [0, 1, 2, "late"]


def test_a_callback_submits_behind_those_who_came_before() -> None:
    """What a done-callback submits is sent after what waited already."""
    with staged(1) as stage:
        submitted = threading.Event()

        def submit(_: object) -> None:
            stage.executor.submit(CQL, "late")
            submitted.set()

        stage.executor.submit(CQL, 0).add_done_callback(submit)
        for number in (1, 2, 3):
            stage.executor.submit(CQL, number)
        stage.answer(0)
        occurs(submitted, "the callback has submitted")
        stage.answer(1, 2, 3)
        assert stage.sent == [0, 1, 2, 3, "late"]


def test_calls_that_end_at_once_keep_the_order() -> None:
    """A thousand that are answered inside `execute_async` are sent in their order all the same."""
    with staged(2) as stage:
        futures = [stage.executor.submit(CQL, i) for i in range(1000)]
        stage.session.respond = echo
        stage.answer(0)
        assert all(failure(future) is None for future in futures[:1] + futures[2:])
        assert stage.sent == list(range(1000))


def test_a_retry_comes_before_those_who_came_later() -> None:
    """The call came first: when its retry is due, it is the next."""
    with staged(1, retry=Retry(delay=0)) as stage:
        stage.executor.submit(idempotent("A"))
        for text in "BCD":
            stage.executor.submit(CQL, text)
        stage.session.requests[0].fail(OperationTimedOut())
        stage.clock.advance(0)
        stage.answer("B")
        stage.settle(3)
        assert stage.sent == ["A", "B", "A"]


def test_retries_keep_their_order_among_themselves() -> None:
    """Of two calls that wait for room with their retries, the one that came first is first."""
    with staged(1, retry=Retry(delay=0)) as stage:
        for text in "ABCD":
            stage.executor.submit(idempotent(text))
        stage.session.requests[0].fail(OperationTimedOut())  # A; sends B
        stage.session.requests[1].fail(OperationTimedOut())  # B; sends C
        stage.clock.advance(0)  # A and B are due, and there is no room
        stage.session.requests[2].succeed()
        stage.settle(4)
        stage.session.requests[3].succeed()
        stage.settle(5)
        assert stage.sent[:5] == ["A", "B", "C", "A", "B"]


# In any mixture


@given(
    concurrency=st.integers(1, 4),
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("submit"), st.integers(1, 4)),
            st.tuples(st.just("map"), st.integers(0, 6)),
            st.tuples(st.sampled_from(["succeed", "fail", "cancel"]), st.integers(0, 9)),
        ),
        max_size=30,
    ),
)
def test_any_mixture_is_first_come_first_served(concurrency: int, steps: List[Any]) -> None:
    """Sent is always a beginning of what was taken, but for what was cancelled or aborted."""
    with staged(concurrency) as stage:
        model = _Queue(stage)
        for name, number in steps:
            getattr(model, name)(number)
            model.check()


class _Queue:
    """A plain model: who came, and who is to be sent."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.waiting: List[int] = []
        self.sent: List[int] = []
        self.pending: List[int] = []
        self.futures: dict[int, Any] = {}
        self.maps: List[Any] = []
        self.of_map: dict[int, int] = {}
        self.count = 0

    def submit(self, number: int) -> None:
        for _ in range(number):
            self.futures[self.count] = self.stage.executor.submit(CQL, self.count)
            self._came()

    def map(self, number: int) -> None:
        numbers = range(self.count, self.count + number)
        self.of_map.update({each: len(self.maps) for each in numbers})
        self.maps.append(self.stage.executor.map(CQL, numbers))
        for _ in range(number):
            self._came()

    def succeed(self, number: int) -> None:
        if number < len(self.pending):
            self.stage.answer(self.pending.pop(number))
            self._admit()

    def fail(self, number: int) -> None:
        if number < len(self.pending):
            failed = self.pending.pop(number)
            self.stage.fail(failed)
            which = self.of_map.get(failed, -1)
            self.waiting = [
                each
                for each in self.waiting
                if each < failed or self.of_map.get(each) != which or which < 0
            ]
            self._admit()

    def cancel(self, number: int) -> None:
        cancellable = [each for each in self.waiting if each in self.futures]
        if number < len(cancellable):
            self.waiting.remove(cancellable[number])
            assert self.futures[cancellable[number]].cancel()

    def check(self) -> None:
        assert self.stage.sent == self.sent
        assert len(self.stage.session.pending) <= self.stage.concurrency
        stats = self.stage.executor.stats()
        assert (stats.queued, stats.in_flight) == (len(self.waiting), len(self.pending))

    def _came(self) -> None:
        self.waiting.append(self.count)
        self.count += 1
        self._admit()

    def _admit(self) -> None:
        while self.waiting and len(self.pending) < self.stage.concurrency:
            self.pending.append(self.waiting[0])
            self.sent.append(self.waiting.pop(0))


def test_threads_that_submit_at_once_are_served_in_turn() -> None:
    """What one thread has submitted is sent in its order, whatever other threads do."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, 3)

    def submit(start: int) -> Callable[[], List[Any]]:
        return lambda: [executor.submit(CQL, start + i) for i in range(300)]

    with DriverThread(session):
        taken = Taken(range(900, 1200))
        futures = together(*[submit(300 * i) for i in range(3)])
        results = executor.map(CQL, taken)
        assert values(results) == list(range(900, 1200))
        for future in itertools.chain(*futures):
            assert failure(future) is None
    executor.shutdown()
    sent = [request.parameters[0] for request in session.requests]
    assert session.most_pending <= 3
    assert sorted(sent) == list(range(1200))
    assert sent[900:] == list(range(900, 1200)), "a map has overtaken what was submitted before it"
