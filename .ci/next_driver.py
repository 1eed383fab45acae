"""Make the next version of the driver: one whose private parts have other names.

Run by the interpreter whose driver is to be taken, after copy_tests.py and with the same folder:
`python next_driver.py FOLDER`. Beside the tests a package `cassandra` is put, of the driver's own
sources, in which every private part that cassconc knows has another name; so have those that the
tests reach into. It is slower than the driver, for those modules are not compiled.
"""

from __future__ import annotations

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

# What cassconc/_driver touches, but for what everything has that stands for a response future, such
# as cassconc.testing.ScriptedResponse: the driver's ResultSet reads it.
PRIVATE = [
    "_ConfigMode", "_config_mode", "_connection", "_current_host", "_current_rows",
    "_custom_payload", "_get_query_trace", "_list_mode", "_page_iter", "_pools", "_req_id",
    "_requests", "_set_final_exception", "_statements_and_parameters", "_warnings",
]  # fmt: skip
_NAMES = re.compile(rf"\b({'|'.join(PRIVATE)})\b")


def main(folder: Path) -> None:
    """Fill the folder, and rename in its tests what is renamed in the driver."""
    spec = find_spec("cassandra")
    if spec is None or spec.origin is None:
        sys.exit("there is no driver")
    driver, ours = Path(spec.origin).parent, folder / "cassandra"
    shutil.rmtree(ours, ignore_errors=True)
    shutil.copytree(driver, ours, ignore=shutil.ignore_patterns("__pycache__"))
    for libraries in driver.parent.glob("*driver.libs"):  # of the wheel: libev
        shutil.copytree(libraries, folder / libraries.name, dirs_exist_ok=True)
    for source in [*ours.rglob("*.py"), *(folder / "tests").rglob("*.py")]:
        text = source.read_text("utf-8")
        renamed = _NAMES.sub(r"\1_next", text)
        if renamed != text:
            source.write_text(renamed, "utf-8")
            for compiled in source.parent.glob(f"{source.stem}.*.so"):
                compiled.unlink()
    print(f"tested with: {ours}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
