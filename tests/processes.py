"""Other processes: which there are, and waits for them."""

from __future__ import annotations

import subprocess
import time
from typing import Callable, List


def processes(text: object) -> List[int]:
    """The ids of the running processes with this text in their command line."""
    command = ["ps", "-axww", "-o", "pid=", "-o", "args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if str(text) in line]


def comes_true(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Poll until the condition holds; returns whether it does in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
