"""Issue 5: interpreter exit, daemon threads and children, with the real driver."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.integration.helpers import USERS, not_with_asyncio, user
from tests.integration.programs import run_program
from tests.protocol import ScriptedServer, ServerRequest

_START = """
session = connect(limit=0.4)
insert = session.prepare(INSERT)
executor = CassandraExecutor(session, 4)
"""


class Slow:
    """Answers each request when another one has come, or a little later, on another thread."""

    def __call__(self, request: ServerRequest) -> None:
        """Answer a request later."""
        timer = threading.Timer(0.02, request.void)
        timer.daemon = True
        timer.start()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server of one node, of the later protocol."""
    with ScriptedServer(types=USERS) as server:
        yield server


def test_exit_with_work_in_flight_and_queued(server: ScriptedServer) -> None:
    """The main thread ends, with neither executor, session nor cluster shut down: all is done."""
    server.on_request = Slow()
    ended = run_program(
        _START
        + """
for n in range(50):
    executor.submit(insert, n, SECRET).add_done_callback(
        lambda future: print("failed" if future.exception() else "done"))
print("main ends")
""",
        server,
    )
    assert ended.lines.count("done") == 50
    assert ended.code == 0


def test_exit_with_a_hung_node(server: ScriptedServer) -> None:
    """What is in flight ends by its limit, what is queued after it: then the program has ended."""
    server.on_request = lambda request: request.silence()
    ended = run_program(
        _START
        + """
for n in range(8):
    executor.submit(insert, n, SECRET).add_done_callback(
        lambda future: print(type(future.exception()).__name__))
""",
        server,
    )
    assert ended.lines == ["OperationTimedOut"] * 8
    assert ended.code == 0


def test_exit_with_a_node_that_does_not_even_answer_heartbeats(server: ScriptedServer) -> None:
    """Without a time limit, the driver's heartbeat ends what is in flight on a dead connection."""

    def hang(request: ServerRequest) -> None:
        server.hang()

    server.on_request = hang
    ended = run_program(
        """
session = connect(None, idle_heartbeat_interval=0.2, idle_heartbeat_timeout=0.2)
insert = session.prepare(INSERT)
executor = CassandraExecutor(session, 4)
for n in range(4):
    executor.submit(insert, n, SECRET).add_done_callback(
        lambda future: print(bool(future.exception())))
""",
        server,
    )
    assert ended.lines == ["True"] * 4
    assert ended.code == 0


def test_exit_with_what_waits_for_a_retry(server: ScriptedServer) -> None:
    """It is tried again after the end of the main thread, and the program ends when it is done."""
    seen: set[int] = set()

    def twice(request: ServerRequest) -> None:
        number = request.parameters[0]
        if number in seen:
            request.void()
        else:
            seen.add(number)
            request.error("overloaded")

    server.on_request = twice
    ended = run_program(
        _START
        + """
insert.is_idempotent = True
view = executor.with_options(retry=Retry(delay=0.2))
for n in range(20):
    view.submit(insert, n, SECRET).add_done_callback(
        lambda future: print("failed" if future.exception() else "done"))
print("main ends")
""",
        server,
    )
    assert ended.lines.count("done") == 20
    assert ended.code == 0


def test_exit_after_the_cluster_was_shut_down(server: ScriptedServer) -> None:
    """The usual end of a program, with calls in flight: they end, and it is over."""
    server.on_request = lambda request: request.silence()
    ended = run_program(
        _START
        + """
view = executor.with_options(timeout=None)
for n in range(8):
    view.submit(insert, n, SECRET).add_done_callback(
        lambda future: print("failed" if future.exception() else "done"))
session.cluster.shutdown()
""",
        server,
    )
    assert ended.lines == ["failed"] * 8
    assert ended.code == 0


def test_exit_with_daemon_threads_at_work(server: ScriptedServer) -> None:
    """Daemon threads that iterate and submit for ever do not keep the program."""
    server.on_request = lambda request: request.void()
    ended = run_program(
        _START
        + """
import itertools
started = threading.Barrier(3)
def iterate():
    started.wait(10)
    try:
        for _ in executor.starmap(insert, ((n, SECRET) for n in itertools.count()), buffersize=50):
            pass
    except RuntimeError:  # the executor accepts nothing more
        pass
def submit():
    started.wait(10)
    try:
        while True:
            executor.submit(insert, 1, SECRET).result()
    except RuntimeError:
        pass
threading.Thread(target=iterate, daemon=True).start()
threading.Thread(target=submit, daemon=True).start()
started.wait(10)
while executor.stats().succeeded < 100:
    threading.Event().wait(0.01)
print("main ends")
""",
        server,
    )
    assert ended.lines == ["main ends"]
    assert ended.code == 0


def test_exit_with_failures_that_nobody_saw(server: ScriptedServer) -> None:
    """What is logged of them, at the program's end too, has no values."""
    server.on_request = lambda request: request.error("invalid", "no")
    ended = run_program(
        """
import logging
logging.basicConfig(level=logging.DEBUG)
logging.getLogger("cassandra").setLevel(logging.ERROR)
"""
        + _START
        + """
results = executor.starmap(insert, [(n, SECRET) for n in range(5)])
future = executor.submit(insert, 5, SECRET)
future.add_done_callback(lambda future: future.result())
print(future, executor, results, executor.stats())
""",
        server,
    )
    assert any("InvalidRequest" in line for line in ended.lines)
    assert ended.code == 0


_CHILD = """
def child(number):
    session = connect()
    with CassandraExecutor(session, 4) as executor:
        select = session.prepare(SELECT)
        names = [rows.one().name for rows in executor.map(select, range(number))]
    session.cluster.shutdown()
    return names

if __name__ == "__main__":
    session = connect()
    select = session.prepare(SELECT)
    executor = CassandraExecutor(session, 4)
    futures = [executor.submit(select, -1) for _ in range(8)]
    with multiprocessing.get_context("METHOD").Pool(2) as pool:
        answers = pool.map_async(child, [1, 2, 3]).get(20)
    print([len(answer) for answer in answers])
    session.execute("RELEASE")
    executor.shutdown()
    tell(executor, futures)
"""


_FORK = pytest.param("fork", marks=not_with_asyncio("it cannot connect in a forked child"))


@pytest.mark.parametrize("method", [_FORK, "spawn", "forkserver"])
def test_children_of_multiprocessing(server: ScriptedServer, method: str) -> None:
    """They make sessions of their own, and do no harm to what their parent has in flight."""
    held: list[ServerRequest] = []
    released = threading.Event()

    def answer(request: ServerRequest) -> None:
        if request.text == "RELEASE":
            released.set()
            for each in held:
                user(each)
            request.void()
        elif request.parameters[0] < 0 and not released.is_set():
            held.append(request)
        else:
            user(request)

    server.on_request = answer
    ended = run_program(_CHILD.replace("METHOD", method), server)
    assert ended.lines == [
        "[1, 2, 3]",
        "succeeded 8 failed {} cancelled 0 pending 0",
        "done 8 of 8",
    ]
    assert ended.code == 0


def test_a_fork_with_calls_in_flight(server: ScriptedServer) -> None:
    """`os.fork` with a real session: the child is refused, and exits; the parent's calls end."""
    server.on_request = Slow()
    ended = run_program(
        """
session = connect()
insert = session.prepare(INSERT)
executor = CassandraExecutor(session, 4)
futures = [executor.submit(insert, n, SECRET) for n in range(30)]
pid = os.fork()
if pid == 0:
    try:
        executor.submit(insert, 1, SECRET)
    except RuntimeError as error:
        print(error)
    executor.shutdown()
    sys.exit(3)
executor.shutdown()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
tell(executor, futures)
""",
        server,
    )
    assert [line for line in ended.lines if "process" in line], ended.lines
    assert ended.lines[-3:] == [
        "3",
        "succeeded 30 failed {} cancelled 0 pending 0",
        "done 30 of 30",
    ]
    assert ended.code == 0
