"""Signals: what one thread puts so that another stops waiting."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # A queue in C, and no Event or Condition: an interrupt that strikes inside of those leaves
    # them locked, and then the driver's thread stops in `set`. It is the fastest, too.
    Signal = queue.SimpleQueue[None]


def wait(signal: Signal, seconds: float) -> None:
    """Wait for something in `signal`, and take it, or for so many seconds; infinite: for ever."""
    # what the waiting methods of threading and queue take: None is for ever
    timeout = None if seconds > threading.TIMEOUT_MAX else max(seconds, 0)
    try:
        signal.get(timeout=timeout)
    except queue.Empty:
        pass
