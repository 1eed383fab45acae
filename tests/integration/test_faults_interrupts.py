"""Issue 5: Ctrl-C with the real driver; each of these is a program of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.helpers import USERS
from tests.integration.programs import run_program
from tests.protocol import ScriptedServer, ServerRequest

_START = """
session = connect(limit=1.0)
insert = session.prepare(INSERT)
executor = CassandraExecutor(session, 4)
"""


class Releasing:
    """Answers the first `at_once` requests, and holds the others back until it sees RELEASE."""

    def __init__(self, at_once: int = 0) -> None:
        self._at_once = at_once
        self._held: list[ServerRequest] | None = []
        self.count = 0

    def __call__(self, request: ServerRequest) -> None:
        """Answer a request; there is one connection, and so one thread."""
        if request.text == "RELEASE":
            held, self._held = self._held or [], None
            for each in held:
                each.void()
            request.void()
            return
        self.count += 1
        if self.count <= self._at_once or self._held is None:
            request.void()
        else:
            self._held.append(request)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server of one node, of the later protocol."""
    with ScriptedServer(types=USERS) as server:
        yield server


@pytest.mark.parametrize("ordered", [True, False])
def test_ctrl_c_in_the_consumer(server: ScriptedServer, ordered: bool) -> None:
    """It leaves the `with` block in one time limit; what was not sent never is; all is counted."""
    server.on_request = answers = Releasing(at_once=3)
    ended = run_program(
        _START
        + f"""
try:
    with executor:
        got, taken = [], []
        interrupt_when(lambda: len(got) == 3 and main_waits())
        rows = ((n, SECRET) for n in range(1000) if not taken.append(n))
        for result in executor.starmap(insert, rows, buffersize=10, ordered={ordered}):
            got.append(result)
except KeyboardInterrupt:
    print("interrupted")
tell(executor)
print(len(taken))
""",
        server,
    )
    assert ended.lines[0] == "interrupted"
    taken = int(ended.lines[2])
    assert taken <= 3 + 10, "more was taken ahead than the window allows"
    counts = f"succeeded 3 failed {{'OperationTimedOut': 4}} cancelled {taken - 7} pending 0"
    assert ended.lines[1] == counts
    assert ended.code == 0
    assert answers.count == 7


def test_ctrl_c_in_the_body(server: ScriptedServer) -> None:
    """It cancels what was not sent, and waits for what is in flight, one time limit at most."""
    server.on_request = answers = Releasing()
    ended = run_program(
        _START
        + """
futures = []
try:
    with executor:
        futures += [executor.submit(insert, n, SECRET) for n in range(20)]
        start = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(10)
except KeyboardInterrupt:
    print("one limit", 0.9 < time.monotonic() - start < 3)
tell(executor, futures)
""",
        server,
    )
    assert ended.lines == [
        "one limit True",
        "succeeded 0 failed {'OperationTimedOut': 4} cancelled 16 pending 0",
        "done 20 of 20",
    ]
    assert ended.code == 0
    assert answers.count == 4


@pytest.mark.parametrize("way", ["executor.shutdown()", "executor.__exit__(None, None, None)"])
def test_ctrl_c_in_shutdown(server: ScriptedServer, way: str) -> None:
    """It ends the waiting and loses nothing: what was accepted is done, as it would have been."""
    server.on_request = Releasing()
    ended = run_program(
        _START
        + f"""
view = executor.with_options(timeout=None)
futures = [view.submit(insert, n, SECRET) for n in range(20)]
interrupt_when(main_waits)
try:
    {way}
except KeyboardInterrupt:
    print("interrupted")
tell(executor, futures)
try:
    executor.submit(insert, 1, SECRET)
except RuntimeError as error:
    print(error)
session.execute("RELEASE")
executor.shutdown()
tell(executor, futures)
""",
        server,
    )
    assert ended.lines == [
        "interrupted",
        "succeeded 0 failed {} cancelled 0 pending 20",
        "done 0 of 20",
        "cannot schedule new futures after shutdown",
        "succeeded 20 failed {} cancelled 0 pending 0",
        "done 20 of 20",
    ]
    assert ended.code == 0


def test_ctrl_c_in_shutdown_then_cancel(server: ScriptedServer) -> None:
    """Who is tired of waiting may cancel the rest with a second `shutdown`."""
    server.on_request = answers = Releasing()
    ended = run_program(
        _START
        + """
futures = [executor.submit(insert, n, SECRET) for n in range(20)]
interrupt_when(main_waits)
try:
    executor.shutdown()
except KeyboardInterrupt:
    executor.shutdown(cancel_futures=True)
tell(executor, futures)
""",
        server,
    )
    assert ended.lines[1:] == ["done 20 of 20"]
    counts = ended.lines[0].split()
    assert counts[-3:] == ["16", "pending", "0"], ended.lines
    assert answers.count == 4


def test_ctrl_c_that_nobody_catches(server: ScriptedServer) -> None:
    """The program dies of it, as any does, in one time limit, and shows no values."""
    server.on_request = answers = Releasing(at_once=1)
    ended = run_program(
        _START
        + """
with executor:
    got = []
    interrupt_when(lambda: len(got) == 1 and main_waits())
    for result in executor.starmap(insert, ((n, SECRET) for n in range(1000)), buffersize=10):
        got.append(result)
""",
        server,
    )
    assert ended.lines[-1].startswith("KeyboardInterrupt")
    assert ended.code in (-2, 130)
    assert answers.count == 5


def test_system_exit_in_the_body(server: ScriptedServer) -> None:
    """`sys.exit` cancels what was not sent, like Ctrl-C, and the exit code is kept."""
    server.on_request = answers = Releasing()
    ended = run_program(
        _START
        + """
with executor:
    futures = [executor.submit(insert, n, SECRET) for n in range(20)]
    sys.exit(7)
""",
        server,
    )
    assert ended == (7, [])
    assert answers.count == 4


def test_an_exception_in_the_body(server: ScriptedServer) -> None:
    """An ordinary one waits for all; the traceback of what failed shows no values."""
    server.on_request = lambda request: (
        request.error("invalid", "no") if request.parameters[0] == 19 else request.void()
    )
    ended = run_program(
        _START
        + """
with executor:
    futures = [executor.submit(insert, n, SECRET) for n in range(20)]
    for future in futures:
        future.add_done_callback(lambda future: print("ended") or future.result())
    futures[-1].result()
""",
        server,
    )
    assert ended.lines.count("ended") == 20
    assert any("InvalidRequest" in line for line in ended.lines)
    assert ended.code == 1
