"""Timestamps: a retry is sent with that of the first attempt."""

from __future__ import annotations

import threading
import weakref
from typing import Any, Callable

from ._driver import keep_timestamp
from ._retry import Tries


class Timestamps:
    """Sees the requests of a session before they are sent, and sets the timestamps of retries.

    The driver draws a new one for every request, so that a retry would overwrite what was written
    since the first attempt. It shows a request to the listeners of `add_request_init_listener`
    before it sends it. There is one listener, from the first statement on that may be tried again
    until the executor is gone. Thread-safe.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._this_thread = threading.local()  # .tries: of the call that is being sent on it
        self._listens = False  # guarded by _lock

    def keep(self, execute: Callable[..., Any], tries: Tries) -> Callable[..., Any]:
        """Return an `execute_async` that keeps the timestamp of `tries`."""
        if not hasattr(self._session, "add_request_init_listener"):
            tries.was_sent = True
            return execute
        self._listen()

        def execute_and_keep(*args: Any, **kwargs: Any) -> Any:
            self._this_thread.tries = tries
            try:
                response = execute(*args, **kwargs)
            finally:
                self._this_thread.tries = None
            tries.was_sent = True  # even if the listener has not seen it
            return response

        return execute_and_keep

    def _listen(self) -> None:
        if self._listens:
            return
        this_thread = self._this_thread

        def on_request(response: Any) -> None:
            tries = getattr(this_thread, "tries", None)
            if tries is not None:
                keep_timestamp(response, tries)

        # without a lock, for this calls the driver: of two threads, the second takes its own back
        self._session.add_request_init_listener(on_request)
        remove = self._session.remove_request_init_listener
        with self._lock:
            is_second, self._listens = self._listens, True
        if is_second:
            remove(on_request)
            return
        weakref.finalize(self, remove, on_request).atexit = False
