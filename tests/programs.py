"""Programs of their own, for what happens to a whole process: exit, signals, children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

_WHOLE_LINES = """
def print(*values):
    # the builtin writes the text, then the end of the line, and two threads' lines mix
    import os
    os.write(1, (" ".join(map(str, values)) + "\\n").encode())
"""


class Ended(NamedTuple):
    """How a program has ended: its exit code, and the lines that it printed."""

    code: int
    lines: list[str]


def run_program(code: str, *, limit: float = 30.0) -> Ended:
    """Run a program; fails when it has not ended by itself after `limit` seconds.

    Args:
        code: The program. Its `print` may be called from several threads.
        limit: In seconds.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["PYTHONWARNINGS"] = "ignore::DeprecationWarning"  # fork, with threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(_WHOLE_LINES + code)
        program = subprocess.Popen(
            [sys.executable, "-u", "-X", "faulthandler", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = program.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGABRT)  # faulthandler prints all stacks
            output, _ = program.communicate(timeout=10)
            raise AssertionError(f"it hangs after {limit} s; it printed:\n{output}") from None
    return Ended(program.returncode, output.splitlines())
