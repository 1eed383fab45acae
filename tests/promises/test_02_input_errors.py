"""Promise 2: an error of the caller's input reaches the caller, at its place."""

from __future__ import annotations

import json
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.waits import LIMIT, outcome


class _InputError(Exception):
    pass


class _Input:
    """Yields so many items, then raises, then would go on; counts how often it was asked."""

    def __init__(self, good: int, item: Any = (), error: Any = None) -> None:
        self._good = good
        self._item = item
        self._error = error or _InputError("of the input")
        self.asked = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.asked += 1
        if self.asked == self._good + 1:
            raise self._error
        return self._item


def drain(results: Iterator[Any]) -> Tuple[List[Any], Any]:
    """Return what was yielded, and what was raised then, or `None`."""
    seen: List[Any] = []
    try:
        for result in results:
            seen.append(result)
    except Exception as error:
        return seen, error
    return seen, None


def played(*, concurrency: int = 2) -> Tuple[ScriptedSession, CassandraExecutor]:
    """Return a session and an executor; a consumer that waits has the newest request answered."""

    def answer() -> bool:
        for request in reversed(session.pending):
            request.succeed([(request.number,)], ["number"])
            return True
        return False

    session = ScriptedSession()
    return session, CassandraExecutor(session, concurrency, clock=ManualClock(answer))


def number(result: Any) -> int:
    """Return the number of the request that a result answers."""
    return result.one().number  # type: ignore[no-any-return]


# Errors of the input itself


@given(
    good=st.integers(0, 12),
    buffersize=st.integers(1, 8),
    concurrency=st.integers(1, 5),
    ordered=st.booleans(),
    return_exceptions=st.booleans(),
    picks=st.lists(st.integers(0, 4), max_size=12),
)
def test_what_came_before_the_error_is_yielded_and_then_it_is_raised(
    good: int,
    buffersize: int,
    concurrency: int,
    ordered: bool,
    return_exceptions: bool,
    picks: List[int],
) -> None:
    """The input raises: all results before that are yielded, then the error itself is raised.

    In whatever order the requests are answered, and whether failures are returned or not.
    """

    def answer() -> bool:
        pending = session.pending
        if pending:
            pick = picks.pop() if picks else 0
            request = pending[pick % len(pending)]
            request.succeed([(request.number,)], ["number"])
        return bool(pending)

    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency, clock=ManualClock(answer))
    items = _Input(good)
    results = executor.starmap(
        "SELECT 1",
        items,
        buffersize=buffersize,
        ordered=ordered,
        return_exceptions=return_exceptions,
    )
    seen, error = drain(results)
    note(str(session.history))
    assert sorted(map(number, seen)) == list(range(good))
    assert not ordered or list(map(number, seen)) == list(range(good))
    assert isinstance(error, _InputError)
    assert error.__cause__ is None
    assert items.asked == good + 1, "the input was asked again"
    assert len(session.requests) == good, "something was sent that came later"
    assert next(results, "over") == "over"


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_without_buffersize_map_raises_at_the_call(return_exceptions: bool) -> None:
    """Without `buffersize`, `map` itself raises; what was queued is cancelled, never sent."""
    session, executor = played(concurrency=2)
    items = _Input(10)
    with pytest.raises(_InputError):
        executor.starmap("SELECT 1", items, return_exceptions=return_exceptions)
    assert items.asked == 11
    assert executor.stats().cancelled == 8
    for request in session.pending:
        request.succeed()
    assert len(session.requests) == 2
    assert executor.stats().succeeded == 2


def test_a_failure_before_the_error_of_the_input_comes_first() -> None:
    """A call fails that came before the input's error: the failure is raised, not the error."""
    session = ScriptedSession(lambda request: request.fail(OSError("scripted")))
    executor = CassandraExecutor(session)
    results = executor.starmap("SELECT 1", _Input(1), buffersize=5)
    with pytest.raises(OSError):
        next(results)


def test_failures_before_the_error_of_the_input_are_yielded() -> None:
    """With `return_exceptions=True`, failures are yielded, and the input's error is raised."""
    session = ScriptedSession(lambda request: request.fail(OSError("scripted")))
    executor = CassandraExecutor(session)
    results = executor.starmap("SELECT 1", _Input(3), buffersize=5, return_exceptions=True)
    seen, error = drain(results)
    assert [type(each) for each in seen] == [OSError] * 3
    assert isinstance(error, _InputError)


@pytest.mark.parametrize("buffersize", [None, 3])
def test_any_of_several_inputs_may_raise(buffersize: Any) -> None:
    """`map` takes one iterable per marker: the error of each of them reaches the caller."""
    _, executor = played()
    with pytest.raises(_InputError):
        list(executor.map("SELECT %s, %s", range(9), _Input(4), buffersize=buffersize))


@pytest.mark.parametrize("error", [ValueError("of __iter__"), TypeError("of __iter__")])
@pytest.mark.parametrize("method", ["map", "starmap", "execute_concurrent"])
def test_an_error_in_iter_reaches_the_caller(error: Exception, method: str) -> None:
    """`iter(input)` raises: it is that error which `map` raises, of whatever type."""

    class Broken:
        def __iter__(self) -> Iterator[Any]:
            raise error

    _, executor = played()
    run: Callable[..., Any] = getattr(executor, method)
    arguments = [Broken()] if method == "execute_concurrent" else ["SELECT 1", Broken()]
    with pytest.raises(type(error), match="of __iter__"):
        run(*arguments)


def test_callables_have_the_same_rule() -> None:
    """A `map` of plain callables yields what came before the error of its input, then raises."""
    _, executor = played()
    with executor:
        results = executor.map(str, _Input(4, 7), buffersize=2)
        seen, error = drain(results)
        assert seen == ["7"] * 4
        assert isinstance(error, _InputError)
        with pytest.raises(_InputError):
            executor.map(str, _Input(4, 7))


# Malformed items


class _NoSequence:
    pass


class _Raises:
    """An item that raises when it is read, such as a row that is decoded only then."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __repr__(self) -> str:
        return f"raises {type(self._error).__name__}"

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        raise self._error


class _OfCaller(ValueError):
    """An error with a constructor of its own, and with an attribute that the caller wants."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"{row}: {reason}")
        self.row = row


def _json_error() -> Exception:
    try:
        json.loads("{")
    except ValueError as error:
        return error
    raise AssertionError("not reached")


def after_two(bad: Any, good: Any = ()) -> Iterator[Any]:
    """Yield two good items, a bad one, and a good one."""
    yield from (good, good, bad, good)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("a string", TypeError),
        (b"bytes", TypeError),
        (7, TypeError),
        (_NoSequence(), TypeError),
        ({1, 2}, TypeError),
        (_Raises(_InputError("of the item")), _InputError),
        (_Raises(KeyError("of the item")), KeyError),
        (_Raises(_OfCaller(3, "of the item")), _OfCaller),
        (_Raises(_json_error()), json.JSONDecodeError),
        (_Raises(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "of the item")), UnicodeDecodeError),
        (_Raises(StopIteration("of the item")), (StopIteration, RuntimeError)),
    ],
    ids=lambda value: repr(value)[:25],
)
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_malformed_item_is_raised_at_its_place(
    bad: Any, kind: Any, return_exceptions: bool
) -> None:
    """An item that is no sequence, or that raises when it is read, is an error at its place.

    Two results are yielded, then the error of its own type is raised, and nothing later is sent.
    """
    session, executor = played()
    results = executor.starmap(
        "SELECT 1", after_two(bad), buffersize=2, return_exceptions=return_exceptions
    )
    seen, error = drain(results)
    assert len(seen) == 2
    assert isinstance(error, kind)
    assert isinstance(bad, _Raises) or "item 2" in str(error)
    assert len(session.requests) == 2


def test_the_error_of_an_item_is_the_callers_own() -> None:
    """What an item raised is raised with its attributes, itself or as the cause."""
    _, executor = played()
    own = _OfCaller(3, "of the item")
    seen, error = drain(executor.starmap("SELECT 1", after_two(_Raises(own)), buffersize=2))
    assert len(seen) == 2
    assert own in (error, error.__cause__)


@pytest.mark.parametrize(
    "bad",
    [
        "SELECT 1",
        "ab",
        ("SELECT 1",),
        ("SELECT 1", (), ()),
        (None, ()),
        (print, ()),
        7,
        None,
        ("SELECT %s", "a string"),
        ("SELECT %s", 7),
        _Raises(StopIteration()),
    ],
    ids=repr,
)
@pytest.mark.parametrize("buffersize", [None, 2])
def test_an_item_that_is_no_pair_is_raised_at_its_place(bad: Any, buffersize: Any) -> None:
    """`execute_concurrent` takes pairs of a statement and its parameters; all else is an error."""
    session, executor = played()
    good = ("SELECT 1", None)
    seen: List[Any] = []
    with pytest.raises((TypeError, ValueError, RuntimeError, StopIteration)):
        results = executor.execute_concurrent(after_two(bad, good), buffersize=buffersize)
        seen, error = drain(results)
        raise error or AssertionError("nothing was raised")
    assert len(seen) == (2 if buffersize else 0)
    assert len(session.requests) == 2


@pytest.mark.parametrize("bad", [(), (1, 2), {"id": 1, "more": 2}, {"other": 1}], ids=repr)
def test_parameters_that_do_not_match_are_raised_at_their_place(bad: Any) -> None:
    """A prepared statement has other markers: a `ValueError` that names the item."""
    session, executor = played()
    statement = session.prepare("SELECT * FROM t WHERE id = ?", id="int")
    seen, error = drain(executor.starmap(statement, after_two(bad, (1,)), buffersize=3))
    assert len(seen) == 2
    assert isinstance(error, ValueError)
    assert "item 2" in str(error)
    assert len(session.requests) == 2


# The drop-ins


def echo(request: ScriptedRequest) -> None:
    """Answer at once."""
    request.succeed([(request.number,)], ["number"])


@pytest.mark.parametrize("raise_on_first_error", [False, True])
def test_the_list_of_the_drop_ins_raises_the_error_of_its_input(raise_on_first_error: bool) -> None:
    """`execute_concurrent` raises it whatever `raise_on_first_error` says, and sends no more."""
    session = ScriptedSession(echo)
    items = _Input(3, ("SELECT 1", None))
    with pytest.raises(_InputError):
        execute_concurrent(session, items, raise_on_first_error=raise_on_first_error)
    assert items.asked == 4
    assert len(session.requests) == 3


@pytest.mark.parametrize("raise_on_first_error", [False, True])
def test_the_generator_of_the_drop_ins_yields_what_came_before(raise_on_first_error: bool) -> None:
    """The generator yields the results before the error, then raises it."""
    session = ScriptedSession(echo)
    results = execute_concurrent_with_args(
        session,
        "SELECT 1",
        _Input(3, None),
        raise_on_first_error=raise_on_first_error,
        results_generator=True,
    )
    seen, error = drain(results)
    assert [number(result.result_or_exc) for result in seen] == [0, 1, 2]
    assert isinstance(error, _InputError)


def test_the_future_of_the_drop_ins_ends_with_the_error_of_its_input() -> None:
    """`execute_concurrent_async` gives the error to its future."""
    session = ScriptedSession(echo)
    future = execute_concurrent_async(session, _Input(3, ("SELECT 1", None)))
    assert isinstance(outcome(future), _InputError)


@pytest.mark.parametrize("bad", [7, None, ("SELECT 1",), "SELECT 1"], ids=repr)
def test_the_drop_ins_raise_what_is_no_pair(bad: Any) -> None:
    """What is no pair of statement and parameters is raised by all three of them."""
    session = ScriptedSession(echo)
    good = ("SELECT 1", None)
    kinds = (TypeError, ValueError)
    with pytest.raises(kinds):
        execute_concurrent(session, after_two(bad, good))
    seen, error = drain(execute_concurrent(session, after_two(bad, good), results_generator=True))
    assert len(seen) == 2
    assert isinstance(error, kinds)
    assert isinstance(outcome(execute_concurrent_async(session, after_two(bad, good))), kinds)
    assert len(session.requests) == 6


def test_stop_iteration_of_a_parameter_is_no_end_of_the_input() -> None:
    """A parameter raises `StopIteration` while it is copied: the rest is not silently left out."""

    class Odd(list):  # type: ignore[type-arg]
        def __deepcopy__(self, memo: Any) -> Any:
            raise StopIteration

    session = ScriptedSession(echo)
    executor = CassandraExecutor(session)
    results = executor.starmap("SELECT %s", after_two((Odd(),), (1,)), buffersize=10)
    seen, error = drain(results)
    assert len(seen) == 2
    assert error is not None, "the map ended as if the input had"
    with pytest.raises((StopIteration, RuntimeError)):
        list(executor.starmap("SELECT %s", after_two((Odd(),), (1,))))


def test_what_is_raised_at_the_call_leaves_nothing_behind() -> None:
    """After a `map` that raised at the call, the executor goes on and comes to its end."""
    session, executor = played(concurrency=1)
    with pytest.raises(_InputError):
        executor.starmap("SELECT 1", _Input(3))
    future = executor.submit("SELECT 2")
    for _ in range(2):
        session.pending[0].succeed()
    assert outcome(future) is None
    assert future.result(LIMIT).one() is None
    assert executor.stats().queued == executor.stats().in_flight == 0
