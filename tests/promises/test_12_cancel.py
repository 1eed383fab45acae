"""Promise 12: `Future.cancel()` works on what was not sent yet, and notifies at once."""

from __future__ import annotations

from concurrent.futures import CancelledError, as_completed, wait

import pytest

from cassconc import CassandraExecutor
from cassconc.testing import ScriptedSession


def test_what_was_sent_cannot_be_cancelled(session: ScriptedSession) -> None:
    """`cancel` returns False for a call that is in flight, and its answer counts."""
    executor = CassandraExecutor(session, concurrency=1)
    future = executor.submit("SELECT 1")
    assert not future.cancel()
    session.pending[0].succeed([(1,)], ["one"])
    assert future.result(0).one().one == 1


def test_what_waits_is_cancelled_and_never_sent(session: ScriptedSession) -> None:
    """`cancel` returns True for a call that waits for its turn, and it is never sent."""
    executor = CassandraExecutor(session, concurrency=1)
    first, second = executor.submit("SELECT 1"), executor.submit("SELECT 2")
    assert second.cancel()
    assert second.cancel()
    assert second.cancelled()
    assert second.done()
    with pytest.raises(CancelledError):
        second.result(0)
    session.pending[0].succeed()
    assert first.done()
    assert len(session.requests) == 1


def test_waiters_are_told_at_once(session: ScriptedSession) -> None:
    """`wait` and `as_completed` return a cancelled future while nothing else has ended."""
    executor = CassandraExecutor(session, concurrency=1)
    futures = [executor.submit("SELECT 1"), executor.submit("SELECT 2")]
    completed = as_completed(futures, timeout=10)
    futures[1].cancel()
    assert next(completed) is futures[1]
    assert wait(futures, timeout=10, return_when="FIRST_COMPLETED").done == {futures[1]}
