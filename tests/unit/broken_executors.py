"""Executors that are broken on purpose, each in one way that the conformance suite must see."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from typing import Any

from cassconc import CassandraExecutor, ResultSet


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


class TakesOneTooMany(CassandraExecutor):
    """Takes one call more ahead of the consumer than it may."""

    def map(self, fn: Any, *iterables: Any, buffersize: Any = None, **options: Any) -> Any:
        if buffersize is not None:
            buffersize += 1
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


class OrdersWhatWasNotAskedFor(CassandraExecutor):
    """Yields in the order of the input although it was asked for that of completion."""

    def map(self, fn: Any, *iterables: Any, ordered: bool = True, **options: Any) -> Any:
        return super().map(fn, *iterables, ordered=True, **options)


class RaisesBeforeEarlierResults(CassandraExecutor):
    """Collects all results before it yields any, so that a failure is all that comes."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        def collecting() -> Iterator[Any]:
            yield from list(results)

        results = super().map(fn, *iterables, **options)
        return collecting()


class RaisesWhatItShouldYield(CassandraExecutor):
    """Does not know `return_exceptions`."""

    def map(self, fn: Any, *iterables: Any, return_exceptions: bool = False, **options: Any) -> Any:
        return super().map(fn, *iterables, **options)


class GoesOnAfterClose(CassandraExecutor):
    """Has an iterator whose `close` does nothing."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        results = super().map(fn, *iterables, **options)
        for_ever.append(results)

        class Results(Iterator[Any]):
            def __next__(self) -> Any:
                return next(results)

            def close(self) -> None:
                pass

        return Results()


class TakesTimeoutForTheEnd(CassandraExecutor):
    """Ends when the time is up, as if that had been all."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        def ending(results: Iterator[Any]) -> Iterator[Any]:
            try:
                yield from results
            except TimeoutError:
                return

        return ending(super().map(fn, *iterables, **options))


class HasOneThreadForCallbacks(CassandraExecutor):
    """Runs the callbacks of all futures one after the other."""

    def __init__(self, session: Any, concurrency: int) -> None:
        super().__init__(session, concurrency)
        self._callbacks = ThreadPoolExecutor(1)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Any = super().submit(fn, *args, **kwargs)
        add = future.add_done_callback
        future.add_done_callback = lambda fn: add(lambda _: self._callbacks.submit(fn, future))
        return future


class CancelsWhatWasSent(CassandraExecutor):
    """Says of everything that it was cancelled."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Any = super().submit(fn, *args, **kwargs)
        cancel = future.cancel
        future.cancel = lambda: cancel() or True
        return future


class CancelsInSecret(CassandraExecutor):
    """Cancels without telling those who wait for the future."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Any = super().submit(fn, *args, **kwargs)
        future.cancel = lambda: not future.running()
        return future


class ShutsDownWithoutCancelling(CassandraExecutor):
    """Does not know `cancel_futures`."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait)


class AdmitsForEachAnswer(CassandraExecutor):
    """Sends another call for every answer, also for a second one to the same request."""

    def __init__(self, session: Any, concurrency: int) -> None:
        super().__init__(session, concurrency)
        self._session = session
        self._room = concurrency
        self._waiting: collections.deque[Any] = collections.deque()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future: Future[Any] = Future()
        self._waiting.append((future, fn, args))
        if self._room:
            self._room -= 1
            self._send_next()
        return future

    def _send_next(self) -> None:
        if not self._waiting:
            return
        future, fn, args = self._waiting.popleft()

        def ended(rows: Any) -> None:
            if not future.done():
                future.set_result(ResultSet(response, rows))
            self._send_next()

        response = self._session.execute_async(fn, args)
        response.add_callbacks(ended, ended)


class SendsInTheCallback(CassandraExecutor):
    """Sends each call in the callback of the one before it, as `cassandra.concurrent` does."""

    def map(self, fn: Any, *iterables: Any, **options: Any) -> Any:
        session = self._starter.dispatcher._session
        items = list(zip(*iterables))
        results: list[Any] = []

        def send(number: int) -> None:
            if number < len(items):
                response = session.execute_async(fn, items[number])
                response.add_callback(lambda rows: ended(response, rows))

        def ended(response: Any, rows: Any) -> None:
            results.append(ResultSet(response, rows))
            send(len(results))

        send(0)
        return iter(results)


class RaisesInSubmit(CassandraExecutor):
    """Raises in `submit` what `execute_async` has raised, so that nobody gets the future."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = super().submit(fn, *args, **kwargs)
        if future.done():
            future.result()
        return future


# Each with the check that must catch it; each check has one at least.
BROKEN: dict[Callable[[Any, int], Any], str] = {
    Unordered: "check_order",
    LosesLastResult: "check_all_results",
    SendsAfterFirstError: "check_abort",
    ExceedsConcurrency: "check_concurrency",
    CallsBackOnDriverThread: "check_caller_threads",
    SwallowsInputErrors: "check_input_error",
    KeepsYieldedResults: "check_yielded_results_are_let_go",
    TakesOneTooMany: "check_buffersize",
    ForgetsUnaskedMaps: "check_unasked_map_runs",
    ReturnsFromShutdownAtOnce: "check_shutdown",
    OrdersWhatWasNotAskedFor: "check_completion_order",
    RaisesBeforeEarlierResults: "check_abort_keeps_what_is_earlier",
    RaisesWhatItShouldYield: "check_return_exceptions",
    GoesOnAfterClose: "check_close",
    TakesTimeoutForTheEnd: "check_timeout",
    HasOneThreadForCallbacks: "check_blocking_callback",
    CancelsWhatWasSent: "check_cancel",
    CancelsInSecret: "check_cancel",
    ShutsDownWithoutCancelling: "check_cancel_futures",
    AdmitsForEachAnswer: "check_first_outcome_counts",
    SendsInTheCallback: "check_immediate_answers",
    RaisesInSubmit: "check_failing_send",
}
