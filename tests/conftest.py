"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from cassconc import _driver, _process
from cassconc.testing import ManualClock, ScriptedSession

if os.environ.get("CASSCONC_HIDE_PRIVATE_PARTS"):
    # as if the driver's private parts were others than those that cassconc knows
    for part in vars(_driver.private):
        setattr(_driver.private, part, False)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts this in the background has it ignore Ctrl-C, and all its children, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("default", deadline=None, max_examples=100)
# for the other Pythons and drivers of tox
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile(
    "ci", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
# for each round of tests/fuzz.py: with new examples and a memory even where CI is set, where
# Hypothesis by itself takes the same examples each time and remembers none
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=2000,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(
        Path(__file__).parent.parent / ".hypothesis" / "examples"
    ),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("CASSCONC_HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Forget what a test has left in flight: interpreter exit would wait for it (promise 3)."""
    before = set(_process._gates)
    yield
    for gate in set(_process._gates) - before:
        gate.abandon("the test is over")


@pytest.fixture
def session() -> ScriptedSession:
    """A session whose answers the test decides on."""
    return ScriptedSession()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()
