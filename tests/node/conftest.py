"""What the tests of this directory share."""

from __future__ import annotations

from pathlib import Path

import pytest

from cassconc.testing.plugin import local_cluster

__all__ = ["local_cluster"]

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give real nodes time: the first start fetches Cassandra, and a busy machine is slow."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(400))
