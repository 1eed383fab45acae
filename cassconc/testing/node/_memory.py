"""Whether the machine has the memory for the nodes, asked before it starts to swap or to kill."""

from __future__ import annotations

import re
from pathlib import Path

from ._errors import NodeError

_MIB = 1 << 20
_BESIDE_THE_HEAP = 700 * _MIB  # measured: code, threads, buffers and mapped files of one node


def heap_bytes(heap: str) -> int:
    """The size of a Java heap such as "512M" or "2G" in bytes; ValueError where malformed."""
    match = re.fullmatch(r"(\d+)([MmGg])", heap)
    if not match:
        raise ValueError(f"heap must be a number with M or G, such as '512M', not {heap!r}")
    return int(match[1]) * (_MIB if match[2] in "Mm" else 1024 * _MIB)


def check_memory(nodes: int, heap: str, meminfo: Path = Path("/proc/meminfo")) -> None:
    """Raises NodeError where `nodes` nodes do not fit; where nothing tells, they do."""
    needed = nodes * (heap_bytes(heap) + _BESIDE_THE_HEAP)
    available = _available_bytes(meminfo)
    if available is not None and available < needed:
        raise NodeError(
            f"{nodes} node{'s' * (nodes > 1)} with a heap of {heap} need "
            f"{needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are available: "
            f"ask for fewer nodes or a smaller heap, or close other programs."
        )


def _available_bytes(meminfo: Path) -> int | None:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return None
    return int(match[1]) * 1024 if match else None
