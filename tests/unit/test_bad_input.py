"""Bad input: an error at once that names the argument and what was expected.

And what goes wrong later, at the server or in the driver, in the future of its own call alone.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Iterator, List, Type

import pytest
from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.query import BatchStatement, SimpleStatement

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ScriptedRequest, ScriptedSession
from tests.driver import DriverRequest, DriverSession, prepare
from tests.waits import LIMIT

PAIRS = [("SELECT 1", None), ("SELECT 2", None)]

# The calls that run many statements, with options.
MAPS: Dict[str, Callable[..., Iterator[Any]]] = {
    "map": lambda ex, **options: ex.map("SELECT %s", [1, 2], **options),
    "map of a callable": lambda ex, **options: ex.map(len, ["a", "b"], **options),
    "starmap": lambda ex, **options: ex.starmap("SELECT %s", [(1,), (2,)], **options),
    "execute_concurrent": lambda ex, **options: ex.execute_concurrent(PAIRS, **options),
}

# The drop-ins, with options.
DROP_INS: Dict[str, Callable[..., Any]] = {
    "list": lambda session, **options: execute_concurrent(session, PAIRS, **options),
    "generator": lambda session, **options: execute_concurrent(
        session, PAIRS, results_generator=True, **options
    ),
    "with_args": lambda session, **options: execute_concurrent_with_args(
        session, "SELECT %s", [(1,), (2,)], **options
    ),
    "async": lambda session, **options: execute_concurrent_async(session, PAIRS, **options),
}

any_map = pytest.mark.parametrize("run", list(MAPS.values()), ids=list(MAPS))
any_drop_in = pytest.mark.parametrize("run", list(DROP_INS.values()), ids=list(DROP_INS))

NO_INT: List[Any] = ["1", 1.5, True, [1], object()]
NO_NUMBER: List[Any] = ["1", True, [1], object()]


def answer(request: ScriptedRequest) -> None:
    """Answer at once."""
    request.succeed()


@pytest.fixture
def session() -> ScriptedSession:
    """A session that answers at once."""
    return ScriptedSession(answer)


@pytest.fixture
def executor(session: ScriptedSession) -> CassandraExecutor:
    """An executor on it."""
    return CassandraExecutor(session)


# Numbers


@pytest.mark.parametrize("value", [0, -1, -(10**30)])
def test_concurrency_out_of_range(session: ScriptedSession, value: int) -> None:
    """A `concurrency` that is not positive is a `ValueError`."""
    with pytest.raises(ValueError, match="^concurrency must be greater than 0"):
        CassandraExecutor(session, value)


@pytest.mark.parametrize("value", [*NO_INT, None])
def test_concurrency_of_the_wrong_type(session: ScriptedSession, value: Any) -> None:
    """A `concurrency` that is no int is a `TypeError`."""
    with pytest.raises(TypeError, match="^concurrency must be an integer"):
        CassandraExecutor(session, value)


@any_drop_in
@pytest.mark.parametrize("value", [0, -1])
def test_concurrency_of_the_drop_ins_out_of_range(
    session: ScriptedSession, run: Callable[..., Any], value: int
) -> None:
    """The drop-ins raise it at the call, all of them; nothing is sent."""
    with pytest.raises(ValueError, match="^concurrency must be greater than 0"):
        run(session, concurrency=value)
    assert not session.requests


@any_drop_in
@pytest.mark.parametrize("value", ["1", None, 1.5])
def test_concurrency_of_the_drop_ins_of_the_wrong_type(
    session: ScriptedSession, run: Callable[..., Any], value: Any
) -> None:
    """The drop-ins raise it at the call, all of them; nothing is sent."""
    with pytest.raises(TypeError, match="^concurrency must be an integer"):
        run(session, concurrency=value)
    assert not session.requests


@pytest.mark.parametrize("value", [0, -1])
def test_max_workers_out_of_range(session: ScriptedSession, value: int) -> None:
    """`max_workers` that is not positive is a `ValueError`."""
    with pytest.raises(ValueError, match="^max_workers must be greater than 0"):
        CassandraExecutor(session, max_workers=value)


@pytest.mark.parametrize("value", NO_INT)
def test_max_workers_of_the_wrong_type(session: ScriptedSession, value: Any) -> None:
    """`max_workers` that is no int is a `TypeError`."""
    with pytest.raises(TypeError, match="^max_workers must be an integer"):
        CassandraExecutor(session, max_workers=value)


def refuses(
    session: ScriptedSession,
    run: Callable[..., Iterator[Any]],
    error: Type[Exception],
    name: str,
    value: Any,
) -> None:
    """Check that an option is refused at the call, and nothing is sent."""
    with pytest.raises(error, match=f"^{name} "):
        run(CassandraExecutor(session), **{name: value})
    assert not session.requests


@any_map
@pytest.mark.parametrize("value", [0, -1])
def test_buffersize_out_of_range(
    session: ScriptedSession, run: Callable[..., Any], value: int
) -> None:
    """`buffersize` that is not positive is a `ValueError` at the call."""
    refuses(session, run, ValueError, "buffersize", value)


@any_map
@pytest.mark.parametrize("value", [*NO_INT, math.inf])
def test_buffersize_of_the_wrong_type(
    session: ScriptedSession, run: Callable[..., Any], value: Any
) -> None:
    """`buffersize` that is no int is a `TypeError` at the call."""
    refuses(session, run, TypeError, "buffersize", value)


@any_map
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf])
def test_timeout_out_of_range(
    session: ScriptedSession, run: Callable[..., Any], value: float
) -> None:
    """A negative `timeout`, or one that is no number of seconds, is a `ValueError` at the call."""
    refuses(session, run, ValueError, "timeout", value)


@any_map
@pytest.mark.parametrize("value", NO_NUMBER)
def test_timeout_of_the_wrong_type(
    session: ScriptedSession, run: Callable[..., Any], value: Any
) -> None:
    """A `timeout` that is no number is a `TypeError` at the call."""
    refuses(session, run, TypeError, "timeout", value)


@any_map
@pytest.mark.parametrize("value", [-1, -0.5, 1.0, 2.5, math.nan, math.inf])
def test_max_errors_out_of_range(
    session: ScriptedSession, run: Callable[..., Any], value: float
) -> None:
    """`max_errors` that is negative, or no fraction below 1, is a `ValueError` at the call."""
    refuses(session, run, ValueError, "max_errors", value)


@any_map
@pytest.mark.parametrize("value", NO_NUMBER)
def test_max_errors_of_the_wrong_type(
    session: ScriptedSession, run: Callable[..., Any], value: Any
) -> None:
    """`max_errors` that is no number is a `TypeError` at the call."""
    refuses(session, run, TypeError, "max_errors", value)


@pytest.mark.parametrize(
    "options", [{"buffersize": 0}, {"timeout": -1}, {"max_errors": -1}], ids=str
)
def test_nothing_is_taken_when_an_option_is_bad(
    executor: CassandraExecutor, options: Dict[str, Any]
) -> None:
    """The input is not touched when an option is refused."""
    taken: List[int] = []

    def items() -> Iterator[Any]:
        taken.append(1)
        yield "SELECT 1", None

    with pytest.raises(ValueError):
        executor.execute_concurrent(items(), **options)
    assert not taken
    assert executor.stats().submitted == 0


@any_map
def test_chunksize_is_accepted(executor: CassandraExecutor, run: Callable[..., Any]) -> None:
    """`chunksize` is ignored, as a thread pool does."""
    assert len(list(run(executor, chunksize=100))) == 2


# Other arguments


@pytest.mark.parametrize("value", [None, object(), "session", ScriptedSession])
def test_no_session(value: Any) -> None:
    """What has no `execute_async` is no session: a `TypeError` that says so."""
    if value is ScriptedSession:
        value = type("NoMethod", (), {"execute_async": "text"})()
    with pytest.raises(TypeError, match=r"^session must be .*execute_async"):
        CassandraExecutor(value)


@any_drop_in
def test_no_session_for_the_drop_ins(run: Callable[..., Any]) -> None:
    """The drop-ins raise it at the call."""
    with pytest.raises(TypeError, match=r"^session must be .*execute_async"):
        run(object())


def test_an_initializer_that_is_no_callable(session: ScriptedSession) -> None:
    """The standard's `TypeError` for an `initializer` that can't be called."""
    with pytest.raises(TypeError, match="^initializer must be a callable"):
        CassandraExecutor(session, initializer="text")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [3, "3", True, Retry, {"attempts": 3}])
def test_no_retry(session: ScriptedSession, executor: CassandraExecutor, value: Any) -> None:
    """`retry` is a `Retry` or None, for an executor and for a view."""
    with pytest.raises(TypeError, match="^retry must be a Retry or None"):
        CassandraExecutor(session, retry=value)
    with pytest.raises(TypeError, match="^retry must be a Retry or None"):
        executor.with_options(retry=value)


@pytest.mark.parametrize("name", ["attempts", "budget", "delay", "max_delay", "total_time"])
def test_retry_arguments(name: str) -> None:
    """Each number of a `Retry` is checked when it is made, and named."""
    out_of_range: List[Any] = [-1, -(10**20)]
    wrong: List[Any] = [*NO_NUMBER]
    if name in ("attempts", "budget"):
        out_of_range.append(0)
        wrong.append(1.5)
    else:
        out_of_range.append(math.nan)
    if name != "total_time":
        wrong.append(None)
    for error, values in ((ValueError, out_of_range), (TypeError, wrong)):
        for value in values:
            with pytest.raises(error, match=f"^{name} "):
                Retry(**{name: value})


def test_a_hook_that_is_no_callable() -> None:
    """`on_retry` is a callable or None."""
    with pytest.raises(TypeError, match="^on_retry must be a callable"):
        Retry(on_retry="text")  # type: ignore[arg-type]


def test_an_option_that_there_is_not(executor: CassandraExecutor) -> None:
    """An unknown option of a view is a `TypeError` that names it and those that there are."""
    with pytest.raises(TypeError, match=r"no such option: colour, time_out; there are trace, .*"):
        executor.with_options(time_out=1, colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [-1, math.nan])
def test_timeout_of_a_view_out_of_range(executor: CassandraExecutor, value: float) -> None:
    """A negative time limit is a `ValueError` when the view is made."""
    with pytest.raises(ValueError, match="^timeout "):
        executor.with_options(timeout=value)


@pytest.mark.parametrize("value", NO_NUMBER)
def test_timeout_of_a_view_of_the_wrong_type(executor: CassandraExecutor, value: Any) -> None:
    """A time limit that is no number is a `TypeError` when the view is made."""
    with pytest.raises(TypeError, match="^timeout "):
        executor.with_options(timeout=value)


def test_a_profile_that_there_is_not(executor: CassandraExecutor) -> None:
    """An unknown execution profile is the driver's `ValueError`, when the view is made."""
    with pytest.raises(ValueError, match="nobody"):
        executor.with_options(execution_profile="nobody")
    with pytest.raises(ValueError, match="nobody"):
        CassandraExecutor(DriverSession()).with_options(execution_profile="nobody")


@any_drop_in
def test_a_profile_of_the_drop_ins_that_there_is_not(
    session: ScriptedSession, run: Callable[..., Any]
) -> None:
    """The drop-ins raise it at the call; nothing is sent."""
    with pytest.raises(ValueError, match="nobody"):
        run(session, execution_profile="nobody")
    assert not session.requests


# Statements and parameters

STATEMENTS: Dict[str, Any] = {
    "text": "SELECT %s",
    "simple": SimpleStatement("SELECT %s"),
    "prepared": prepare("SELECT ?", "a"),
    "bound": prepare("SELECT 1").bind(()),
    "batch": BatchStatement(),
}


@pytest.mark.parametrize("kind", list(STATEMENTS))
def test_positional_and_named_parameters_at_once(
    session: ScriptedSession, executor: CassandraExecutor, kind: str
) -> None:
    """Both at once are a `TypeError` for every kind of statement, and shows no values."""
    with pytest.raises(TypeError, match="positional or named parameters") as caught:
        executor.submit(STATEMENTS[kind], "s3cr3t", a="s3cr3t")
    assert "s3cr3t" not in str(caught.value)
    assert not session.requests


NOTHING_TO_RUN: List[Any] = [None, 5, b"SELECT 1", ["SELECT 1"], ("SELECT 1", ()), object()]


@pytest.mark.parametrize("thing", NOTHING_TO_RUN, ids=lambda thing: type(thing).__name__)
def test_neither_statement_nor_callable(executor: CassandraExecutor, thing: Any) -> None:
    """What is neither is a `TypeError` at the call that says what is expected, and what came."""
    runs: List[Callable[[], object]] = [
        lambda: executor.submit(thing),
        lambda: executor.submit(thing, 1, a=2),
        lambda: executor.map(thing, [1]),
        lambda: executor.map(thing, [], buffersize=1),
        lambda: executor.starmap(thing, [(1,)]),
        lambda: executor.starmap(thing, [], buffersize=1),
    ]
    for run in runs:
        with pytest.raises(
            TypeError, match=f"^fn must be a statement .* callable, not {type(thing).__name__}"
        ):
            run()


@pytest.mark.parametrize("thing", NOTHING_TO_RUN, ids=lambda thing: type(thing).__name__)
def test_neither_statement_nor_callable_in_a_pair(
    session: ScriptedSession, executor: CassandraExecutor, thing: Any
) -> None:
    """An item whose first part is no statement is a `TypeError` that names its place."""
    items = [("SELECT 1", None), (thing, (1,)), ("SELECT 2", None)]
    with pytest.raises(TypeError, match="^item 1 of the input must be a pair of a statement"):
        executor.execute_concurrent(items)
    results = executor.execute_concurrent(items, buffersize=1, return_exceptions=True)
    next(results)
    with pytest.raises(TypeError, match="^item 1 of the input must be a pair of a statement"):
        next(results)
    assert len(session.requests) == 2


def test_submit_needs_something_to_run(executor: CassandraExecutor) -> None:
    """`submit` takes what it runs positionally only."""
    with pytest.raises(TypeError, match="fn"):
        executor.submit()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="fn"):
        executor.submit(fn=len)  # type: ignore[call-overload]


@pytest.mark.parametrize("thing", [None, 5, object()], ids=lambda thing: type(thing).__name__)
def test_an_input_that_is_no_iterable(executor: CassandraExecutor, thing: Any) -> None:
    """It is a `TypeError` at the call that names the argument, with `buffersize` as well."""
    choices: List[Dict[str, Any]] = [{}, {"buffersize": 1}]
    for options in choices:
        with pytest.raises(TypeError, match=r"iterable must be an iterable, not "):
            executor.map("SELECT %s", thing, **options)
        with pytest.raises(TypeError, match=r"iterable must be an iterable, not "):
            executor.map(len, ["a"], thing, **options)
        with pytest.raises(TypeError, match=r"^iterable must be an iterable, not "):
            executor.starmap("SELECT %s", thing, **options)
        with pytest.raises(
            TypeError, match=r"^statements_and_parameters must be an iterable, not "
        ):
            executor.execute_concurrent(thing, **options)


def test_an_input_of_the_drop_ins_that_is_no_iterable(session: ScriptedSession) -> None:
    """It is a `TypeError` at the call that names the argument, in all of them."""
    thing: Any = 5
    name = "statements_and_parameters must be an iterable"
    with pytest.raises(TypeError, match=name):
        execute_concurrent(session, thing)
    with pytest.raises(TypeError, match=name):
        execute_concurrent(session, thing, results_generator=True)
    with pytest.raises(TypeError, match=name):
        execute_concurrent_async(session, thing)
    with pytest.raises(TypeError, match="parameters must be an iterable"):
        execute_concurrent_with_args(session, "SELECT %s", thing)


NO_PAIRS: List[Any] = [5, None, (), ("SELECT 1",), ("SELECT 1", (), ()), "SELECT 1", "ab", {}]


@pytest.mark.parametrize("item", NO_PAIRS, ids=repr)
def test_an_item_that_is_no_pair(
    session: ScriptedSession, executor: CassandraExecutor, item: Any
) -> None:
    """It is a `TypeError` that names its place, at the call, or with `buffersize` at its place."""
    items = [*PAIRS, item, *PAIRS]
    with pytest.raises(TypeError, match="^item 2 of the input must be a pair"):
        executor.execute_concurrent(items)
    session.requests.clear()
    results = executor.execute_concurrent(items, buffersize=10, return_exceptions=True)
    assert [next(results).all(), next(results).all()] == [[], []]
    with pytest.raises(TypeError, match="^item 2 of the input must be a pair"):
        next(results)
    assert len(session.requests) == 2


@pytest.mark.parametrize("item", [5, None, (), ("SELECT 1",), ("SELECT 1", (), ())], ids=repr)
def test_an_item_of_the_drop_ins_that_is_no_pair(session: ScriptedSession, item: Any) -> None:
    """It is raised in its place, and names it; earlier results are yielded, nothing later sent."""
    items = [*PAIRS, item, *PAIRS]
    expected = "item 2 of the input must be a pair"
    with pytest.raises((TypeError, ValueError), match=expected):
        execute_concurrent(session, items, raise_on_first_error=False)
    with pytest.raises((TypeError, ValueError), match=expected):
        execute_concurrent_async(session, items).result(LIMIT)
    session.requests.clear()
    results = execute_concurrent(session, items, results_generator=True)
    assert [next(results).success, next(results).success] == [True, True]
    with pytest.raises((TypeError, ValueError), match=expected):
        next(results)
    assert len(session.requests) == 2


@pytest.mark.parametrize("item", [5, None, "ab", b"ab", {1}], ids=repr)
@pytest.mark.parametrize("fn", ["SELECT %s", len], ids=["statement", "callable"])
def test_an_item_that_is_no_sequence(executor: CassandraExecutor, fn: Any, item: Any) -> None:
    """An item of `starmap` that is no sequence of parameters is a `TypeError`."""
    if item is None:
        return  # no parameters
    with pytest.raises(TypeError, match="parameters must be a sequence"):
        executor.starmap(fn, [item])
    with pytest.raises(TypeError, match="parameters must be a sequence"):
        next(executor.starmap(fn, [item], buffersize=1))


# After shutdown


def test_nothing_is_accepted_after_shutdown(
    session: ScriptedSession, executor: CassandraExecutor
) -> None:
    """Every call raises the standard's `RuntimeError` at once, through a view as well."""
    view = executor.with_options(timeout=1)
    executor.shutdown()
    for each in (executor, view, executor.with_options(trace=True)):
        runs: List[Callable[[], object]] = [
            lambda each=each: each.submit("SELECT 1"),  # type: ignore[misc]
            lambda each=each: each.submit(len, "a"),  # type: ignore[misc]
            *[lambda each=each, run=run: run(each) for run in MAPS.values()],
            *[lambda each=each, run=run: run(each, buffersize=1) for run in MAPS.values()],
        ]
        for run in runs:
            with pytest.raises(RuntimeError, match="^cannot schedule new futures after shutdown$"):
                run()
    assert not session.requests


# What goes wrong later


def rejects(request: DriverRequest) -> None:
    """Answer at once, and that of "bad" as a server does that does not understand it."""
    text = getattr(request.message, "query", "")
    request.answer(InvalidRequest("no")) if "bad" in text else request.void()


Outcome = List[Any]


def outcomes(session: Any, calls: Any) -> Dict[str, Outcome]:
    """Run calls in every way, and return what became of each."""
    executor = CassandraExecutor(session)
    futures = [executor.submit(statement, *(given or ())) for statement, given in calls]
    return {
        "submit": [future.exception(LIMIT) for future in futures],
        "execute_concurrent": list(executor.execute_concurrent(calls, return_exceptions=True)),
        "unordered": [
            result
            for _, result in sorted(
                executor.execute_concurrent(
                    calls, return_exceptions=True, ordered=False, with_calls=True
                ),
                key=lambda pair: pair[0].position or 0,
            )
        ],
        "list": [
            result for _, result in execute_concurrent(session, calls, raise_on_first_error=False)
        ],
        "generator": [
            result
            for _, result in execute_concurrent(
                session, calls, raise_on_first_error=False, results_generator=True
            )
        ],
        "async": [result for _, result in execute_concurrent_async(session, calls).result(LIMIT)],
    }


def kinds(results: Outcome) -> List[Any]:
    """Return the types of the exceptions among results, and None for the others."""
    return [type(each) if isinstance(each, BaseException) else None for each in results]


def test_a_statement_that_the_server_rejects() -> None:
    """The server's error is that call's alone, whichever way it was sent."""
    calls = [("good 0", None), ("bad", None), ("good 2", None)]
    for way, results in outcomes(DriverSession(rejects), calls).items():
        assert kinds(results) == [None, InvalidRequest, None], way


def test_a_value_of_the_wrong_type() -> None:
    """The driver's `TypeError` is that call's alone: it is no bad input of ours."""
    insert = prepare("INSERT INTO t (a) VALUES (?)", "a")
    calls = [(insert, [1]), (insert, ["text"]), (insert, [3])]
    for way, results in outcomes(DriverSession(rejects), calls).items():
        assert kinds(results) == [None, TypeError, None], way
        assert "invalid type for column" in str(results[1]), way


def test_a_text_with_too_few_parameters() -> None:
    """What the driver raises when it sends a text is that call's alone."""
    calls = [("SELECT %s", [1]), ("SELECT %s, %s", [1]), ("SELECT %s", [3])]
    for way, results in outcomes(DriverSession(rejects), calls).items():
        assert kinds(results) == [None, TypeError, None], way


def test_a_session_that_is_shut_down() -> None:
    """Each call on it has the driver's exception, and the executor goes on to accept calls."""
    session = ScriptedSession(answer)
    session.shutdown()
    for way, results in outcomes(session, PAIRS).items():
        assert kinds(results) == [NoHostAvailable] * 2, way


def test_execute_async_that_raises() -> None:
    """What a session raises is the exception of that call, and no other call is harmed."""

    def respond(request: ScriptedRequest) -> None:
        if "bad" in request.statement.query_string:
            raise OSError("no route")
        request.succeed()

    calls = [("good 0", None), ("bad", None), ("good 2", None)]
    for way, results in outcomes(ScriptedSession(respond), calls).items():
        assert kinds(results) == [None, OSError, None], way
