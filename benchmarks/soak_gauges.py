"""What may not grow: resident memory, threads, file descriptors."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

MIB = 1 << 20
_MORE_MEMORY = 12 * MIB  # and a tenth: what an allocator may keep
_MORE_OTHERS = 2  # threads, descriptors: a connection that is just being made


class Gauges(NamedTuple):
    """The numbers of one moment of quiet."""

    memory: int  # bytes
    threads: int
    descriptors: int

    def __str__(self) -> str:
        return f"{self.memory / MIB:.0f} MB, {self.threads} threads, {self.descriptors} descriptors"


def read() -> Gauges:
    """Read the gauges of this process, from /proc."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return Gauges(
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/proc/self/fd")),
    )


def settled(least: Gauges | None, seconds: float = 30.0) -> Gauges:
    """Read them when they are not more than `least`, or have had the time to become so."""
    deadline = time.monotonic() + seconds
    while True:
        gc.collect()
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
        now = read()
        calm = least is None or (
            now.threads <= least.threads and now.descriptors <= least.descriptors
        )
        if calm or time.monotonic() > deadline:
            return now
        time.sleep(0.5)


def drift(samples: Sequence[Gauges]) -> list[str]:
    """Say what has grown between the first and the last of the samples."""
    if len(samples) < 2:
        return ["too few samples: give it more seconds"]
    first, last = samples[0], samples[-1]
    grown = []
    if last.memory > first.memory * 1.1 + _MORE_MEMORY:
        grown.append(f"memory from {first.memory / MIB:.0f} to {last.memory / MIB:.0f} MB")
    if last.threads > first.threads + _MORE_OTHERS:
        grown.append(f"threads from {first.threads} to {last.threads}")
    if last.descriptors > first.descriptors + _MORE_OTHERS:
        grown.append(f"file descriptors from {first.descriptors} to {last.descriptors}")
    return grown
