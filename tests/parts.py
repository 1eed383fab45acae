"""Tests of what takes private parts of the driver: where those lack or are hidden, less holds.

Everything else holds without them: see `CASSCONC_HIDE_PRIVATE_PARTS` in conftest.py, and
.ci/next_driver.py.
"""

from __future__ import annotations

import pytest

from cassconc import _driver


def needs(part: str) -> pytest.MarkDecorator:
    """Skip a test where the driver lacks one of the parts in `_driver.private`."""
    lacking = not getattr(_driver.private, part)
    return pytest.mark.skipif(lacking, reason=f"this driver lacks private parts: {part}")
