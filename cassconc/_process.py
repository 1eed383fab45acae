"""The process: what becomes of executors when the interpreter exits, and in a forked child."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401  # registers its exit hook, which runs after ours
import os
import threading
import weakref
from typing import Optional

from ._clock import system_clock
from ._gate import Gate
from ._threads import helper_threads

_lock = threading.RLock()  # re-entrant, see Gate
# guarded by _lock:
_gates: weakref.WeakKeyDictionary[Gate, bool] = weakref.WeakKeyDictionary()
_exiting: Optional[str] = None


def register(gate: Gate, closes: bool) -> None:
    """Have the interpreter wait for the gate's calls when it exits.

    A gate that `closes` accepts no new ones then; one that does not is open to its owner alone,
    for what was accepted as a whole before. When the main thread has ended, none is open.
    """
    with _lock:
        _gates[gate] = closes
        if _exiting is not None:
            gate.close(_exiting)


def is_exiting() -> bool:
    """Return whether the main thread has come to its end."""
    return _exiting is not None


def _exit() -> None:
    global _exiting
    with _lock:
        _exiting = "cannot schedule new futures after interpreter shutdown"
        gates = list(_gates.items())
    for gate, closes in gates:
        if closes:
            gate.close(_exiting)
    helper_threads.serve(lambda: all(gate.is_idle() for gate, _ in gates))


def _forked() -> None:
    # Only the thread that forked is here, and any lock may have been held by another one.
    global _lock
    _lock = threading.RLock()
    helper_threads.__init__()  # type: ignore[misc]
    system_clock.__init__()  # type: ignore[misc]
    for gate in list(_gates):
        gate.abandon("this executor belongs to the process that was forked; make one here")


try:
    # Like that of concurrent.futures, and before it: the driver's own retries need its threads.
    threading._register_atexit(_exit)  # type: ignore[attr-defined]
except (AttributeError, RuntimeError):  # a Python without it, or one that is exiting already
    atexit.register(_exit)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
