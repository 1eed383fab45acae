"""Types for type checkers: the driver itself has none."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterator,
    List,
    Literal,
    Optional,
    Protocol,
    TypedDict,
    Union,
)

if TYPE_CHECKING:
    from ._retry import Retry

    class ResultSet:
        """The driver's `cassandra.cluster.ResultSet`, which is what `cassconc.ResultSet` is."""

        column_names: Optional[List[str]]
        column_types: Optional[List[Any]]
        has_more_pages: bool
        current_rows: List[Any]
        was_applied: bool
        paging_state: Optional[bytes]
        response_future: Any

        def all(self) -> List[Any]: ...
        def one(self) -> Any: ...
        def fetch_next_page(self) -> None: ...
        def get_query_trace(self, max_wait_sec: Optional[float] = None) -> Any: ...
        def get_all_query_traces(self, max_wait_sec_per: Optional[float] = None) -> List[Any]: ...
        def cancel_continuous_paging(self) -> None: ...
        def __iter__(self) -> Iterator[Any]: ...
        def __next__(self) -> Any: ...
        def __getitem__(self, i: int) -> Any: ...
        def __bool__(self) -> bool: ...

else:
    from ._driver import ResultSet

__all__ = ["MapOptions", "PlainMapOptions", "RequestOptions", "ResultSet", "Statement"]


class DriverStatement(Protocol):
    """What the driver's statements have in common, and neither callables nor numbers have.

    They are Any to type checkers that do not read the driver's source; to others they are these.
    """

    @property
    def keyspace(self) -> Any: ...
    @property
    def is_idempotent(self) -> Any: ...
    @property
    def custom_payload(self) -> Any: ...


Statement = Union[str, DriverStatement]


class RequestOptions(TypedDict, total=False):
    """The options of `CassandraExecutor.with_options`: those of the driver's `execute_async`."""

    trace: bool
    custom_payload: Optional[Dict[str, bytes]]
    timeout: Optional[float]
    execution_profile: Any
    paging_state: Optional[bytes]
    host: Any
    execute_as: Optional[str]
    retry: Optional[Retry]


class MapOptions(TypedDict, total=False):
    """The options that every `map` has; see `CassandraExecutor.map`."""

    timeout: Optional[float]
    chunksize: int
    buffersize: Optional[int]
    ordered: bool


class PlainMapOptions(MapOptions, total=False):
    """The options of a `map` that yields results alone: the first failure is raised."""

    return_exceptions: Literal[False]
    with_calls: Literal[False]
    max_errors: None
