"""The owner's end of the supervisor: starts it, asks it, and ends it with all of its nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from . import _supervisor
from ._errors import NodeError

_END_SECONDS = 60.0


class State(NamedTuple):
    running: bool  # a hung process runs
    code: int | None  # the exit code of a process that ended, negative for a signal


class Supervisor:
    """A process that runs the nodes of one cluster, in a folder of its own.

    Guarantees: the nodes and the folder are gone when `close` returns, when the object is dropped
    and when the interpreter exits; and soon after its owner ended in any other way. Any thread may
    call any method. A forked child gets NodeError, and does no harm when it ends.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _supervisor.__file__, str(self._owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # the Ctrl-C of a terminal is for the owner alone
        )
        assert process.stdin
        assert process.stdout
        self._requests: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout
        self._lock = threading.Lock()  # guards the two pipes and _last_id: one request at a time
        self._last_id = 0
        self.folder = Path(self._read_answer()["folder"])
        self._end = weakref.finalize(self, _end, process, self._owner, self.folder)

    def start(self, node: str, argv: list[str], log: Path) -> State:
        return self._ask(what="start", node=node, argv=argv, log=str(log))

    def signal(self, node: str, number: int) -> State:
        """Sends a signal to the node if it runs; says how the node stood then."""
        return self._ask(what="signal", node=node, number=number)

    def state(self, node: str) -> State:
        return self._ask(what="poll", node=node)

    def close(self) -> None:
        if os.getpid() != self._owner:  # where the lock may be held for ever
            return
        with self._lock:
            self._end()

    @property
    def closed(self) -> bool:
        return not self._end.alive

    def _ask(self, **request: Any) -> State:
        if os.getpid() != self._owner:
            raise NodeError("a forked process does not own the nodes of its parent")
        with self._lock:
            if self.closed:
                raise NodeError("the cluster is closed")
            self._last_id += 1
            line = json.dumps({"id": self._last_id, "do": request}).encode() + b"\n"
            try:
                self._requests.write(line)
                self._requests.flush()
            except OSError as error:
                raise NodeError(f"the process that runs the nodes is gone: {error}") from error
            answer = self._read_answer()
            while answer["id"] != self._last_id:  # of a request that a Ctrl-C interrupted
                answer = self._read_answer()
        if "error" in answer:
            raise NodeError(answer["error"])
        return State(**answer["result"])

    def _read_answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise NodeError("the process that runs the nodes is gone")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(process: subprocess.Popen[bytes], owner: int, folder: Path) -> None:
    if os.getpid() != owner:
        return
    assert process.stdin
    assert process.stdout
    with suppress(OSError):  # a request that a killed supervisor did not read
        process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)  # there only if somebody killed the supervisor
