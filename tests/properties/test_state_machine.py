"""An executor under any sequence of actions, next to a plain model of what must hold."""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future, TimeoutError
from typing import Any, Dict, Iterator, List, Optional, Tuple

from cassandra import OperationTimedOut
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from cassconc import Stats, TooManyErrors
from cassconc.testing import ScriptedRequest
from tests.stage import CQL, Boom, Stage, give_up, value

INSTANT = 2.0**-30  # seconds; all other times are multiples of a quarter

PICK = st.integers(0, 9)

MAPS = st.fixed_dictionaries(
    {
        "count": st.integers(0, 12),
        "fails": st.booleans(),
        "timeout": st.sampled_from([None, None, None, 0, 1, 5, 30]),
        "buffersize": st.none() | st.integers(1, 5),
        "ordered": st.booleans(),
        "return_exceptions": st.booleans(),
        "max_errors": st.none() | st.integers(0, 2),
    }
)

ACTIONS = st.lists(st.tuples(st.sampled_from(["complete", "fail", "time_out"]), PICK), max_size=6)

QUEUED, IN_FLIGHT, SUCCEEDED, FAILED, CANCELLED = (
    "queued",
    "in flight",
    "succeeded",
    "failed",
    "cancelled",
)


class InputError(Exception):
    """What the input of a map raises."""


class Call:
    """The model of a call."""

    def __init__(self, number: int, of: Optional[Map] = None, position: int = 0) -> None:
        self.number = number  # its parameter
        self.map = of
        self.position = position
        self.future: Optional[Future[Any]] = None
        self.state = QUEUED
        self.error: Optional[BaseException] = None
        self.moment = 0  # at which it ended

    @property
    def is_over(self) -> bool:
        """Whether it has ended or was cancelled."""
        return self.state not in (QUEUED, IN_FLIGHT)

    def __repr__(self) -> str:
        return f"call {self.number}"


class Map:
    """The model of a map."""

    def __init__(self, options: Dict[str, Any], deadline: float) -> None:
        self.buffersize: float = options["buffersize"] or math.inf
        self.ordered: bool = options["ordered"]
        self.max_errors: Optional[int] = options["max_errors"]
        self.yields_failures = options["return_exceptions"] or self.max_errors is not None
        self.deadline = deadline
        self.results: Optional[Iterator[Any]] = None
        self.calls: List[Call] = []  # those that were taken
        self.handed_out: List[Call] = []
        self.ended: List[Call] = []  # of those, and in the order of completion
        self.last = math.inf  # the last position that is to be sent
        self.abort = math.inf  # the moment of its abort
        self.asked = False
        self.asking = False
        self.input_is_over = False
        self.refused = False  # an item came after the shutdown

    def next(self) -> Optional[Call]:
        """Return the call that is to be handed out now, if it has ended."""
        if self.ordered:
            position = len(self.handed_out)
            call = self.calls[position] if position < len(self.calls) else None
            return call if call is not None and call.is_over else None
        waiting = [call for call in self.ended if call not in self.handed_out]
        return waiting[0] if waiting else None

    @property
    def is_empty(self) -> bool:
        """Whether all that was taken was handed out."""
        return len(self.handed_out) == len(self.calls)

    @property
    def may_end(self) -> bool:
        """Whether too many have failed, and what came before was handed out.

        The failure that was one too many may be handed out as well, or not.
        """
        if self.max_errors is None or self.last == math.inf:
            return False
        return not self.ordered or self.is_empty or len(self.handed_out) >= self.last


class Input:
    """The input of a map: checks that it may be asked, and tells the model what is taken."""

    def __init__(self, machine: Machine, mapped: Map, count: int, fails: bool) -> None:
        self.machine = machine
        self.map = mapped
        self.left = count
        self.fails = fails

    def __iter__(self) -> Input:
        return self

    def __next__(self) -> int:
        mapped, machine = self.map, self.machine
        assert not mapped.input_is_over, "the input is asked after its end"
        assert mapped.last == math.inf, "input is taken after the abort"
        ahead = len(mapped.calls) - len(mapped.handed_out)
        assert ahead < mapped.buffersize + mapped.asking, "too much is taken ahead"
        if self.left == 0:
            mapped.input_is_over = True
            if self.fails:
                raise InputError
            raise StopIteration
        self.left -= 1
        if machine.is_shut_down:
            mapped.refused = mapped.input_is_over = True
            return -1
        call = machine.new_call(mapped)
        mapped.calls.append(call)
        machine.enter(call)
        return call.number


class Machine(RuleBasedStateMachine):
    """Submit, complete, fail, cancel, map, next, close, shutdown, time out; and what must hold."""

    # -- the model

    def new_call(self, of: Optional[Map] = None) -> Call:
        """Make a call."""
        call = Call(len(self.calls), of, 0 if of is None else len(of.calls))
        self.calls.append(call)
        return call

    def enter(self, call: Call) -> None:
        """Take a call."""
        self.queue.append(call)
        self.admit()

    def admit(self) -> None:
        """Send who is next, while there is room."""
        while self.queue and len(self.in_flight) < self.stage.concurrency:
            self.send(self.queue[0])

    def send(self, call: Call) -> None:
        """Send a call."""
        self.queue.remove(call)
        self.in_flight.append(call)
        self.sent.append(call.number)
        call.state = IN_FLIGHT

    def end(self, call: Call, state: str, error: Optional[BaseException] = None) -> None:
        """End a call, and abort its map where that is due."""
        if call.state == IN_FLIGHT:
            self.in_flight.remove(call)
        else:
            self.queue.remove(call)
        self.moment += 1
        call.state, call.error, call.moment = state, error, self.moment
        mapped = call.map
        if mapped is None:
            return
        mapped.ended.append(call)
        if state is FAILED:
            failed = len([each for each in mapped.calls if each.state is FAILED])
            if not mapped.yields_failures or (
                mapped.max_errors is not None and failed > mapped.max_errors
            ):
                mapped.abort = min(mapped.abort, self.moment)
                self.cut(mapped, call.position)

    def cut(self, mapped: Map, last: float) -> None:
        """Want nothing of a map that comes after a position."""
        mapped.last = min(mapped.last, last)
        for call in [call for call in self.queue if call.map is mapped]:
            if call.position > mapped.last:
                self.queue.remove(call)
                call.state = CANCELLED

    def close_map(self, mapped: Map) -> None:
        """Take note that a map has ended for its consumer."""
        self.cut(mapped, -1)
        mapped.results = None
        self.maps.remove(mapped)
        self.admit()

    @property
    def now(self) -> float:
        """The time."""
        return self.stage.clock.monotonic()

    # -- what happens

    @initialize(
        concurrency=st.integers(1, 4),
        limit=st.sampled_from([10.0, None, 2.0]),
        submitted=st.integers(0, 5),
        maps=st.lists(MAPS, min_size=1, max_size=3),
    )
    def make(
        self,
        concurrency: int,
        limit: Optional[float],
        submitted: int,
        maps: List[Dict[str, Any]],
    ) -> None:
        """Make an executor, and give it something to do."""
        self.stage = Stage(concurrency, limit)
        self.limit = math.inf if limit is None else limit
        self.stage.clock.on_wait = self._on_wait
        self.stage.session.respond = self._see_sent
        self.sent_at: Dict[int, float] = {}
        self.thread = threading.current_thread()
        self.calls: List[Call] = []
        self.queue: List[Call] = []
        self.in_flight: List[Call] = []
        self.sent: List[int] = []
        self.maps: List[Map] = []  # those that may be asked
        self.is_shut_down = False
        self.moment = 0
        self.actions: List[Tuple[str, int]] = []
        self.asked: Optional[Map] = None
        self.submit(submitted)
        for options in maps:
            self.map(options)

    @rule(count=st.integers(1, 5))
    def submit(self, count: int) -> None:
        """Submit some calls."""
        for _ in range(count):
            if self.is_shut_down:
                try:
                    self.stage.executor.submit(CQL, -1)
                except RuntimeError:
                    return
                raise AssertionError("submit after shutdown was accepted")
            call = self.new_call()
            call.future = self.stage.executor.submit(CQL, call.number)
            self.enter(call)

    @rule(given=MAPS)
    def map(self, given: Dict[str, Any]) -> None:
        """Run a map, whose input may raise at its end."""
        options = dict(given)
        count, fails = options.pop("count"), options.pop("fails")
        timeout = options["timeout"]
        mapped = Map(options, math.inf if timeout is None else self.now + timeout)
        self.maps.append(mapped)
        try:
            mapped.results = self.stage.executor.map(
                CQL, Input(self, mapped, count, fails), with_calls=True, **options
            )
        except RuntimeError:
            assert self.is_shut_down
            self.maps.remove(mapped)
        except InputError:
            assert mapped.buffersize == math.inf, "a bounded map raises it later"
            self.close_map(mapped)
        else:
            assert not self.is_shut_down, "a map after shutdown was accepted"
            assert mapped.buffersize < math.inf or not fails
            assert len(mapped.calls) == min(count, mapped.buffersize)

    @rule(pick=PICK)
    def complete(self, pick: int) -> None:
        """Answer a request."""
        if not self.in_flight:
            return
        call = self.in_flight[pick % len(self.in_flight)]
        self.end(call, SUCCEEDED)
        self.admit()
        self.stage.answer(call.number)

    @rule(pick=PICK)
    def fail(self, pick: int) -> None:
        """Answer a request with a failure."""
        if not self.in_flight:
            return
        call = self.in_flight[pick % len(self.in_flight)]
        error = Boom(call.number)
        self.end(call, FAILED, error)
        self.admit()
        self.stage.request(call.number).fail(error)

    @rule(pick=PICK, succeeds=st.booleans())
    def answer_again(self, pick: int, succeeds: bool) -> None:
        """Answer a request whose call has ended: that changes nothing."""
        ended = [call for call in self.calls if call.state in (SUCCEEDED, FAILED)]
        if not ended:
            return
        request = self.stage.request(ended[pick % len(ended)].number)
        if succeeds:
            request.succeed([("again",)], ["text"])
        else:
            request.fail(Boom("again"))

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        """Cancel a future."""
        futures = [call for call in self.calls if call.future is not None]
        if not futures:
            return
        call = futures[pick % len(futures)]
        assert call.future is not None
        expected = call.state in (QUEUED, CANCELLED)
        assert call.future.cancel() is expected
        if call.state is QUEUED:
            self.end(call, CANCELLED)

    @rule(seconds=st.sampled_from([0.25, 1.0, 2.0, 9.75, 10.0, 25.0]))
    def time_out(self, seconds: float) -> None:
        """Let time pass."""
        self._advance(seconds)

    @rule(pick=PICK, actions=ACTIONS)
    def next(self, pick: int, actions: List[Tuple[str, int]]) -> None:
        """Ask a map for its next result; `actions` happen while it waits."""
        if self.maps:
            self._ask(self.maps[pick % len(self.maps)], actions)

    @rule(pick=PICK, times=st.integers(2, 15), actions=ACTIONS)
    def iterate(self, pick: int, times: int, actions: List[Tuple[str, int]]) -> None:
        """Ask a map several times, maybe until its end."""
        if self.maps:
            mapped = self.maps[pick % len(self.maps)]
            for _ in range(times):
                if mapped in self.maps:
                    self._ask(mapped, actions)
                    actions = self.actions

    def _ask(self, mapped: Map, actions: List[Tuple[str, int]]) -> None:
        assert mapped.results is not None
        self.actions = list(actions)
        mapped.asked = mapped.asking = True
        self.asked = mapped
        try:
            described, result = next(mapped.results)
        except BaseException as error:
            self._check_raised(mapped, error)
            self.close_map(mapped)
        else:
            call = mapped.calls[described.position]
            assert described.parameters == (call.number,)
            self._check_handed_out(mapped, call)
            if isinstance(result, BaseException):
                assert mapped.yields_failures
                self._check_error(call, result)
            else:
                assert call.state is SUCCEEDED
                assert value(result) == call.number
        finally:
            mapped.asking = False
            self.asked = None

    @rule(pick=PICK, drops=st.booleans())
    def close(self, pick: int, drops: bool) -> None:
        """Close or drop the iterator of a map."""
        if not self.maps:
            return
        mapped = self.maps[pick % len(self.maps)]
        results: Any = mapped.results
        if not drops:
            results.close()
        del results
        if mapped.asked:
            self.close_map(mapped)
        else:  # its calls run
            mapped.results = None
            self.maps.remove(mapped)

    @rule(cancels=st.booleans())
    def shutdown(self, cancels: bool) -> None:
        """Shut the executor down, maybe once more, but not too early."""
        if len(self.calls) < 12:
            return
        self.is_shut_down = True
        self.stage.executor.shutdown(wait=False, cancel_futures=cancels)
        if cancels:
            for call in list(self.queue):
                self.end(call, CANCELLED, CancelledError())

    # -- what must hold

    @invariant()
    def what_was_sent(self) -> None:
        """What was sent is what had to be, in that order; and all counts are right."""
        if not hasattr(self, "stage"):
            return
        self.stage.settle(len(self.sent))
        assert self.stage.sent == self.sent
        assert len(self.in_flight) <= self.stage.concurrency
        assert not self.queue or len(self.in_flight) == self.stage.concurrency
        states = Counter(call.state for call in self.calls)
        failed = Counter(type(call.error).__name__ for call in self.calls if call.state is FAILED)
        assert self.stage.executor.stats() == Stats(
            submitted=len(self.calls),
            queued=states[QUEUED],
            in_flight=states[IN_FLIGHT],
            waiting_for_retry=0,
            succeeded=states[SUCCEEDED],
            failed=dict(failed),
            cancelled=states[CANCELLED],
            retried=0,
        )

    @invariant()
    def futures(self) -> None:
        """Each future is in the state of its call, and has its outcome."""
        for call in getattr(self, "calls", ()):
            future = call.future
            if future is None:
                continue
            assert future.done() is call.is_over
            assert future.running() is (call.state is IN_FLIGHT)
            assert future.cancelled() is (call.state is CANCELLED)
            if call.state is SUCCEEDED:
                assert value(future.result(0)) == call.number
            elif call.state is FAILED:
                error = future.exception(0)
                assert error is not None
                self._check_error(call, error)

    def teardown(self) -> None:
        """Ask the maps that are left until their end, and see everything end."""
        if not hasattr(self, "stage"):
            return
        try:
            while self.maps and sys.exc_info()[0] is None:  # or something has failed already
                self._ask(self.maps[0], [])
                self.what_was_sent()
                self.futures()
            self.stage.close()
        except BaseException:
            give_up(self.stage.executor)
            raise
        finally:
            note(str(self.stage.session.history))
        stats = self.stage.executor.stats()
        assert (stats.queued, stats.in_flight) == (0, 0)
        assert all(call.future is None or call.future.done() for call in self.calls)
        assert not self.stage.session.misplaced

    # -- how it is seen

    def _see_sent(self, request: ScriptedRequest) -> None:
        self.sent_at[request.parameters[0]] = self.now
        if request.thread is self.thread:
            self.stage.clock.advance(INSTANT)

    def _on_wait(self) -> bool:
        mapped = self.asked
        assert mapped is not None
        if not mapped.may_end:
            assert mapped.next() is None, "it waits for a result that is there"
        assert self.now < mapped.deadline, "it waits although the time is up"
        assert self.in_flight, "it waits for nothing"
        action, pick = self.actions.pop(0) if self.actions else ("complete", 0)
        if action == "time_out":
            self._advance(0.25 * (pick + 1))
        else:
            getattr(self, action)(pick)
        return True

    def _advance(self, seconds: float) -> None:
        """Let time pass, from one time limit to the next."""
        # No two calls are sent at the same time: whatever this thread does takes an instant, and
        # the others are sent in the place of one that times out, each at its own time. So no two
        # time out at once, for then it would be the executor that chooses their order.
        end = self.now + seconds
        while True:
            deadlines = [self.sent_at[call.number] + self.limit for call in self.in_flight]
            due = min([end, *deadlines])
            self.stage.clock.advance(due - self.now)
            for call, deadline in zip(list(self.in_flight), deadlines):
                if deadline <= due:  # it is one at most
                    self.end(call, FAILED, OperationTimedOut())
                    self.admit()
            self.stage.settle(len(self.sent))
            if due == end:
                break
        self.stage.clock.advance(INSTANT)

    def _check_handed_out(self, mapped: Map, call: Call) -> None:
        """Check that it is this call's turn to be handed out, and note that it was."""
        expected = mapped.next()
        assert expected is not None, f"{call} is handed out before it has ended"
        assert call is expected, "not its turn"
        mapped.handed_out.append(call)

    def _check_error(self, call: Call, error: BaseException) -> None:
        assert call.is_over
        if isinstance(call.error, Boom):
            assert error is call.error
        else:
            assert type(error) is type(call.error)

    def _check_raised(self, mapped: Map, error: BaseException) -> None:
        """Check that a map had to end in this way."""
        if isinstance(error, StopIteration):
            assert mapped.is_empty, "results are missing"
            assert mapped.input_is_over
            assert not mapped.refused
        elif isinstance(error, InputError):
            assert mapped.is_empty, "results are missing"
            assert mapped.input_is_over
        elif isinstance(error, RuntimeError):
            assert mapped.is_empty, "results are missing"
            assert mapped.refused
        elif isinstance(error, TimeoutError):
            assert self.now >= mapped.deadline
            assert mapped.may_end or mapped.next() is None, "a result that is there is late"
        elif isinstance(error, TooManyErrors):
            self._check_too_many(mapped, error)
        else:
            assert not mapped.yields_failures
            failed = mapped.next()
            assert failed is not None, repr(error)
            self._check_error(failed, error)

    def _check_too_many(self, mapped: Map, error: TooManyErrors) -> None:
        states = Counter(call.state for call in mapped.calls)
        assert mapped.max_errors is not None
        assert states[IN_FLIGHT] == states[QUEUED] == 0, "it has not ended"
        assert states[FAILED] > mapped.max_errors
        counts = (error.taken, error.succeeded, error.failed, error.never_sent)
        assert counts == (
            len(mapped.calls),
            states[SUCCEEDED],
            states[FAILED],
            states[CANCELLED],
        )
        if mapped.ordered:
            missing = [call for call in mapped.calls if call.position < mapped.last]
        else:
            missing = [call for call in mapped.ended if call.moment < mapped.abort]
        assert all(call in mapped.handed_out for call in missing), "results are missing"


# a run of one example takes as little time as that of a simple test takes
Machine.TestCase.settings = settings(
    stateful_step_count=40, max_examples=2 * settings().max_examples
)


TestStateMachine = Machine.TestCase
