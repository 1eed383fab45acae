"""Results, and what is kept of a response future when its last page has come."""

from __future__ import annotations

from typing import Any, Optional, Tuple

from .names import (
    BatchStatement,
    BoundStatement,
    ResponseFuture,
    ResultSet,
    SimpleStatement,
    named_tuple_factory,
    private,
)


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

# How scylla-driver knows a batch by its text; cassandra-driver does not ask.
_batch_text = getattr(ResultSet, "batch_regex", None)


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
        if _is_batch(query):
            query = _EMPTY_BATCH  # that it was one is all that was_applied asks
        elif rows is None:
            query = None
        result._rest = (row_factory, warnings, payload, traces, agreed, query)
    return result


def _is_batch(query: Any) -> bool:
    if _batch_text is not None and isinstance(query, SimpleStatement):
        return _batch_text.match(query.query_string) is not None
    return isinstance(query, BatchStatement)


def is_paged(response: Any) -> bool:
    """Return whether later pages are fetched by requests of their own.

    DSE's continuous paging (all; never seen without the attribute) streams them instead.
    """
    streams = getattr(response, "_continuous_paging_session", None) is not None
    return response.has_more_pages is True and not streams
