"""The driver adapter: from a response future of the driver to a standard future."""

from __future__ import annotations

import math
import sys
from contextvars import Context
from typing import Any, Dict, Optional, Protocol, Tuple

from . import _driver
from ._clock import Clock
from ._driver import (
    EXEC_PROFILE_DEFAULT,
    NO_ANSWER,
    ResponseFuture,
    ResultSet,
    named_tuple_factory,
    slim_result_set,
)
from ._errors import forget_frames
from ._futures import CallFuture
from ._isolation import Isolation
from ._results import PagedResultSet
from ._retry import Budget, Retry, Tries
from ._rows import is_remembered, named_rows
from ._timestamps import Timestamps
from ._watch import Watch


class Sink(Protocol):
    """Where the adapter says what became of an attempt."""

    def ended(
        self, call: CallFuture, attempt: int, result: Any, error: Optional[BaseException]
    ) -> None:
        """Note an outcome; on any thread."""

    def ended_by_watch(self, call: CallFuture, attempt: int, error: BaseException) -> bool:
        """Note an outcome on the clock's thread, and return whether it counts."""

    def end_unsent(self, call: CallFuture) -> None:
        """End a call that is not wanted any more, and was not sent."""

    def end_aside(self, call: CallFuture) -> None:
        """End a call that is not tried again after all, with the failure that it has."""

    def fetch_page(self, request: Request, call: Any) -> Any:
        """Send the request for a later page of a call, and return its result."""


class Options:
    """The per-request options of a view on an executor: those of `Session.execute_async`.

    Raises what `Session.get_execution_profile` raises for a name that it does not know.
    """

    def __init__(self, session: Any, given: Dict[str, Any]) -> None:
        self._session = session
        payload = given.get("custom_payload")
        if payload is not None:
            given = {**given, "custom_payload": dict(payload)}
        self.given = given
        self.arguments = dict(given)
        if payload is not None:
            self.arguments["custom_payload"] = dict(payload)  # the driver itself adds to it
        self._has_timeout = "timeout" in given
        self.retry: Optional[Retry] = self.arguments.pop("retry", None)
        self.budget = Budget(self.retry.budget) if self.retry is not None else None
        if _driver.is_session(session):
            # the driver would start a timer for each request; see Watch
            self.arguments["timeout"] = None
        profile = given.get("execution_profile", EXEC_PROFILE_DEFAULT)
        if not hasattr(profile, "request_timeout") and hasattr(session, "get_execution_profile"):
            profile = session.get_execution_profile(profile)
        self.profile = profile

    def merged(self, **given: Any) -> Options:
        """Return these options with some others in their place."""
        options = Options(self._session, {**self.given, **given})
        if "retry" not in given:
            options.budget = self.budget
        return options

    def limit(self) -> float:
        """Return the time limit that the driver would set, in seconds; infinite for none."""
        if self._has_timeout:
            limit = self.given["timeout"]
        else:
            limit = getattr(self._session, "default_timeout", _driver.DEFAULT_TIMEOUT)
            if limit == _driver.DEFAULT_TIMEOUT:
                # only a session without profiles can have another one
                limit = getattr(self.profile, "request_timeout", None)
        # not isinstance: it is slower, and a mock has neither
        return limit if type(limit) is float or type(limit) is int else math.inf


# What is sent for a call: statement, parameters, the context in which it is sent, options.
# A plain tuple, for one is made for every call.
Request = Tuple[Any, Any, Context, Options]


def page_request(request: Request, paging_state: Any) -> Request:
    """Return the request for the page that `paging_state` leads to."""
    statement, parameters, context, options = request
    return statement, parameters, context.copy(), options.merged(paging_state=paging_state)


class Adapter:
    """Sends calls through a session, and says how they ended.

    Guarantees: every call that is given to `send` is reported to its sink, once or more often, on
    any thread; those that the driver forgets, the watch reports. Nothing is locked while the
    driver runs. `send` may be called from any thread, and waits where the driver does.
    """

    def __init__(self, session: Any, clock: Clock, watch: Watch, isolation: Isolation) -> None:
        self._session = session
        self._is_session = _driver.is_session(session)
        self._clock = clock
        self._watch = watch
        self._isolation = isolation
        self._timestamps = Timestamps(session)
        # Whether there is a session of the driver behind one that is none, so that nobody can see
        # whether a send would have to wait.
        self.hides_session = _driver.hides_session(session)

    def send(self, call: CallFuture, sink: Sink) -> None:
        """Send an admitted call, unless another thread does.

        Raises only what is no `Exception`; the call has ended with it then.
        """
        attempt = call.attempt
        try:
            if not call.gate.claim(call):
                return
            if not call.gate.wants(call):  # its map has ended since its turn came
                sink.end_unsent(call)
                return
            statement, parameters, context, options = call.request
            attempt = call.attempt
            arguments, execute = options.arguments, self._session.execute_async
            if self._isolation.suspects:
                arguments = self._isolation.arguments(arguments, options.profile)
            if options.retry is not None:
                tries = self._tries(call, options.retry, options.budget)
                if attempt > 1:
                    if not tries.has_time(self._clock.monotonic()):
                        sink.end_aside(call)  # its turn has come too late
                        return
                    call.gate.retried()
                execute = self._timestamps.keep(execute, tries)
                context = context.copy()  # the next attempt is to find it as it was
            self._watch.sent(call, options.limit(), sink.ended_by_watch)
            response = context.run(execute, statement, parameters, **arguments)
            if not call.gate.sent(call, attempt, response):  # it ended in the meantime
                _driver.give_up(response, TimeoutError())
                return
            if type(response) is ResponseFuture:
                if response.row_factory is named_tuple_factory:
                    response.row_factory = named_rows
                if not self._is_session:
                    self.hides_session = True
            args = (call, attempt, sink)
            response.add_callbacks(
                self._succeeded, self._failed, callback_args=args, errback_args=args
            )
        except BaseException as error:
            if isinstance(error, Exception):
                forget_frames(error, sys._getframe())
            sink.ended(call, attempt, None, error)
            if not isinstance(error, Exception):
                raise

    def _tries(self, call: CallFuture, retry: Retry, budget: Optional[Budget]) -> Tries:
        if call.tries is None:
            budget = budget or Budget(retry.budget)
            call.tries = Tries(retry, budget, self._clock.monotonic())
        tries: Tries = call.tries
        return tries

    def _succeeded(self, rows: Any, call: CallFuture, attempt: int, sink: Sink) -> None:
        response, request = call.response, call.request
        if response is None or request is None or call.attempt != attempt:
            return  # another outcome came first
        try:
            options = request[3]
            if options.budget is not None:
                options.budget.succeeded(attempt > 1)
            if self._isolation.suspects:
                self._isolation.answered(response.coordinator_host)
            if type(response) is ResponseFuture:
                result = self._result(response, rows, request, call.call, sink)
            else:
                response.clear_callbacks()  # they lead to the future, and that to the result
                result = ResultSet(response, rows)
        except Exception as error:
            sink.ended(call, attempt, None, error)
        else:
            sink.ended(call, attempt, result, None)

    def _failed(self, error: BaseException, call: CallFuture, attempt: int, sink: Sink) -> None:
        if self._isolation.suspects and not isinstance(error, NO_ANSWER):
            self._isolation.answered(getattr(call.response, "coordinator_host", None))
        sink.ended(call, attempt, None, error)

    def _result(self, response: Any, rows: Any, request: Request, call: Any, sink: Sink) -> Any:
        factory = response.row_factory
        if factory is named_rows:
            response.row_factory = factory = named_tuple_factory
            if rows and not is_remembered(rows[0]):  # the answer was here before the factory
                rows = named_rows(ResultSet(response, rows).column_names, rows)
        slim = slim_result_set(response, rows, factory)
        if slim is not None:
            return slim
        response.clear_callbacks()  # they lead to the future, and that to the result
        if not _driver.is_paged(response):
            return ResultSet(response, rows)

        def fetch(paging_state: Any) -> Any:
            return sink.fetch_page(page_request(request, paging_state), call)

        return PagedResultSet(response, rows, fetch, bool(request[3].given.get("trace")))
