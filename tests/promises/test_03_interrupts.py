"""Promise 3 and issue 5: an interrupt in `shutdown`, or while a `with` block is left."""

from __future__ import annotations

import gc
from concurrent.futures import Future
from typing import Any, Callable, Dict, List

import pytest

from cassconc import CassandraExecutor
from tests.stage import CQL, staged
from tests.tracing import InterruptAtLine
from tests.waits import Background

LIMIT = 10.0

WAYS: Dict[str, Callable[[CassandraExecutor], object]] = {
    "shutdown": lambda executor: executor.shutdown(),
    "shutdown, cancelling": lambda executor: executor.shutdown(cancel_futures=True),
    "shutdown, not waiting": lambda executor: executor.shutdown(wait=False),
    "the end of with": lambda executor: executor.__exit__(None, None, None),
    "the end of with, by Ctrl-C": lambda executor: executor.__exit__(
        KeyboardInterrupt, KeyboardInterrupt(), None
    ),
}


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS)
def test_an_interrupt_at_any_line_of_shutdown(
    leave: Callable[[CassandraExecutor], object],
) -> None:
    """Wherever Ctrl-C strikes: every future ends, and a second `shutdown` returns."""
    for number in range(2000):
        with staged(3) as stage:
            futures: List[Future[Any]] = [stage.executor.submit(CQL, number) for number in range(8)]
            stage.executor.submit(int).result(LIMIT)
            answering = Background(lambda stage=stage: _answer_later(stage))  # type: ignore[misc]
            interrupt = InterruptAtLine(number)
            gc.disable()  # what strikes in a finalizer is lost
            try:
                with interrupt:
                    leave(stage.executor)
            except KeyboardInterrupt:
                pass
            finally:
                gc.enable()
            answering.result()
            where = f"after an interrupt at {interrupt.struck}"
            again = Background(lambda stage=stage: stage.executor.shutdown())  # type: ignore[misc]
            stage.answer_all()
            again.result()
            pending = [future for future in futures if not future.done()]
            assert not pending, f"{where} {len(pending)} futures are pending for ever"
            stats = stage.executor.stats()
            assert stats.submitted == 8 == stats.succeeded + stats.cancelled, where
            with pytest.raises(RuntimeError):
                stage.executor.submit(CQL, 1)
            if interrupt.struck is None:
                return
    raise AssertionError("there is no end to the lines of shutdown")


def _answer_later(stage: Any) -> None:
    """Answer what is in flight, and what is sent because of that, until nothing is left."""
    while stage.session.pending or stage.executor.stats().queued:
        stage.answer_all()
