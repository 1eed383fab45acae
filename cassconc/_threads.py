"""Helper threads: they run what must not run on a driver thread."""

from __future__ import annotations

import collections
import logging
import threading
from typing import Callable, Deque

logger = logging.getLogger("cassconc")

Job = Callable[[], None]


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
        # _changed's lock guards the rest
        self._changed = threading.Condition(threading.Lock())
        self._jobs: Deque[Job] = collections.deque()
        self._leader: object = None  # who takes the next job; None: whoever is woken first
        self._progress = 0  # jobs that were started
        self._watched = False  # one standby looks whether the leader gets on
        self._standby = 0  # threads that wait, that one included
        self._held_up = 0  # threads in a job that have lost the lead
        self._names = 0

    def run(self, job: Job) -> None:
        """Run `job()` on a helper thread; what it raises is logged. From any thread."""
        with self._changed:
            self._jobs.append(job)
            if self._leader is None:
                self._wake()

    def _wake(self) -> None:
        # _changed is held
        if self._standby:
            self._changed.notify()
        else:
            self._names += 1
            name = f"cassconc-helper-{self._names}"
            self._standby += 1
            try:
                threading.Thread(target=self._run, name=name, daemon=True).start()
            except RuntimeError:  # no more threads to be had: the ones that are there must do
                self._standby -= 1
                logger.exception("no helper thread could be started")

    def _run(self) -> None:
        me = object()
        while self._take_the_lead(me):
            while True:
                with self._changed:
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
                    if not self._watched:
                        self._wake()
                try:
                    job()
                except BaseException:
                    logger.exception("a helper thread's job failed")
                del job

    def _take_the_lead(self, me: object) -> bool:
        """Wait on standby until there is a job to be led; False when none came for long."""
        with self._changed:
            while True:
                if self._leader is None and self._jobs:
                    self._leader = me
                    self._standby -= 1
                    return True
                if self._leader is None or self._watched:
                    if not self._changed.wait(self._IDLE) and not self._jobs:
                        self._standby -= 1
                        return False
                else:
                    self._watch()

    def _watch(self) -> None:
        # _changed is held
        seen = self._leader, self._progress
        self._watched = True
        self._changed.wait(self._STALL / (1 + self._held_up))
        self._watched = False
        if (self._leader, self._progress) == seen:
            self._leader = None
            self._held_up += 1


helper_threads = HelperThreads()
