"""Mixed work under random faults for a long time: nothing lost, nothing hangs, nothing grows.

The time is divided into rounds. In a round, workers do pieces of work drawn at random while faults
come at random; after it, the nodes are healed, the work stops, what was said to be written is
read back, the executor's statistics are compared with what was counted outside, and memory,
threads and file descriptors are read. It exits with 1 on drift, loss, or a hang.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import soak_gauges, soak_work
from benchmarks.soak_gauges import Gauges
from benchmarks.soak_ledger import ROW, Account, Ledger
from benchmarks.soak_work import KINDS, Kit
from benchmarks.soak_world import RealWorld, ScriptedWorld, World, connected, set_up
from cassconc import CassandraExecutor
from cassconc.testing.node import NodeError

HANG_SECONDS = 200.0  # a piece of work takes less: two time limits, and all attempts of a retry
QUIET_SECONDS = 60.0


class Hang(Exception):
    """Something has not ended."""


class Soak:
    """Rounds of work in one session.

    Attributes:
        ledger: What became of everything.
        samples: The gauges after each round; the first round, that warms up, is left out.
    """

    def __init__(self, world: World, session: Any, seed: int, options: argparse.Namespace) -> None:
        self.ledger = Ledger()
        self.samples: list[Gauges] = []
        self._world = world
        self._session = session
        self._seed = seed
        self._workers: int = options.workers
        self._timeout: float = options.timeout
        self._pause = 2.5 if options.scripted else 10.0  # seconds between faults at most
        self._retry = None if options.no_retry else soak_work.RETRY
        self._executor = CassandraExecutor(session, 50)
        self._statements = session.prepare(soak_work.INSERT), session.prepare(soak_work.SELECT)
        self._statements[0].is_idempotent = self._statements[1].is_idempotent = True
        self._lock = threading.Lock()
        # guarded by _lock:
        self._part = 0
        self._busy: dict[str, tuple[str, float]] = {}  # what each worker does, and since when

    def round(self, number: int, seconds: float) -> None:
        """Run one round, and all checks after it. Raises Hang."""
        over = threading.Event()
        choose = random.Random(f"{self._seed} {number}")
        jobs: list[Callable[[], None]] = [
            lambda n=n: self._work(over, random.Random(f"{self._seed} {number} {n}"))  # type: ignore[misc]
            for n in range(self._workers)
        ]
        threads = [threading.Thread(target=job, name=f"worker {n}", daemon=True)
                   for n, job in enumerate(jobs)]  # fmt: skip
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        faults = self._harm_until(deadline, choose)
        self._world.heal()
        over.set()
        while any(thread.is_alive() for thread in threads):
            self._look()
            time.sleep(0.1)
        self._check(number)
        self._reconnect()
        now = soak_gauges.settled(self.samples[0] if self.samples else None)
        if number:
            self.samples.append(now)
        say(f"round {number}: {', '.join(faults) or 'no fault'}; {now}; {self.ledger.summary()}")

    def close(self) -> None:
        """Shut the executor down. Raises Hang."""
        closing = threading.Thread(target=self._executor.shutdown, name="closing", daemon=True)
        closing.start()
        closing.join(QUIET_SECONDS)
        if closing.is_alive():
            raise Hang(f"the executor's shutdown; {self._executor.stats()}")

    def _harm_until(self, deadline: float, choose: random.Random) -> list[str]:
        """Do harm now and then, and heal it; returns what was done."""
        done: list[str] = []
        while (left := deadline - time.monotonic()) > 0:
            self._idle(min(left, choose.uniform(0.3, self._pause)))
            if deadline - time.monotonic() <= 0:
                break
            if done and done[-1] != "heal" and choose.random() < 0.3:
                self._world.heal()
                done.append("heal")
            else:
                done.append(self._world.harm(choose))
        return done

    def _idle(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()
            time.sleep(0.1)

    def _look(self) -> None:
        """Check what holds at any time."""
        stats = self._executor.stats()
        parts = stats.queued + stats.in_flight + stats.waiting_for_retry
        parts += stats.succeeded + sum(stats.failed.values()) + stats.cancelled
        if parts != stats.submitted:
            self.ledger.complain(f"statistics that do not add up: {stats}")
        with self._lock:
            late = [
                f"{worker}: {kind}"
                for worker, (kind, since) in self._busy.items()
                if time.monotonic() - since > HANG_SECONDS
            ]
        if late:
            raise Hang(f"{', '.join(late)}; {stats}")

    def _work(self, over: threading.Event, choose: random.Random) -> None:
        kit = Kit(
            self._world, self._session, self._executor, *self._statements, choose,
            self._timeout, self._retry,
        )  # fmt: skip
        name = threading.current_thread().name
        while not over.is_set():
            (kind,) = choose.choices(list(KINDS), list(KINDS.values()))
            with self._lock:
                self._part += 1
                account = Account(self._part)
                self._busy[name] = (kind.__name__, time.monotonic())
            try:
                kind(kit, account)
            except BaseException as error:
                account.wrong.append(f"raised {type(error).__name__}: {error}")
            self.ledger.add(kind.__name__, account)
        with self._lock:
            del self._busy[name]

    def _check(self, number: int) -> None:
        """What was said to be written is there, and the executor has counted as was counted."""
        deadline = time.monotonic() + QUIET_SECONDS
        while not self.ledger.compare(self._executor.stats()):  # an abort leaves calls in flight
            if time.monotonic() > deadline:
                self.ledger.complain(
                    f"{self.ledger.taken} were taken, but {self._executor.stats()}"
                )
                break
            time.sleep(0.1)
        for part, numbers in self.ledger.written().items():
            there = self._take(part)
            if missing := [n for n in numbers if there.get(n) != ROW]:
                self.ledger.complain(f"round {number}: lost {len(missing)} rows of part {part}")

    def _reconnect(self) -> None:
        """Wait, within limits, until the driver has all its connections again."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            pools = self._session.get_pool_state().values()
            open_pools = sum(pool["open_count"] > 0 and not pool["shutdown"] for pool in pools)
            if open_pools == self._world.replicas:
                if self._session.cluster.get_control_connection_host() is not None:
                    return
            time.sleep(0.1)

    def _take(self, part: int) -> dict[int, str]:
        for _ in range(5):
            try:
                return self._world.take(self._session, part)
            except Exception as error:
                failure = error
                time.sleep(1)
        raise failure


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(arguments: argparse.Namespace) -> bool:
    """Run the soak; whether all was well."""
    seed = random.randrange(2**32) if arguments.seed is None else arguments.seed
    say(f"seed {seed}; starting {'scripted' if arguments.scripted else 'real'} nodes ...")
    world: World = ScriptedWorld() if arguments.scripted else RealWorld(arguments.heap)
    arguments.timeout = 1.0 if arguments.scripted else 2.0
    length = max(6.0 if arguments.scripted else 15.0, min(60.0, arguments.seconds / 8))
    try:
        set_up(world)
        with connected(world, arguments.timeout) as session:
            soak = Soak(world, session, seed, arguments)
            end, number = time.monotonic() + arguments.seconds, 0
            while number < 3 or time.monotonic() < end:
                soak.round(number, length)
                number += 1
            soak.close()
    finally:
        world.close()
    grown = soak_gauges.drift(soak.samples)
    wrong = soak.ledger.wrong
    for text in wrong[:50]:
        print(f"WRONG: {text}")
    print(
        f"soak: {'FAILED' if grown or wrong else 'well'}; seed {seed}, {number} rounds of "
        f"{length:.0f} s; {soak.ledger.summary()}; {len(wrong)} wrong; "
        f"{soak.samples[0]} -> {soak.samples[-1]}{'; DRIFT: ' * bool(grown)}{', '.join(grown)}"
    )
    return not (grown or wrong)


def main() -> int:
    """Parse the command line and run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="default: %(default)s")
    parser.add_argument("--scripted", action="store_true", help="on the scripted protocol server")
    parser.add_argument("--seed", type=int, help="of a soak before, to repeat its choices")
    parser.add_argument("--workers", type=int, default=4, help="threads that give work")
    parser.add_argument("--no-retry", action="store_true", help="never try anything again")
    parser.add_argument("--heap", default="384M", help="of each real node")
    arguments = parser.parse_args()
    try:
        return 0 if run(arguments) else 1
    except NodeError as error:
        print(error, file=sys.stderr)
        return 2
    except Hang as hang:
        print(f"soak: FAILED; HANGS: {hang}; all stacks:", flush=True)
        faulthandler.dump_traceback(sys.stdout, all_threads=True)
        sys.stdout.flush()
        os._exit(1)  # the interpreter's exit would wait for what hangs


if __name__ == "__main__":
    sys.exit(main())
