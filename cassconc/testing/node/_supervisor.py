"""The process that has the Java processes of one cluster as children: none outlives its owner.

Run by _process.py as a script, `python -I -S _supervisor.py OWNER_PID`, so it uses the
standard library only. It reads one JSON object a line from its standard input and answers each
with one line. When the input ends, or the owner is no longer its parent, it kills the nodes,
hung ones too, deletes the folder and ends.

A pipe alone would not do: a child that the owner forked holds a copy of its end.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def main(owner: int) -> None:
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    nodes: dict[str, subprocess.Popen[bytes]] = {}
    folder = tempfile.mkdtemp(prefix="cassconc-")
    try:
        _answer({"folder": folder})
        for request in _requests(owner):
            try:
                result = _perform(nodes, **request["do"])
            except Exception as error:
                _answer({"id": request["id"], "error": f"{type(error).__name__}: {error}"})
            else:
                _answer({"id": request["id"], "result": result})
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(nodes, folder)


def _requests(owner: int) -> Iterator[dict[str, Any]]:
    pending = b""
    while os.getppid() == owner:
        if not select.select([0], [], [], _POLL_SECONDS)[0]:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _perform(
    nodes: dict[str, subprocess.Popen[bytes]], what: str, node: str, **details: Any
) -> dict[str, Any]:
    """Does one thing, then says how the node stands.

    A signal cannot hit a stranger: the id of a process that ended is free only once `poll` saw it.
    """
    process = nodes.get(node)
    running = process is not None and process.poll() is None
    if what == "start":
        if running:
            raise ValueError(f"{node} runs already")
        process = nodes[node] = _start(**details)
    elif what == "signal" and process is not None and running:
        process.send_signal(details["number"])
        if details["number"] == signal.SIGSTOP:
            _wait_until_stopped(process.pid)
    code = None if process is None else process.poll()
    return {"running": process is not None and code is None, "code": code}


def _wait_until_stopped(pid: int) -> None:
    """Waits for the last thread: on a busy machine a node can answer well after it got SIGSTOP."""
    if hasattr(os, "waitid"):  # on macOS from Python 3.13 on
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def _start(argv: list[str], log: str) -> subprocess.Popen[bytes]:
    folder = Path(log).parent
    with open(log, "ab") as output:
        return subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_supervisor if sys.platform == "linux" else None,
        )


def _die_with_supervisor() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(nodes: dict[str, subprocess.Popen[bytes]], folder: str) -> None:
    for process in nodes.values():
        process.kill()
    for process in nodes.values():
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it cannot be helped
            process.wait(30)
    shutil.rmtree(folder, ignore_errors=True)


def _answer(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
