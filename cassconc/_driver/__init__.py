"""What cassconc knows of cassandra-driver; nothing else in it imports the driver.

Private parts of the driver are touched here and nowhere else, each with a comment that says which
versions have it and what happens without it. "All" means cassandra-driver 3.29.0 to 3.30.1 and
scylla-driver 3.29.12. `private` says which parts are as expected; what hangs on a part that is
not is done by public means, with the same results.

`names` imports the driver; `sessions`, `requests` and `results` are about what they are called.
"""

from __future__ import annotations

from .names import (
    CHANGEABLE,
    EXEC_PROFILE_DEFAULT,
    NO_ANSWER,
    TRANSIENT,
    BatchStatement,
    BoundStatement,
    ConnectionShutdown,
    ExecutionResult,
    OperationTimedOut,
    PreparedStatement,
    QueryExhausted,
    ResponseFuture,
    ResultSet,
    Statement,
    named_tuple_factory,
    private,
)
from .requests import (
    awaits_agreement,
    fixed,
    give_up,
    keep_timestamp,
    timed_out,
    with_own_payload,
)
from .results import is_paged, slim_result_set, turn_page
from .sessions import (
    DEFAULT_TIMEOUT,
    ask_host,
    has_profiles,
    hides_session,
    is_known,
    is_session,
    is_shutdown,
    may_block,
)

__all__ = [
    "CHANGEABLE",
    "DEFAULT_TIMEOUT",
    "EXEC_PROFILE_DEFAULT",
    "NO_ANSWER",
    "TRANSIENT",
    "BatchStatement",
    "BoundStatement",
    "ConnectionShutdown",
    "ExecutionResult",
    "OperationTimedOut",
    "PreparedStatement",
    "QueryExhausted",
    "ResponseFuture",
    "ResultSet",
    "Statement",
    "ask_host",
    "awaits_agreement",
    "fixed",
    "give_up",
    "has_profiles",
    "hides_session",
    "is_known",
    "is_paged",
    "is_session",
    "is_shutdown",
    "keep_timestamp",
    "may_block",
    "named_tuple_factory",
    "private",
    "slim_result_set",
    "timed_out",
    "turn_page",
    "with_own_payload",
]
