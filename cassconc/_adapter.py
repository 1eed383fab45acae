"""The driver adapter: from a response future of the driver to a standard future."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, NamedTuple, Optional

from . import _driver
from ._driver import (
    EXEC_PROFILE_DEFAULT,
    ResponseFuture,
    ResultSet,
    SlimResultSet,
    named_tuple_factory,
)
from ._futures import CallFuture
from ._results import PagedResultSet
from ._rows import is_remembered, named_rows
from ._watch import Watch

Ended = Callable[[CallFuture, Any, Optional[BaseException]], None]
FetchPage = Callable[["Request", Any, Any], Any]


class Options:
    """The per-request options of a view on an executor: those of `Session.execute_async`.

    Raises what `Session.get_execution_profile` raises for a name that it does not know.
    """

    def __init__(self, session: Any, given: Dict[str, Any]) -> None:
        self._session = session
        self.given = given
        self.arguments = dict(given)
        if _driver.is_session(session):
            # the driver would start a timer for each request; see Watch
            self.arguments["timeout"] = None
        profile = given.get("execution_profile", EXEC_PROFILE_DEFAULT)
        if not hasattr(profile, "request_timeout") and hasattr(session, "get_execution_profile"):
            profile = session.get_execution_profile(profile)
        self._profile = profile

    def merged(self, **given: Any) -> Options:
        """Return these options with some others in their place."""
        return Options(self._session, {**self.given, **given})

    def limit(self) -> float:
        """Return the time limit that the driver would set, in seconds; infinite for none."""
        if "timeout" in self.given:
            limit = self.given["timeout"]
        else:
            limit = getattr(self._session, "default_timeout", _driver.DEFAULT_TIMEOUT)
            if limit == _driver.DEFAULT_TIMEOUT:
                # only a session without profiles can have another one
                limit = getattr(self._profile, "request_timeout", None)
        return limit if isinstance(limit, (int, float)) else math.inf


class Request(NamedTuple):
    """What is sent for a call."""

    statement: Any
    parameters: Any
    context: Any  # the contextvars.Context in which it is sent
    options: Options

    def for_page(self, paging_state: Any) -> Request:
        """Return the request for the page that `paging_state` leads to."""
        return self._replace(
            context=self.context.copy(), options=self.options.merged(paging_state=paging_state)
        )


class Adapter:
    """Sends calls through a session, and says how they ended.

    Guarantees: every call that is given to `send` is reported to `ended`, once or more often, on
    any thread; those that the driver forgets, the watch reports. Nothing is locked while the
    driver runs. `send` may be called from any thread, and waits where the driver does.
    """

    def __init__(self, session: Any, watch: Watch, ended: Ended, fetch_page: FetchPage) -> None:
        self._session = session
        self._watch = watch
        self._ended = ended
        self._fetch_page = fetch_page

    def send(self, call: CallFuture) -> None:
        """Send an admitted call.

        Raises only what is no `Exception`; the call has ended with it then.
        """
        request = call.request
        if request is None or call.response is not None:
            return  # it ended before it could be sent, or an interrupt struck after it was
        statement, parameters, context, options = request
        try:
            self._watch.sent(call, options.limit())
            response = context.run(
                self._session.execute_async, statement, parameters, **options.arguments
            )
            call.response = response
            if call.request is None:  # it ended in the meantime
                call.response = None
                _driver.give_up(response, TimeoutError())
                return
            if type(response) is ResponseFuture and response.row_factory is named_tuple_factory:
                response.row_factory = named_rows
            response.add_callbacks(
                self._succeeded, self._failed, callback_args=(call,), errback_args=(call,)
            )
        except BaseException as error:
            self._ended(call, None, error)
            if not isinstance(error, Exception):
                raise

    def _succeeded(self, rows: Any, call: CallFuture) -> None:
        response, request = call.response, call.request
        if response is None or request is None:  # another outcome came first
            return
        try:
            result = self._result(response, rows, request, call.call)
        except Exception as error:
            self._ended(call, None, error)
        else:
            self._ended(call, result, None)

    def _failed(self, error: BaseException, call: CallFuture) -> None:
        self._ended(call, None, error)

    def _result(self, response: Any, rows: Any, request: Request, call: Any) -> Any:
        if type(response) is not ResponseFuture:
            return ResultSet(response, rows)
        factory = response.row_factory
        if factory is named_rows:
            response.row_factory = factory = named_tuple_factory
            if rows and not is_remembered(rows[0]):  # the answer was here before the factory
                rows = named_rows(ResultSet(response, rows).column_names, rows)
        if _driver.is_slim(response, rows):
            return SlimResultSet(response, rows, factory)
        response.clear_callbacks()  # they lead to the future, and that to the result
        if not _driver.is_paged(response):
            return ResultSet(response, rows)

        def fetch(paging_state: Any) -> Any:
            return self._fetch_page(request, paging_state, call)

        traced = bool(request.options.given.get("trace"))
        return PagedResultSet(response, rows, fetch, traced)
