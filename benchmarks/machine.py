"""What a run ran on: without it, its numbers say nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import cassandra
import psutil
from cassandra.cluster import Cluster

ROOT = Path(__file__).parent.parent
LIBRARIES = ["cassconc", "cassandra-driver", "scylla-driver", "more-executors"]
LIBRARIES += ["cassandra-asyncio-driver", "acsylla"]


def facts() -> dict[str, Any]:
    """Return the machine, its load, the versions, the command, the commit and the date."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "commit": _commit(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "load": os.getloadavg(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "driver": cassandra.__version__,
        "driver_event_loop": Cluster.connection_class.__name__,
        "driver_compiled": _compiled(),
        "libraries": _versions(),
    }


def _compiled() -> bool:
    import cassandra.protocol  # Cython's where the driver was built with it

    return not str(cassandra.protocol.__file__).endswith(".py")


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the commit; a plus sign follows where files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "cassconc", "benchmarks/*.py")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except OSError:
        return "unknown"
