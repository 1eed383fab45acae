"""The `map` family: many calls, and an iterator over their results."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterable,
    Iterator,
    Literal,
    Optional,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from . import _checks
from ._calls import Call, text_of
from ._clock import Clock
from ._consumer import Start, iterate
from ._gate import Gate
from ._orders import Ordered, Unordered
from ._starter import Starter
from ._typing import MapOptions, PlainMapOptions, ResultSet, Statement
from ._window import Window

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
Runnable = Union[Callable[..., Any], Statement]
Pairs = Iterable[Tuple[Statement, Any]]


class Maps(Executor):
    """The part of `CassandraExecutor` that runs many calls."""

    _gate: Gate
    _clock: Clock
    _starter: Starter

    @overload
    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], **options: Unpack[PlainMapOptions]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self, fn: Statement, *iterables: Iterable[Any], **options: Unpack[PlainMapOptions]
    ) -> Iterator[ResultSet]: ...

    @overload
    def map(
        self,
        fn: Runnable,
        *iterables: Iterable[Any],
        return_exceptions: bool = ...,
        with_calls: Literal[True],
        max_errors: Union[int, float, None] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[Tuple[Call, Any]]: ...

    @overload
    def map(
        self,
        fn: Runnable,
        *iterables: Iterable[Any],
        return_exceptions: bool = ...,
        with_calls: bool = ...,
        max_errors: Union[int, float, None] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...

    def map(
        self,
        fn: Any,
        *iterables: Iterable[Any],
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        with_calls: bool = False,
        max_errors: Union[int, float, None] = None,
    ) -> Iterator[Any]:
        """Run a statement, or a callable, once for each item of the iterables.

        Like `Executor.map` of Python 3.14, with four options more, the last ones.

        Args:
            fn: A statement, which takes one iterable per parameter marker, or a callable, which
                runs on a worker thread.
            iterables: The parameters; the shortest one ends the map.
            timeout: How many seconds after this call a result may still be waited for; `None`,
                the default, is no limit. A result that is there is yielded even later.
            chunksize: Accepted, and ignored, as `ThreadPoolExecutor` does.
            buffersize: How many calls are taken from the input ahead of the consumer, at most.
                Without it, the default, the whole input is taken before this call returns.
            ordered: Yield results in the order of the input, the default, or as they come.
            return_exceptions: Yield failures in their place instead of raising the first one.
            with_calls: Yield pairs of `Call` and result.
            max_errors: Yield failures in their place, but no more than so many: a number, or a
                fraction below 1 of the calls that have ended, once that are 100. The next one
                ends the map, with `TooManyErrors` when nothing of it is in flight any more.

        Returns:
            An iterator over the results: of statements, the driver's `ResultSet`. One thread at
            a time may iterate. When a call of a statement fails, nothing is sent any more that
            comes later in the input; what comes earlier is still yielded, then the failure is
            raised. Closing the iterator, or dropping it after the first `next`, and `timeout`
            end the map in the same way. An iterator that was never asked does not: its calls run.

        Raises:
            TypeError: `fn` is neither statement nor callable, or an option is of the wrong type.
            ValueError: An option is out of range.
            RuntimeError: After `shutdown`.
            Exception: Without `buffersize`, what the input raised, and `TypeError` or
                `ValueError` for an item that does not fit the statement; with it, the iterator
                raises them, at their place.
        """
        items = zip(*[_checks.iterator("each iterable", each) for each in iterables])
        return self._map(
            self._starter.of(fn),
            text_of(fn),
            items,
            timeout,
            buffersize,
            ordered,
            return_exceptions,
            with_calls,
            max_errors,
        )

    @overload
    def starmap(
        self, fn: Callable[..., T], iterable: Iterable[Any], **options: Unpack[PlainMapOptions]
    ) -> Iterator[T]: ...

    @overload
    def starmap(
        self, fn: Statement, iterable: Iterable[Any], **options: Unpack[PlainMapOptions]
    ) -> Iterator[ResultSet]: ...

    @overload
    def starmap(
        self,
        fn: Runnable,
        iterable: Iterable[Any],
        *,
        return_exceptions: bool = ...,
        with_calls: Literal[True],
        max_errors: Union[int, float, None] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[Tuple[Call, Any]]: ...

    @overload
    def starmap(
        self,
        fn: Runnable,
        iterable: Iterable[Any],
        *,
        return_exceptions: bool = ...,
        with_calls: bool = ...,
        max_errors: Union[int, float, None] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...

    def starmap(
        self,
        fn: Any,
        iterable: Iterable[Any],
        *,
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        with_calls: bool = False,
        max_errors: Union[int, float, None] = None,
    ) -> Iterator[Any]:
        """Like `map`, with all parameters of a call in one item.

        Args:
            fn: A statement or a callable.
            iterable: The parameters of each call: a sequence, or a dict of named ones.
            timeout, chunksize, buffersize, ordered, return_exceptions, with_calls, max_errors:
                See `map`.

        Returns, raises: See `map`.
        """
        return self._map(
            self._starter.of(fn),
            text_of(fn),
            _checks.iterator("iterable", iterable),
            timeout,
            buffersize,
            ordered,
            return_exceptions,
            with_calls,
            max_errors,
        )

    @overload
    def execute_concurrent(
        self, statements_and_parameters: Pairs, **options: Unpack[PlainMapOptions]
    ) -> Iterator[ResultSet]: ...

    @overload
    def execute_concurrent(
        self,
        statements_and_parameters: Pairs,
        *,
        return_exceptions: bool = ...,
        with_calls: Literal[True],
        max_errors: Union[int, float, None] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[Tuple[Call, Any]]: ...

    @overload
    def execute_concurrent(
        self,
        statements_and_parameters: Pairs,
        *,
        return_exceptions: bool = ...,
        with_calls: bool = ...,
        max_errors: Union[int, float, None] = ...,
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...

    def execute_concurrent(
        self,
        statements_and_parameters: Pairs,
        *,
        timeout: Optional[float] = None,
        chunksize: int = 1,
        buffersize: Optional[int] = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        with_calls: bool = False,
        max_errors: Union[int, float, None] = None,
    ) -> Iterator[Any]:
        """Like `starmap`, with a statement of its own in each item.

        Args:
            statements_and_parameters: Pairs of a statement and its parameters: a sequence, a dict
                of named ones, or `None` for none.
            timeout, chunksize, buffersize, ordered, return_exceptions, with_calls, max_errors:
                See `map`.

        Returns, raises: See `map`.
        """
        items = _checks.iterator("statements_and_parameters", statements_and_parameters)
        return self._map(
            self._starter.of_pairs(),
            "statements",
            items,
            timeout,
            buffersize,
            ordered,
            return_exceptions,
            with_calls,
            max_errors,
        )

    def _map(
        self,
        start: Start,
        title: str,
        items: Iterator[Any],
        timeout: Optional[float],
        buffersize: Optional[int],
        ordered: bool,
        return_exceptions: bool,
        with_calls: bool,
        max_errors: Union[int, float, None],
    ) -> Iterator[Any]:
        max_errors = _checks.error_budget_or_none("max_errors", max_errors)
        timeout = _checks.seconds_or_none("timeout", timeout)
        size = _checks.positive_int_or_none("buffersize", buffersize) or math.inf
        deadline = math.inf if timeout is None else self._clock.monotonic() + timeout
        self._gate.check_open()
        window = Window(self._gate, title, return_exceptions, max_errors)
        kind = Ordered if ordered else Unordered
        drop = self._starter.dispatcher.drop
        consumer = kind(window, self._clock, items, start, size, deadline, drop)
        consumer.fill()
        return iterate(consumer, _call_and_result if with_calls else _result)


def _result(call: Any, result: Any, succeeded: bool) -> Any:
    return result


def _call_and_result(call: Any, result: Any, succeeded: bool) -> Tuple[Call, Any]:
    statement, given = call.call
    return Call(statement, given, call.position), result
