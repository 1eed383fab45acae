"""What a scripted session sends back, and through which a test answers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

from cassandra.cluster import QueryExhausted, ResultSet
from cassandra.query import named_tuple_factory

__all__ = ["ScriptedMessage", "ScriptedRequest", "ScriptedResponse", "on_driver_thread"]

_NOT_SET = object()
_this_thread = threading.local()  # .depth: how many answers are being delivered on it

LIMIT = 30.0  # real seconds after which waiting for an answer is a failure of the test


@contextmanager
def as_driver_thread() -> Iterator[None]:
    """Make this thread a driver thread for a while."""
    depth = getattr(_this_thread, "depth", 0)
    _this_thread.depth = depth + 1
    try:
        yield
    finally:
        _this_thread.depth = depth


def on_driver_thread() -> bool:
    """Return whether this thread plays the driver now: it delivers an answer."""
    return getattr(_this_thread, "depth", 0) > 0


class Sender(Protocol):
    """What a response needs of its session; see `ScriptedSession`."""

    def send(self, response: ScriptedResponse, options: Dict[str, Any]) -> None: ...
    def forgets(self, request: ScriptedRequest, event: str) -> bool: ...
    def complain(self, what: str) -> None: ...


class ScriptedMessage:
    """What is sent on the wire, as far as it matters: the timestamp, in microseconds."""

    def __init__(self, timestamp: Optional[int]) -> None:
        self.timestamp = timestamp


class ScriptedResponse:
    """Behaves like the driver's `ResponseFuture`, but its answers come from a `ScriptedRequest`.

    As with the driver's: callbacks stay, and are called again for each page and each answer that
    comes twice; one that is added when the answer is there is called at once, on the same thread.
    """

    _col_types = None
    _query_traces = None
    _continuous_paging_session = None
    coordinator_host = None
    is_schema_agreed = True

    def __init__(self, session: Sender, query: Any, timestamp: Optional[int]) -> None:
        self.session = session
        self.message = ScriptedMessage(timestamp)
        self.query = query
        self.row_factory = named_tuple_factory
        self.warnings: Optional[List[str]] = None
        self.custom_payload: Optional[Dict[str, bytes]] = None
        self._col_names: Optional[List[str]] = None
        self._paging_state: Optional[bytes] = None
        self._answered = threading.Event()
        self._lock = threading.Lock()
        # guarded by _lock:
        self._result: Any = _NOT_SET
        self._exception: Optional[BaseException] = None
        self._callbacks: List[Tuple[Callable[..., Any], Tuple[Any, ...], Dict[str, Any]]] = []
        self._errbacks: List[Tuple[Callable[..., Any], Tuple[Any, ...], Dict[str, Any]]] = []

    @property
    def has_more_pages(self) -> bool:
        """Whether the last answer said that there are more pages."""
        return self._paging_state is not None

    def add_callback(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> ScriptedResponse:
        """Call `fn(rows, *args, **kwargs)` for each answer."""
        with self._lock:
            self._callbacks.append((fn, args, kwargs))
            result = self._result
        if result is not _NOT_SET:
            fn(result, *args, **kwargs)
        return self

    def add_errback(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> ScriptedResponse:
        """Call `fn(exception, *args, **kwargs)` for each failure."""
        with self._lock:
            self._errbacks.append((fn, args, kwargs))
            exception = self._exception
        if exception is not None:
            fn(exception, *args, **kwargs)
        return self

    def add_callbacks(
        self,
        callback: Callable[..., Any],
        errback: Callable[..., Any],
        callback_args: Tuple[Any, ...] = (),
        callback_kwargs: Optional[Dict[str, Any]] = None,
        errback_args: Tuple[Any, ...] = (),
        errback_kwargs: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Add one of each."""
        self.add_callback(callback, *callback_args, **(callback_kwargs or {}))
        self.add_errback(errback, *errback_args, **(errback_kwargs or {}))

    def clear_callbacks(self) -> None:
        """Forget all callbacks."""
        with self._lock:
            self._callbacks = []
            self._errbacks = []

    def start_fetching_next_page(self) -> None:
        """Send a request for the next page."""
        if self._paging_state is None:
            raise QueryExhausted
        with self._lock:
            self._result, self._exception = _NOT_SET, None
        self._answered.clear()
        self.session.send(self, {"paging_state": self._paging_state})

    def result(self) -> Any:
        """Wait for the answer, and return it as a `ResultSet` or raise it."""
        if on_driver_thread():
            self.session.complain("a result is waited for")
            raise AssertionError("a driver thread waits for an answer: it would wait for ever")
        if not self._answered.wait(LIMIT):
            raise AssertionError(f"no answer after {LIMIT} s to {self.query}")
        if self._exception is not None:
            raise self._exception
        return ResultSet(self, self._result)

    def deliver(self, result: Any, exception: Optional[BaseException]) -> None:
        """Take an answer, and tell the callbacks."""
        with self._lock:
            if exception is None:
                self._result = result
                called = list(self._callbacks)
            else:
                self._exception = exception
                called = list(self._errbacks)
        self._answered.set()
        for fn, args, kwargs in called:
            fn(result if exception is None else exception, *args, **kwargs)


class ScriptedRequest:
    """A request that was sent to a `ScriptedSession`: what a test looks at, and answers.

    It can be answered from any thread, at once or later, several times, or never.

    Attributes:
        number: Its place in the order of sending, from 0.
        statement: The statement that was sent.
        parameters: Its parameters, as they were before binding; `None` for none.
        options: The other arguments of `execute_async`.
        timestamp: The timestamp with which it was sent, in microseconds.
        thread: The thread on which it was sent.
        done: Whether it was answered.
    """

    def __init__(
        self,
        number: int,
        response: ScriptedResponse,
        parameters: Any,
        options: Dict[str, Any],
    ) -> None:
        self.number = number
        self.response = response
        self.statement = response.query
        self.parameters = parameters
        self.options = options
        self.timestamp = response.message.timestamp
        self.thread = threading.current_thread()
        self.done = False

    def succeed(
        self,
        rows: Optional[Sequence[Sequence[Any]]] = None,
        columns: Sequence[str] = (),
        *,
        paging_state: Optional[bytes] = None,
        warnings: Optional[List[str]] = None,
        custom_payload: Optional[Dict[str, bytes]] = None,
    ) -> None:
        """Answer with rows, or with none, as an INSERT does.

        Args:
            rows: The rows, as tuples; `None` for a statement that returns none.
            columns: The names of their columns.
            paging_state: Says that there are more pages; see `ResultSet.fetch_next_page`.
            warnings, custom_payload: What the server says besides.
        """
        response = self.response
        response.warnings, response.custom_payload = warnings, custom_payload
        response._paging_state = paging_state
        result: Any = None
        if rows is not None:
            response._col_names = list(columns)
            result = response.row_factory(response._col_names, [tuple(row) for row in rows])
        self._answer(f"{self.number} succeeds", result, None)

    def fail(self, exception: BaseException) -> None:
        """Answer with an exception."""
        self._answer(f"{self.number} fails with {type(exception).__name__}", None, exception)

    def _answer(self, event: str, result: Any, exception: Optional[BaseException]) -> None:
        if self.response.session.forgets(self, event):
            return
        with as_driver_thread():
            self.response.deliver(result, exception)

    def __repr__(self) -> str:
        return f"<ScriptedRequest {self.number}>"
