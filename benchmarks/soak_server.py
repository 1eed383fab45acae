"""Scripted nodes in a process of their own, which keep what they are told and do as they are told.

The process that is watched in a soak must not hold the server: its threads, sockets and memory
would be counted. Commands come through a pipe; each gets one answer.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.protocol import ScriptedCluster, ServerRequest

COLUMNS = [("id", "int"), ("value", "text")]
TYPES = {"part": "int", "id": "int", "value": "text"}
_LITERAL = re.compile(r"INSERT INTO soak\.t .*VALUES \((\d+), (\d+), '([^']*)'\)")
_SICK = ("overloaded", "unavailable", "write_timeout", "read_timeout", "server_error")


class Store:
    """What the nodes have been told to keep: the rows of each part. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[int, dict[int, str]] = {}  # guarded by _lock
        self._count = 0  # of requests; guarded by _lock
        self.sick = 0  # one of how many requests fails; 0 for none

    def answer(self, request: ServerRequest) -> None:
        """Answer a request, or fail it where the nodes are sick."""
        with self._lock:
            self._count += 1
            count = self._count
        if self.sick and count % self.sick == 0:
            kind = _SICK[count // self.sick % len(_SICK)]
            request.error(kind)  # type: ignore[arg-type]
            return
        rows = self._rows_of(request)
        if rows is None:
            self._page(request, *_part_of(request))
            return
        with self._lock:
            for part, number, value in rows:
                self._parts.setdefault(part, {})[number] = value
        request.void()

    def take(self, part: int) -> dict[int, str]:
        """Return the rows of a part and forget them."""
        with self._lock:
            return self._parts.pop(part, {})

    def _rows_of(self, request: ServerRequest) -> list[tuple[int, int, str]] | None:
        if request.opcode == "BATCH":
            return [_row(item.values) for item in request.batch]
        text = request.text or ""
        if not text.startswith("INSERT"):
            return None
        literal = _LITERAL.match(text)
        if literal:
            return [(int(literal[1]), int(literal[2]), literal[3])]
        return [_row(request.values)]

    def _page(self, request: ServerRequest, part: int, start: int) -> None:
        with self._lock:
            rows = sorted(self._parts.get(part, {}).items())
        end = start + (request.page_size or 5000)
        more = end.to_bytes(4, "big") if end < len(rows) else None
        request.rows(COLUMNS, rows[start:end], paging_state=more)


def _row(values: Any) -> tuple[int, int, str]:
    part, number, value = values
    return int.from_bytes(part, "big"), int.from_bytes(number, "big"), value.decode()


def _part_of(request: ServerRequest) -> tuple[int, int]:
    part = int.from_bytes(request.values[0], "big")  # type: ignore[arg-type]
    return part, int.from_bytes(request.paging_state or b"", "big")


def _serve(pipe: Connection, nodes: int) -> None:
    store = Store()
    with ScriptedCluster(
        nodes, types=TYPES, keyspaces={"soak": nodes}, on_request=store.answer
    ) as cluster:
        cluster.errors = _Forgotten()  # a client that goes away in the middle is no error here
        commands: dict[str, Callable[..., Any]] = {
            "take": store.take,
            "sick": lambda one_of: setattr(store, "sick", one_of),
            "forget": cluster.forget,
            "node": lambda number, method: getattr(cluster.nodes[number], method)(),
        }
        pipe.send((cluster.addresses, cluster.port))
        while True:
            try:
                name, *arguments = pipe.recv()
            except (EOFError, KeyboardInterrupt):
                return
            pipe.send(commands[name](*arguments))


class _Forgotten(list[BaseException]):
    def append(self, problem: BaseException) -> None:
        """Keep nothing: a soak has no bound."""


class SoakServer:
    """The owner's end: starts the process, and ends it. Thread-safe.

    Attributes:
        addresses, port: Where the nodes are.
    """

    addresses: list[str]
    port: int

    def __init__(self, nodes: int = 3) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._lock = threading.Lock()  # guards _pipe: one question at a time
        self._process = context.Process(target=_serve, args=(theirs, nodes), daemon=True)
        self._process.start()
        theirs.close()
        self.addresses, self.port = self._answer()

    def ask(self, *command: Any) -> Any:
        """Have a command carried out, and return its answer."""
        with self._lock:
            self._pipe.send(command)
            return self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(60):
            raise RuntimeError("the scripted server does not answer")
        return self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(20)
        if self._process.is_alive():
            self._process.kill()
