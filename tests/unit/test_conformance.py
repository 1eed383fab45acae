"""The conformance suite: our executor passes it, and every broken one is caught."""

from __future__ import annotations

from typing import Any

import pytest

from cassconc import CassandraExecutor, Retry
from cassconc.testing import _conformance_futures, check_executor, conformance
from cassconc.testing.conformance import CHECKS, Check, MakeExecutor, run_check

from .broken_executors import BROKEN


def make_plain(session: Any, concurrency: int) -> CassandraExecutor:
    """An executor as most people make it."""
    return CassandraExecutor(session, concurrency)


def make_with_retry(session: Any, concurrency: int) -> CassandraExecutor:
    """An executor that tries again, and does not isolate hosts."""
    return CassandraExecutor(session, concurrency, retry=Retry(), host_isolation=False)


@pytest.mark.parametrize("make", [make_plain, make_with_retry], ids=["plain", "retry"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_our_executor_passes(check: Check, make: MakeExecutor) -> None:
    """Our executor keeps every rule of the suite, in every configuration."""
    run_check(check, make)


@pytest.mark.parametrize(
    ("broken", "expected"), BROKEN.items(), ids=lambda x: getattr(x, "__name__", "")
)
def test_a_broken_executor_is_caught(
    broken: MakeExecutor, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor that breaks one rule on purpose fails the check of that rule."""
    # some of them let the check wait until its limit, and that is to be caught, not to be long
    monkeypatch.setattr(_conformance_futures, "LIMIT", 1.0)
    monkeypatch.setattr(conformance, "LIMIT", 10.0)
    [check] = [check for check in CHECKS if check.__name__ == expected]
    with pytest.raises(AssertionError):
        run_check(check, broken)


def test_every_check_catches_something() -> None:
    """For each check there is an executor that is broken in the way which it looks for."""
    assert {check.__name__ for check in CHECKS} == set(BROKEN.values())


def test_the_report_names_the_broken_rules() -> None:
    """`check_executor` lists what is broken, each with its rule."""
    broken = next(make for make, check in BROKEN.items() if check == "check_order")
    with pytest.raises(
        AssertionError, match=r"(?s)rules are broken.*yields in the order of its input"
    ):
        check_executor(broken)
