"""Programs of their own with a session of the real driver, whose scripted server is in the test."""

from __future__ import annotations

from tests import programs
from tests.programs import Ended
from tests.protocol import ScriptedCluster

SECRET = "the-secret-value"  # a parameter; nothing that a program prints may have it


def run_program(code: str, server: ScriptedCluster, *, limit: float = 30.0) -> Ended:
    """Run a program; fails when it has not ended by itself after `limit` seconds.

    Args:
        code: The program. The names of `_PREAMBLE` are there.
        server: What `connect` connects to.
        limit: In seconds.
    """
    given = f"ADDRESSES, PORT, SECRET = {server.addresses!r}, {server.port}, {SECRET!r}\n"
    ended = programs.run_program(given + _PREAMBLE + code, limit=limit)
    assert all(SECRET not in line for line in ended.lines), f"a value is printed: {ended.lines}"
    return ended


_PREAMBLE = '''
import multiprocessing, os, signal, sys, threading, time
from types import SimpleNamespace

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import FallthroughRetryPolicy, RoundRobinPolicy
from cassconc import *
from tests.integration.helpers import Connection, INSERT, SELECT

def connect(limit=10.0, **options):
    """Return a session that nobody shuts down."""
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        retry_policy=FallthroughRetryPolicy(),
        request_timeout=limit,
    )
    profiles = {EXEC_PROFILE_DEFAULT: profile}
    options.setdefault("connection_class", Connection)
    cluster = Cluster(ADDRESSES, port=PORT, execution_profiles=profiles, **options)
    return cluster.connect(wait_for_all_pools=True)

def interrupt_when(condition):
    """Send this process what Ctrl-C sends, when something is so."""
    def run():
        pause = threading.Event()
        while not condition():
            pause.wait(0.002)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=run, daemon=True).start()

def main_waits(looks=[]):
    """Whether the main thread waits inside of the library: it was at one point for ten looks."""
    frame = sys._current_frames().get(threading.main_thread().ident)
    point = frame and (frame, frame.f_lasti)
    while frame is not None and os.sep + "cassconc" + os.sep not in frame.f_code.co_filename:
        frame = frame.f_back
    looks[:] = [*looks[-9:], point] if frame is not None else []
    return len(looks) == 10 and all(look == point for look in looks)

def tell(executor, futures=()):
    """Print what became of everything."""
    stats = executor.stats()
    print("succeeded", stats.succeeded, "failed", dict(stats.failed), "cancelled",
          stats.cancelled, "pending", stats.queued + stats.in_flight + stats.waiting_for_retry)
    if futures:
        print("done", sum(future.done() for future in futures), "of", len(futures))

'''
