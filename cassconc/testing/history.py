"""What happened in a test, as a numbered interleaving that a person can follow."""

from __future__ import annotations

import threading
from typing import List

__all__ = ["History"]


class History:
    """A list of events, in the order in which they happened. Thread-safe.

    Its `repr` is one numbered line per event, so `hypothesis.note(session.history)` shows how a
    failing example went.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: List[str] = []  # guarded by _lock

    def note(self, event: str) -> None:
        """Add an event; of the test's own, too."""
        with self._lock:
            self._events.append(event)

    @property
    def events(self) -> List[str]:
        """The events so far."""
        with self._lock:
            return list(self._events)

    def __repr__(self) -> str:
        events = self.events
        width = len(str(len(events)))
        return "\n".join(f"{n:{width}}. {event}" for n, event in enumerate(events, 1))
