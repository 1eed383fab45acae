"""The future of a statement: a standard future that costs little while nobody waits for it."""

from __future__ import annotations

import logging
import math
import threading
from concurrent.futures import Future, _base
from typing import Any, Callable, List, Optional, Protocol, Tuple

from ._threads import helper_threads

logger = logging.getLogger("cassconc")

PENDING, RUNNING, FINISHED = _base.PENDING, _base.RUNNING, _base.FINISHED
CANCELLED = _base.CANCELLED_AND_NOTIFIED  # a call is told of as soon as it is cancelled

_this_thread = threading.local()  # .owner: whose future's callback runs on it


class Owner(Protocol):
    """What a future needs of the gate that admits it."""

    lock: threading.Lock

    def end(
        self, call: CallFuture, attempt: int, result: Any, exception: Optional[BaseException]
    ) -> Tuple[bool, Optional[CallFuture]]: ...

    def put_aside(
        self, call: CallFuture, attempt: int, exception: BaseException
    ) -> Tuple[bool, Optional[CallFuture]]: ...

    def try_again(self, call: CallFuture) -> bool: ...

    def cancel(self, call: CallFuture) -> bool: ...

    def release(self) -> None: ...


class Observer(Protocol):
    """What a future tells the window that it belongs to."""

    last: float  # what comes later in the input is not wanted; guarded by the owner's lock

    def settled(self, call: CallFuture, exception: Optional[BaseException]) -> None:
        """Note an outcome; the owner's lock is held."""

    def ended(self, call: CallFuture) -> None:
        """Note that the call has ended, in whatever way; no lock is held."""


class CallFuture(Future):  # type: ignore[type-arg]
    """The future of a call that goes through a gate.

    Guarantees: the state changes only under the owner's lock, and under the future's condition as
    well where it has one. The condition is made, under the owner's lock, when somebody asks for
    it: `wait`, `as_completed`, and a `result` that is not there yet. So whoever ends a future
    either finds its condition, or nobody has seen the future unfinished and waits. The condition
    is acquired before the owner's lock, never after it.

    Done-callbacks run on helper threads, in the order in which they were added, one at a time.
    """

    __slots__ = (
        # those of Future
        "_state", "_result", "_exception", "_waiters", "_done_callbacks",
        # guarded like the state
        "condition", "calling_back", "attempt",
        # set once
        "owner", "window", "position", "call",
        # set and cleared by who sends the call
        "request", "response", "deadline", "tries",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        request: Any,
        call: Tuple[Any, Any],
        window: Optional[Observer] = None,
        position: int = 0,
    ) -> None:
        # Future.__init__ would make a condition, and lists that are seldom used
        self._state = PENDING
        self._result = None
        self._exception: Optional[BaseException] = None
        self._done_callbacks: Any = None
        self.condition: Optional[threading.Condition] = None
        self.calling_back = False
        self.attempt = 0
        self.owner = owner
        self.window = window
        self.position = position
        self.call: Optional[Tuple[Any, Any]] = call
        self.request = request
        self.response: Any = None
        self.deadline = math.inf
        self.tries: Any = None

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self.condition is None:
            with self.owner.lock:
                if self.condition is None:
                    self._waiters: List[Any] = []
                    self.condition = threading.Condition()
        return self.condition

    def put_aside(self, exception: BaseException) -> None:
        """Get ready for another attempt; `exception` ends the call if there is none."""
        self._exception = exception
        self.response = None
        self.deadline = math.inf

    def settle(self, state: str, result: Any, exception: Optional[BaseException]) -> bool:
        """End the future; the owner's lock is held, and the condition where there is one.

        Returns whether `announce` has callbacks to run.
        """
        self._result = result
        self._exception = exception
        self._state = state
        self.request = self.response = None  # in this order, see Adapter.send
        if self.window is None:
            self.call = None
        if self.condition is not None:
            for waiter in self._waiters:
                if state is CANCELLED:
                    waiter.add_cancelled(self)
                elif exception is not None:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self.condition.notify_all()
        self.calling_back = bool(self._done_callbacks)
        return self.calling_back

    def announce(self) -> None:
        """Tell the window and the callbacks that the future has ended; no lock is held."""
        window, self.window = self.window, None
        if window is not None:
            window.ended(self)
        if self.calling_back:
            helper_threads.run(self._call_back)

    def _call_back(self) -> None:
        _this_thread.owner = self.owner
        try:
            while True:
                with self.owner.lock:
                    if not self._done_callbacks:
                        self.calling_back = False
                        break
                    callback = self._done_callbacks.pop(0)
                self._run(callback)
        finally:
            _this_thread.owner = None
            self.owner.release()

    def _run(self, callback: Callable[[Any], object]) -> None:
        try:
            callback(self)
        except BaseException:
            logger.exception("a done-callback of %r failed", self)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(future)` when the future has ended, on a helper thread; if it has, now.

        Callbacks of one future run one after the other in the order in which they were added
        (PEP 3148). What one raises is logged, and the next one runs. From any thread.
        """
        with self.owner.lock:
            if self.calling_back or self._state in (PENDING, RUNNING):
                if self._done_callbacks is None:
                    self._done_callbacks = []
                self._done_callbacks.append(fn)
                return
        self._run(fn)

    def cancel(self) -> bool:
        """Cancel the call unless it was sent; returns whether it is cancelled. From any thread."""
        if self.owner.cancel(self):
            self.announce()
        return self._state is CANCELLED

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._state is CANCELLED

    def running(self) -> bool:
        """Return whether the call is in flight, or waits to be tried again."""
        return self._state is RUNNING

    def done(self) -> bool:
        """Return whether the call has ended or was cancelled."""
        return self._state is FINISHED or self._state is CANCELLED

    def result(self, timeout: Optional[float] = None) -> Any:
        """Return the call's result, or raise its exception, after `timeout` seconds at most.

        Raises `concurrent.futures.TimeoutError` when it has not ended by then, and
        `CancelledError` when it was cancelled.
        """
        if self._state is FINISHED and self._exception is None:
            return self._result
        try:
            return super().result(timeout)
        finally:
            self = None  # type: ignore[assignment]  # no cycle through the exception's traceback

    def set_running_or_notify_cancel(self) -> bool:
        """Refused: the executor alone decides when a call is sent, and with what it ends."""
        raise RuntimeError("the state of this future belongs to its executor")

    def set_result(self, result: Any) -> None:
        """Refused, see `set_running_or_notify_cancel`."""
        self.set_running_or_notify_cancel()

    def set_exception(self, exception: Optional[BaseException]) -> None:
        """Refused, see `set_running_or_notify_cancel`."""
        self.set_running_or_notify_cancel()


def current_owner() -> Optional[Owner]:
    """Return whose future's done-callback runs on this thread, if one does."""
    return getattr(_this_thread, "owner", None)
