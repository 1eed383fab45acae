"""The lists of tests and breakages in the documentation, made from `breakages.py`.

A list stands between `<!-- guards 9 -->` and `<!-- end -->`; what is between them is replaced.
"""

from __future__ import annotations

import re

from .breakages import BREAKAGES, ROOT, guarding_files

PAGE = ROOT / "docs/promises.md"

_LIST = re.compile(r"<!-- guards (\d+) -->\n.*?<!-- end -->", re.DOTALL)


def with_lists(text: str) -> str:
    """Return the text of a page with its lists as they must be."""
    return _LIST.sub(lambda match: _list(int(match[1])), text)


def _list(promise: int) -> str:
    files = " and ".join(f"[{path}](../{path})" for path in guarding_files(promise))
    lines = [
        f"<!-- guards {promise} -->",
        f"Tested in {files}. Each of these tests was seen to fail:",
        "",
        "| when the code is changed so that | it is noticed by |",
        "|---|---|",
    ]
    for each in BREAKAGES:
        if each.promise == promise:
            tests = ", ".join(f"`{test.rpartition('promises/')[2]}`" for test in each.test_ids)
            lines.append(f"| {each.broken} (`{each.module}`) | {tests} |")
    return "\n".join([*lines, "", "<!-- end -->"])
