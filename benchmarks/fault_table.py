"""What became of the writes under each fault, as a table for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cassandra
from tabulate import tabulate

import cassconc
from benchmarks.fault_load import Settings

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEADERS = (
    "fault", "statements", "succeeded", "failed, by type", "never sent", "lost", "seconds",
    "driver: seconds", "driver: failed",
)  # fmt: skip


@dataclasses.dataclass
class Result:
    """One row of the table."""

    name: str
    statements: int
    succeeded: int
    failed: dict[str, int]
    never_sent: int
    lost: int | None
    seconds: float
    hung: bool
    retried: int
    wrong: list[str]
    examples: dict[str, str]
    under_load: bool
    driver_seconds: float | None = None
    driver_failed: dict[str, int] = dataclasses.field(default_factory=dict)
    driver_hung: bool = False
    driver_untold: int = 0
    driver_wrong: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        """Whether something was lost, hangs, or does not add up."""
        return bool(self.lost or self.hung or self.wrong)

    def cells(self) -> list[str]:
        """The row, for a person."""
        driver = "" if self.driver_seconds is None else f"{self.driver_seconds:.0f}"
        drivers_failures = _counts(self.driver_failed)
        if self.driver_hung:
            driver = f"hangs (given up after {driver})"
        if self.driver_untold:
            untold = f"{self.driver_untold:,} without an outcome"
            drivers_failures = ", ".join(filter(None, [drivers_failures, untold]))
        return [
            self.name,
            f"{self.statements:,}",
            f"{self.succeeded:,}",
            _counts(self.failed) or "0",
            f"{self.never_sent:,}",
            "?" if self.lost is None else f"{self.lost:,}",
            ("hangs, " if self.hung else "") + f"{self.seconds:.0f}",
            driver,
            "" if self.driver_seconds is None else drivers_failures or "0",
        ]


def _counts(failed: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(failed.items()))


def render(results: Sequence[Result], settings: Settings) -> str:
    """The table, with what it was made with, in Markdown."""
    command = shlex.join(["python", "benchmarks/faults.py", *sys.argv[1:]])
    table = tabulate([r.cells() for r in results], HEADERS, "github", disable_numparse=True)
    return (
        f"{table}\n\n"
        f"Made with `{command}`: cassconc {cassconc.__version__}, cassandra-driver "
        f"{cassandra.__version__}, Python {platform.python_version()}, client and nodes on the "
        f"same {os.cpu_count()} cores; concurrency {settings.concurrency}, time limit "
        f"{settings.timeout:g} s, QUORUM, retries {'on' if settings.retry else 'off'}.\n"
    )


def write(path: Path, results: Sequence[Result], settings: Settings) -> None:
    """Write the results: as JSON, or as Markdown between the marks of a page that has them."""
    if path.suffix == ".json":
        data: dict[str, Any] = {
            "settings": dataclasses.asdict(settings),
            "results": [dataclasses.asdict(result) for result in results],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")
        return
    text = render(results, settings)
    old = path.read_text() if path.exists() else ""
    if BEGIN in old:
        pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
        text = pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n{END}", old)
    path.write_text(text)
