"""Executors that are broken on purpose, each in one way that the conformance suite must see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

from cassconc import CassandraExecutor


class Unordered(CassandraExecutor):
    """Yields in the order of completion although it was asked for that of the input."""

    def map(self, fn: Any, *iterables: Any, ordered: bool = True, **options: Any) -> Any:
        return super().map(fn, *iterables, ordered=False, **options)


class LosesLastResult(CassandraExecutor):
    """Does not yield the last result."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        results = super().map(fn, *iterables, **options)

        def without_last() -> Iterator[Any]:
            held: list[Any] = []
            for result in results:
                if held:
                    yield held.pop()
                held.append(result)

        return without_last()


class SendsAfterFirstError(CassandraExecutor):
    """Goes on sending when a call has failed, and raises the failure at its place."""

    def map(self, fn: Any, *iterables: Any, return_exceptions: bool = False, **options: Any) -> Any:
        results = super().map(fn, *iterables, return_exceptions=True, **options)
        if return_exceptions:
            return results

        def raising() -> Iterator[Any]:
            for result in results:
                if isinstance(result, Exception):
                    raise result
                yield result

        return raising()


class ExceedsConcurrency(CassandraExecutor):
    """Has one call more in flight than it may."""

    def __init__(self, session: Any, concurrency: int) -> None:
        super().__init__(session, concurrency + 1)


class CallsBackOnDriverThread(CassandraExecutor):
    """Runs done-callbacks where the answer came in, as the standard's own futures do."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()
        response = self._starter.dispatcher._session.execute_async(fn, args or None)
        response.add_callbacks(future.set_result, future.set_exception)
        return future


class SwallowsInputErrors(CassandraExecutor):
    """Takes an error of the input for its end."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        def swallowing(iterable: Any) -> Iterator[Any]:
            try:
                yield from iterable
            except Exception:
                return

        return super().map(fn, *map(swallowing, iterables), **options)


class KeepsYieldedResults(CassandraExecutor):
    """Keeps what it has yielded."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        kept: list[Any] = []
        for_ever.append(kept)

        def keeping(results: Iterator[Any]) -> Iterator[Any]:
            for result in results:
                kept.append(result)
                yield result

        return keeping(super().map(fn, *iterables, **options))


for_ever: list[Any] = []


class TakesEverythingAtOnce(CassandraExecutor):
    """Has no bound: it takes a thousand calls more than it may."""

    def map(self, fn: Any, *iterables: Any, buffersize: Any = None, **options: Any) -> Any:
        if buffersize is not None:
            buffersize += 1000
        return super().map(fn, *iterables, buffersize=buffersize, **options)


class ForgetsUnaskedMaps(CassandraExecutor):
    """Does nothing until somebody iterates."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        def lazy() -> Iterator[Any]:
            yield from super(ForgetsUnaskedMaps, self).map(fn, *iterables, **options)

        return lazy()


class ReturnsFromShutdownAtOnce(CassandraExecutor):
    """Does not wait in `shutdown`."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)


BROKEN: dict[Callable[[Any, int], Any], str] = {
    Unordered: "check_order",
    LosesLastResult: "check_all_results",
    SendsAfterFirstError: "check_abort",
    ExceedsConcurrency: "check_concurrency",
    CallsBackOnDriverThread: "check_caller_threads",
    SwallowsInputErrors: "check_input_error",
    KeepsYieldedResults: "check_yielded_results_are_let_go",
    TakesEverythingAtOnce: "check_buffersize",
    ForgetsUnaskedMaps: "check_unasked_map_runs",
    ReturnsFromShutdownAtOnce: "check_shutdown",
}
