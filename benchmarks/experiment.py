"""What an experiment is given: the parameters of the command line, and servers when it asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from cassandra.cluster import Session
from tqdm import tqdm

from benchmarks.clients import Server, real_node, session_on, stub_server


def _setting(default: int, quick: int, words: str) -> Any:
    return field(default=default, metadata={"quick": quick, "help": words})


@dataclass(frozen=True)
class Settings:
    """The parameters of a run; each is an option of the command line, with these words."""

    rounds: int = _setting(7, 3, "rounds that count, after a discarded one")
    statements: int = _setting(20_000, 2000, "statements of a competitor in a round")
    concurrency: int = _setting(100, 100, "how many of them may be in flight")
    sweep_rounds: int = _setting(7, 2, "rounds of a sweep that count")
    sweep_statements: int = _setting(20_000, 2000, "statements of a point of a sweep in a round")
    list_length: int = _setting(200_000, 10_000, "results in the list whose memory is measured")
    long_input: int = _setting(1_000_000, 20_000, "length of the long input of a map")
    traced_input: int = _setting(200_000, 10_000, "the same where tracemalloc makes it slow")
    garbage_requests: int = _setting(60_000, 20_000, "requests whose collections are counted")
    requests: int = _setting(1000, 200, "requests one by one of each side in a round")
    interpreters: int = _setting(25, 5, "fresh interpreters that import the package")

    @classmethod
    def quick(cls) -> Settings:
        """Return what takes under two minutes."""
        return cls(**{each.name: each.metadata["quick"] for each in fields(cls)})

    def asdict(self) -> dict[str, int]:
        """Return them for JSON."""
        return asdict(self)


class Context:
    """Gives an experiment its settings and servers; a server starts when it is first asked for."""

    def __init__(self, settings: Settings, stack: contextlib.ExitStack) -> None:
        self.settings = settings
        self.node_version: str | None = None
        self._stack = stack
        self._servers: dict[str, Server] = {}
        self._sessions: dict[str, Session] = {}

    def stub(self) -> Server:
        """Return the stub."""
        if "stub" not in self._servers:
            self._servers["stub"] = self._stack.enter_context(stub_server())
        return self._servers["stub"]

    def node(self) -> Server:
        """Return the real node."""
        if "node" not in self._servers:
            server, self.node_version = self._stack.enter_context(real_node())
            self._servers["node"] = server
        return self._servers["node"]

    def session(self, server: Server) -> Session:
        """Return this process's session on a server."""
        if str(server.port) not in self._sessions:
            session = self._stack.enter_context(session_on(server))
            self._sessions[str(server.port)] = session
        return self._sessions[str(server.port)]


Result = dict[str, Any]  # what an experiment gives for JSON; "measures" has a Spread by target
Experiment = Callable[[Context], Result]

T = TypeVar("T")


def progress(items: Sequence[T], title: str) -> Iterable[T]:
    """Iterate with a bar, on a terminal."""
    bar: Iterable[T] = tqdm(items, title, leave=False, disable=None)
    return bar
