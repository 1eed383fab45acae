"""Run many CQL statements at once through Python's own futures interface.

    with CassandraExecutor(session, concurrency=200) as executor:
        for rows in executor.map(select_user, user_ids, buffersize=1000):
            ...

Data goes one way through the modules: a call is made (`_starter`, `_calls`), admitted (`_gate`),
sent and answered (`_dispatcher`, `_adapter`, `_watch`), becomes a future's outcome (`_futures`),
and reaches the consumer through a window (`_window`, `_consumer`). The public face is
`_executor` with `_maps`; `concurrent` holds the drop-in replacements of `cassandra.concurrent`,
and `testing` the harness for tests. `_driver` alone imports the driver.
"""

from __future__ import annotations

import logging

from ._calls import Call
from ._executor import CassandraExecutor
from ._report import FailureReport, TooManyErrors
from ._retry import Retry, RetryEvent
from ._stats import Stats
from ._typing import ResultSet
from .concurrent import (
    ExecutionResult,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)

__all__ = [
    "Call",
    "CassandraExecutor",
    "ExecutionResult",
    "FailureReport",
    "ResultSet",
    "Retry",
    "RetryEvent",
    "Stats",
    "TooManyErrors",
    "execute_concurrent",
    "execute_concurrent_async",
    "execute_concurrent_with_args",
]

__version__ = "0.1.0"

logging.getLogger("cassconc").addHandler(logging.NullHandler())
