"""What cassconc knows of cassandra-driver: the only module that imports it.

Private parts of the driver are touched here and nowhere else, each with a comment that says which
versions have it and what happens without it. "All" means cassandra-driver 3.29.0 to 3.30.1 and
scylla-driver 3.29.12. `private` says which parts are as expected; what hangs on a part that is
not is done by public means, with the same results.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Optional, Tuple

from cassandra import OperationTimedOut, Timeout, Unavailable, cluster
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
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import (
    BatchStatement,
    BoundStatement,
    PreparedStatement,
    SimpleStatement,
    Statement,
    named_tuple_factory,
)
from cassandra.util import OrderedMap, SortedSet

__all__ = [
    "EXEC_PROFILE_DEFAULT",
    "BatchStatement",
    "BoundStatement",
    "ConnectionShutdown",
    "ExecutionResult",
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


def _look() -> PrivateParts:
    class Response:
        _col_names = _col_types = None

    return PrivateParts(
        results=all(hasattr(ResponseFuture, name) for name in _RESPONSE_PARTS)
        and set(vars(ResultSet(Response(), []))) == _RESULT_PARTS,
        give_up=callable(getattr(ResponseFuture, "_set_final_exception", None)),
        batches=isinstance(vars(BatchStatement()).get("_statements_and_parameters"), list),
        streams=hasattr(Session, "_pools"),
    )


private = _look()


def is_session(session: Any) -> bool:
    """Return whether this is the driver's own kind of session, whose private parts may be used."""
    return issubclass(type(session), Session)  # isinstance is true of a Mock(spec=Session)


def is_shutdown(session: Any) -> bool:
    """Return whether the session says that it was shut down."""
    try:
        return getattr(session, "is_shutdown", False) is True
    except Exception:  # of a session that is not the driver's: then nobody knows
        return False


def hides_session(session: Any) -> bool:
    """Return whether this is no session of the driver, but one stands behind it."""
    # all. Without it, that is found when the first response comes
    return not is_session(session) and type(getattr(session, "_pools", None)) is dict


def fixed(statement: Any) -> Any:
    """Return a copy that does not change when `statement` is bound again, cleared or changed."""
    taken = copy.copy(statement)
    if isinstance(statement, BatchStatement) and private.batches:
        # all; without it, a batch that is cleared while it waits is sent without what it held
        taken._statements_and_parameters = list(statement._statements_and_parameters)
    return with_own_payload(taken)


def with_own_payload(statement: Any) -> Any:
    """Give a statement a custom payload of its own: the driver itself adds to it."""
    if type(getattr(statement, "custom_payload", None)) is dict:
        statement.custom_payload = dict(statement.custom_payload)
    return statement


def timed_out(response: Any) -> OperationTimedOut:
    """Return the exception with which the driver would end `response` at its time limit."""
    host = last_host(response)
    where = (
        "no host queried before timeout" if host is None else str(getattr(host, "endpoint", host))
    )
    reason = "Client request timeout. See Session.execute[_async](timeout)"
    return OperationTimedOut({where: reason}, host)


def keep_timestamp(response: Any, tries: Any) -> None:
    """Give a request the timestamp of the first attempt, or keep its own if it is the first.

    `message.timestamp`: all. Without it, writes that have no timestamp of their own are not tried
    again: the driver would draw a new one, and overwrite what was written in between.
    """
    message = getattr(response, "message", None)
    if not tries.was_sent:
        tries.was_sent = True
        tries.timestamp = getattr(message, "timestamp", None)
    elif message is not None and tries.timestamp is not None:
        message.timestamp = tries.timestamp


# all. Without it, hosts are not isolated.
_LEGACY = getattr(getattr(cluster, "_ConfigMode", None), "LEGACY", None)


def has_profiles(session: Any) -> bool:
    """Return whether requests of this session may have an execution profile of their own."""
    mode = getattr(getattr(session, "cluster", None), "_config_mode", _LEGACY)
    return isinstance(mode, int) and mode != _LEGACY


def last_host(response: Any) -> Any:
    """Return the host that a request was last sent to, or `None`."""
    attempted = getattr(response, "attempted_hosts", None)
    return attempted[-1] if isinstance(attempted, list) and attempted else None


def give_up(response: Any, exception: BaseException) -> None:
    """Keep the driver from working on for a response that nobody waits for any more."""
    response.clear_callbacks()
    if private.give_up and type(response) is ResponseFuture:
        # all; without it, the driver's retry policy may send it again, unheard
        response._set_final_exception(exception)
        _orphan(response)


def _orphan(response: Any) -> None:
    """Tell the connection that nobody waits for this stream any more.

    What the driver's own time-out does: a connection with too many such streams is replaced. But
    that one trusts `_req_id`, which is another request's after a retry on the same host, and does
    not hear when the connection is lost. Here the stream must belong to this response. All have
    these parts; without them, a connection to a node that hangs for long runs out of streams, and
    is lost then.
    """
    try:
        connection, stream = response._connection, response._req_id
        host, pools = response._current_host, response.session._pools

        def hear(answer: Any) -> None:
            pool = pools.get(host)
            if isinstance(answer, Exception):
                if pool is not None:  # the connection is lost: have it replaced
                    pool.return_connection(connection, stream_was_orphaned=True)
                return
            with connection.lock:
                # else the connection itself has seen to that
                has_raced = stream in connection.orphaned_request_ids
                if has_raced:
                    connection.orphaned_request_ids.remove(stream)
                    connection.in_flight -= 1
            if has_raced and pool is not None:
                pool.on_orphaned_stream_released()

        with connection.lock:
            callback, *decoding = connection._requests[stream]
            if callback.func.__self__ is not response:
                return
            connection._requests[stream] = (hear, *decoding)
            connection.orphaned_request_ids.add(stream)
            if len(connection.orphaned_request_ids) >= connection.orphaned_threshold:
                connection.orphaned_threshold_reached = True
        pool = pools.get(host)
        if pool is not None:
            pool.return_connection(connection, stream_was_orphaned=True)
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # it was answered meanwhile, or the parts are not there


DEFAULT_TIMEOUT = 10.0  # of a session, in seconds; only one without profiles can change its own

# How many streams of each connection stay free for those who send at the same time.
_SPARE_STREAMS = 1024


def may_block(session: Any) -> bool:
    """Return whether `execute_async` may have to wait for a free stream."""
    if not private.streams:
        return True
    try:
        for pool in tuple(session._pools.values()):
            # all. _pools is {host: pool}; without it, driver threads never send
            for connection in pool.get_connections():
                if (
                    connection.in_flight + _SPARE_STREAMS > connection.max_request_id
                    or connection.is_closed
                    or connection.is_defunct
                ):
                    return True
    except (AttributeError, TypeError):
        return True
    return False


class SlimResponse:
    """What is kept of a response future when its last page has come."""

    has_more_pages = False
    _paging_state = None
    _final_result = _final_exception = None

    # the driver's own code, which asks its self for nothing but what is kept here
    get_query_trace = ResponseFuture.get_query_trace
    get_query_trace_ids = ResponseFuture.get_query_trace_ids
    get_all_query_traces = ResponseFuture.get_all_query_traces
    _get_query_trace = getattr(ResponseFuture, "_get_query_trace", None)

    def __init__(self, host: Any, rest: _Rest) -> None:
        self.coordinator_host = host
        self.row_factory, self.warnings, self.custom_payload, self._query_traces = rest[:4]
        self.is_schema_agreed = rest[4]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name!r} of a response future is not kept when its call has ended")


_Rest = Tuple[Any, Any, Any, Any, bool, Any]
_NOTHING: _Rest = (named_tuple_factory, None, None, None, True, None)
_EMPTY_BATCH = BatchStatement()


class SlimResultSet(ResultSet):  # type: ignore[misc]
    """A `ResultSet` of one page that does not keep its response future alive.

    A response future is 4 KB of locks, events and messages; this is 100 bytes.
    """

    # the instance attributes of ResultSet, see _RESULT_PARTS, but for the response future
    __slots__ = ("column_names", "column_types", "_current_rows", "_page_iter", "_list_mode",
                 "_host", "_rest")  # fmt: skip

    _current_rows: Any
    _rest: Optional[_Rest]

    @property
    def response_future(self) -> Any:
        """What is kept of the response future."""
        return SlimResponse(self._host, self._rest or _NOTHING)

    @property
    def was_applied(self) -> Any:
        """Whether a conditional statement was applied; see the driver's `ResultSet`."""
        return _Applied(self).was_applied


class _Applied(ResultSet):  # type: ignore[misc]
    """What the driver's `was_applied` looks at, the query included."""

    def __init__(self, result: SlimResultSet) -> None:
        self.column_names = result.column_names
        self._current_rows = result._current_rows
        self.response_future = result.response_future
        self.response_future.query = (result._rest or _NOTHING)[5]


def turn_page(result: Any, page: Any) -> None:
    """Have `result` go on with the rows of `page`."""
    if private.results:
        # `_current_rows`: all. Without it, the rows are those of a new ResultSet in its place
        response = page.response_future
        if isinstance(page, SlimResultSet):
            response.query = (page._rest or _NOTHING)[5]
        result.response_future, result._current_rows = response, page._current_rows
    else:
        ResultSet.__init__(result, page.response_future, page.current_rows)


def slim_result_set(response: Any, rows: Any, row_factory: Any) -> Optional[SlimResultSet]:
    """Return the result of a response in slim form, or `None` where that can't hold it."""
    if (
        not private.results
        or (rows is not None and type(rows) is not list)
        or response._paging_state is not None
        or response._continuous_paging_session is not None
    ):
        return None
    # no __init__: this is done for every response
    result = SlimResultSet.__new__(SlimResultSet)
    result._current_rows = () if rows is None else rows
    result._page_iter = None
    result._list_mode = False
    result.column_names = response._col_names
    result.column_types = response._col_types
    result._host = response.coordinator_host
    result._rest = None
    warnings, payload = response._warnings, response._custom_payload
    traces, agreed = response._query_traces, response.is_schema_agreed
    query = response.query
    if (
        row_factory is not named_tuple_factory
        or warnings is not None
        or payload is not None
        or traces is not None
        or not agreed
        or type(query) is not BoundStatement
    ):
        if isinstance(query, BatchStatement):
            query = _EMPTY_BATCH  # that it was one is all that was_applied asks
        elif rows is None:
            query = None
        result._rest = (row_factory, warnings, payload, traces, agreed, query)
    return result


def is_paged(response: Any) -> bool:
    """Return whether later pages are fetched by requests of their own.

    DSE's continuous paging (all; never seen without the attribute) streams them instead.
    """
    streams = getattr(response, "_continuous_paging_session", None) is not None
    return response.has_more_pages is True and not streams
