"""A conformance suite: what every executor with the interface of `CassandraExecutor` must do.

All of it in one test::

    def make_executor(session, concurrency):
        return CassandraExecutor(session, concurrency)

    def test_conformance():
        check_executor(make_executor)

Or one test for each rule::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_rule(check):
        run_check(check, make_executor)
"""

from __future__ import annotations

import threading
from typing import List

from . import _conformance_futures, _conformance_maps
from ._conformance import Check, MakeExecutor
from .responses import LIMIT
from .script import stack_of

__all__ = ["CHECKS", "check_executor", "run_check"]

CHECKS: List[Check] = [
    check
    for module in (_conformance_maps, _conformance_futures)
    for name, check in vars(module).items()
    if name.startswith("check_")
]


def check_executor(make_executor: MakeExecutor) -> None:
    """Run every check; raises one `AssertionError` that lists the rules that are broken.

    Args:
        make_executor: Takes a session and the concurrency, and returns a new executor.
    """
    broken = []
    for check in CHECKS:
        try:
            run_check(check, make_executor)
        except AssertionError as error:
            broken.append(f"{check.__name__}: {check.__doc__}\n    {error}")
    assert not broken, "\n".join([f"{len(broken)} rules are broken:", *broken])


def run_check(check: Check, make_executor: MakeExecutor) -> None:
    """Run one check; raises `AssertionError` when its rule is broken, or when it hangs."""
    raised: List[BaseException] = []

    def run() -> None:
        try:
            check(make_executor)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name=check.__name__, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), f"it hangs:\n{stack_of(thread)}"
    if raised:
        error = raised[0]
        if isinstance(error, AssertionError):
            raise error
        raise AssertionError(f"{type(error).__name__}: {error}") from error
