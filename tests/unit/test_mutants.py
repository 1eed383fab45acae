"""The list of breakages, and what is made of it, are up to date; `make mutants` tries them."""

from __future__ import annotations

import re

import pytest

from tests.mutants.breakages import BREAKAGES, PROMISES, ROOT, Breakage, guarding_files
from tests.mutants.page import PAGE, with_lists

IDS = [f"{each.promise}-{each.broken}" for each in BREAKAGES]
# .ci/copy_tests.py copies the tests alone
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the source is not here")


@pytest.mark.parametrize("breakage", BREAKAGES, ids=IDS)
def test_a_breakage_is_up_to_date(breakage: Breakage) -> None:
    """What it changes is there once, and what it makes of it is Python."""
    text = (ROOT / "cassconc" / breakage.module).read_text()
    changed = breakage.changed(text)
    assert changed != text
    compile(changed, breakage.module, "exec")


@pytest.mark.parametrize("breakage", BREAKAGES, ids=IDS)
def test_the_tests_of_a_breakage_exist(breakage: Breakage) -> None:
    """The tests that must fail are in a file of the promise."""
    assert len(breakage.test_ids) == len(breakage.tests) > 0


def test_every_promise_has_a_breakage() -> None:
    """No promise is tested by tests that nobody has seen to fail."""
    assert {each.promise for each in BREAKAGES} == set(PROMISES)


def test_a_stale_breakage_is_an_error() -> None:
    """One whose text is not there, or is there twice, is not passed over."""
    breakage = Breakage(1, "_gate.py", "old", "new", "something", ("test",))
    for text in ("", "old old"):
        with pytest.raises(ValueError, match=r"_gate.py has \d places, not one, with: 'old'"):
            breakage.changed(text)


def test_the_page_of_promises_is_up_to_date() -> None:
    """Its lists are what `tests/mutants/run.py --docs` writes, one for each promise."""
    text = PAGE.read_text()
    assert text == with_lists(text)
    listed = re.findall(r"^### (\d+)\. .*?<!-- guards (\d+) -->", text, re.MULTILINE | re.DOTALL)
    assert listed == [(str(promise), str(promise)) for promise in PROMISES]


def test_the_readme_links_each_promise_to_its_tests() -> None:
    """Its list of promises has a link to a test file of each."""
    text = (ROOT / "README.md").read_text()
    linked = re.findall(r"^(\d+)\. .*\]\((tests/promises/\S+\.py)\)", text, re.MULTILINE)
    assert [int(promise) for promise, _ in linked] == list(PROMISES)
    for promise, path in linked:
        assert path in guarding_files(int(promise))
