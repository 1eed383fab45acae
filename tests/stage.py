"""What the tests of promises 9 to 16 share: a stage on which everything ends, and its results."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, List, Optional

from cassandra.query import SimpleStatement

from cassconc import CassandraExecutor
from cassconc.testing import (
    ManualClock,
    Script,
    ScriptedRequest,
    ScriptedResponse,
    ScriptedSession,
    echo,
)
from tests.waits import LIMIT, Background

CQL = "SELECT %s"


class Boom(Exception):
    """A failure that a test scripts."""


class CallbackWatch:
    """Sees to which requests of a session callbacks were added: none is answered before, outside.

    Attributes:
        responses: Those of these requests, in the order in which the callbacks were added.
    """

    def __init__(self, session: ScriptedSession) -> None:
        self._added = threading.Condition()
        self.responses: List[ScriptedResponse] = []  # guarded by _added
        session.add_request_init_listener(self._see)

    def _see(self, response: ScriptedResponse) -> None:
        add_callbacks = response.add_callbacks

        def add(*args: Any, **kwargs: Any) -> None:
            add_callbacks(*args, **kwargs)
            with self._added:
                self.responses.append(response)
                self._added.notify_all()

        response.add_callbacks = add  # type: ignore[method-assign]

    def wait_until(self, holds: Callable[[], bool]) -> bool:
        """Ask at each that is added; returns whether it holds in the end."""
        with self._added:
            return self._added.wait_for(holds, LIMIT)


class Stage:
    """An executor on a scripted session and a manual clock. Made by `staged`."""

    def __init__(self, concurrency: int, request_timeout: Optional[float], **options: Any) -> None:
        self.session = ScriptedSession(request_timeout=request_timeout)
        self.clock = ManualClock()
        self.concurrency = concurrency
        self._callbacks = CallbackWatch(self.session)
        self.executor = CassandraExecutor(self.session, concurrency, clock=self.clock, **options)

    @property
    def sent(self) -> List[Any]:
        """The first parameter of each request, in the order of sending."""
        return [value_of(request) for request in list(self.session.requests)]

    def request(self, value: object) -> ScriptedRequest:
        """Return the last request whose first parameter is `value`."""
        return [each for each in self.session.requests if value_of(each) == value][-1]

    def settle(self, count: int) -> None:
        """Wait until `count` requests were sent, and their callbacks added.

        A helper thread sends what is admitted when a call times out or is tried again.
        """
        settled = self._callbacks.wait_until(lambda: len(self._callbacks.responses) >= count)
        assert settled, f"{len(self.session.requests)} requests were sent, not {count}"

    def settle_in_flight(self) -> None:
        """Wait until each call in flight has its request; for tests where it has one at a time."""

        def settled() -> bool:
            in_flight = self.executor.stats().in_flight
            everything = len(self._callbacks.responses) == len(self.session.requests)
            return everything and len(self.session.pending) == in_flight

        assert self._callbacks.wait_until(settled), "a call in flight is not sent"

    def answer(self, *values: object) -> None:
        """Answer the requests with these first parameters, each with a row of its parameters."""
        for value in values:
            echo(self.request(value))

    def fail(self, *values: object) -> None:
        """Answer the requests with these first parameters, each with a `Boom` of its own."""
        for value in values:
            self.request(value).fail(Boom(value))

    def play(self, script: Optional[Script] = None) -> Script:
        """Have a script answer whenever the consumer of a map waits."""
        script = script or Script()
        self.clock.on_wait = lambda: script.play(self.session)
        return script

    def answer_all(self) -> None:
        """Answer what is pending, and what is sent because of that, oldest first."""
        Script().play_all(self.session)

    def close(self) -> None:
        """Answer everything, now and later, and see the executor shut down."""
        self.clock.on_wait = None
        self.session.respond = echo
        shutting = Background(lambda: self.executor.shutdown(wait=True, cancel_futures=True))
        self.answer_all()
        shutting.result()


def value_of(request: ScriptedRequest) -> Any:
    """Return the first parameter of a request, or the text of a statement that has none."""
    if request.parameters:
        return request.parameters[0]
    return request.statement.query_string


@contextmanager
def staged(
    concurrency: int = 2, *, request_timeout: Optional[float] = 10.0, **options: Any
) -> Iterator[Stage]:
    """Give a stage; at the end everything on it must end, and keep to its threads."""
    stage = Stage(concurrency, request_timeout, **options)
    try:
        yield stage
        stage.close()
    except BaseException:
        give_up(stage.executor)
        raise
    assert not stage.session.misplaced, f"on a driver thread: {stage.session.misplaced}"


def give_up(executor: CassandraExecutor) -> None:
    """Forget the calls of an executor whose test has failed: else interpreter exit waits for them.

    This is the only place that knows something of the inside.
    """
    executor._gate.abandon("the test has failed")


def value(result: Any) -> Any:
    """Return the first column of the only row of a result, or the failure that it is."""
    return result if isinstance(result, BaseException) else result.one()[0]


def values(results: Iterable[Any]) -> List[Any]:
    """Return the `value` of each result."""
    return [value(result) for result in results]


def labels(results: Iterable[Any]) -> List[Any]:
    """Return the `value` of each result, with the label of a `Boom` as the text `Boom 7`."""
    return [f"Boom {each.args[0]}" if isinstance(each, Boom) else value(each) for each in results]


def consumed(results: Iterator[Any]) -> tuple[List[Any], Optional[BaseException]]:
    """Iterate to the end; return the values, and what was raised."""
    got: List[Any] = []
    try:
        for result in results:
            got.append(value(result))
    except Exception as error:
        return got, error
    return got, None


def failure(future: Future[Any]) -> Optional[BaseException]:
    """Return the exception of a future; fail when it does not end."""
    return future.exception(LIMIT)


class Taken:
    """An input that counts what was taken from it.

    Args:
        items: The items.
        watch: Called with the count after each.
    """

    def __init__(
        self, items: Iterable[Any], watch: Callable[[int], object] = lambda count: None
    ) -> None:
        self._items = iter(items)
        self._watch = watch
        self.count = 0

    def __iter__(self) -> Taken:
        return self

    def __next__(self) -> Any:
        item = next(self._items)
        self.count += 1
        self._watch(self.count)
        return item


def idempotent(text: str) -> SimpleStatement:
    """Return a statement that may be tried again."""
    return SimpleStatement(text, is_idempotent=True)


def statements(requests: Iterable[ScriptedRequest]) -> List[str]:
    """Return the texts of the statements of some requests."""
    return [request.statement.query_string for request in requests]
