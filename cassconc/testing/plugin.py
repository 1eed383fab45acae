"""Fixtures for pytest.

A conftest.py loads them::

    pytest_plugins = ["cassconc.testing.plugin"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import pytest

if TYPE_CHECKING:
    from .clock import ManualClock
    from .session import ScriptedSession

__all__ = ["local_cluster", "manual_clock", "scripted_session"]


@pytest.fixture
def scripted_session() -> Iterator[ScriptedSession]:
    """A `ScriptedSession`; afterwards nothing of the caller's may have run on a driver thread."""
    from .session import ScriptedSession

    session = ScriptedSession()
    yield session
    assert not session.misplaced, f"on a driver thread: {session.misplaced}"


@pytest.fixture
def manual_clock() -> ManualClock:
    """A `ManualClock`."""
    from .clock import ManualClock

    return ManualClock()


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[Any]:
    """A real node for the whole run, or the cluster that CASSCONC_CONTACT_POINTS names."""
    from .node import cluster_for

    with cluster_for(nodes=1) as cluster:
        yield cluster
