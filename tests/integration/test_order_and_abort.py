"""Promises 9, 10, 11, 14 and 15 over the wire: the server answers in an order that is drawn.

The maps run on one thread: where the consumer would wait for a result, the clock that it was given
has the server answer one request, and waits until all that follows from it has happened. So every
example goes the same way each time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, TimeoutError
from dataclasses import dataclass, field
from typing import Any

import pytest
from cassandra import InvalidRequest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock
from tests.integration.helpers import LIMIT, SELECT, VERSIONS, name_of, serving, user
from tests.parts import needs
from tests.protocol import ScriptedServer, ServerRequest
from tests.waits import eventually


@dataclass
class Wire:
    """A server that answers when it is told to, a session on it, and a statement."""

    server: ScriptedServer
    session: Any
    select: Any

    def barrier(self) -> None:
        """Wait until what was sent before has arrived, and what was answered is processed."""
        self.session.execute("SELECT key FROM system.local")

    def clean_up(self) -> None:
        """Answer what an example left behind."""
        self.barrier()
        while self.server.unanswered:
            for request in self.server.unanswered:
                user(request)
            self.barrier()
            self.barrier()


@pytest.fixture(scope="module", params=VERSIONS, ids="v{}".format)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """One for all examples."""
    with serving(request.param, on_request=lambda _: None) as (server, session):
        yield Wire(server, session, session.prepare(SELECT))


class Broken(Exception):
    """What an input raises."""


@dataclass
class Play:
    """One example: answers in a drawn order, and what has happened so far."""

    wire: Wire
    draw: Callable[[Any], Any]
    concurrency: int
    fails: Callable[[int], bool] = lambda number: False
    before_answer: Callable[[int], None] = lambda step: None
    taken: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    aborted: bool = False  # by a failure, or otherwise
    sent_at_abort: int = -1
    taken_at_abort: int = -1

    def __post_init__(self) -> None:
        self.clock = ManualClock(on_wait=self.answer_one)

    def input(self, numbers: Any) -> Iterator[int]:
        """Yield the numbers, and note when they are taken."""
        for number in numbers:
            self.taken.append(number)
            yield number

    def look(self) -> list[ServerRequest]:
        """See what has arrived; returns what is unanswered."""
        self.wire.barrier()
        pending = self.wire.server.unanswered
        for request in pending:
            number = request.parameters[0]
            if number not in self.sent:
                self.sent.append(number)
        assert len(pending) <= self.concurrency, "more in flight than may be"
        if self.aborted:
            assert len(self.sent) == self.sent_at_abort, "sent after the abort"
            assert len(self.taken) == self.taken_at_abort, "taken after the abort"
        else:
            left = len(self.taken) - len(self.answered)
            assert len(pending) == min(self.concurrency, left), "some wait although there is room"
            assert self.sent == self.taken[: len(self.sent)], "not first come, first served"
        return pending

    def abort(self) -> None:
        """From here on nothing may be sent."""
        if not self.aborted:
            self.wire.barrier()
            self.look()
            self.sent_at_abort, self.taken_at_abort = len(self.sent), len(self.taken)
            self.aborted = True

    def answer_one(self) -> bool:
        """Answer one of the requests; False if there is none."""
        pending = self.look()
        if not pending:
            return False
        self.before_answer(len(self.answered))
        request = pending[self.draw(st.integers(0, len(pending) - 1))]
        number = request.parameters[0]
        note(f"of {[each.parameters[0] for each in pending]} {number} is answered")
        self.answered.append(number)
        if self.fails(number):
            if self.aborts and not self.aborted:
                self.sent_at_abort, self.taken_at_abort = len(self.sent), len(self.taken)
                self.aborted = True
            request.error("invalid", f"{number} fails")
        else:
            user(request)
        self.wire.barrier()
        return True

    aborts: bool = True  # whether a failure does

    def answer_the_rest(self) -> None:
        """Answer all that is still unanswered."""
        while self.answer_one():
            pass


@dataclass
class Plan:
    """How a map is asked for, and how it ends."""

    outcomes: list[bool]  # of each call: whether it fails
    concurrency: int
    buffersize: int | None
    ordered: bool
    return_exceptions: bool
    ending: str  # exhaust, close, drop, timeout, interrupt, input
    when: int  # after how many results, answers or items


PLANS = st.builds(
    Plan,
    outcomes=st.lists(st.sampled_from([False, False, False, True]), max_size=12),
    concurrency=st.integers(1, 5),
    buffersize=st.none() | st.integers(1, 6),
    ordered=st.booleans(),
    return_exceptions=st.booleans(),
    ending=st.sampled_from(
        ["exhaust", "exhaust", "close", "drop", "timeout", "interrupt", "input"]
    ),
    when=st.integers(0, 6),
)


def label(outcome: Any) -> tuple[str, int]:
    """A result or an exception as something to compare."""
    if isinstance(outcome, InvalidRequest):
        return "failure", outcome.call.position  # type: ignore[attr-defined]
    row = outcome.one()
    assert row.name == name_of(row.id)
    return "result", row.id


@needs("streams")
@given(plan=PLANS, data=st.data())
def test_a_map_in_any_order(wire: Wire, plan: Plan, data: st.DataObject) -> None:
    """Order, early abort and bounds hold whatever the order of the answers."""
    try:
        check_map(wire, plan, data)
    finally:
        wire.clean_up()


def check_map(wire: Wire, plan: Plan, data: st.DataObject) -> None:
    """One example of `test_a_map_in_any_order`."""
    play = Play(wire, data.draw, plan.concurrency, fails=plan.outcomes.__getitem__)
    play.aborts = not plan.return_exceptions

    def end(step: int) -> None:
        if step == plan.when and plan.ending == "timeout":
            play.clock.advance(1.0)
        if step == plan.when and plan.ending == "interrupt":
            play.abort()
            raise KeyboardInterrupt

    play.before_answer = end
    numbers: Any = range(len(plan.outcomes))
    if plan.ending == "input":
        numbers = broken_after(numbers, plan.when)
    executor = CassandraExecutor(wire.session, plan.concurrency, clock=play.clock)
    yielded: list[tuple[str, int]] = []
    ended_with: Any = None
    results: Any = None
    try:
        results = executor.map(
            wire.select,
            play.input(numbers),
            buffersize=plan.buffersize,
            ordered=plan.ordered,
            return_exceptions=plan.return_exceptions,
            timeout=1.0 if plan.ending == "timeout" else None,
        )
        while plan.ending not in ("close", "drop") or len(yielded) < plan.when:
            try:
                yielded.append(label(next(results)))
            except StopIteration:
                break
            if plan.buffersize is not None:
                assert len(play.taken) <= len(yielded) + plan.buffersize
    except (InvalidRequest, Broken, TimeoutError, KeyboardInterrupt) as error:
        ended_with = error
    note(f"yielded {yielded}, then {ended_with!r}")
    if ended_with is not None or (yielded and plan.ending in ("close", "drop")):
        play.look()
        if plan.ending == "close" and results is not None:
            results.close()
        del results
        play.abort()
    else:
        del results  # it has come to its end, or was never asked: then its calls run
    play.before_answer = lambda step: None
    play.answer_the_rest()
    executor.shutdown(wait=True)
    check_yields(plan, play, yielded, ended_with)
    counts = executor.stats()
    assert counts.submitted == len(play.taken)
    assert counts.succeeded + sum(counts.failed.values()) == len(play.sent) == len(play.answered)
    assert counts.cancelled == len(play.taken) - len(play.sent)
    if not play.aborted:
        assert play.sent == list(range(len(play.taken)))


def broken_after(numbers: Any, count: int) -> Iterator[int]:
    """Some of the numbers, then an error of the input."""
    for number in numbers:
        if number == count:
            raise Broken
        yield number
    raise Broken


def check_yields(plan: Plan, play: Play, yielded: list[tuple[str, int]], ended_with: Any) -> None:
    """What was yielded is what should have been, in its order."""
    fails = plan.outcomes.__getitem__
    order = sorted(play.answered) if plan.ordered else play.answered
    expected = [("failure" if fails(n) else "result", n) for n in order]
    if plan.ordered:
        assert [number for _, number in yielded] == list(range(len(yielded)))
    assert yielded == expected[: len(yielded)]
    if not plan.return_exceptions:
        assert all(kind == "result" for kind, _ in yielded)
    if isinstance(ended_with, InvalidRequest):
        assert not plan.return_exceptions
        assert label(ended_with) == expected[len(yielded)]
        assert label(ended_with)[0] == "failure"
    elif isinstance(ended_with, Broken) and plan.buffersize is not None:
        assert len(yielded) == len(play.taken) == min(plan.when, len(plan.outcomes))
    elif ended_with is None and plan.ending in ("exhaust", "timeout", "interrupt"):
        assert len(yielded) == len(plan.outcomes)


@needs("streams")
@given(
    sizes=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    concurrency=st.integers(1, 4),
    buffersize=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=50)
def test_maps_that_share_an_executor(
    wire: Wire, sizes: list[int], concurrency: int, buffersize: int, data: st.DataObject
) -> None:
    """Several maps and submits share the bound, first come, first served; each keeps its order."""
    play = Play(wire, data.draw, concurrency)
    executor = CassandraExecutor(wire.session, concurrency, clock=play.clock)
    try:
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        maps = [
            executor.map(wire.select, play.input(range(start, start + size)), buffersize=buffersize)
            for start, size in zip(starts, sizes)
        ]
        found: list[list[int]] = [[] for _ in maps]
        futures = []
        open_maps = list(range(len(maps)))
        number = sum(sizes)
        while open_maps:
            if data.draw(st.booleans()):
                play.taken.append(number)
                futures.append(executor.submit(wire.select, number))
                number += 1
            at = data.draw(st.sampled_from(open_maps))
            try:
                found[at].append(next(maps[at]).one().id)
            except StopIteration:
                open_maps.remove(at)
        play.answer_the_rest()
        assert found == [list(range(s, s + size)) for s, size in zip(starts, sizes)]
        got = [future.result(LIMIT).one().id for future in futures]
        assert got == list(range(sum(sizes), number))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        wire.clean_up()


# -- the drop-ins: they have no clock, so they run on a thread of their own


Way = Callable[[Wire, Any, int, bool], Any]


def in_list(wire: Wire, parameters: Any, concurrency: int, raises: bool) -> Any:
    """The drop-in that returns a list."""
    pairs = ((wire.select, each) for each in parameters)
    return execute_concurrent(wire.session, pairs, concurrency, raises)


def in_generator(wire: Wire, parameters: Any, concurrency: int, raises: bool) -> Any:
    """The drop-in that returns a generator."""
    results = execute_concurrent_with_args(
        wire.session, wire.select, parameters, concurrency, raises, True
    )
    found = []
    try:
        for result in results:
            found.append(result)
    except InvalidRequest as error:
        found.append(error)
    return found


def in_future(wire: Wire, parameters: Any, concurrency: int, raises: bool) -> Any:
    """The drop-in that returns a future."""
    pairs = ((wire.select, each) for each in parameters)
    return execute_concurrent_async(wire.session, pairs, concurrency, raises).result(LIMIT)


@needs("streams")
@given(
    way=st.sampled_from([in_list, in_generator, in_future]),
    outcomes=st.lists(st.sampled_from([False, False, True]), min_size=1, max_size=12),
    concurrency=st.integers(1, 5),
    raises=st.booleans(),
    data=st.data(),
)
def test_the_drop_ins_in_any_order(
    wire: Wire,
    way: Way,
    outcomes: list[bool],
    concurrency: int,
    raises: bool,
    data: st.DataObject,
) -> None:
    """They return their results in the order of the input, and send nothing after a failure."""
    outcome: list[Any] = []
    taken = threading.Event()

    def parameters() -> Iterator[Any]:
        for n in range(len(outcomes)):
            yield (n,)
        taken.set()

    def run() -> None:
        try:
            outcome.append(way(wire, parameters(), concurrency, raises))
        except InvalidRequest as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        assert taken.wait(LIMIT)
        answered: list[int] = []
        left, aborted = len(outcomes), False
        in_flight = min(concurrency, left)
        while in_flight:
            wire.server.wait_until(lambda now, count=in_flight: now.unanswered == count)  # type: ignore[misc]
            pending = wire.server.unanswered
            request = pending[data.draw(st.integers(0, in_flight - 1))]
            number = request.parameters[0]
            note(f"of {[each.parameters[0] for each in pending]} {number} is answered")
            answered.append(number)
            left -= 1
            if outcomes[number]:
                aborted = aborted or raises
                request.error("invalid")
            else:
                user(request)
            in_flight = in_flight - 1 if aborted else min(concurrency, left)
            wire.barrier()
            wire.barrier()
            assert len(wire.server.unanswered) == in_flight
        thread.join(LIMIT)
        assert not thread.is_alive(), "still waits"
    finally:
        wire.clean_up()
    (found,) = outcome
    failed = [n for n in answered if outcomes[n]]
    if raises and failed:
        if way is in_generator:
            assert isinstance(found[-1], InvalidRequest)
            assert found[-1].call.position == min(failed)  # type: ignore[attr-defined]
            assert [each.result_or_exc.one().id for each in found[:-1]] == list(range(min(failed)))
        else:
            assert isinstance(found, InvalidRequest)
            assert found.call.position == failed[0]  # type: ignore[attr-defined]
    else:
        assert [label(each.result_or_exc)[1] for each in found] == list(range(len(outcomes)))
        assert [each.success for each in found] == [not fails for fails in outcomes]


# -- what counts, and what does not


def test_the_bound_over_threads(wire: Wire) -> None:
    """Many threads and maps on one executor never have more in flight than it allows."""
    most = Counter[str]()
    server = wire.server

    def answer(request: ServerRequest) -> None:
        most["unanswered"] = max(most["unanswered"], server.statistics().unanswered)
        user(request)

    server.on_request = answer
    try:
        with CassandraExecutor(wire.session, 7) as executor:
            found: list[list[int]] = []

            def run(start: int) -> None:
                numbers = range(start, start + 200)
                results = executor.map(wire.select, numbers, buffersize=20)
                found.append([result.one().id for result in results])

            threads = [threading.Thread(target=run, args=(n * 1000,)) for n in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
        assert sorted(found) == [list(range(n * 1000, n * 1000 + 200)) for n in range(6)]
        assert 1 <= most["unanswered"] <= 7
    finally:
        server.on_request = lambda _: None


def test_the_lowest_failure_is_raised(wire: Wire) -> None:
    """Of several failures the first one in the input is raised, with all results before it."""
    play = Play(wire, lambda _: 0, 5)
    executor = CassandraExecutor(wire.session, 5, clock=play.clock)
    results = executor.map(wire.select, play.input(range(20)))
    requests = play.look()
    for at in (4, 2, 3):
        requests[at].error("invalid")
        wire.barrier()
    user(requests[1])
    user(requests[0])
    wire.barrier()
    wire.barrier()
    assert wire.server.unanswered == []
    assert [next(results).one().id for _ in range(2)] == [0, 1]
    with pytest.raises(InvalidRequest) as caught:
        next(results)
    assert caught.value.call.position == 2  # type: ignore[attr-defined]
    assert list(results) == []
    executor.shutdown()


def failing_meanwhile(wire: Wire) -> Iterator[tuple[int]]:
    """An input whose second item is only there when the first one's call has failed."""
    yield (0,)
    wire.barrier()
    (request,) = wire.server.unanswered
    request.error("invalid")
    wire.barrier()
    yield (1,)
    yield (2,)


def by_map(wire: Wire, parameters: Any, concurrency: int, raises: bool) -> Any:
    """`starmap`, without a bound."""
    with CassandraExecutor(wire.session, concurrency) as executor:
        return list(executor.starmap(wire.select, parameters))


def by_bounded_map(wire: Wire, parameters: Any, concurrency: int, raises: bool) -> Any:
    """`starmap` in generator mode."""
    with CassandraExecutor(wire.session, concurrency) as executor:
        return list(executor.starmap(wire.select, parameters, buffersize=2))


def by_unordered_map(wire: Wire, parameters: Any, concurrency: int, raises: bool) -> Any:
    """`starmap`, unordered."""
    with CassandraExecutor(wire.session, concurrency) as executor:
        return list(executor.starmap(wire.select, parameters, ordered=False))


@pytest.mark.parametrize("concurrency", [1, 100])
@pytest.mark.parametrize(
    "way", [by_map, by_bounded_map, by_unordered_map, in_list, in_generator, in_future]
)
def test_a_failure_while_the_input_is_slow(wire: Wire, way: Way, concurrency: int) -> None:
    """What the input gives after a failure is not sent, also when it was asked for before."""
    before = wire.server.statistics().requests
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend(way(wire, failing_meanwhile(wire), concurrency, True))
        except InvalidRequest as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        eventually(lambda: not thread.is_alive() or len(sent_since(wire, before)) > 1)
        wire.barrier()
        assert [number for number in sent_since(wire, before) if number] == []
        thread.join(LIMIT)
        assert [type(each) for each in outcome] == [InvalidRequest]
        assert outcome[0].call.position == 0
    finally:
        wire.clean_up()
        thread.join(LIMIT)


def sent_since(wire: Wire, before: int) -> list[int]:
    """The numbers of the requests since the first so many; of those answered, 0."""
    count = wire.server.statistics().requests - before
    pending = [each.parameters[0] for each in wire.server.unanswered]
    return [0] * (count - len(pending)) + pending


def test_another_thread_may_close(wire: Wire) -> None:
    """Who waits in a map that another thread's executor cancels gets `CancelledError`."""
    executor = CassandraExecutor(wire.session, 2)
    results = executor.map(wire.select, range(10))
    try:
        wire.barrier()
        executor.shutdown(wait=False, cancel_futures=True)
        first = wire.server.unanswered
        assert [each.parameters[0] for each in first] == [0, 1]
        for request in first:
            user(request)
        assert [next(results).one().id for _ in range(2)] == [0, 1]
        with pytest.raises(CancelledError):
            next(results)
        wire.barrier()
        assert wire.server.unanswered == []
    finally:
        wire.clean_up()
