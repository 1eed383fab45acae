"""Settings and fixtures for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from cassconc.testing import ManualClock, ScriptedSession

settings.register_profile("default", deadline=None, max_examples=100)
settings.register_profile(
    "ci", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fuzz", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("CASSCONC_HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def session() -> ScriptedSession:
    """A session whose answers the test decides on."""
    return ScriptedSession()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()
