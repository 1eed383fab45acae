"""Copy the tests away from the source, so that they import the installed package.

Run by the interpreter whose package is to be tested: `python copy_tests.py FOLDER`. Fails where
the package would not come from its site-packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOW = "import cassandra, cassconc; print(cassconc.__file__, cassandra.__file__, sep='\\n')"


def main(folder: Path) -> None:
    """Fill the folder, and say from where cassconc and the driver will be imported."""
    shutil.rmtree(folder / "tests", ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignored)
    shutil.copy(ROOT / "setup.cfg", folder)  # pytest's settings
    site_packages = Path(sysconfig.get_path("purelib")).resolve()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    if shown.returncode:
        sys.exit("cassconc cannot be imported where only its tests are")
    for path in shown.stdout.split():
        if site_packages not in Path(path).resolve().parents:
            sys.exit(f"{path} is not in {site_packages}: the tests would test something else")
        print(f"tested: {path}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
