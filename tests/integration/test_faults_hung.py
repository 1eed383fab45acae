"""Issue 5: a node hangs under a map, and the map goes on: it costs about one time limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cassandra import OperationTimedOut

from cassconc import CassandraExecutor, Retry
from tests.integration.helpers import INSERT, USERS, Timed, connected, done, profile_of
from tests.parts import needs
from tests.protocol import ScriptedCluster

TIME_LIMIT = 2.0  # seconds
COUNT = 15_000
RETRIES = [None, Retry(attempts=3, delay=0.01)]


@pytest.fixture
def cluster() -> Iterator[ScriptedCluster]:
    """Three nodes that answer at once."""
    with ScriptedCluster(3, types=USERS, on_request=done) as cluster:
        yield cluster


@needs("profiles")
@pytest.mark.parametrize("retry", RETRIES, ids=["no retry", "retry"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_hung_node_costs_one_time_limit(
    cluster: ScriptedCluster, ordered: bool, retry: Retry | None
) -> None:
    """What was in flight to it runs into the limit; what comes later does not wait for it.

    In an ordered map everything waits for the result that is asked for: one call that is sent to
    a hung node, to see whether it answers again, holds up all once the window is full.
    """
    with connected(cluster, profile=profile_of(request_timeout=TIME_LIMIT)) as session:
        insert = session.prepare(INSERT)
        insert.is_idempotent = True
        with CassandraExecutor(session, 50, retry=retry) as executor:
            seconds = [run(executor, insert, ordered, None)]
            seconds.append(run(executor, insert, ordered, cluster))
            stats = executor.stats()
    cluster.resume()
    assert stats.submitted == 2 * COUNT == stats.succeeded + sum(stats.failed.values())
    timed_out = stats.failed.get("OperationTimedOut", 0) + stats.retried
    assert timed_out <= 50 + 10, f"{timed_out} ran into the limit"
    if retry is not None:
        assert not stats.failed
    healthy, hung = seconds
    assert hung <= 3 * healthy + 2.5 * TIME_LIMIT, f"{hung:.1f} s, and healthy {healthy:.1f} s"


def run(executor: Any, insert: Any, ordered: bool, hangs: ScriptedCluster | None) -> float:
    """Run a map, of which a node may hang soon; return how many seconds that took."""
    results = executor.starmap(
        insert,
        ((n, "x") for n in range(COUNT)),
        buffersize=500,
        ordered=ordered,
        return_exceptions=True,
    )
    with Timed() as timed:
        for number, result in enumerate(results):
            assert not isinstance(result, Exception) or isinstance(result, OperationTimedOut)
            if number == 500 and hangs is not None:
                hangs.nodes[0].hang()
    return timed.seconds
