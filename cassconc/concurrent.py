"""Drop-in replacements for `cassandra.concurrent`: the same names, arguments and results.

Moving over is one changed import::

    from cassconc.concurrent import execute_concurrent_with_args

What is different, and on purpose: nothing is sent after the first failure, errors of the input
are raised, memory is bounded, no code of the caller runs on the driver's event loop thread, and a
generator takes its input as it is consumed, `max(10 * concurrency, 1000)` calls ahead.
"""

from __future__ import annotations

import math
from concurrent.futures import Future
from contextvars import copy_context
from itertools import cycle
from typing import Any, Callable, Iterable, List, Tuple

from . import _checks
from ._calls import pair, take_as_driver
from ._consumer import Consumer, iterate
from ._driver import EXEC_PROFILE_DEFAULT, ExecutionResult
from ._executor import CassandraExecutor
from ._futures import CallFuture
from ._log import log_failure
from ._orders import Ordered, Unordered
from ._threads import helper_threads
from ._window import Window

__all__ = [
    "ExecutionResult",
    "execute_concurrent",
    "execute_concurrent_async",
    "execute_concurrent_with_args",
]


class _Executor(CassandraExecutor):
    """The executor of one call of these functions, which accepts the whole of its input."""

    _closes_at_exit = False

    def consumer(
        self, pairs: Iterable[Any], raise_on_first_error: bool, profile: Any, ordered: bool
    ) -> Consumer:
        view = self.with_options(execution_profile=profile)

        def start(item: Any, position: int, window: Window) -> CallFuture:
            statement, given = pair(item, position)
            taken = take_as_driver(statement, given)
            return view._starter.start(statement, given, taken, window, position)

        kind = Ordered if ordered else Unordered
        size = max(10 * self._gate.concurrency, 1000)
        window = Window(self._gate, "execute_concurrent", not raise_on_first_error)
        drop = self._starter.dispatcher.drop
        items = _checks.iterator("statements_and_parameters", pairs)
        return kind(window, self._clock, items, start, size, math.inf, drop)

    def gather(self, consumer: Consumer) -> List[ExecutionResult]:
        """Return the results by position, so that one slow call does not hold up the input."""
        results: List[Any] = []
        try:
            consumer.fill()
            while consumer.advance():
                failure = consumer.pop()
                if failure is not None:
                    raise failure
                position, result = consumer.hand_out(_position_and_result)
                missing = position + 1 - len(results)
                if missing > 0:
                    results.extend([None] * missing)
                results[position] = result
        finally:
            consumer.close()
        return results


class _Results(Future):  # type: ignore[type-arg]
    """A future whose callbacks may raise anything, and the next one runs."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        def guarded(future: Future[Any]) -> None:
            try:
                fn(future)
            except BaseException:
                log_failure("a done-callback of %r failed", future)

        super().add_done_callback(guarded)


def execute_concurrent(
    session: Any,
    statements_and_parameters: Any,
    concurrency: int = 100,
    raise_on_first_error: bool = True,
    results_generator: bool = False,
    execution_profile: Any = EXEC_PROFILE_DEFAULT,
) -> Any:
    """Execute (statement, parameters) pairs, like `cassandra.concurrent.execute_concurrent`.

    Args:
        session: The driver's session.
        statements_and_parameters: An iterable of pairs of a statement and its parameters, a
            sequence, a dict or `None`. It is iterated on the threads of the caller alone.
        concurrency: How many statements are in flight at once, at most.
        raise_on_first_error: Raise the first failure, and send nothing that comes later; otherwise
            a failure is the `result_or_exc` of its `ExecutionResult`.
        results_generator: Return a generator. It takes `max(10 * concurrency, 1000)` calls
            from the input at once, sends `concurrency` of them at a time, and takes the rest as
            it is consumed (the driver's starts `concurrency`).
        execution_profile: The execution profile, or its name. It sets the time limit, too.

    Returns:
        `ExecutionResult(success, result_or_exc)` for each pair, in the order of the input: a
        list, or a generator of them.

    Raises:
        ValueError: `concurrency` is not positive, or there is no such execution profile.
        TypeError: The input is not iterable.
        Exception: What the input raised, after the results of what came before it.
    """
    executor = _Executor(session, concurrency)
    if not statements_and_parameters:
        return []
    consumer = executor.consumer(
        statements_and_parameters, raise_on_first_error, execution_profile, results_generator
    )
    if not results_generator:
        return executor.gather(consumer)
    consumer.fill()
    return iterate(consumer, _execution_result)


def _position_and_result(call: Any, result: Any, succeeded: bool) -> Tuple[int, ExecutionResult]:
    return call.position, ExecutionResult(succeeded, result)


def _execution_result(call: Any, result: Any, succeeded: bool) -> ExecutionResult:
    return ExecutionResult(succeeded, result)


def execute_concurrent_with_args(
    session: Any, statement: Any, parameters: Iterable[Any], *args: Any, **kwargs: Any
) -> Any:
    """Execute one statement with each of the parameters; see `execute_concurrent`.

    Args:
        session: The driver's session.
        statement: The statement.
        parameters: An iterable of sequences or dicts of parameters.
        args, kwargs: Further arguments of `execute_concurrent`.
    """
    pairs = zip(cycle((statement,)), _checks.iterator("parameters", parameters))
    return execute_concurrent(session, pairs, *args, **kwargs)


def execute_concurrent_async(
    session: Any,
    statements_and_parameters: Any,
    concurrency: int = 100,
    raise_on_first_error: bool = False,
    execution_profile: Any = EXEC_PROFILE_DEFAULT,
) -> Future[List[ExecutionResult]]:
    """Execute (statement, parameters) pairs in the background; see `execute_concurrent`.

    Returns at once. The input is iterated on a helper thread, in a copy of the current context.

    Returns:
        A future of the list of `ExecutionResult`. Cancelling it stops the input, and nothing
        more is sent.
    """
    executor = _Executor(session, concurrency)
    executor._gate.check_open()
    consumer = executor.consumer(
        statements_and_parameters, raise_on_first_error, execution_profile, False
    )
    future = _Results()
    future.add_done_callback(lambda _: consumer.stop())

    def run() -> None:
        results, error = None, None
        try:
            results = executor.gather(consumer)
        except BaseException as raised:
            error = raised
        try:
            if future.set_running_or_notify_cancel():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(results or [])
        finally:
            executor._gate.release()

    context = copy_context()
    executor._gate.hold()
    helper_threads.run(lambda: context.run(run))
    return future
