"""The dispatcher: moves calls from the gate to the session, and their outcomes back."""

from __future__ import annotations

import collections
import math
import threading
from typing import Any, Deque, Iterable, List, Optional

from . import _driver
from ._adapter import Adapter, Request
from ._calls import Call
from ._clock import Clock
from ._driver import OperationTimedOut
from ._errors import own
from ._futures import CallFuture
from ._gate import Gate
from ._isolation import Isolation
from ._retrier import Retrier
from ._threads import helper_threads
from ._watch import Watch

_AT_A_STRETCH = 100  # calls that a thread sends one after the other
_LOOK_AT_STREAMS = 32  # sends of a driver thread, between two looks at the free streams


class Dispatcher:
    """Sends what the gate admits, and ends it.

    Guarantees: no recursion. A call that ends while its thread is in `execute_async` leaves the
    call that is admitted in its place to the loop in `_send`, further up the same stack. After
    `_AT_A_STRETCH` calls that loop leaves the rest to a helper thread. A driver thread sends only
    while the driver need not wait for a free stream; otherwise it leaves that to a helper thread
    too, and so does the clock's thread, always.
    """

    def __init__(self, session: Any, gate: Gate, clock: Clock, host_isolation: bool) -> None:
        self.gate = gate
        self._pages = Gate(math.inf)  # later pages are not counted
        self._session = session
        self._is_session = _driver.is_session(session)
        self._isolation = Isolation(session, clock, host_isolation)
        watch = Watch(session, clock, [gate, self._pages], self._ended_by_watch)
        self._adapter = Adapter(
            session, clock, watch, self._isolation, self._ended, self._fetch_page
        )
        self._retrier = Retrier(session, clock, self._leave_one, self._end_aside)
        self._this_thread = threading.local()  # .backlog: what the loop on this thread sends
        self._sends = 0  # by driver threads; a guess, for it is counted without a lock
        self._may_block = False  # found at the last look at the streams
        # guarded by gate.lock:
        self._left_over: Deque[CallFuture] = collections.deque()
        self._has_helper = False

    def start(self, call: CallFuture) -> None:
        """Accept a new call, and send it if its turn has come. From any thread of the caller.

        Raises `RuntimeError` when the gate is closed. An interrupt that strikes here ends the
        call or leaves it to a helper thread, but does not lose it.
        """
        try:
            if self.gate.enter(call):
                self._send(call)
        except BaseException:
            if call.running():
                self._leave([call])
            raise

    def sweep(self) -> None:
        """End what waits, for its first attempt or another, and is not wanted any more."""
        for call in self.gate.sweep():
            self._end_aside(call)

    def _ended(
        self, call: CallFuture, attempt: int, result: Any, error: Optional[BaseException]
    ) -> None:
        if error is not None:
            admitted = self._fail(call, attempt, error)
        else:
            admitted = self._settle(call, attempt, result, None)
        if admitted is None:
            return
        if self._is_session and self._must_not_send():
            self._leave([admitted])
        else:
            self._send(admitted)

    def _ended_by_watch(self, call: CallFuture, attempt: int, error: BaseException) -> None:
        if isinstance(error, OperationTimedOut):
            self._isolation.timed_out(error.last_host)
        admitted = self._fail(call, attempt, error)
        if admitted is not None:
            self._leave([admitted])

    def _end_aside(self, call: CallFuture) -> None:
        admitted = self._settle(call, call.attempt, None, call._exception)
        if admitted is not None:
            self._leave([admitted])

    def _fail(self, call: CallFuture, attempt: int, error: BaseException) -> Optional[CallFuture]:
        """End a call unless it is tried again; returns who is admitted instead."""
        described, window = call.call, call.window
        if isinstance(error, Exception) and described is not None:
            statement, given = described
            position = None if window is None else call.position
            error = own(error, Call(statement, given, position))
            taken = self._retrier.take(call, attempt, error)
            if taken is not None:
                return taken[1]
        admitted = self._settle(call, attempt, None, error)
        if window is not None and window.last != math.inf:
            self.sweep()
        return admitted

    def _settle(
        self, call: CallFuture, attempt: int, result: Any, error: Optional[BaseException]
    ) -> Optional[CallFuture]:
        counts, admitted = call.owner.end(call, attempt, result, error)
        if counts:
            call.announce()
        return admitted

    def _must_not_send(self) -> bool:
        self._sends += 1
        if self._sends % _LOOK_AT_STREAMS == 1 or self._may_block:
            self._may_block = _driver.may_block(self._session)
        return self._may_block

    def _send(self, call: CallFuture) -> None:
        backlog: List[CallFuture]
        try:
            backlog = self._this_thread.backlog
        except AttributeError:
            backlog = self._this_thread.backlog = []
        backlog.append(call)
        if len(backlog) > 1:
            return  # to the loop further up
        sent = 0
        try:
            while sent < len(backlog) and sent < _AT_A_STRETCH:
                self._adapter.send(backlog[sent])
                sent += 1
        finally:
            rest = backlog[sent:]
            backlog.clear()
            if rest:
                self._leave(rest)

    def _leave(self, admitted: Iterable[CallFuture]) -> None:
        """Leave admitted calls to a helper thread."""
        with self.gate.lock:
            self._left_over.extend(admitted)
            if self._has_helper:
                return
            self._has_helper = True
        helper_threads.run(self._help)

    def _leave_one(self, admitted: CallFuture) -> None:
        self._leave([admitted])

    def _help(self) -> None:
        while True:
            with self.gate.lock:
                if not self._left_over:
                    self._has_helper = False
                    return
                call = self._left_over.popleft()
            self._send(call)

    def _fetch_page(self, request: Request, call: Any) -> Any:
        page = CallFuture(self._pages, request, call)
        self._pages.enter(page)
        self._adapter.send(page)
        return page.result()
