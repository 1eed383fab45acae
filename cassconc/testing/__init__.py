"""A harness for tests of code that runs statements through an executor.

Needs the extra `cassconc[testing]`: Hypothesis and pytest.

- `ScriptedSession`: stands for the driver's session; the test decides what is answered, and when.
- `ManualClock`: time that the test moves.
- `Script` and `DriverThread`: in which order it is answered, and a thread that does so.
- `cassconc.testing.strategies`: Hypothesis strategies for scripts.
- `check_executor`: what every executor of this kind must do, run over any of them.
- `cassconc.testing.plugin`: fixtures for pytest.
- `cassconc.testing.node`: real Cassandra nodes on this machine, with the extra `cassconc[node]`.
"""

from __future__ import annotations

from .clock import ManualClock
from .conformance import check_executor
from .history import History
from .responses import ScriptedRequest, ScriptedResponse, on_driver_thread
from .script import DriverThread, Script, echo
from .session import ScriptedSession

__all__ = [
    "DriverThread",
    "History",
    "ManualClock",
    "Script",
    "ScriptedRequest",
    "ScriptedResponse",
    "ScriptedSession",
    "check_executor",
    "echo",
    "on_driver_thread",
]
