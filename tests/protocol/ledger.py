"""What happened so far in a cluster: connections, requests, and which of them have no answer yet.

Guarantees: all methods may be called from any thread and hold the one lock only for the counting;
nobody else's code runs under it, but the predicate given to `wait_until`.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .connection import ServerConnection
    from .script import ServerRequest


@dataclass(frozen=True)
class Statistics:
    """Numbers of one moment.

    `requests` and the unanswered are those that were for the test; `automatic` counts what the
    server answered by itself, by kind (`automatic.KINDS`). A request is unanswered from its arrival
    until just before its first answer is sent, or until its connection ends.
    """

    requests: int
    unanswered: int
    max_unanswered: int
    max_unanswered_per_connection: int
    connections_open: int
    connections_opened: int
    automatic: Mapping[str, int]


class Ledger:
    """Counts."""

    def __init__(self) -> None:
        # Guards all that follows, and `unanswered` of each connection; told of every change.
        self._changed = threading.Condition()
        self._connections: list[ServerConnection] = []
        self._unanswered: dict[ServerRequest, None] = {}
        self._opened = 0
        self._requests = 0
        self._max = 0
        self._max_per_connection = 0
        self._automatic: Counter[str] = Counter()

    @property
    def connections(self) -> "list[ServerConnection]":
        """Those that are open, in the order in which they were opened."""
        with self._changed:
            return [each for each in self._connections if each.is_open]

    @property
    def unanswered(self) -> "list[ServerRequest]":
        """The requests that have no answer yet, in the order of their arrival."""
        with self._changed:
            return list(self._unanswered)

    def next_connection(self) -> int:
        """The number of a connection that is about to be opened."""
        with self._changed:
            self._opened += 1
            return self._opened

    def opened(self, connection: "ServerConnection") -> None:
        """Lists a connection."""
        with self._changed:
            self._connections.append(connection)
            self._changed.notify_all()

    def lost(self, connection: "ServerConnection") -> None:
        """Forgets what was unanswered on a connection that is no longer open."""
        with self._changed:
            for request in [each for each in self._unanswered if each.connection is connection]:
                del self._unanswered[request]
            connection.unanswered = 0
            self._changed.notify_all()

    def ended(self, connection: "ServerConnection") -> None:
        """Lists a connection no more."""
        with self._changed:
            self.lost(connection)
            self._connections.remove(connection)

    def arrived(self, request: "ServerRequest") -> None:
        """Numbers a request that is for the test."""
        connection = request.connection
        with self._changed:
            self._requests += 1
            request.number = self._requests
            if connection.is_open:
                self._unanswered[request] = None
                self._max = max(self._max, len(self._unanswered))
                connection.unanswered += 1
                connection.max_unanswered = max(connection.max_unanswered, connection.unanswered)
                self._max_per_connection = max(self._max_per_connection, connection.unanswered)
            self._changed.notify_all()

    def answered(self, request: "ServerRequest") -> None:
        """Counts a request as answered, if it was not."""
        with self._changed:
            if request in self._unanswered:
                del self._unanswered[request]
                request.connection.unanswered -= 1
                self._changed.notify_all()

    def automatic(self, kind: str) -> None:
        """Counts a request that the server answered by itself."""
        with self._changed:
            self._automatic[kind] += 1
            self._changed.notify_all()

    def statistics(self) -> Statistics:
        """The numbers of this moment."""
        with self._changed:
            return Statistics(
                self._requests,
                len(self._unanswered),
                self._max,
                self._max_per_connection,
                sum(1 for each in self._connections if each.is_open),
                self._opened,
                dict(self._automatic),
            )

    def wait_until(self, predicate: Callable[[Statistics], bool], timeout: float) -> bool:
        """Waits until the numbers are such; false if they were not within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self.statistics()), timeout)
