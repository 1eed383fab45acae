"""What the log of a node says: that it is up, whom it sees, why it ended."""

from __future__ import annotations

import re
from pathlib import Path

_LONGEST_LINE = 500


class NodeLog:
    """The log of one node from a moment on, as more is written to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size if path.exists() else 0

    def text(self) -> str:
        try:
            with self._path.open("rb") as file:
                file.seek(self._start)
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def has_started(log: str) -> bool:
    return "Startup complete" in log


def sees(log: str, address: str, storage_port: int) -> bool:
    """Whether the node that wrote this knows the tokens of the other one and takes it for alive."""
    other = f"/{address}:{storage_port}"
    return f"Node {other} state NORMAL" in log and f"InetAddress {other} is now UP" in log


def lost_its_address(log: str) -> bool:
    return bool(re.search(r"in use by another process|Address already in use|Failed to bind", log))


def why_it_ended(log: str) -> str:
    """The last error with its exception and its last cause, else the last three lines."""
    lines = [line.strip()[:_LONGEST_LINE] for line in log.splitlines() if line.strip()]
    errors = [place for place, line in enumerate(lines) if re.match(r"(ERROR|FATAL)\b", line)]
    if errors:
        last, *trace = lines[errors[-1] :]
        exception = [line for line in trace[:1] if re.match(r"[\w.$]+(Exception|Error)\b", line)]
        causes = [line for line in trace if line.startswith("Caused by:")]
        chosen = [last, *exception, *causes[-1:]]
    else:  # the Java virtual machine has its own words
        chosen = lines[-3:] or ["(nothing)"]
    return " | ".join(chosen)
