"""The future of a statement: a standard future that costs little while nobody waits for it."""

from __future__ import annotations

import collections
import math
import threading
from concurrent.futures import CancelledError, Future, TimeoutError, _base
from typing import TYPE_CHECKING, Any, Callable, Deque, List, Optional, Tuple

from ._log import log_failure
from ._signals import Signal
from ._threads import helper_threads

if TYPE_CHECKING:
    from ._owners import Observer, Owner

PENDING, RUNNING, FINISHED = _base.PENDING, _base.RUNNING, _base.FINISHED
CANCELLED = _base.CANCELLED_AND_NOTIFIED  # a call's waiters are told as soon as it is cancelled

# .runs: the future whose done-callback runs on it; .gate: that which holds for what runs on it
_this_thread = threading.local()


class CallFuture(Future):  # type: ignore[type-arg]
    """The future of a call that goes through a gate.

    Guarantees: the state changes only under the gate's lock, and under the future's condition as
    well where it has one. The condition is made, under the gate's lock, when somebody asks for
    it: `wait` and `as_completed`. So whoever ends a future either finds its condition, or nobody
    has seen the future unfinished and waits. The condition is acquired before the gate's lock,
    never after it. Who waits in `result` or `exception` does so at a signal of its own.

    What a change of state leads to is done in `finish`, when no lock is held. Done-callbacks run
    on helper threads, in the order in which they were added, one at a time.
    """

    __slots__ = (
        # those of Future
        "_state", "_result", "_exception", "_waiters", "_done_callbacks",
        # guarded by the gate's lock
        "condition", "signals", "calls_back", "is_calling", "unfinished", "attempt",
        # set once, and cleared when the call has ended
        "gate", "window", "position", "call", "request",
        # who sends the call
        "response", "limit", "deadline", "tries",
    )  # fmt: skip

    def __init__(
        self,
        gate: Owner,
        request: Any,
        call: Tuple[Any, Any],
        window: Optional[Observer] = None,
        position: Optional[int] = None,
    ) -> None:
        # Future.__init__ would make a condition, and lists that are seldom used
        self._state = PENDING
        self._result = None
        self._exception: Optional[BaseException] = None
        self._done_callbacks: Optional[Deque[Callable[[Any], object]]] = None
        self.condition: Optional[threading.Condition] = None
        self.signals: Tuple[Signal, ...] = ()
        self.calls_back = False  # callbacks run, or will
        self.is_calling = False  # one thread runs them
        self.unfinished = False  # the state says that the call has ended, but nobody was told
        self.attempt = 0
        self.gate = gate
        self.window = window
        self.position: Any = position  # an int where there is a window, and None elsewhere
        self.call: Optional[Tuple[Any, Any]] = call
        self.request = request
        self.response: Any = None
        self.limit = self.deadline = math.inf
        self.tries: Any = None

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self.condition is None:
            with self.gate.lock:
                if self.condition is None:
                    self._waiters: List[Any] = []
                    self.condition = threading.Condition()
        return self.condition

    def settle(self, result: Any, exception: Optional[BaseException]) -> None:
        """Take the outcome; who holds the gate's lock, and the condition, sets the state next."""
        self._result = result
        self._exception = exception
        self.calls_back = bool(self._done_callbacks)
        self.unfinished = True

    def tell_waiters(self) -> None:
        """Wake those who wait for the future; its condition is held."""
        for waiter in self._waiters:
            if self._state is CANCELLED:
                waiter.add_cancelled(self)
            elif self._exception is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        if self.condition is not None:
            self.condition.notify_all()

    def finish(self) -> None:
        """Let go of what is not needed any more, tell the window, and run the callbacks.

        No lock is held: what is let go is the caller's, and may run anything. An interrupt may
        strike in it, and it is called again then: nothing in it does harm when it is done twice.
        """
        if not (self.unfinished and self.done()):
            return
        for signal in self.signals:
            signal.set()
        window = self.window
        if window is not None:
            window.ended(self)
        elif self.position is None:  # else it is handed out with its result
            self.call = None
        self.let_go()
        if self.calls_back:
            helper_threads.run(self._call_back)
        self.unfinished = False

    def let_go(self) -> None:
        """Let go of what is not needed any more."""
        self.request = self.response = self.window = self.tries = None

    def put_aside(self, exception: BaseException) -> None:
        """Get ready for another attempt; `exception` ends the call if there is none."""
        self._exception = exception
        self.response = None
        self.deadline = math.inf

    def _call_back(self) -> None:
        with self.gate.lock:
            if self.is_calling or not self.calls_back:
                return  # `finish` was called twice, so this was left to a helper thread twice
            self.is_calling = True
        run_held(self.gate, self._run_all)

    def _run_all(self) -> None:
        while True:
            with self.gate.lock:
                if not self._done_callbacks:
                    self.calls_back = self.is_calling = False
                    break
                callback = self._done_callbacks.popleft()
            self._run(callback)
            del callback

    def _run(self, callback: Callable[[Any], object]) -> None:
        outer = getattr(_this_thread, "runs", None)
        _this_thread.runs = self
        try:
            callback(self)
        except BaseException:
            log_failure("a done-callback of %r failed", self)
        finally:
            _this_thread.runs = outer

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(future)` when the future has ended, on a helper thread; if it has, now.

        Callbacks of one future run one after the other in the order in which they were added
        (PEP 3148). What one raises is logged, and the next one runs. From any thread.
        """
        caller = getattr(_this_thread, "runs", None)  # whose callback adds this one
        with self.gate.lock:
            has_ended = self.done()
            # One that a callback adds comes after those that are there. If there are none it runs
            # at once where it is the same future's, for that callback may wait for it, and not
            # where it is another one's: there may be a chain of those.
            waits = self._done_callbacks if caller is self else self.calls_back or caller
            now = has_ended and not waits
            if not now:
                if self._done_callbacks is None:
                    self._done_callbacks = collections.deque()
                self._done_callbacks.append(fn)
                if not has_ended or self.calls_back:
                    return
                self.calls_back = True
                self.gate.hold()
        if now:
            self._run(fn)
        else:
            helper_threads.run(self._call_back)

    def cancel(self) -> bool:
        """Cancel the call unless it was sent; returns whether it is cancelled. From any thread."""
        try:
            self.gate.cancel(self)
            self.finish()
        except BaseException:  # an interrupt; nothing is done twice
            self.finish()
            raise
        return self._state is CANCELLED

    def cancelled(self) -> bool:
        return self._state is CANCELLED

    def outcome(self) -> Tuple[Any, Optional[BaseException]]:
        if self._state is CANCELLED:
            return None, CancelledError()
        return self._result, self._exception

    def running(self) -> bool:
        """Return whether the call is in flight, or waits to be tried again."""
        return self._state is RUNNING

    def done(self) -> bool:
        return self._state is FINISHED or self._state is CANCELLED

    def _wait(self, timeout: Optional[float]) -> None:
        signal = Signal()
        with self.gate.lock:
            if not self.done():
                self.signals += (signal,)
        if not self.done():
            try:
                signal.wait(math.inf if timeout is None else timeout)
            finally:
                with self.gate.lock:
                    self.signals = tuple(each for each in self.signals if each is not signal)
            if not self.done():
                raise TimeoutError
        if self._state is CANCELLED:
            raise CancelledError

    def result(self, timeout: Optional[float] = None) -> Any:
        """Return the call's result, or raise its exception, after `timeout` seconds at most.

        Raises `concurrent.futures.TimeoutError` when it has not ended by then, and
        `CancelledError` when it was cancelled.
        """
        if self._state is FINISHED and self._exception is None:
            return self._result
        try:
            self._wait(timeout)
            if self._exception is not None:
                raise self._exception
            return self._result
        finally:
            self = None  # type: ignore[assignment]  # no cycle through the exception's traceback

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        if self._state is FINISHED:
            return self._exception
        try:
            self._wait(timeout)
            return self._exception
        finally:
            self = None  # type: ignore[assignment]  # no cycle through the exception's traceback

    def set_running_or_notify_cancel(self) -> bool:
        """Refused: the executor alone decides when a call is sent, and with what it ends."""
        raise RuntimeError("the state of this future belongs to its executor")

    def set_result(self, result: Any) -> None:
        self.set_running_or_notify_cancel()

    def set_exception(self, exception: Optional[BaseException]) -> None:
        self.set_running_or_notify_cancel()

    def __repr__(self) -> str:
        # takes no lock, for it is asked for under a logger's
        state, outcome = self._state, ""
        if state is FINISHED:
            error = self._exception
            what = "returned" if error is None else "raised"
            outcome = f" {what} {type(self._result if error is None else error).__name__}"
        state = "cancelled" if state is CANCELLED else state.lower()
        return f"<{type(self).__name__} at {id(self):#x} state={state}{outcome}>"


def run_held(gate: Owner, code: Callable[[], object]) -> None:
    """Run what a gate was told to `hold` for, and `release` it."""
    _this_thread.gate = gate
    try:
        code()
    finally:
        _this_thread.gate = None
        gate.release()


def called_back_gate() -> Optional[Owner]:
    """Return the gate that holds for what runs on this thread, such as a done-callback."""
    return getattr(_this_thread, "gate", None)


# Whether an outcome counts, and who is admitted in the place of the call.
Outcome = Tuple[bool, Optional[CallFuture]]
