"""Helper threads: they run what must not run on a driver thread."""

from __future__ import annotations

import collections
import threading
import time
from typing import Callable, Deque, Optional

from ._log import log_failure

Job = Callable[[], object]

_NOW_AND_THEN = 0.005  # seconds


class HelperThreads:
    """Runs jobs, in the order in which they came, each one soon, whatever the others wait for.

    Guarantees: `run` never waits. Jobs start in order, and one thread, the leader, runs them one
    after the other, so that short jobs cost no thread switch each. A job that takes longer than
    `_STALL` seconds holds up nobody: a standby thread takes the lead, and the old leader becomes a
    standby when its job has ended. The more leaders are held up, the sooner the next one follows,
    so that a thousand blocked jobs take well under a second to get out of the way. Threads that
    nobody needed for `_IDLE` seconds end.
    """

    _STALL = 0.01
    _IDLE = 10.0

    def __init__(self) -> None:
        # Re-entrant, see Gate; and `with` takes it as it is, not its condition, for an interrupt
        # can't come between the taking and the block.
        self._lock = threading.RLock()
        # guarded by _lock:
        self._changed = threading.Condition(self._lock)
        self._jobs: Deque[Job] = collections.deque()
        self._leader: object = None  # who takes the next job; None: whoever is woken first
        self._progress = 0  # jobs that were started
        self._watched = False  # one standby looks whether the leader gets on
        self._standby = 0  # threads that wait, that one included
        self._held_up = 0  # threads in a job that have lost the lead
        self._newest: Optional[threading.Thread] = None
        self._newest_counts = True  # whether that one has come as far as to count itself
        self._names = 0
        self._serving = False  # a thread that ends the process does what is left

    def run(self, job: Job) -> None:
        """Run `job()` on a helper thread; what it raises is logged. From any thread."""
        with self._lock:
            self._jobs.append(job)
            thread = self._wake() if self._leader is None else None
        self._start(thread)

    def serve(self, is_over: Callable[[], bool]) -> None:
        """Run jobs on this thread, too, until `is_over()`.

        For the end of the main thread: from then on Python 3.12 starts no threads any more.
        """
        self._serving = True
        while not is_over():
            with self._lock:
                job = self._jobs.popleft() if self._leader is None and self._jobs else None
            if job is None:
                time.sleep(_NOW_AND_THEN)
            else:
                self._do(job)

    def wake(self) -> None:
        """See to it that jobs are run, if a thread could not be started before."""
        with self._lock:
            thread = self._wake() if self._leader is None and self._jobs else None
        self._start(thread)

    def _wake(self) -> Optional[threading.Thread]:
        # _lock is held; who calls this starts the thread when it is released
        if self._standby:
            self._changed.notify()
        elif self._newest_counts or self._newest is None or not self._newest.is_alive():
            self._names += 1
            name = f"cassconc-helper-{self._names}"
            self._newest = threading.Thread(target=self._run, name=name, daemon=True)
            self._newest_counts = False
            return self._newest
        return None

    def _start(self, thread: Optional[threading.Thread]) -> None:
        if thread is None:
            return
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had: those that are there must do
            if not self._serving:
                log_failure("no helper thread could be started")

    def _run(self) -> None:
        me = object()
        with self._lock:
            self._standby += 1
            self._newest_counts = True
        while self._take_the_lead(me):
            while True:
                with self._lock:
                    if self._leader is not me:
                        self._held_up -= 1
                        self._standby += 1
                        break
                    if not self._jobs:
                        self._leader = None
                        self._standby += 1
                        break
                    job = self._jobs.popleft()
                    self._progress += 1
                    thread = None if self._watched else self._wake()
                self._start(thread)
                self._do(job)
                del job

    def _do(self, job: Job) -> None:
        try:
            job()
        except BaseException:
            log_failure("a helper thread's job failed")

    def _take_the_lead(self, me: object) -> bool:
        """Wait on standby until there is a job to be led; False when none came for long."""
        with self._lock:
            while True:
                if self._leader is None and self._jobs:
                    self._leader = me
                    self._standby -= 1
                    return True
                if self._leader is None or self._watched:
                    told = self._changed.wait(self._IDLE)
                    # Nobody else may be there: a wait that is over has been counted as standby,
                    # and may have been the one that was notified.
                    needed = self._jobs or (self._leader is not None and not self._watched)
                    if not told and not needed:
                        self._standby -= 1
                        return False
                else:
                    self._watch()

    def _watch(self) -> None:
        # _lock is held
        seen = self._leader, self._progress
        self._watched = True
        self._changed.wait(self._STALL / (1 + self._held_up))
        self._watched = False
        if (self._leader, self._progress) == seen:
            self._leader = None
            self._held_up += 1


helper_threads = HelperThreads()
