"""Promise 23: what a request costs that can be told without a clock.

No timer, no cyclic garbage and little memory per request; no setting of the process is touched,
and importing starts nothing.
"""

from __future__ import annotations

import gc
import itertools
import json
import subprocess
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import Future
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from cassandra.protocol import OverloadedErrorMessage, SyntaxException
from cassandra.query import BoundStatement, dict_factory

from cassconc import (
    CassandraExecutor,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock, ScriptedSession, echo
from tests.driver import DriverRequest, DriverSession, prepare
from tests.parts import needs
from tests.waits import LIMIT

INSERT = prepare("INSERT INTO t (a) VALUES (?)", "a")
MANY = 2000
FEW = MANY // 4  # what an executor that is gone leaves, or the thread of one: far less than this

# Timers


@pytest.mark.parametrize("options", [{}, {"timeout": 5}, {"timeout": None}], ids=str)
def test_the_driver_starts_no_timer(clock: ManualClock, options: Dict[str, Any]) -> None:
    """Time limits are kept without the driver's timers: it is always told that there is none."""
    session = DriverSession(request_timeout=10.0)
    view = CassandraExecutor(session, clock=clock).with_options(**options)
    view.submit("SELECT 1")
    view.submit(INSERT, 1)
    list(view.map(INSERT, [], buffersize=1))
    view.map(INSERT, [1, 2])
    assert [each["timeout"] for each in session.arguments] == [None] * 4
    assert session.timers == 0


def test_the_driver_starts_no_timer_for_the_drop_ins() -> None:
    """The drop-ins keep time limits in the same way."""
    session = DriverSession(request_timeout=10.0)
    future = execute_concurrent_async(session, [(INSERT, (n,)) for n in range(3)])
    session.wait_for(3)
    for request in session.requests:
        request.void()
    assert len(future.result(LIMIT)) == 3
    assert [each["timeout"] for each in session.arguments] == [None] * 3
    assert session.timers == 0


def test_the_driver_starts_no_timer_for_a_later_page() -> None:
    """Nor is there one for each page."""
    states = [None, b"2", b"1"]
    session = DriverSession(lambda request: request.rows([(1,)], ["a"], paging_state=states.pop()))
    result = CassandraExecutor(session).submit("SELECT a").result(LIMIT)
    assert len(list(result)) == 3
    assert session.timers == 0


def test_one_appointment_for_all(session: ScriptedSession) -> None:
    """However many calls are sent, our clock is given no more appointments than for a few."""

    class Counting(ManualClock):
        calls = 0

        def call_at(self, when: float, action: Callable[[], None]) -> Any:
            self.calls += 1
            return super().call_at(when, action)

    clock = Counting()
    executor = CassandraExecutor(session, MANY, clock=clock)
    for _ in range(MANY):
        executor.submit("SELECT 1")
    assert clock.calls <= 2


# Thread switches


class PausedClock(ManualClock):
    """Counts how often a consumer waits for an answer, and pauses, in which all are answered.

    A wait ends with one answer, as if it were the first of a burst.
    """

    def __init__(self, session: ScriptedSession) -> None:
        super().__init__(self._answer_one)
        self.session = session
        self.waits = self.pauses = 0

    def _answer_one(self) -> bool:
        self.waits += 1
        echo(self.session.pending[0])
        return True

    def pause(self, seconds: float) -> None:
        self.pauses += 1
        for request in tuple(self.session.pending):
            echo(request)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_burst_of_answers_wakes_the_consumer_once(
    session: ScriptedSession, ordered: bool
) -> None:
    """While enough calls wait for their turn, a consumer that had to wait lets more come."""
    clock = PausedClock(session)
    executor = CassandraExecutor(session, 10, clock=clock)
    results = executor.map("SELECT %s", range(120), ordered=ordered)
    assert len(list(itertools.islice(results, 44))) == 44
    # of each burst, one answer ends the wait, and ten come in the pause
    assert (clock.waits, clock.pauses) == (4, 4)
    assert len(list(results)) == 120 - 44


@pytest.mark.parametrize("buffersize", [1, 10, 55])
def test_no_pause_while_few_wait(session: ScriptedSession, buffersize: int) -> None:
    """A result is handed out at once where the consumer may be what the driver waits for."""
    clock = PausedClock(session)
    executor = CassandraExecutor(session, 10, clock=clock)
    results = executor.map("SELECT %s", range(60), buffersize=buffersize)
    assert len(list(results)) == 60
    assert clock.waits == 60
    assert clock.pauses == 0


def test_no_pause_of_a_map_with_few_calls_of_its_own(session: ScriptedSession) -> None:
    """However much of other maps waits: this one goes on as its consumer does."""
    clock = PausedClock(session)
    executor = CassandraExecutor(session, 10, clock=clock)
    few = executor.map("SELECT %s", range(5), buffersize=2)
    many = executor.map("SELECT %s", range(200))
    next(few)
    assert (clock.waits, clock.pauses) == (1, 0)
    assert len(list(few)) == 4
    assert len(list(many)) == 200


# Garbage


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The collector collects when it is asked to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def void(request: DriverRequest) -> None:
    """Answer as to an INSERT."""
    request.void()


def one_row(request: DriverRequest) -> None:
    """Answer with a row."""
    request.rows([(1, 2)], ["a", "b"])


def overloaded(request: DriverRequest) -> None:
    """Answer that the server is overloaded."""
    request.answer(OverloadedErrorMessage(0x1001, "busy", None))


def wrong(request: DriverRequest) -> None:
    """Answer that the statement is wrong."""
    request.answer(SyntaxException(0x2000, "wrong", None))


def quick(answer: Callable[[DriverRequest], None], **profile: Any) -> DriverSession:
    """Return a session that answers at once, and keeps nothing."""
    return DriverSession(answer, forgets=True, **profile)


Run = Callable[[CassandraExecutor, int], object]


def by_submit(executor: CassandraExecutor, count: int) -> None:
    """Submit, and look at each result."""
    for n in range(count):
        executor.submit(INSERT, n).exception(LIMIT)


def by_futures(executor: CassandraExecutor, count: int) -> None:
    """Submit, and keep all futures for a while."""
    futures: List[Future[Any]] = [executor.submit(INSERT, n) for n in range(count)]
    for future in futures:
        future.exception(LIMIT)


def by_callbacks(executor: CassandraExecutor, count: int) -> None:
    """Submit with done-callbacks."""
    left = threading.Semaphore(0)
    for n in range(count):
        executor.submit(INSERT, n).add_done_callback(lambda _: left.release())
    for _ in range(count):
        assert left.acquire(timeout=LIMIT)


def by_map(executor: CassandraExecutor, count: int) -> None:
    """Iterate a `map`."""
    for _ in executor.map(INSERT, range(count), return_exceptions=True):
        pass


def by_window(executor: CassandraExecutor, count: int) -> None:
    """Iterate a `map` with a window, unordered."""
    for _ in executor.map(
        INSERT, range(count), buffersize=50, ordered=False, return_exceptions=True, with_calls=True
    ):
        pass


def by_text(executor: CassandraExecutor, count: int) -> None:
    """Run a text with named parameters."""
    for _ in executor.starmap(
        "INSERT %(a)s", ({"a": n} for n in range(count)), buffersize=50, return_exceptions=True
    ):
        pass


RUNS = [by_submit, by_futures, by_callbacks, by_map, by_window, by_text]


def collected(run: Run, executor: CassandraExecutor, count: int) -> int:
    """Return how many objects only the collector could free, after `count` calls.

    The least of three, for other tests have left things that may go meanwhile. Rows come as dicts
    where answers are there at once: the driver makes a class for each of them.
    """
    found = []
    for _ in range(3):
        run(executor, 10)  # what is made once
        gc.collect()
        run(executor, count)
        found.append(gc.collect())
    return min(found)


@needs("results")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("answer", [void, one_row, wrong])
def test_no_cyclic_garbage(run: Run, answer: Callable[[DriverRequest], None]) -> None:
    """After thousands of calls, ended in whatever way, the collector finds nothing."""
    executor = CassandraExecutor(quick(answer, row_factory=dict_factory))
    assert collected(run, executor, MANY) < FEW


@needs("results")
@pytest.mark.usefixtures("no_collector")
def test_no_cyclic_garbage_when_the_answer_comes_later() -> None:
    """Nor for requests that are answered after they were sent, with calls waiting for them."""
    session = DriverSession()
    executor = CassandraExecutor(session, concurrency=10)

    def run(executor: CassandraExecutor, count: int) -> None:
        futures: List[Future[Any]] = [executor.submit(INSERT, n) for n in range(count)]
        while session.requests:
            session.requests.pop().rows([(1,)], ["a"])
        assert all(future.done() for future in futures)
        session.arguments.clear()

    assert collected(run, executor, MANY) < FEW


@pytest.mark.usefixtures("no_collector")
def test_no_cyclic_garbage_for_cancelled_calls() -> None:
    """Nor for calls that were cancelled before they were sent."""
    session = DriverSession()
    executor = CassandraExecutor(session, concurrency=1)

    def run(executor: CassandraExecutor, count: int) -> None:
        futures: List[Future[Any]] = [executor.submit(INSERT, n) for n in range(count)]
        assert all(future.cancel() for future in futures[1:])
        session.requests.pop().void()
        session.arguments.clear()

    assert collected(run, executor, MANY) < FEW


@pytest.mark.usefixtures("no_collector")
def test_no_cyclic_garbage_when_execute_async_raises() -> None:
    """Nor for calls that the driver refuses to send."""
    executor = CassandraExecutor(quick(void))

    def run(executor: CassandraExecutor, count: int) -> None:
        for _ in executor.map(INSERT, ["wrong"] * count, return_exceptions=True):
            pass

    assert collected(run, executor, MANY) < FEW


@pytest.mark.usefixtures("no_collector")
def test_no_cyclic_garbage_for_time_outs(clock: ManualClock) -> None:
    """Nor for calls that ended at their time limit, once their late answer has come."""
    session = DriverSession()
    executor = CassandraExecutor(session, clock=clock)

    def run(executor: CassandraExecutor, count: int) -> None:
        for start in range(0, count, 100):
            futures: List[Future[Any]] = [executor.submit(INSERT, n) for n in range(100)]
            clock.advance(10.0)
            assert all(future.done() for future in futures), start
            while session.requests:
                session.requests.pop().void()
            session.arguments.clear()

    assert collected(run, executor, MANY) < FEW


@needs("results")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("generator", [False, True])
@pytest.mark.parametrize("answer", [void, one_row, wrong])
def test_no_cyclic_garbage_of_the_drop_ins(
    generator: bool, answer: Callable[[DriverRequest], None]
) -> None:
    """A call of the drop-ins leaves no garbage for each of its statements."""
    session = quick(answer, row_factory=dict_factory)

    def run(_: Any, count: int) -> None:
        parameters = [(n,) for n in range(count)]
        for _ in execute_concurrent_with_args(
            session,
            INSERT,
            parameters,
            raise_on_first_error=False,
            results_generator=generator,
        ):
            pass

    assert collected(run, CassandraExecutor(session), MANY) < FEW


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("buffersize", [None, 50])
def test_no_cyclic_garbage_of_failures_that_are_kept(buffersize: Optional[int]) -> None:
    """Failures in a list of results, whose list is dropped, need no collector either."""
    executor = CassandraExecutor(quick(wrong))

    def run(executor: CassandraExecutor, count: int) -> None:
        results = []
        for error in executor.map(
            INSERT, range(count), buffersize=buffersize, return_exceptions=True
        ):
            results.append(error)
        assert len(results) == count

    assert collected(run, executor, MANY) < FEW


# Memory


@needs("results")
def test_a_result_does_not_keep_its_response(session: ScriptedSession) -> None:
    """A response future of the driver, 4 KB of it, is gone when its call has ended."""
    responses: List[Any] = []

    class Watched(DriverSession):
        def execute_async(self, *args: Any, **kwargs: Any) -> Any:
            response = super().execute_async(*args, **kwargs)
            responses.append(weakref.ref(response))
            return response

    for answer in (void, one_row, wrong):
        later = Watched()
        executor = CassandraExecutor(later)
        results = executor.map(INSERT, range(5), return_exceptions=True)
        while later.requests:
            answer(later.requests.pop())
        kept = list(results)
        assert len(kept) == 5
        assert [response() for response in responses] == [None] * len(responses)


@needs("results")
def test_a_result_that_is_dropped_is_gone() -> None:
    """Neither window, gate, worker nor adapter keeps a result that the caller has dropped."""
    executor = CassandraExecutor(quick(one_row))
    future: Future[Any] = executor.submit("SELECT")
    result = weakref.ref(future.result(LIMIT))
    del future
    assert result() is None
    results = executor.map("SELECT %s", range(3), buffersize=2)
    dropped = [weakref.ref(each) for each in results]
    assert [each() for each in dropped] == [None] * 3


def test_what_was_sent_is_gone() -> None:
    """Statement and parameters are not kept by a future that has ended."""

    class Value(str):
        pass

    executor = CassandraExecutor(quick(void))
    value = Value("x")
    future = executor.submit("INSERT %s", value)
    bound = INSERT.bind((1,))
    assert type(bound) is BoundStatement
    other = executor.submit(bound)
    gone = [weakref.ref(value), weakref.ref(bound)]
    del value, bound
    assert [each() for each in gone] == [None, None]
    assert future.done()
    assert other.done()


@needs("results")
def test_a_finished_list_takes_little_memory() -> None:
    """A list of results of INSERTs takes 400 bytes a statement at most; the driver's take 4 KB."""
    session = quick(void)
    parameters = [(n,) for n in range(5000)]
    execute_concurrent_with_args(session, INSERT, parameters[:10])
    gc.collect()
    tracemalloc.start()
    try:
        results = execute_concurrent_with_args(session, INSERT, parameters)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(results) == 5000
    assert size / 5000 <= 400


# The process


def settings() -> Dict[str, Any]:
    """Return the settings of the process that no library should touch."""
    return {
        "gc threshold": gc.get_threshold(),
        "gc enabled": gc.isenabled(),
        "gc frozen": gc.get_freeze_count(),
        "gc callbacks": list(gc.callbacks),
        "gc debug": gc.get_debug(),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "stack size": threading.stack_size(),
        "trace": sys.gettrace(),
        "profile": sys.getprofile(),
    }


@pytest.mark.parametrize("run", RUNS)
def test_no_setting_is_touched(run: Run) -> None:
    """While calls run, and afterwards, the collector and the interpreter are set as they were."""
    before = settings()
    during: List[Dict[str, Any]] = []

    def answer(request: DriverRequest) -> None:
        if not during:
            during.append(settings())
        request.void()

    with CassandraExecutor(quick(answer)) as executor:
        run(executor, 200)
        assert settings() == before
    assert during == [before]
    assert settings() == before


def test_an_executor_starts_no_thread() -> None:
    """Making an executor, and running statements that are answered at once, starts no worker."""
    before = set(threading.enumerate())
    executor = CassandraExecutor(quick(void), max_workers=7, thread_name_prefix="worker")
    executor.submit("SELECT 1").result(LIMIT)
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in names if not name.startswith("cassconc-clock")]
    assert executor.submit(int).result(LIMIT) == 0
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert [name for name in names if name.startswith("worker")] == ["worker_0"]
    executor.shutdown()


LOOK = """
import asyncio, gc, json, logging, os, signal, sys, threading, warnings
import cassandra.cluster, cassandra.concurrent

def look():
    return {
        "gc": [gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), len(gc.callbacks)],
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "threads": [thread.name for thread in threading.enumerate()],
        "signals": [str(signal.getsignal(each)) for each in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [str(hook) for hook in (sys.excepthook, threading.excepthook, sys.unraisablehook)],
        "warnings": str(warnings.filters),
        "logging": [str(logging.root.handlers), logging.root.level],
        "level": logging.getLogger("cassandra").level,
        "profile": [str(threading.getprofile()), str(sys.gettrace())] if hasattr(
            threading, "getprofile") else [],
        "path": sys.path,
        "environment": dict(os.environ),
        "loops": str(asyncio.get_event_loop_policy.__module__),
        "files": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else [],
        "factory": str(cassandra.query.named_tuple_factory),
        "session": sorted(vars(cassandra.cluster.Session)),
        "response": sorted(vars(cassandra.cluster.ResponseFuture)),
        "concurrent": str(cassandra.concurrent.execute_concurrent),
    }

before = look()
modules = set(sys.modules)
import cassconc
print(json.dumps([before, look(), sorted(set(sys.modules) - modules)]))
"""


def test_importing_changes_nothing() -> None:
    """`import cassconc` starts no thread, prints nothing, sets nothing, patches nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", LOOK],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    [line] = done.stdout.splitlines()
    before, after, modules = json.loads(line)
    assert after == before
    assert not done.stderr
    foreign = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert foreign == {"cassconc"}
    assert not [name for name in modules if name.startswith("cassconc.testing")]
