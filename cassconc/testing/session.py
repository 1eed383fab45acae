"""A session whose answers a test decides on: when, in which order, with what, from which thread."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, TypeVar

from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, NoHostAvailable
from cassandra.cqltypes import (
    BooleanType,
    BytesType,
    DoubleType,
    Int32Type,
    LongType,
    UTF8Type,
    UUIDType,
)
from cassandra.protocol import ColumnMetadata
from cassandra.query import PreparedStatement, SimpleStatement

from .._calls import text_of
from .history import History
from .responses import LIMIT, ScriptedRequest, ScriptedResponse, on_driver_thread

__all__ = ["ScriptedSession"]

_TYPES = {
    "bigint": LongType,
    "blob": BytesType,
    "boolean": BooleanType,
    "double": DoubleType,
    "int": Int32Type,
    "text": UTF8Type,
    "uuid": UUIDType,
}

F = TypeVar("F", bound=Callable[..., Any])


class ScriptedSession:
    """Behaves as the driver's `Session` does in all that an executor relies on, without a cluster.

    A request waits in `pending` until the test answers it. Thread-safe.

    Args:
        respond: Called with each `ScriptedRequest` inside `execute_async`, before that returns:
            it may answer at once, or raise what `execute_async` is to raise.
        request_timeout: The time limit of the execution profile, in seconds, or `None`.

    Attributes:
        requests: All requests, in the order in which they were sent.
        most_pending: How many were unanswered at most.
        history: What happened, numbered.
        misplaced: What ran on a driver thread and must not; see `caller`.
        is_shutdown: Whether `shutdown` was called.
    """

    default_timeout: Optional[float] = 10.0

    def __init__(
        self,
        respond: Optional[Callable[[ScriptedRequest], None]] = None,
        *,
        request_timeout: Optional[float] = 10.0,
    ) -> None:
        self.respond = respond
        self.profile = ExecutionProfile(request_timeout=request_timeout)
        self.history = History()
        self.is_shutdown = False
        self._timestamps = itertools.count(1)
        self._listeners: List[Any] = []
        self._changed = threading.Condition()
        # guarded by _changed's lock:
        self.requests: List[ScriptedRequest] = []
        self.misplaced: List[str] = []
        self.most_pending = 0
        self._pending: Dict[int, ScriptedRequest] = {}

    # What the driver's session has

    def execute_async(
        self,
        query: Any,
        parameters: Any = None,
        trace: bool = False,
        custom_payload: Any = None,
        timeout: Any = ...,
        execution_profile: Any = EXEC_PROFILE_DEFAULT,
        paging_state: Any = None,
        host: Any = None,
        execute_as: Any = None,
    ) -> ScriptedResponse:
        """Send a request; like the driver's method, but `timeout` is only recorded."""
        options = {
            "trace": trace,
            "custom_payload": custom_payload,
            "timeout": timeout,
            "execution_profile": execution_profile,
            "paging_state": paging_state,
            "host": host,
            "execute_as": execute_as,
        }
        if isinstance(query, str):
            query = SimpleStatement(query)
        elif issubclass(type(query), PreparedStatement):
            query = query.bind(parameters)
        if hasattr(query, "raw_values"):
            parameters = query.raw_values
        response = ScriptedResponse(self, query, next(self._timestamps))
        for fn, args, kwargs in list(self._listeners):
            fn(response, *args, **kwargs)
        self.send(response, options, parameters)
        return response

    def execute(self, query: Any, parameters: Any = None, **options: Any) -> Any:
        """Send a request, and wait for its result."""
        return self.execute_async(query, parameters, **options).result()

    def prepare(self, query: str, **types: str) -> Any:
        """Return a prepared statement, the driver's own.

        Args:
            query: The text of the statement.
            types: The types of its markers by name, in their order: bigint, blob, boolean,
                double, int, text or uuid.
        """
        columns = [ColumnMetadata("ks", "t", name, _TYPES[cql]) for name, cql in types.items()]
        return PreparedStatement(columns, query.encode(), None, query, None, 4, None, None)

    def add_request_init_listener(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Call `fn(response, *args, **kwargs)` with each request before it is sent."""
        self._listeners.append((fn, args, kwargs))

    def remove_request_init_listener(
        self, fn: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Take one `add_request_init_listener` back."""
        self._listeners.remove((fn, args, kwargs))

    def get_execution_profile(self, name: Any) -> ExecutionProfile:
        """Return the only profile there is."""
        if name is not EXEC_PROFILE_DEFAULT:
            raise ValueError(f"Invalid execution_profile: {name}")
        return self.profile

    def shutdown(self) -> None:
        """Forget what is pending, as the driver does; what is sent from now on fails."""
        self.history.note("the session is shut down")
        with self._changed:
            self.is_shutdown = True
            self._pending.clear()

    # What a test has

    @property
    def pending(self) -> List[ScriptedRequest]:
        """The requests that were not answered, in the order in which they were sent."""
        with self._changed:
            return list(self._pending.values())

    def wait_for(self, count: int) -> List[ScriptedRequest]:
        """Wait until `count` requests were sent, and return all that were.

        Raises `AssertionError` when they have not come after 30 seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, LIMIT):
                raise AssertionError(f"{len(self.requests)} requests were sent, not {count}")
            return list(self.requests)

    def wait_for_pending(self, stopped: Callable[[], bool]) -> bool:
        """Wait until a request is pending, which returns True, or until `stopped()`.

        `stopped` is asked again at each request and each `wake`.
        """
        with self._changed:
            while not self._pending:
                if stopped():
                    return False
                self._changed.wait(LIMIT)
            return True

    def wake(self) -> None:
        """Have `wait_for_pending` ask again."""
        with self._changed:
            self._changed.notify_all()

    def caller(self, code: F) -> F:
        """Return `code` so that it complains when it runs on a driver thread.

        A thread is a driver thread while it delivers an answer.
        """

        def watched(*args: Any, **kwargs: Any) -> Any:
            if on_driver_thread():
                self.complain(f"{getattr(code, '__name__', code)} runs")
            return code(*args, **kwargs)

        return watched  # type: ignore[return-value]

    def input(self, items: Iterable[Any]) -> Iterator[Any]:
        """Yield the items, and complain when that happens on a driver thread."""
        for item in items:
            if on_driver_thread():
                self.complain("the input is iterated")
            yield item

    def complain(self, what: str) -> None:
        """Note that something ran on a driver thread."""
        self.history.note(f"{what} on a driver thread")
        with self._changed:
            self.misplaced.append(what)

    # What a response has

    def send(
        self, response: ScriptedResponse, options: Dict[str, Any], parameters: Any = None
    ) -> None:
        """Take a request of a response."""
        with self._changed:
            request = ScriptedRequest(len(self.requests), response, parameters, options)
            self.requests.append(request)
            refused = self.is_shutdown
            if not refused:
                self._pending[request.number] = request
                self.most_pending = max(self.most_pending, len(self._pending))
            self._changed.notify_all()
        self.history.note(f"{request.number} is sent: {text_of(request.statement)}")
        if refused:
            response.deliver(None, NoHostAvailable("Unable to complete the operation", {}))
        elif self.respond is not None:
            self.respond(request)

    def forgets(self, request: ScriptedRequest, event: str) -> bool:
        """Note an answer, and return whether it reaches nobody."""
        self.history.note(event)
        with self._changed:
            request.done = True
            self._pending.pop(request.number, None)
            return self.is_shutdown
