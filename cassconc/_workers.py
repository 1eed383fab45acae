"""The workers: threads for plain callables, started when the first one comes."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional, Set, Tuple

from ._gate import SHUT_DOWN

_NOW_AND_THEN = 0.05  # seconds


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
        # the default of ThreadPoolExecutor; from 3.13 on, of the CPUs that this process may use
        cpus = getattr(os, "process_cpu_count", os.cpu_count)()
        self.max_workers = max_workers or min(32, (cpus or 1) + 4)
        self._thread_name_prefix = thread_name_prefix
        self._initializer = initializer
        self._initargs = initargs
        self._lock = threading.RLock()  # re-entrant, see Gate
        # guarded by _lock:
        self._pool: Optional[ThreadPoolExecutor] = None
        self._shut_down = False
        # Workers, and threads that wait for the end; a set's single operations are atomic.
        self._threads: Set[threading.Thread] = set()
        self._waiting: Set[threading.Thread] = set()

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
                    (self._threads, self._initializer, self._initargs),
                )
            pool = self._pool
        return pool.submit(fn, *args, **kwargs)

    def close(self, cancel_futures: bool) -> None:
        """Accept nothing more."""
        with self._lock:
            self._shut_down = True
            pool = self._pool
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=cancel_futures)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that this thread waits for the end, so that nobody who does waits for it."""
        me = threading.current_thread()
        self._waiting.add(me)
        try:
            yield
        finally:
            self._waiting.discard(me)

    def join(self, in_callback: bool) -> None:
        """Wait until the workers have ended, after `close`; but not for those that wait, too."""
        pool = self._pool
        if pool is None:
            return
        if not in_callback and threading.current_thread() not in self._threads:
            pool.shutdown(wait=True)
            return
        # Nobody tells when another one begins to wait, so this looks now and then.
        while True:
            busy = [each for each in self._threads - self._waiting if each.is_alive()]
            if not busy:
                return
            busy[0].join(_NOW_AND_THEN)


def _start_worker(
    threads: Set[threading.Thread],
    initializer: Optional[Callable[..., object]],
    initargs: Tuple[Any, ...],
) -> None:
    threads.add(threading.current_thread())
    if initializer is not None:
        initializer(*initargs)
