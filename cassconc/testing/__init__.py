"""A harness for tests of code that runs statements through an executor.

Needs the extra `cassconc[testing]`: Hypothesis and pytest.

- `ScriptedSession`: stands for the driver's session; the test decides what is answered, and when.
- `ManualClock`: time that the test moves.
- `cassconc.testing.strategies`: Hypothesis strategies for completion orders and failures.
- `check_executor`: what every executor of this kind must do, run over any of them.
- `cassconc.testing.node`: real Cassandra nodes on this machine, with the extra `cassconc[node]`.
"""

from __future__ import annotations

from .clock import ManualClock
from .history import History
from .responses import ScriptedRequest, ScriptedResponse, on_driver_thread
from .session import ScriptedSession

__all__ = [
    "History",
    "ManualClock",
    "ScriptedRequest",
    "ScriptedResponse",
    "ScriptedSession",
    "on_driver_thread",
]
