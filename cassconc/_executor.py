"""The executor: the public face of what the other modules do."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, TypeVar, overload

from . import _checks, _process
from ._adapter import Options
from ._calls import check_runnable, take, text_of
from ._clock import Clock, system_clock
from ._dispatcher import Dispatcher
from ._futures import called_back_gate
from ._gate import SHUT_DOWN, Gate
from ._maps import Maps
from ._retry import Retry
from ._starter import Starter
from ._stats import Stats
from ._typing import RequestOptions, ResultSet, Statement
from ._workers import Workers

if TYPE_CHECKING:
    from types import TracebackType
    from typing import ParamSpec, Type

    from typing_extensions import Self, Unpack

    P = ParamSpec("P")

T = TypeVar("T")


class CassandraExecutor(Maps):
    """An executor that runs statements through a session of the driver, without threads.

    A `concurrent.futures.Executor` (PEP 3148): wherever it takes a callable, it takes a statement
    as well: a CQL string, `SimpleStatement`, `PreparedStatement`, `BoundStatement` or
    `BatchStatement`. Callables run on worker threads, exactly as with `ThreadPoolExecutor`.

    Thread-safe: any thread may call any method. The caller's code, such as done-callbacks and
    inputs of `map`, never runs on a thread of the driver, and may block.

    Args:
        session: The driver's session, or what behaves like it. It is not closed.
        concurrency: How many statements may be in flight at once, over all threads and maps.
        max_workers: How many threads may run callables; the default is `ThreadPoolExecutor`'s.
        thread_name_prefix, initializer, initargs: As in `ThreadPoolExecutor`.
        retry: Which failures are tried again; the default, `None`, is none.
        host_isolation: Whether hosts whose requests run into their time limits are asked last
            until they answer. Sessions without execution profiles do without.
        clock: Where time is taken from; for tests, see `cassconc.testing.ManualClock`.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: A number is out of range.
    """

    _closes_at_exit = True

    def __init__(
        self,
        session: Any,
        concurrency: int = 100,
        *,
        max_workers: Optional[int] = None,
        thread_name_prefix: str = "",
        initializer: Optional[Callable[..., object]] = None,
        initargs: Tuple[Any, ...] = (),
        retry: Optional[Retry] = None,
        host_isolation: bool = True,
        clock: Clock = system_clock,
    ) -> None:
        if not callable(getattr(session, "execute_async", None)):
            raise TypeError(
                "session must be a session of the driver, with a method execute_async, "
                f"not {type(session).__name__}"
            )
        if max_workers is not None:
            max_workers = _checks.positive_int("max_workers", max_workers)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._gate = Gate(_checks.positive_int("concurrency", concurrency))
        self._clock = clock
        self._workers = Workers(max_workers, thread_name_prefix, initializer, initargs)
        dispatcher = Dispatcher(session, self._gate, clock, host_isolation)
        options = Options(session, {"retry": _checks.instance_or_none("retry", Retry, retry)})
        self._starter = Starter(self._gate, dispatcher, self._workers, options)
        self._viewed: Optional[CassandraExecutor] = None  # the executor that a view is one of
        _process.register(self._gate, self._closes_at_exit)
        _process.register(dispatcher.pages, closes=False)

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @overload
    def submit(self, fn: Statement, /, *args: Any, **kwargs: Any) -> Future[ResultSet]: ...

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a statement, or a callable on a worker thread.

        Args:
            fn: The statement or callable.
            args: The statement's positional parameters, or the callable's arguments.
            kwargs: The statement's named parameters, or the callable's arguments.

        Returns:
            The future of the driver's `ResultSet`, or of what the callable returns. It can be
            cancelled until the statement is sent. Its done-callbacks run on helper threads.

        Raises:
            TypeError: `fn` is neither; or a statement has positional and named parameters, or
                parameters although it is bound or a batch.
            ValueError: The parameters are not those of the prepared statement.
            RuntimeError: After `shutdown`, and when the interpreter exits.
        """
        if not check_runnable("fn", fn):
            self._gate.check_open()
            return self._workers.submit(fn, *args, **kwargs)
        if args and kwargs:
            raise TypeError(f"a statement takes positional or named parameters: {text_of(fn)}")
        given = kwargs or args
        return self._starter.start(fn, given, take(fn, given))

    def with_options(self, **options: Unpack[RequestOptions]) -> Self:
        """Return a view on this executor whose statements have other options.

        Args:
            options: Those of the driver's `Session.execute_async`: `trace`, `custom_payload`,
                `timeout` in seconds, `execution_profile`, `paging_state`, `host`, `execute_as`;
                and `retry`, a `Retry` or `None`.
                Left out means as in this view; `timeout=None` means no limit.

        Returns:
            An executor with the same session, concurrency and workers. It keeps this one alive.
            Its `shutdown`, and leaving its `with` block, do nothing.

        Raises:
            TypeError: There is no such option, `timeout` is no number, or `retry` no `Retry`.
            ValueError: `timeout` is negative, or there is no such execution profile.
        """
        unknown = options.keys() - RequestOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(RequestOptions.__annotations__)
            raise TypeError(f"no such option: {', '.join(sorted(unknown))}; there are {known}")
        _checks.instance_or_none("retry", Retry, options.get("retry"))
        if "timeout" in options:
            _checks.seconds_or_none("timeout", options["timeout"])
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        view._starter = self._starter._replace(options=self._starter.options.merged(**options))
        view._viewed = self
        return view

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept nothing more.

        Args:
            wait: Return only when every future has ended and its done-callbacks have run. A
                callback that calls this does not wait for itself.
            cancel_futures: Cancel what was not sent yet.
        """
        if self._viewed is not None or self._gate.is_abandoned:
            return
        waiting, again = self._gate.close(SHUT_DOWN, cancel_futures)
        if cancel_futures:
            for call in waiting:
                call.cancel()
            for call in again:
                self._starter.dispatcher.end_aside(call)
        self._workers.close(cancel_futures)
        if wait:
            with self._workers.waiting():
                self._gate.wait()
                self._workers.join(called_back_gate() is not None)

    def stats(self) -> Stats:
        """Return what became of the statements that were submitted so far, as one snapshot."""
        return self._gate.stats()

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]],
        exc_value: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Shut down and wait; what is no `Exception`, such as Ctrl-C, cancels what was not sent."""
        interrupted = exc_type is not None and not issubclass(exc_type, Exception)
        self.shutdown(wait=True, cancel_futures=interrupted)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} concurrency={self._gate.concurrency}>"

    @property
    def _max_workers(self) -> int:
        # where a ThreadPoolExecutor has it, and Dask and others look for it
        return self._workers.max_workers
