"""What an experiment is given: the parameters of the command line, and servers when it asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cassandra.cluster import Session

from benchmarks.clients import Server, real_node, session_on, stub_server


@dataclass(frozen=True)
class Settings:
    """The parameters of a run.

    Attributes:
        rounds: How many rounds count.
        statements: How many statements a competitor runs a round.
        concurrency: How many of them may be in flight.
        list_length: How many results the list has whose memory is measured.
        long_input: How many calls the long input has, against a hundredth of it.
        sweep_statements: How many statements each point of a sweep runs a round.
        requests: How many requests one by one each side runs a round, for latencies.
        interpreters: How many fresh interpreters import the package.
    """

    rounds: int = 7
    statements: int = 20_000
    concurrency: int = 100
    list_length: int = 200_000
    long_input: int = 1_000_000
    sweep_statements: int = 20_000
    requests: int = 1000
    interpreters: int = 25

    def asdict(self) -> dict[str, int]:
        """Return them for JSON."""
        return asdict(self)


QUICK = Settings(
    rounds=3,
    statements=2000,
    list_length=10_000,
    long_input=20_000,
    sweep_statements=2000,
    requests=200,
    interpreters=5,
)


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


Result = dict[str, Any]  # what an experiment gives for JSON; "targets" has a Spread by target
Experiment = Callable[[Context], Result]
