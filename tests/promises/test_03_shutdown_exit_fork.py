"""Promise 3: shutdown, interpreter exit and fork: accepted work is done, and nothing hangs."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, Callable, List

import pytest
from cassandra import OperationTimedOut
from cassandra.query import SimpleStatement
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import CassandraExecutor, Retry
from cassconc.testing import ManualClock, ScriptedSession
from tests.exits import run_python
from tests.waits import LIMIT, Background, occurs, outcome

AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"
AT_EXIT = "RuntimeError: cannot schedule new futures after interpreter shutdown"
IN_CHILD = "RuntimeError: this executor belongs to the process that was forked; make one here"


# Shutdown


def test_shutdown_returns_after_the_futures_and_their_callbacks(session: ScriptedSession) -> None:
    """`shutdown(wait=True)` returns when every future has ended and its callbacks have run.

    1. One call is in flight, one waits, and shutdown waits.
    2. Both are answered; the callback of the second one blocks.
    3. Shutdown waits still, until that callback returns.
    """
    log: List[str] = []
    entered, released = threading.Event(), threading.Event()

    def callback(future: Future[Any]) -> None:
        entered.set()
        occurs(released, "the callback may return")
        log.append("callback")

    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit("SELECT 1") for _ in range(2)]
    futures[1].add_done_callback(callback)

    def shut_down() -> None:
        executor.shutdown()
        log.append("shutdown")

    closing = Background(shut_down)
    for number in range(2):
        session.requests[number].succeed()
        assert not closing.is_over
    occurs(entered, "the callback runs")
    assert not closing.is_over
    released.set()
    closing.result()
    assert log == ["callback", "shutdown"]
    assert all(future.done() for future in futures)


def test_shutdown_waits_for_callables_and_their_callbacks(session: ScriptedSession) -> None:
    """The same for plain callables, which run on worker threads."""
    released = threading.Event()
    log: List[str] = []
    executor = CassandraExecutor(session)
    future = executor.submit(occurs, released, "the callable may return")
    future.add_done_callback(lambda future: log.append("callback"))
    closing = Background(executor.shutdown)
    assert not closing.is_over
    released.set()
    closing.result()
    assert log == ["callback"]


def test_shutdown_without_wait_returns_at_once(session: ScriptedSession) -> None:
    """`shutdown(wait=False)` waits for nothing, and what was accepted is still sent."""
    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit("SELECT 1") for _ in range(3)]
    Background(lambda: executor.shutdown(wait=False)).result()
    for number in range(3):
        session.requests[number].succeed()
    assert [outcome(future) for future in futures] == [None] * 3


@pytest.mark.parametrize(
    "submit",
    [
        lambda executor: executor.submit("SELECT 1"),
        lambda executor: executor.submit(print),
        lambda executor: executor.map("SELECT %s", [1]),
        lambda executor: executor.map(print, [1]),
        lambda executor: executor.starmap("SELECT 1", [()], buffersize=1),
        lambda executor: executor.execute_concurrent([("SELECT 1", None)]),
        lambda executor: executor.with_options(timeout=1).submit("SELECT 1"),
    ],
)
def test_after_shutdown_everything_is_refused(
    session: ScriptedSession, submit: Callable[[Any], Any]
) -> None:
    """After `shutdown` whatever submits raises the text of the standard."""
    executor = CassandraExecutor(session)
    executor.shutdown()
    executor.shutdown()
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        submit(executor)
    assert not session.requests


def test_the_shutdown_of_a_view_does_nothing(session: ScriptedSession) -> None:
    """A view's `shutdown` and the end of its `with` block leave the executor open."""
    executor = CassandraExecutor(session)
    future = executor.submit("SELECT 1")
    with executor.with_options(timeout=1) as view:
        view.shutdown()
    session.pending[0].succeed()
    assert outcome(future) is None
    assert not executor.submit("SELECT 1").done()


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_shutdown_in_a_callback_does_not_wait_for_that_callback(
    session: ScriptedSession, cancel_futures: bool
) -> None:
    """`shutdown(wait=True)` in a done-callback returns, and all else has ended then.

    1. Two calls are in flight, two wait.
    2. The first one ends; its callback shuts down, and waits.
    3. The others end: answered, or cancelled if they were not sent yet.
    """
    executor = CassandraExecutor(session, concurrency=2)
    closing, returned = threading.Event(), threading.Event()
    seen: List[bool] = []

    def callback(future: Future[Any]) -> None:
        closing.set()
        executor.shutdown(cancel_futures=cancel_futures)
        seen.extend(future.done() for future in futures)
        returned.set()

    futures: List[Future[Any]] = [executor.submit("SELECT 1") for _ in range(4)]
    futures[0].add_done_callback(callback)
    session.requests[0].succeed()
    occurs(closing, "the callback runs")
    if cancel_futures:
        outcome(futures[3])
    while session.pending:
        session.pending[0].succeed()
    occurs(returned, "shutdown in a callback has returned")
    assert seen == [True] * 4
    assert futures[3].cancelled() == cancel_futures
    Background(executor.shutdown).result()


def test_two_callbacks_may_shut_down_at_once(session: ScriptedSession) -> None:
    """Callbacks of two futures shut down while both run: neither waits for the other."""
    executor = CassandraExecutor(session)
    both = threading.Barrier(2)
    returned = threading.Semaphore(0)

    def callback(future: Future[Any]) -> None:
        both.wait(LIMIT)
        executor.shutdown()
        returned.release()

    for _ in range(2):
        executor.submit("SELECT 1").add_done_callback(callback)
    for request in session.pending:
        request.succeed()
    for _ in range(2):
        assert returned.acquire(timeout=LIMIT), "shutdown in a callback has not returned"
    Background(executor.shutdown).result()


def test_shutdown_waits_for_a_callback_in_which_another_one_shut_down(
    session: ScriptedSession,
) -> None:
    """A callback that shuts down waits for the callbacks of other futures."""
    executor = CassandraExecutor(session)
    entered, released = threading.Event(), threading.Event()
    log: List[str] = []

    def slow(future: Future[Any]) -> None:
        entered.set()
        occurs(released, "the slow callback may return")
        log.append("slow")

    def shut_down(future: Future[Any]) -> None:
        executor.shutdown()
        log.append("shutdown")
        over.set()

    over = threading.Event()
    executor.submit("SELECT 1").add_done_callback(slow)
    executor.submit("SELECT 2").add_done_callback(shut_down)
    session.requests[0].succeed()
    occurs(entered, "the slow callback runs")
    session.requests[1].succeed()
    released.set()
    occurs(over, "shutdown in a callback has returned")
    assert log == ["slow", "shutdown"]


@pytest.mark.parametrize("where", ["callable", "callback of a callable"])
def test_shutdown_on_a_worker_waits_for_the_other_workers(
    session: ScriptedSession, where: str
) -> None:
    """`shutdown(wait=True)` on a worker waits for all but what it was called from.

    1. A callable blocks on one worker.
    2. On another one, in a callable or its callback, `shutdown` is called.
    3. The first callable returns, and only then `shutdown` does.
    """
    executor = CassandraExecutor(session, max_workers=2)
    entered, released, over = threading.Event(), threading.Event(), threading.Event()
    log: List[str] = []

    def slow() -> None:
        entered.set()
        occurs(released, "the slow callable may return")
        log.append("slow")

    def shut_down(*args: Any) -> None:
        closing.set()
        executor.shutdown()
        log.append("shutdown")
        over.set()

    closing = threading.Event()
    executor.submit(slow)
    occurs(entered, "the slow callable runs")
    if where == "callable":
        executor.submit(shut_down)
    else:
        started = threading.Event()
        future = executor.submit(occurs, started, "the callback was added")
        future.add_done_callback(shut_down)
        started.set()
    occurs(closing, "shutdown is called")
    over.wait(0.2)  # a shutdown that does not wait returns in this time, one that waits does not
    released.set()
    occurs(over, "shutdown has returned")
    assert log == ["slow", "shutdown"]


def test_shutdown_returns_although_callbacks_raise(session: ScriptedSession) -> None:
    """What callbacks raise, and that they add others, does not keep `shutdown` waiting."""
    executor = CassandraExecutor(session)
    log: List[str] = []

    def raises(future: Future[Any]) -> None:
        future.add_done_callback(lambda future: log.append("added"))
        raise SystemExit

    executor.submit("SELECT 1").add_done_callback(raises)
    session.pending[0].succeed()
    Background(executor.shutdown).result()
    assert log == ["added"]


def test_shutdown_waits_for_retries(session: ScriptedSession, clock: ManualClock) -> None:
    """A call that was accepted before is tried again after `shutdown`, which waits for it."""
    executor = CassandraExecutor(session, clock=clock, retry=Retry(delay=1))
    future = executor.submit(SimpleStatement("SELECT 1", is_idempotent=True))
    closing = Background(executor.shutdown)
    session.pending[0].fail(OperationTimedOut())
    assert not closing.is_over
    clock.advance(1)
    session.wait_for(2)[1].succeed()
    closing.result()
    assert outcome(future) is None


@given(
    calls=st.integers(1, 10),
    concurrency=st.integers(1, 4),
    answered=st.integers(0, 10),
    wait=st.booleans(),
    cancel_futures=st.booleans(),
    again=st.booleans(),
)
def test_shutdown_at_any_point_ends_everything(
    calls: int, concurrency: int, answered: int, wait: bool, cancel_futures: bool, again: bool
) -> None:
    """Shutdown after so many answers: what was sent gets its answer, the rest as it was told."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency, clock=ManualClock())
    futures = [executor.submit("SELECT 1") for _ in range(calls)]
    for request in [*session.pending][: min(answered, calls)]:
        request.succeed()
    sent = len(session.requests)
    closing = Background(lambda: executor.shutdown(wait, cancel_futures=cancel_futures))
    if cancel_futures or not wait:
        for future in futures[sent:]:
            if cancel_futures:
                outcome(future)
    if again:
        Background(lambda: executor.shutdown(wait=False)).result()
    while session.pending:
        session.pending[0].succeed()
    closing.result()
    note(str(session.history))
    errors = [outcome(future) for future in futures]
    assert errors[:sent] == [None] * sent
    if cancel_futures:
        assert all(future.cancelled() for future in futures[sent:])
        assert len(session.requests) == sent
    else:
        assert errors == [None] * calls
    assert session.most_pending <= concurrency


def test_an_executor_that_is_dropped_finishes_what_it_accepted(session: ScriptedSession) -> None:
    """Nobody holds the executor any more: what waits is sent, and every future ends."""
    futures = [CassandraExecutor(session, concurrency=1).submit("SELECT 0")]
    executor = CassandraExecutor(session, concurrency=1)
    futures += [executor.submit(f"SELECT {number}") for number in range(1, 4)]
    del executor
    for _ in range(4):
        session.pending[0].succeed()
    assert [outcome(future) for future in futures] == [None] * 4


def test_leaving_the_with_block_waits(session: ScriptedSession) -> None:
    """`with` waits for what was submitted, also when an ordinary exception leaves its body."""
    released = threading.Event()

    def body() -> List[Future[Any]]:
        futures: List[Future[Any]] = []
        try:
            with CassandraExecutor(session, concurrency=1) as executor:
                futures += [executor.submit("SELECT 1") for _ in range(2)]
                released.set()
                raise KeyError("of the body")
        except KeyError:
            assert all(future.done() for future in futures)
        return futures

    running = Background(body)
    occurs(released, "the body is left")
    for number in range(2):
        session.wait_for(number + 1)[number].succeed()
    assert [outcome(future) for future in running.result()] == [None, None]


def test_a_map_that_has_taken_its_input_keeps_no_workers(session: ScriptedSession) -> None:
    """A dropped executor's idle workers end although the iterator of a map is still there.

    As CPython's own tests ask of a `ThreadPoolExecutor`.
    """
    executor = CassandraExecutor(session, max_workers=1)
    worker = executor.submit(threading.current_thread).result(LIMIT)
    results = executor.map(abs, range(-3, 3))
    del executor
    worker.join(LIMIT)
    assert not worker.is_alive()
    assert list(results) == [3, 2, 1, 0, 1, 2]


# Interpreter exit: each of these is a program of its own

_SCRIPTED = """
session = ScriptedSession()
executor = CassandraExecutor(session, concurrency=1)
"""


def test_exit_waits_for_what_is_in_flight_and_what_waits() -> None:
    """The main thread ends with calls in flight and queued: they end, and their callbacks run."""
    code = (
        _SCRIPTED
        + """
def answer():
    for number in range(5):
        session.wait_for(number + 1)[number].succeed()

for number in range(5):
    future = executor.submit("SELECT 1")
    future.add_done_callback(lambda future, number=number: print("ended", number))
after_main(answer)
del executor, future
print("main ends")
"""
    )
    printed = run_python(code)
    assert printed[0] == "main ends"
    assert sorted(printed[1:]) == [f"ended {number}" for number in range(5)]


@pytest.mark.parametrize("first", ["concurrent.futures.thread", "cassandra.cluster", "threading"])
def test_exit_waits_whatever_was_imported_first(first: str) -> None:
    """The order of imports does not matter for that."""
    code = (
        _SCRIPTED
        + """
executor.submit("SELECT 1").add_done_callback(lambda future: print("ended"))
after_main(lambda: session.pending[0].succeed())
"""
    )
    assert run_python(code, first=f"import {first}") == ["ended"]


def test_exit_waits_for_callbacks() -> None:
    """A callback that runs when the main thread ends is waited for."""
    code = (
        _SCRIPTED
        + """
entered = threading.Event()
def callback(future):
    entered.set()
    wait_for_exit()
    print("main has ended")
executor.submit("SELECT 1").add_done_callback(callback)
session.pending[0].succeed()
entered.wait(10)
"""
    )
    assert run_python(code) == ["main has ended"]


def test_exit_waits_for_retries() -> None:
    """A call that fails after the end of the main thread is tried again."""
    code = (
        _SCRIPTED
        + """
from cassandra import OperationTimedOut
from cassandra.query import SimpleStatement
view = executor.with_options(retry=Retry(delay=0.01))
future = view.submit(SimpleStatement("SELECT 1", is_idempotent=True))
future.add_done_callback(lambda future: print("ended", future.exception()))
def answer():
    for number in range(2):
        session.wait_for(number + 1)[number].fail(OperationTimedOut())
    session.wait_for(3)[2].succeed()
after_main(answer)
"""
    )
    assert run_python(code) == ["ended None"]


@pytest.mark.parametrize(
    "submit",
    [
        "executor.submit('SELECT 1')",
        "executor.with_options(timeout=1).submit('SELECT 1')",
        "executor.map('SELECT %s', [1])",
        "executor.starmap('SELECT 1', [()], buffersize=1)",
        "executor.execute_concurrent([('SELECT 1', None)])",
        "executor.submit(int)",
        "executor.map(int, [1])",
        "CassandraExecutor(session).submit('SELECT 1')",
    ],
)
def test_from_the_end_of_the_main_thread_submit_is_refused(submit: str) -> None:
    """A callback that submits when the main thread has ended gets the text of the standard."""
    code = (
        _SCRIPTED
        + f"""
def callback(future):
    said(lambda: {submit})
executor.submit("SELECT 0").add_done_callback(callback)
after_main(lambda: session.pending[0].succeed())
"""
    )
    assert run_python(code) == [AT_EXIT]


def test_other_threads_are_refused_too_and_do_not_hold_up_the_exit() -> None:
    """Threads, daemons or not, submit for ever: they are refused, and the interpreter exits."""
    code = """
session = ScriptedSession(lambda request: request.succeed())
executor = CassandraExecutor(session)
started = threading.Barrier(3)
def submit_for_ever(name):
    started.wait(10)
    try:
        while True:
            executor.submit("SELECT 1")
    except RuntimeError as error:
        os.write(1, str(error).encode() + bytes([10]))  # as one, whatever the other thread writes
threading.Thread(target=submit_for_ever, args=["daemon"], daemon=True).start()
threading.Thread(target=submit_for_ever, args=["thread"]).start()
started.wait(10)
"""
    printed = run_python(code)
    assert set(printed) == {AT_EXIT.partition(": ")[2]}


def test_a_daemon_thread_in_the_middle_of_a_map_does_not_hold_up_the_exit() -> None:
    """A daemon thread iterates an endless `map`: the interpreter exits."""
    code = """
import itertools
session = ScriptedSession(lambda request: request.succeed())
executor = CassandraExecutor(session)
started = threading.Event()
def iterate():
    for _ in executor.map("SELECT %s", itertools.count(), buffersize=10):
        started.set()
threading.Thread(target=iterate, daemon=True).start()
started.wait(10)
print("main ends")
"""
    assert run_python(code)[0] == "main ends"


def test_exit_does_not_wait_beyond_the_time_limits() -> None:
    """Nobody answers what is in flight: it ends by its limit, and then the interpreter exits."""
    code = """
executor = CassandraExecutor(ScriptedSession(request_timeout=0.2), concurrency=1)
for _ in range(2):
    executor.submit("SELECT 1").add_done_callback(
        lambda future: print(type(future.exception()).__name__))
"""
    assert run_python(code) == ["OperationTimedOut"] * 2


def test_exit_lets_the_drop_ins_finish() -> None:
    """What `execute_concurrent_async` has accepted before the end is done, its whole input."""
    code = """
session = ScriptedSession()
def pairs():
    for number in range(5):
        yield f"SELECT {number}", None
future = execute_concurrent_async(session, pairs(), concurrency=1)
future.add_done_callback(lambda future: print(len(future.result())))
def answer():
    for number in range(5):
        session.wait_for(number + 1)[number].succeed()
after_main(answer)
"""
    assert run_python(code) == ["5"]


def test_drop_ins_from_the_end_of_the_main_thread_are_refused_or_finished() -> None:
    """What `execute_concurrent_async` accepts when the main thread has ended is not lost."""
    code = (
        _SCRIPTED
        + """
def callback(future):
    try:
        later = execute_concurrent_async(session, [("SELECT 2", None)] * 3, concurrency=1)
    except RuntimeError:
        print("refused or finished")
    else:
        later.add_done_callback(lambda future: print("refused or finished"))
executor.submit("SELECT 1").add_done_callback(callback)
def answer():
    for number in range(4):
        session.wait_for(number + 1)[number].succeed()
        time.sleep(0.1)  # whoever does not wait exits meanwhile
after_main(answer)
"""
    )
    assert run_python(code) == ["refused or finished"]


def test_a_callback_that_raises_system_exit_does_not_hold_up_the_exit() -> None:
    """The same for the future of `execute_concurrent_async`, whose callback raises anything."""
    code = (
        _SCRIPTED
        + """
def callback(future):
    print("callback")
    raise SystemExit
executor.submit("SELECT 1").add_done_callback(callback)
future = execute_concurrent_async(session, [("SELECT 2", None)])
future.add_done_callback(callback)
for request in session.wait_for(2):
    request.succeed()
"""
    )
    printed = run_python(code)
    assert [line for line in printed if line == "callback"] == ["callback"] * 2


def test_exit_ends_what_is_pending_when_the_session_is_shut_down() -> None:
    """The session is shut down when the main thread has ended, by an exit hook for example."""
    code = (
        _SCRIPTED
        + """
view = executor.with_options(timeout=None)
for _ in range(3):
    view.submit("SELECT 1").add_done_callback(lambda future: print(bool(future.exception())))
after_main(session.shutdown)
"""
    )
    assert run_python(code) == ["True"] * 3


# Fork: each of these is a program of its own, which forks

_FORKING = """
def in_child(code):
    '''Run code in a forked child and print how that ended; the child exits as a program does.'''
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        for _ in range(100):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                print("child exits with", os.waitstatus_to_exitcode(status))
                return
            time.sleep(0.05)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        print("the child hangs")
    else:
        code()
        sys.exit()
"""


@pytest.mark.parametrize(
    "submit",
    [
        "executor.submit('SELECT 1')",
        "executor.with_options(timeout=1).submit('SELECT 1')",
        "executor.map('SELECT %s', [1])",
        "executor.starmap('SELECT 1', [()], buffersize=1)",
        "executor.execute_concurrent([('SELECT 1', None)])",
        "executor.map(int, [1])",
        "executor.submit(int)",
    ],
)
@pytest.mark.parametrize("used_before", [False, True])
def test_a_forked_child_is_refused_by_name(submit: str, used_before: bool) -> None:
    """In the child, an inherited executor refuses work, and says why; the child exits."""
    code = (
        _FORKING
        + _SCRIPTED
        + f"""
if {used_before}:
    executor.submit(int).result()
    executor.submit("SELECT 1"), executor.submit("SELECT 2")
in_child(lambda: said(lambda: {submit}))
for number in range(2 * {used_before}):
    session.requests[number].succeed()
"""
    )
    assert run_python(code) == [IN_CHILD, "child exits with 0"]


def test_in_a_forked_child_nothing_waits() -> None:
    """In the child, what was in flight has ended, and `shutdown` and exit wait for nothing.

    Not for a callback that runs in the parent, nor for the results of a `map` that was
    inherited; what had come before the fork is yielded.
    """
    code = (
        _FORKING
        + """
session = ScriptedSession()
executor = CassandraExecutor(session, concurrency=3)
in_callback, go_on = threading.Event(), threading.Event()
def callback(future):
    in_callback.set()
    go_on.wait(10)
executor.submit("SELECT 0").add_done_callback(callback)
results = executor.starmap("SELECT 1", [()] * 5, buffersize=4)
future = executor.submit("SELECT 2")
for number in range(2):
    session.requests[number].succeed()
in_callback.wait(10)
def child():
    print(next(results).one())
    said(lambda: next(results))
    said(lambda: future.result(0))
    executor.shutdown()
in_child(child)
go_on.set()
while session.pending:
    session.pending[0].succeed()
"""
    )
    assert run_python(code) == ["None", IN_CHILD, IN_CHILD, "child exits with 0"]


def test_a_fork_while_the_workers_are_started_does_not_hang() -> None:
    """Another thread is about to start the workers at the fork: the child may shut down."""
    code = (
        _FORKING
        + _SCRIPTED
        + """
from concurrent.futures import ThreadPoolExecutor
starting, go_on = threading.Event(), threading.Event()
initialize = ThreadPoolExecutor.__init__
def blocks(self, *args, **kwargs):
    starting.set()
    go_on.wait(10)
    initialize(self, *args, **kwargs)
ThreadPoolExecutor.__init__ = blocks
thread = threading.Thread(target=executor.submit, args=[int])
thread.start()
starting.wait(10)
in_child(executor.shutdown)
go_on.set()
thread.join()
"""
    )
    assert run_python(code) == ["child exits with 0"]


def test_a_fork_while_a_callable_is_submitted_does_not_hang() -> None:
    """Another thread is inside the worker pool's `submit` at the fork: the child may shut down.

    1. The fork begins: the pool's module takes its global lock, as the last of its preparations.
    2. The other thread has taken the pool's own lock, and waits for the global one.
    3. The fork takes place. In the child, nobody will ever release the pool's own lock.
    """
    first = """
import os
before_fork = []
os.register_at_fork(before=lambda: [hook() for hook in before_fork])
"""
    code = (
        _FORKING
        + _SCRIPTED
        + """
from concurrent.futures import ThreadPoolExecutor
pools = []
initialize = ThreadPoolExecutor.__init__
def remember(self, *args, **kwargs):
    pools.append(self)
    initialize(self, *args, **kwargs)
ThreadPoolExecutor.__init__ = remember
executor.submit(int).result()
thread = threading.Thread(target=executor.submit, args=[int])
def submit_on_other_thread():
    thread.start()
    while not pools[0]._shutdown_lock.locked():
        time.sleep(0.001)
before_fork.append(submit_on_other_thread)
in_child(executor.shutdown)
thread.join()
"""
    )
    assert run_python(code, first=first) == ["child exits with 0"]


def test_a_forked_child_makes_its_own_executor() -> None:
    """The child's own executor works: helper threads, time limits, callables, exit."""
    code = (
        _FORKING
        + _SCRIPTED
        + """
blocked = threading.Event()
executor.submit("SELECT 0").add_done_callback(lambda future: blocked.wait(10))
session.pending[0].succeed()
executor.submit("SELECT 1")
def child():
    session = ScriptedSession(request_timeout=0.1)
    executor = CassandraExecutor(session)
    late, called = executor.submit("SELECT 1"), threading.Event()
    late.add_done_callback(lambda future: print(type(future.exception()).__name__))
    late.add_done_callback(lambda future: called.set())
    called.wait(10)
    print(executor.submit(int).result(10))
    waiting = executor.submit("SELECT 2")
    waiting.add_done_callback(lambda future: print("ended"))
    after_main(lambda: session.requests[1].succeed())
in_child(child)
blocked.set()
session.requests[1].succeed()
"""
    )
    assert run_python(code) == ["OperationTimedOut", "0", "ended", "child exits with 0"]


def test_a_fork_in_the_middle_of_work_harms_neither_side() -> None:
    """Other threads submit and answer while it is forked, again and again: no child hangs."""
    code = (
        _FORKING
        + """
session = ScriptedSession(lambda request: request.succeed())
executor = CassandraExecutor(session)
over = threading.Event()
def work():
    while not over.is_set():
        executor.submit("SELECT 1").add_done_callback(lambda future: None)
        executor.submit(int).result(10)
        session.requests.clear()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
def child():
    said(lambda: executor.submit("SELECT 1"))
    own = CassandraExecutor(ScriptedSession(lambda request: request.succeed()))
    print(own.submit("SELECT 1").exception(10), own.submit(int).result(10))
for _ in range(10):
    in_child(child)
over.set()
"""
    )
    assert run_python(code) == [IN_CHILD, "None 0", "child exits with 0"] * 10


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_with_calls_in_flight(method: str) -> None:
    """A child of `multiprocessing` makes its own executor while the parent has calls in flight."""
    code = """
import multiprocessing
from cassconc import CassandraExecutor
from cassconc.testing import ScriptedSession

def child(number):
    session = ScriptedSession(lambda request: request.succeed())
    with CassandraExecutor(session) as executor:
        return len(list(executor.starmap("SELECT 1", [()] * number)))

if __name__ == "__main__":
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    executor.submit("SELECT 1").add_done_callback(lambda future: print("ended"))
    with multiprocessing.get_context("METHOD").Pool(2) as pool:
        print(pool.map(child, [1, 2, 3]))
    session.pending[0].succeed()
"""
    printed = run_python(code.replace("METHOD", method), preamble=False)
    assert printed == ["[1, 2, 3]", "ended"]
