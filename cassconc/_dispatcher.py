"""The dispatcher: moves calls from the gate to the session, and their outcomes back."""

from __future__ import annotations

import functools
import math
import threading
from typing import TYPE_CHECKING, Any, Collection, List, Optional

from . import _driver
from ._adapter import Adapter, Request
from ._calls import Call
from ._clock import Clock
from ._driver import OperationTimedOut
from ._errors import own
from ._futures import CallFuture, Outcome
from ._gate import Gate, WouldWait
from ._isolation import Isolation
from ._log import log_failure
from ._retrier import Retrier
from ._threads import helper_threads
from ._watch import Watch

if TYPE_CHECKING:
    from ._owners import Owner

_AT_A_STRETCH = 100  # calls that a thread sends one after the other


class Dispatcher:
    """Sends what the gate admits, and ends it.

    Guarantees: no recursion. What is admitted while its thread is in `execute_async` is left to
    the loop in `_send`, further up the same stack, and after `_AT_A_STRETCH` calls that loop
    leaves the rest to a helper thread. A driver thread sends only while the driver need not wait
    for a free stream; otherwise it leaves that to a helper thread too, and so does the clock's
    thread, always. What is left is nowhere but in the gate, among the calls that were admitted and
    not sent: so an interrupt can strike anywhere here, and who cleans up after it finds them all.
    """

    def __init__(self, session: Any, gate: Gate, clock: Clock, host_isolation: bool) -> None:
        self.gate = gate
        self.pages = Gate(math.inf)  # later pages are not counted
        self._session = session
        self._is_session = _driver.is_session(session)
        self._isolation = Isolation(session, clock, host_isolation)
        watch = Watch(session, clock, [gate, self.pages])
        self._adapter = Adapter(session, clock, watch, self._isolation)
        self._retrier = Retrier(session, clock)
        self._this_thread = threading.local()  # .backlog: what the loop on this thread sends
        self._has_helper = False  # guarded by gate.lock

    def start(self, call: CallFuture) -> None:
        """Accept a new call, and send it if its turn has come. From any thread of the caller.

        Raises `RuntimeError` when the gate is closed. An interrupt that strikes here ends the
        call or leaves it to a helper thread, but does not lose it.
        """
        self.gate.check_open()
        try:
            if self.gate.enter(call):
                self._send(call)
        except BaseException:
            self._this_thread.backlog = []
            self.gate.recover()
            call.finish()
            self._leave()
            raise

    def drop(self, calls: Collection[Any]) -> None:
        """Cancel or end those of some calls of a window that are not wanted any more."""
        try:
            for call in self.gate.drop([call for call in calls if isinstance(call, CallFuture)]):
                self.end_aside(call)
        except BaseException:  # an interrupt
            self.gate.recover()
            self._leave()
            raise

    def fetch_page(self, request: Request, call: Any) -> Any:
        """Send the request for a later page of a call, wait for it, and return its result."""
        page = CallFuture(self.pages, request, call)
        try:
            self.pages.enter(page)
            self._adapter.send(page, self)
        except BaseException:  # an interrupt; it ends, or is sent, and nobody waits for it
            self.pages.recover()
            page.finish()
            self._leave()
            raise
        return page.result()

    def send_soon(self, call: CallFuture) -> None:
        """Leave an admitted call to a helper thread."""
        self._leave()

    def end_unsent(self, call: CallFuture) -> None:
        """End a call that was claimed and is not wanted any more, on a helper thread."""
        helper_threads.run(functools.partial(self._end_unsent, call))

    def _end_unsent(self, call: CallFuture) -> None:
        if call._exception is not None:  # it was to be tried again
            self.end_aside(call)
            return
        call.gate.cancel(call, claimed=True)
        call.finish()
        self._leave()

    def end_aside(self, call: CallFuture) -> None:
        """End a call that was put aside, with the failure that it has."""
        self._retrier.tell_attempts(call)
        if self._settle(call, None, None, call._exception, True)[1]:
            self._leave()

    def ended(
        self, call: CallFuture, attempt: int, result: Any, error: Optional[BaseException]
    ) -> None:
        """Note the outcome of an attempt, as the driver tells it, and send what is admitted."""
        if error is None:
            admitted = self._settle(call, attempt, result, None, False)[1]
        else:
            admitted = self._fail(call, attempt, error)[1]
        if admitted is None:
            return
        if self._is_session:
            waits = _driver.may_block(self._session)
        else:
            waits = self._adapter.hides_session
        if waits:
            self._leave()
            return
        try:
            self._send(admitted)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # its call has ended with it, and this thread is the driver's

    def ended_by_watch(self, call: CallFuture, attempt: int, error: BaseException) -> bool:
        """End an attempt from the clock's thread; returns whether that outcome counts."""
        has_answered = _driver.awaits_agreement(call.response)
        if isinstance(error, OperationTimedOut) and not has_answered:
            self._isolation.timed_out(error.last_host)
        counts, admitted = self._fail(call, attempt, error)
        if admitted is not None:
            self._leave()
        return counts

    def _fail(self, call: CallFuture, attempt: int, error: BaseException) -> Outcome:
        """End a call unless it is tried again."""
        described = call.call
        if isinstance(error, Exception) and described is not None:
            request = call.request
            sent = described[0] if request is None else request[0]
            error = own(error, Call(*described, call.position), sent)
            try:
                taken = self._retrier.take(call, attempt, error, self)
            except Exception:  # of a `Retry` of the caller's own, or no thread is to be had
                log_failure("it can't be decided whether a call is tried again")
                if call.attempt == attempt:  # it may have been put aside already
                    return self._settle(call, None, None, error, False)
            else:
                if taken is not None:
                    self._end_unwanted(call.gate)
                    return taken
        return self._settle(call, attempt, None, error, False)

    def _settle(
        self,
        call: CallFuture,
        attempt: Optional[int],
        result: Any,
        error: Optional[BaseException],
        may_wait: bool,
    ) -> Outcome:
        gate = call.gate
        try:
            outcome = gate.end(call, attempt, result, error, may_wait)
        except WouldWait:
            # somebody holds the future's condition, which a driver thread does not wait for
            helper_threads.run(functools.partial(self._settle_late, call, attempt, result, error))
            return True, None
        finally:
            call.finish()
        if gate.unwanted:
            self._end_unwanted(gate)
        return outcome

    def _end_unwanted(self, gate: Owner) -> None:
        for unwanted in gate.take_unwanted():
            self.end_aside(unwanted)

    def _settle_late(
        self, call: CallFuture, attempt: Optional[int], result: Any, error: Optional[BaseException]
    ) -> None:
        if self._settle(call, attempt, result, error, True)[1]:
            self._leave()

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
                self._adapter.send(backlog[sent], self)
                sent += 1
        finally:
            has_more = sent < len(backlog)
            backlog.clear()
            if has_more:
                self._leave()

    def _leave(self) -> None:
        """Have a helper thread send what was admitted and not sent."""
        try:
            with self.gate.lock:
                if self._has_helper:
                    return
                self._has_helper = True
            helper_threads.run(self._help)
        except BaseException:  # an interrupt; two helpers do no harm, none would
            self._has_helper = False
            raise

    def _help(self) -> None:
        while True:
            with self.gate.lock:
                call = self.gate.next_unsent() or self.pages.next_unsent()
                if call is None:
                    self._has_helper = False
                    return
            try:
                self._send(call)
            except BaseException:
                pass  # its call has ended with it
            del call
