"""Run all property tests again and again, with new examples each time, until the time is up.

    python tests/fuzz.py --minutes 20

Each round is a run of pytest of its own with the Hypothesis profile `fuzz`, its tests in another
order, so that the end of the time cuts off another one each time. What fails is kept in
`.hypothesis`, where the next run of any kind tries it first. It ends with the test that runs when
the time is up, or after the first round in which something failed; that is exit code 1.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_DEADLINE = "CASSCONC_FUZZ_DEADLINE"  # of time.time(), for the pytest of a round
_TESTS = ["tests/unit", "tests/promises", "tests/properties"]
_STUCK_SECONDS = 600  # a test of one round takes a minute or two


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shuffle what a round runs."""
    random.shuffle(items)


def pytest_runtest_setup() -> None:
    """Run nothing any more once the time is up, which is no reason to forget what has failed."""
    if time.time() > float(os.environ[_DEADLINE]):
        pytest.skip("the time is up")


def main() -> int:
    """Run rounds until the time is up; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--minutes", type=float, default=20, help="(default: %(default)s)")
    parser.add_argument("tests", nargs="*", default=_TESTS, help="(default: %(default)s)")
    options = parser.parse_args()
    deadline = time.time() + 60 * options.minutes
    environment = {
        **os.environ,
        "CASSCONC_HYPOTHESIS_PROFILE": "fuzz",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        _DEADLINE: str(deadline),
    }
    command = [sys.executable, "-m", "pytest", "-p", "tests.fuzz", "-m", "hypothesis", "-q", "-rfE"]
    command += [f"--timeout={_STUCK_SECONDS}"]
    command += [f"--override-ini=faulthandler_timeout={_STUCK_SECONDS + 10}"]
    rounds = 0
    while time.time() < deadline:
        rounds += 1
        print(f"\n=== round {rounds}, {(deadline - time.time()) / 60:.1f} minutes left", flush=True)
        code = subprocess.run([*command, *options.tests], cwd=ROOT, env=environment).returncode
        if code:
            return 1
    print(f"\n{rounds} rounds, and nothing failed")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
