"""Scripts: in which order, and with what, the requests of a scripted session are answered."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Optional, Type

from .responses import LIMIT, ScriptedRequest
from .session import ScriptedSession

__all__ = ["DriverThread", "Script", "echo"]


def echo(request: ScriptedRequest) -> None:
    """Answer a request with one row: its own parameters, in columns p0, p1 and so on."""
    values = request.parameters or ()
    if isinstance(values, Mapping):
        values = list(values.values())
    request.succeed([tuple(values)], [f"p{i}" for i in range(len(values))])


class Script:
    """Answers requests one after the other, each time one of those that are pending.

    When the picks have run out it answers the oldest first, so the empty script answers in the
    order of sending. It is used up as it is played. Not thread-safe.

    Args:
        picks: Which of the pending requests is answered next: 0 is the oldest, 1 the one sent
            after it, and so on; counted round where there are fewer.
        failures: The exceptions of those requests that fail, by their number.
        stragglers: Numbers of requests that are answered when nothing else is pending.
        bursts: How many requests are answered at a time; when they have run out, one.
        answer: Answers a request that does not fail.
    """

    def __init__(
        self,
        picks: Sequence[int] = (),
        *,
        failures: Optional[Mapping[int, BaseException]] = None,
        stragglers: Collection[int] = (),
        bursts: Sequence[int] = (),
        answer: Callable[[ScriptedRequest], None] = echo,
    ) -> None:
        self.picks = list(picks)
        self.failures = dict(failures or {})
        self.stragglers = frozenset(stragglers)
        self.bursts = list(bursts)
        self.answer = answer
        self._picked = 0
        self._burst = 0

    def play(self, session: ScriptedSession) -> bool:
        """Answer the next burst; returns whether there was anything to answer.

        This is what `ManualClock(on_wait=...)` takes: `lambda: script.play(session)`.
        """
        size = self.bursts[self._burst] if self._burst < len(self.bursts) else 1
        self._burst += 1
        answered = False
        for _ in range(size):
            request = self._next(session)
            if request is None:
                break
            answered = True
            failure = self.failures.get(request.number)
            if failure is not None:
                request.fail(failure)
            else:
                self.answer(request)
        return answered

    def play_all(self, session: ScriptedSession) -> None:
        """Answer until nothing is pending."""
        while self.play(session):
            pass

    def _next(self, session: ScriptedSession) -> Optional[ScriptedRequest]:
        pending = session.pending
        prompt = [request for request in pending if request.number not in self.stragglers]
        candidates = prompt or pending
        if not candidates:
            return None
        pick = self.picks[self._picked] if self._picked < len(self.picks) else 0
        self._picked += 1
        return candidates[pick % len(candidates)]

    def __repr__(self) -> str:
        parts = [repr(self.picks)]
        if self.failures:
            kinds = {number: type(error).__name__ for number, error in self.failures.items()}
            parts.append(f"failures={kinds}")
        if self.stragglers:
            parts.append(f"stragglers={sorted(self.stragglers)}")
        if self.bursts:
            parts.append(f"bursts={self.bursts}")
        return f"Script({', '.join(parts)})"


class DriverThread:
    """A thread that answers the requests of a session by a script, as the driver's would.

    To be used in a `with` block, at whose end everything that is pending is answered. Raises
    there what the script raised, and `AssertionError` when the thread is stuck, with its stack.
    """

    def __init__(self, session: ScriptedSession, script: Optional[Script] = None) -> None:
        self._session = session
        self._script = script or Script()
        self._stopped = False
        self._error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, name="scripted-driver", daemon=True)

    def _run(self) -> None:
        try:
            while True:
                if self._session.wait_for_pending(lambda: self._stopped):
                    self._script.play(self._session)
                else:
                    return
        except BaseException as error:
            self._error = error

    def __enter__(self) -> DriverThread:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stopped = True
        self._session.wake()
        self._thread.join(LIMIT)
        if self._thread.is_alive():
            raise AssertionError(f"the driver thread is stuck:\n{stack_of(self._thread)}")
        if self._error is not None and error is None:
            raise self._error


def stack_of(thread: threading.Thread) -> str:
    """Return where a thread is."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame is not None else "it has ended"
