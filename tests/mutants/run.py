"""Break the code in every known way, one at a time; a test must notice each.

    python tests/mutants/run.py [--promise 9] [--list] [--docs]

Each breakage of `breakages.py` is made in a copy of the package, never in the source tree, and the
tests that guard its promise are run on that copy. They must pass without it and fail with it, each
in its own body: a copy that can't be imported, or a run that hangs, is no catch.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.mutants.breakages import BREAKAGES, Breakage  # noqa: E402
from tests.mutants.page import PAGE, with_lists  # noqa: E402

_LIMIT = 90  # seconds for the tests of one breakage; most take two
_ALL_LIMIT = 600  # seconds for all tests without a breakage

# The exit of an interpreter waits for calls that have not ended, which some breakages keep so.
_PYTEST = """
import os, pytest, sys
code = pytest.main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""

# When most tests give up a wait, which a breakage may have made endless. They allow for machines
# that are busy with much else, which is too long here.
_WAIT = re.compile(r"^(_?LIMIT) = (30|10)\.0  # real seconds", re.MULTILINE)
_SHORTER = r"\1 = 5.0  # real seconds"

# The result of one test in pytest's summary.
_SUMMARY = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED|XFAIL) (\S+::\w+(?:\[.*?\])?)(?: - .*)?$")


class Copy:
    """A copy of the package and of its tests, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ignored = shutil.ignore_patterns("__pycache__", "mutants", "node", "integration")
        for name in ("cassconc", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copytree(ROOT / "cassconc/testing/node", folder / "cassconc/testing/node")
        shutil.copy(ROOT / "setup.cfg", folder)  # pytest's settings
        for module in [
            *(folder / "tests" / "promises").glob("[!t]*.py"),
            *folder.glob("cassconc/testing/*.py"),
        ]:
            module.write_text(_WAIT.sub(_SHORTER, module.read_text()))
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            # a module that is changed twice in one second must not come from its bytecode
            "PYTHONDONTWRITEBYTECODE": "1",
            "CASSCONC_HYPOTHESIS_PROFILE": "quick",
        }
        show = [sys.executable, "-c", "import cassconc; print(cassconc.__file__)"]
        shown = subprocess.run(
            show, cwd=folder, env=self._environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
        if not Path(shown).is_relative_to(folder):
            sys.exit(f"the tests would test {shown}")

    def outcomes(self, tests: Sequence[str], limit: float) -> dict[str, set[str]]:
        """Run tests, and return how each has ended, in all its variants.

        Raises `subprocess.TimeoutExpired`, which no test may need to end.
        """
        command = [sys.executable, "-c", _PYTEST, "-q", "--tb=no", "-rA", "--no-header"]
        command += ["-p", "no:cacheprovider", "--timeout=0", "--hypothesis-seed=0", *tests]
        output = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        ).stdout
        outcomes: dict[str, set[str]] = {test: set() for test in tests}
        for line in output.splitlines():
            match = _SUMMARY.match(line)
            for test in tests:
                if match and (match[2] == test or match[2].startswith(f"{test}[")):
                    outcomes[test].add(match[1])
        if not any(outcomes.values()):
            print(output)
        return outcomes

    def survives(self, breakage: Breakage) -> str:
        """Make a breakage, and return why it was not caught; nothing if it was."""
        module = self._folder / "cassconc" / breakage.module
        text = module.read_text()
        try:
            module.write_text(breakage.changed(text))
            outcomes = self.outcomes(breakage.test_ids, _LIMIT)
        except ValueError as error:
            return str(error)
        except subprocess.TimeoutExpired:
            return f"its tests hang for {_LIMIT} s"
        finally:
            module.write_text(text)
        missed = [test for test, ended in outcomes.items() if "FAILED" not in ended]
        return "".join(f"{test}: {_in_words(outcomes[test])}; " for test in missed).rstrip("; ")


def _in_words(ended: set[str]) -> str:
    return ", ".join(sorted(ended)).lower() or "did not come to its end"


def run(breakages: Sequence[Breakage], jobs: int) -> int:
    """Try each breakage, print how it went, and return how many were not caught."""
    began = time.monotonic()
    tests = list(dict.fromkeys(test for breakage in breakages for test in breakage.test_ids))
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cassconc-mutants-") as folder:
        copies = [Copy(Path(folder).resolve() / str(number)) for number in range(jobs)]
        print(f"{len(tests)} tests without any breakage ...", flush=True)
        outcomes = copies[0].outcomes(tests, _ALL_LIMIT)
        for test, ended in outcomes.items():
            if ended != {"PASSED"}:
                failed += 1
                print(f"{test} must pass: {_in_words(ended)}")
        if failed:
            return failed

        def attempt(breakage: Breakage) -> tuple[str, float]:
            copy = copies.pop()
            start = time.monotonic()
            try:
                return copy.survives(breakage), time.monotonic() - start
            finally:
                copies.append(copy)

        with ThreadPoolExecutor(jobs) as pool:
            for breakage, (why, seconds) in zip(breakages, pool.map(attempt, breakages)):
                word = "MISSED" if why else "caught"
                where = f"{breakage.promise:2}  {breakage.module:19}"
                print(f"{word}  {seconds:5.1f} s  {where} {breakage.broken}", flush=True)
                if why:
                    failed += 1
                    print(f"        {why}", flush=True)
    seconds = time.monotonic() - began
    print(f"\n{len(breakages) - failed} caught, {failed} missed, in {seconds:.0f} s")
    return failed


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--promise", type=int, help="only the breakages of this one")
    parser.add_argument("--list", action="store_true", help="list the breakages and their tests")
    parser.add_argument("--docs", action="store_true", help="write them into the documentation")
    jobs = min(os.cpu_count() or 1, 4)
    parser.add_argument("--jobs", type=int, default=jobs, help="at once (default: %(default)s)")
    options = parser.parse_args()
    breakages = [each for each in BREAKAGES if options.promise in (None, each.promise)]
    if options.docs:
        PAGE.write_text(with_lists(PAGE.read_text()))
        return 0
    if options.list:
        for each in breakages:
            print(f"{each.promise:2}  {each.module}: {each.broken}")
            for test in each.test_ids:
                print(f"        {test}")
        return 0
    return 1 if run(breakages, options.jobs) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
