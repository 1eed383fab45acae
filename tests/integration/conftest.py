"""Fixtures: a scripted server, sessions of the real driver on it, and an executor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from cassconc import CassandraExecutor, _driver
from tests.integration.helpers import USERS, VERSIONS, connected, executing
from tests.protocol import ScriptedServer


@pytest.fixture(params=VERSIONS, ids="v{}".format)
def version(request: pytest.FixtureRequest) -> int:
    """Each protocol version."""
    return cast(int, request.param)


@pytest.fixture
def server(version: int) -> Iterator[ScriptedServer]:
    """A server of one node."""
    with ScriptedServer(protocol_versions=[version], types=USERS) as server:
        yield server


@pytest.fixture
def session(server: ScriptedServer) -> Iterator[Any]:
    """A session of the real driver on `server`, that retries nothing."""
    with connected(server) as session:
        yield session


@pytest.fixture
def executor(session: Any) -> Iterator[CassandraExecutor]:
    """An executor on `session`; at the end it is not waited for."""
    with executing(session) as executor:
        yield executor


@pytest.fixture(params=["private", "public"])
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the driver's private parts, and as if it had others than are expected."""
    if request.param == "public":
        for part in vars(_driver.private):
            monkeypatch.setattr(_driver.private, part, False)
    elif not all(vars(_driver.private).values()):
        pytest.skip("this driver lacks private parts")
    return cast(str, request.param)
