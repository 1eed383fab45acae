"""The workers: threads for plain callables, started when the first one comes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional, Tuple

from ._gate import SHUT_DOWN


class Workers:
    """A `ThreadPoolExecutor` that is made when it is needed.

    Thread-safe. The futures are the pool's own, and so are its rules: failing initializers,
    `BrokenThreadPool`, `cancel`, interpreter exit.
    """

    def __init__(
        self,
        max_workers: Optional[int],
        thread_name_prefix: str,
        initializer: Optional[Callable[..., object]],
        initargs: Tuple[Any, ...],
    ) -> None:
        # the default of ThreadPoolExecutor
        self.max_workers = max_workers or min(32, (os.cpu_count() or 1) + 4)
        self._thread_name_prefix = thread_name_prefix
        self._initializer = initializer
        self._initargs = initargs
        self._this_thread = threading.local()  # .is_worker
        self._lock = threading.Lock()
        # guarded by _lock:
        self._pool: Optional[ThreadPoolExecutor] = None
        self._shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit a callable; raises what `ThreadPoolExecutor.submit` raises."""
        with self._lock:
            if self._pool is None:
                if self._shut_down:
                    raise RuntimeError(SHUT_DOWN)
                self._pool = ThreadPoolExecutor(
                    self.max_workers,
                    self._thread_name_prefix,
                    _start_worker,
                    (self._this_thread, self._initializer, self._initargs),
                )
            pool = self._pool
        return pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """Shut the pool down; one of its own threads, which would wait for itself, never waits."""
        with self._lock:
            self._shut_down = True
            pool = self._pool
        if pool is not None:
            if getattr(self._this_thread, "is_worker", False):
                wait = False
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)


def _start_worker(
    this_thread: threading.local,
    initializer: Optional[Callable[..., object]],
    initargs: Tuple[Any, ...],
) -> None:
    this_thread.is_worker = True
    if initializer is not None:
        initializer(*initargs)
