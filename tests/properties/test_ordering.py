"""Order, abort and bounds of `map` and its relatives, under any order of completion."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, List, Optional, Union

from cassandra import OperationTimedOut
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    Retry,
    TooManyErrors,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import DriverThread, Script, ScriptedRequest, ScriptedSession, echo
from cassconc.testing.strategies import scripts
from tests.stage import CQL, Boom, Stage, Taken, consumed, idempotent, labels, staged, value
from tests.waits import LIMIT, together

COUNT = 20

FORMS: List[Callable[..., Iterator[Any]]] = [
    lambda executor, items, **options: executor.map(CQL, items, **options),
    lambda executor, items, **options: executor.starmap(CQL, ((i,) for i in items), **options),
    lambda executor, items, **options: executor.execute_concurrent(
        ((CQL, [i]) for i in items), **options
    ),
]


@dataclass
class Mapped:
    """One map: how it is run, and what became of it.

    Its items are `start`, `start + 1` and so on.
    """

    form: int
    start: int
    failing: set[int]
    buffersize: Optional[int]
    ordered: bool
    return_exceptions: bool
    max_errors: Union[int, None] = None
    results: Optional[Iterator[Any]] = None
    ended: List[int] = field(default_factory=list)  # positions, in the order of completion
    yielded: List[Any] = field(default_factory=list)
    error: Optional[BaseException] = None
    is_over: bool = False
    asking: int = 0
    sent_at_abort: Optional[int] = None

    def run(self, stage: Stage) -> None:
        """Call `map`."""
        self.taken = Taken(range(self.start, self.start + COUNT), self.check_bound)
        self.results = FORMS[self.form](
            stage.executor,
            self.taken,
            buffersize=self.buffersize,
            ordered=self.ordered,
            return_exceptions=self.return_exceptions,
            max_errors=self.max_errors,
        )
        assert self.taken.count == min(self.buffersize or COUNT, COUNT) or self.aborts

    def check_bound(self, count: int) -> None:
        """Check that no more is taken than the window allows, and nothing after the abort."""
        assert self.sent_at_abort is None, "input was taken after the abort"
        if self.buffersize is not None:
            assert count - len(self.yielded) <= self.buffersize + self.asking

    def ask(self) -> None:
        """Ask for the next result."""
        self.asking = 1
        try:
            result: Any = next(self.results, self)  # type: ignore[arg-type]
            if result is self:
                self.is_over = True
            else:
                self.yielded.append(labels([result])[0])
        except (Boom, TooManyErrors) as error:
            self.is_over, self.error = True, error
        finally:
            self.asking = 0

    def answer(self, request: ScriptedRequest, sent: List[int]) -> None:
        """Answer one of its requests, and note when that ends the map."""
        position = request.parameters[0] - self.start
        if position in self.failing:
            if self.aborts_with(position):
                self.sent_at_abort = len([i for i in sent if 0 <= i - self.start < COUNT])
            self.ended.append(position)
            request.fail(Boom(position))
        else:
            self.ended.append(position)
            echo(request)

    @property
    def failed(self) -> List[int]:
        """The positions that have failed, in the order of completion."""
        return [position for position in self.ended if position in self.failing]

    @property
    def aborts(self) -> bool:
        """Whether a failure may end it."""
        return not self.return_exceptions

    def aborts_with(self, position: int) -> bool:
        """Return whether one more failure ends it."""
        if self.sent_at_abort is not None:
            return False
        if self.max_errors is not None:
            return len(self.failed) >= self.max_errors
        return self.aborts

    def label(self, position: int) -> Any:
        """Return what is yielded at a position."""
        return f"Boom {position}" if position in self.failing else self.start + position

    def check(self, sent: List[int]) -> None:
        """Check all that was promised, now that it is over."""
        mine = [number - self.start for number in sent if 0 <= number - self.start < COUNT]
        assert mine == list(range(len(mine))), "not sent in the order of the input"
        if self.sent_at_abort is not None:
            assert len(mine) == self.sent_at_abort, "something was sent after the abort"
        order = sorted(self.ended) if self.ordered else self.ended
        assert self.yielded == [self.label(each) for each in order[: len(self.yielded)]]
        if self.max_errors is not None:
            self.check_budget()
        elif self.aborts and self.failing:
            # everything that comes earlier is sent, so the lowest failure is always found
            expected = min(self.failing) if self.ordered else self.failed[0]
            assert isinstance(self.error, Boom)
            assert self.error.args == (expected,)
            assert len(self.yielded) == order.index(expected)
        else:
            assert self.error is None
            assert len(self.yielded) == COUNT

    def check_budget(self) -> None:
        """Check what was promised of `max_errors`."""
        assert self.max_errors is not None
        if len(self.failing) <= self.max_errors:
            assert self.error is None
            assert len(self.yielded) == COUNT
            return
        error = self.error
        assert isinstance(error, TooManyErrors)
        assert error.failed == len(self.failed) == error.report.count
        assert error.succeeded == len(self.ended) - len(self.failed)
        assert error.taken == self.taken.count
        assert error.never_sent == self.taken.count - len(self.ended)


@st.composite
def maps(draw: st.DrawFn, start: int = 0, *, fails: bool = True, budget: bool = False) -> Mapped:
    """Maps of `COUNT` items."""
    position = st.integers(0, COUNT - 1)
    return Mapped(
        form=draw(st.integers(0, 2), label="form"),
        start=start,
        failing=draw(st.sets(position, max_size=6), label="failing") if fails else set(),
        buffersize=draw(st.none() | st.integers(1, 7), label="buffersize"),
        ordered=draw(st.booleans(), label="ordered"),
        return_exceptions=budget or draw(st.booleans(), label="return_exceptions"),
        max_errors=draw(st.integers(0, 4), label="max_errors") if budget else None,
    )


def play(stage: Stage, script: Script, running: List[Mapped], turns: List[Any]) -> None:
    """Run some maps until all are over.

    Args:
        turns: Pairs: how many bursts of answers come by themselves, and who is asked then.
    """
    stage.play(script)

    def answer(request: ScriptedRequest) -> None:
        for each in running:
            if 0 <= request.parameters[0] - each.start < COUNT:
                each.answer(request, stage.sent)
                return
        echo(request)

    script.answer = answer
    for each in running:
        each.run(stage)
    for bursts, who in itertools.chain(turns, itertools.repeat((0, 0))):
        asked = [each for each in running if not each.is_over]
        if not asked:
            break
        for _ in range(bursts):
            script.play(stage.session)
        asked[who % len(asked)].ask()
    script.play_all(stage.session)  # what was in flight at an abort
    note(str(stage.session.history))
    assert stage.session.most_pending <= stage.concurrency
    for each in running:
        each.check(stage.sent)
    stats = stage.executor.stats()
    assert (stats.queued, stats.in_flight) == (0, 0)


CONCURRENCY = st.integers(1, 6)
TURNS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40)
SCRIPTS = scripts(60)


@given(mapped=maps(), script=SCRIPTS, concurrency=CONCURRENCY, turns=TURNS)
def test_one_map(mapped: Mapped, script: Script, concurrency: int, turns: List[Any]) -> None:
    """Order, abort by time, and the window, of one map."""
    with staged(concurrency) as stage:
        play(stage, script, [mapped], turns)


@given(mapped=maps(budget=True), script=SCRIPTS, concurrency=CONCURRENCY, turns=TURNS)
def test_one_map_with_a_budget(
    mapped: Mapped, script: Script, concurrency: int, turns: List[Any]
) -> None:
    """The same with `max_errors`: what is counted at the end is what has happened."""
    with staged(concurrency) as stage:
        play(stage, script, [mapped], turns)


@given(
    first=maps(),
    second=maps(1000),
    third=maps(2000, budget=True),
    script=SCRIPTS,
    concurrency=CONCURRENCY,
    turns=TURNS,
)
def test_several_maps_on_one_executor(
    first: Mapped,
    second: Mapped,
    third: Mapped,
    script: Script,
    concurrency: int,
    turns: List[Any],
) -> None:
    """Three maps that are asked in any order: each keeps its promises, and all share one bound."""
    with staged(concurrency) as stage:
        play(stage, script, [first, second, third], turns)


@given(
    mapped=maps(),
    script=SCRIPTS,
    concurrency=CONCURRENCY,
    submitted=st.lists(st.booleans(), max_size=20),
    turns=TURNS,
)
def test_a_map_among_futures(
    mapped: Mapped, script: Script, concurrency: int, submitted: List[bool], turns: List[Any]
) -> None:
    """Futures that are submitted and cancelled besides change nothing for the map."""
    with staged(concurrency) as stage:
        futures = [stage.executor.submit(CQL, -1 - i) for i in range(len(submitted))]
        cancelled = [
            future.cancel() and cancels for future, cancels in zip(futures, submitted) if cancels
        ]
        play(stage, script, [mapped], turns)
        stage.answer_all()
        assert sum(future.cancelled() for future in futures) == sum(cancelled)
        for number, future in enumerate(futures):
            assert future.cancelled() or value(future.result(0)) == -1 - number


@given(
    plan=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    picks=st.lists(st.integers(0, 5), max_size=40),
    concurrency=CONCURRENCY,
    buffersize=st.none() | st.integers(1, 5),
    ordered=st.booleans(),
    return_exceptions=st.booleans(),
)
def test_a_map_with_retries(
    plan: List[int],
    picks: List[int],
    concurrency: int,
    buffersize: Optional[int],
    ordered: bool,
    return_exceptions: bool,
) -> None:
    """Order, abort and bounds hold with retries; `plan` says how often each call times out."""
    attempts = 3
    failing = [i for i, failures in enumerate(plan) if failures >= attempts]
    ended: List[int] = []  # in the order of completion
    tried: List[int] = [0] * len(plan)
    aborted_at: List[int] = []  # where something has failed for good

    def play() -> bool:
        stage.clock.advance(0)  # what is due is sent again
        stage.settle_in_flight()
        pending = stage.session.pending
        for request in pending:
            position = int(request.statement.query_string[1:])
            assert tried[position] > 0 or request.number in seen or not aborted_at, "sent too late"
            seen.add(request.number)
        request = pending[(picks.pop(0) if picks else 0) % len(pending)]
        position = int(request.statement.query_string[1:])
        tried[position] += 1
        if tried[position] > plan[position]:
            ended.append(position)
            request.succeed([(position,)], ["position"])
        else:
            if tried[position] == attempts:
                ended.append(position)
                if not return_exceptions:
                    aborted_at.append(position)
            request.fail(OperationTimedOut())
        return True

    seen: set[int] = set()
    with staged(concurrency, retry=Retry(delay=0, attempts=attempts)) as stage:
        stage.clock.on_wait = play
        statements = [(idempotent(f"X{i}"), None) for i in range(len(plan))]
        got, error = consumed(
            stage.executor.execute_concurrent(
                statements,
                buffersize=buffersize,
                ordered=ordered,
                return_exceptions=return_exceptions,
            )
        )
        note(str(stage.session.history))
        assert stage.session.most_pending <= concurrency
        got = ["failed" if isinstance(each, OperationTimedOut) else each for each in got]
        order = sorted(ended) if ordered else ended
        if failing and not return_exceptions:
            assert isinstance(error, OperationTimedOut)
            order = order[: order.index(min(failing) if ordered else aborted_at[0])]
        else:
            assert error is None
            assert len(got) == len(plan)
        assert got == ["failed" if i in failing else i for i in order]
        for position in ended:
            assert tried[position] == min(plan[position] + 1, attempts)


@given(
    first=maps(),
    second=maps(1000),
    script=scripts(60, bursts=False),
    concurrency=CONCURRENCY,
)
def test_threads(first: Mapped, second: Mapped, script: Script, concurrency: int) -> None:
    """Two consumers and a driver on threads of their own: what is yielded is the same."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency)

    def answer(request: ScriptedRequest) -> None:
        mapped = first if request.parameters[0] < 1000 else second
        if request.parameters[0] - mapped.start in mapped.failing:
            request.fail(Boom(request.parameters[0] - mapped.start))
        else:
            echo(request)

    def run(mapped: Mapped) -> Any:
        results = FORMS[mapped.form](
            executor,
            range(mapped.start, mapped.start + COUNT),
            buffersize=mapped.buffersize,
            ordered=mapped.ordered,
            return_exceptions=mapped.return_exceptions,
        )
        return consumed(results)

    script.answer = answer
    with DriverThread(session, script):
        outcomes = together(lambda: run(first), lambda: run(second))
    executor.shutdown()
    assert session.most_pending <= concurrency
    for mapped, (got, error) in zip([first, second], outcomes):
        yielded = [f"Boom {each.args[0]}" if isinstance(each, Boom) else each for each in got]
        everything = [mapped.label(each) for each in range(COUNT)]
        if not mapped.return_exceptions and mapped.failing:
            assert isinstance(error, Boom)
            everything = everything[: min(mapped.failing)]
            if not mapped.ordered:
                assert error.args[0] in mapped.failing
                assert not any(isinstance(each, str) for each in yielded)
                continue
            assert error.args == (min(mapped.failing),)
        else:
            assert error is None
        assert (yielded if mapped.ordered else sorted(yielded, key=str)) == (
            everything if mapped.ordered else sorted(everything, key=str)
        )


@given(
    script=scripts(40, bursts=False),
    concurrency=CONCURRENCY,
    failing=st.sets(st.integers(0, 39), max_size=4),
    count=st.integers(0, 40),
    generator=st.booleans(),
    raises=st.booleans(),
    same_statement=st.booleans(),
)
def test_the_drop_ins(
    script: Script,
    concurrency: int,
    failing: set[int],
    count: int,
    generator: bool,
    raises: bool,
    same_statement: bool,
) -> None:
    """List and generator: the order of the input, the lowest failure, or the first one in time."""
    session = ScriptedSession()
    failed: List[int] = []

    def answer(request: ScriptedRequest) -> None:
        number = request.parameters[0]
        if number in failing:
            failed.append(number)
            request.fail(Boom(number))
        else:
            echo(request)

    script.answer = answer
    failing = {number for number in failing if number < count}
    options: Any = {
        "concurrency": concurrency,
        "raise_on_first_error": raises,
        "results_generator": generator,
    }
    got: List[Any] = []
    error = None
    with DriverThread(session, script):
        try:
            if same_statement:
                results = execute_concurrent_with_args(
                    session, CQL, [(i,) for i in range(count)], **options
                )
            else:
                results = execute_concurrent(
                    session, [(CQL, (i,)) for i in range(count)], **options
                )
            for success, result in results:
                got.append(labels([result])[0])
                assert success is not isinstance(result, BaseException)
        except Boom as raised:
            error = raised
    assert session.most_pending <= concurrency
    expected = [f"Boom {i}" if i in failing else i for i in range(count)]
    if not raises or not failing:
        assert (got, error) == (expected, None)
    elif generator:
        assert error is not None
        assert got == expected[: min(failing)]
        assert error.args == (min(failing),)
    else:
        assert error is not None
        assert got == []
        assert error.args == (failed[0],)


@given(
    script=scripts(40, bursts=False),
    concurrency=CONCURRENCY,
    failing=st.sets(st.integers(0, 29), max_size=4),
)
def test_the_future_of_the_drop_ins(script: Script, concurrency: int, failing: set[int]) -> None:
    """`execute_concurrent_async` collects in the order of the input, whatever ends when."""
    session = ScriptedSession()
    script.failures = {}
    script.answer = lambda request: (
        request.fail(Boom(request.parameters[0]))
        if request.parameters[0] in failing
        else echo(request)
    )
    with DriverThread(session, script):
        future = execute_concurrent_async(session, [(CQL, (i,)) for i in range(30)], concurrency)
        results = future.result(LIMIT)
    assert labels([each.result_or_exc for each in results]) == [
        f"Boom {i}" if i in failing else i for i in range(30)
    ]
