"""The names of the driver, and which of its private parts are as expected.

The only module that imports the driver.
"""

from __future__ import annotations

from dataclasses import dataclass

from cassandra import ConsistencyLevel, OperationTimedOut, Timeout, Unavailable, cluster
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    NoHostAvailable,
    QueryExhausted,
    ResponseFuture,
    ResultSet,
    Session,
)
from cassandra.concurrent import ExecutionResult
from cassandra.connection import ConnectionException, ConnectionShutdown
from cassandra.policies import FallthroughRetryPolicy
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import (
    BatchStatement,
    BoundStatement,
    PreparedStatement,
    SimpleStatement,
    Statement,
    named_tuple_factory,
    tuple_factory,
)
from cassandra.util import OrderedMap, SortedSet

__all__ = [
    "CHANGEABLE",
    "EXEC_PROFILE_DEFAULT",
    "LEGACY",
    "NO_ANSWER",
    "TRANSIENT",
    "BatchStatement",
    "BoundStatement",
    "ConnectionShutdown",
    "ConsistencyLevel",
    "ExecutionResult",
    "FallthroughRetryPolicy",
    "OperationTimedOut",
    "PreparedStatement",
    "QueryExhausted",
    "ResponseFuture",
    "ResultSet",
    "Session",
    "SimpleStatement",
    "Statement",
    "named_tuple_factory",
    "private",
    "tuple_factory",
]

# Failures that may be over when the statement is sent again.
TRANSIENT = (
    OperationTimedOut,
    Timeout,  # of reads and writes
    Unavailable,
    OverloadedErrorMessage,
    IsBootstrappingErrorMessage,
    NoHostAvailable,
    ConnectionException,
)

# Values of these types can be changed after they were given.
CHANGEABLE = (list, tuple, dict, set, bytearray, OrderedMap, SortedSet)

# Failures that no host has answered with.
NO_ANSWER = (OperationTimedOut, NoHostAvailable, ConnectionException)


# ResponseFuture's; all. Without them, and without those of ResultSet, results are plain ResultSets.
_RESPONSE_PARTS = (
    "_col_names", "_col_types", "_paging_state", "_warnings", "_custom_payload", "_query_traces",
    "_continuous_paging_session", "_get_query_trace",
)  # fmt: skip

# all. Without it, hosts are not isolated.
LEGACY = getattr(getattr(cluster, "_ConfigMode", None), "LEGACY", None)

# ResultSet's; all.
_RESULT_PARTS = {
    "response_future", "column_names", "column_types", "_current_rows", "_page_iter", "_list_mode",
}  # fmt: skip


@dataclass
class PrivateParts:
    """Which private parts of the driver are there, and of the shape that is expected."""

    results: bool
    give_up: bool
    batches: bool
    streams: bool
    profiles: bool


def _look() -> PrivateParts:
    class Response:
        _col_names = _col_types = None

    return PrivateParts(
        results=all(hasattr(ResponseFuture, name) for name in _RESPONSE_PARTS)
        and set(vars(ResultSet(Response(), []))) == _RESULT_PARTS,
        give_up=callable(getattr(ResponseFuture, "_set_final_exception", None)),
        batches=isinstance(vars(BatchStatement()).get("_statements_and_parameters"), list),
        streams=hasattr(Session, "_pools"),
        profiles=LEGACY is not None,
    )


private = _look()
