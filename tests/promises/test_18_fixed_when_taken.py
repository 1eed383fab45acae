"""Promise 18: what is taken is fixed then; later changes do not change a waiting call."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, SimpleStatement
from cassandra.util import OrderedMapSerializedKey, SortedSet
from hypothesis import given
from hypothesis import strategies as st

from cassconc import (
    CassandraExecutor,
    Retry,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from cassconc.testing import ManualClock, ScriptedSession
from tests.driver import DriverSession, prepare
from tests.parts import needs
from tests.waits import LIMIT, Background

INSERT = prepare("INSERT INTO t (a, b) VALUES (?, ?)", "a", "b")

# Each takes one call with these parameters, on an executor whose only place is taken.
TAKERS: Dict[str, Callable[[CassandraExecutor, Any, Any], object]] = {
    "submit": lambda ex, statement, given: (
        ex.submit(statement, **given) if isinstance(given, dict) else ex.submit(statement, *given)
    ),
    "starmap": lambda ex, statement, given: ex.starmap(statement, [given]),
    "execute_concurrent": lambda ex, statement, given: ex.execute_concurrent([(statement, given)]),
}

taken_by = pytest.mark.parametrize("take", list(TAKERS.values()), ids=list(TAKERS))


class Queue:
    """An executor with one place, which is taken: what is taken now waits."""

    def __init__(self, **options: Any) -> None:
        self.session = DriverSession()
        self.executor = CassandraExecutor(self.session, concurrency=1)
        self.executor.submit("SELECT 1")
        self.view = self.executor.with_options(**options)

    def sent(self) -> Any:
        """Make room, and return the message that is sent for what has waited."""
        assert len(self.session.requests) == 1, "the call did not wait"
        self.session.requests[0].void()
        return self.session.wait_for(2).message


def values_of(message: Any) -> List[int]:
    """Return the integers that a prepared statement is sent with."""
    return [int.from_bytes(value, "big") for value in message.query_params]


@needs("batches")
def test_a_batch_may_be_cleared_and_filled_again() -> None:
    """What a batch held when it was submitted is sent, although it is used again already."""
    queue = Queue()
    batch = BatchStatement(custom_payload={"who": b"first"})
    batch.add("INSERT 1").add("INSERT 2")
    queue.view.submit(batch)
    batch.clear()
    batch.add("INSERT 3")
    message = queue.sent()
    assert [text for _, text, _ in message.queries] == ["INSERT 1", "INSERT 2"]
    assert message.custom_payload == {"who": b"first"}


@needs("batches")
@pytest.mark.parametrize("way", ["map", "drop-in"])
def test_a_batch_may_be_cleared_between_items(way: str) -> None:
    """One batch that is filled anew for each item of an input is sent as it was each time."""
    session = DriverSession()

    def items() -> Iterator[Tuple[Any, Any]]:
        batch = BatchStatement()
        for n in range(3):
            batch.clear()
            batch.add(f"INSERT {n}")
            yield batch, None

    if way == "map":
        CassandraExecutor(session, concurrency=1).execute_concurrent(items())
    else:
        running = Background(lambda: execute_concurrent(session, items(), concurrency=1))
    for n in range(3):
        request = session.wait_for(n + 1)
        assert [text for _, text, _ in request.message.queries] == [f"INSERT {n}"]
        request.void()
    if way == "drop-in":
        assert len(running.result()) == 3


@pytest.mark.parametrize("change", ["bind", "consistency_level", "custom_payload"])
def test_a_bound_statement_may_be_bound_again(change: str) -> None:
    """A bound statement is sent with the values and options that it had."""
    queue = Queue()
    bound = INSERT.bind((1, 2))
    bound.custom_payload = {"who": b"first"}
    queue.view.submit(bound)
    if change == "bind":
        bound.bind((3, 4))
    elif change == "consistency_level":
        bound.consistency_level = ConsistencyLevel.ALL
    else:
        bound.custom_payload["who"] = b"second"
    message = queue.sent()
    assert values_of(message) == [1, 2]
    assert message.consistency_level != ConsistencyLevel.ALL
    assert message.custom_payload == {"who": b"first"}


@pytest.mark.parametrize("change", ["consistency_level", "fetch_size", "custom_payload"])
def test_a_simple_statement_may_be_changed(change: str) -> None:
    """A simple statement is sent with the options that it had."""
    queue = Queue()
    statement = SimpleStatement("SELECT 2", fetch_size=7, custom_payload={"who": b"first"})
    queue.view.submit(statement)
    if change == "custom_payload":
        statement.custom_payload["who"] = b"second"
    else:
        setattr(statement, change, 10)
    message = queue.sent()
    assert message.consistency_level == ConsistencyLevel.LOCAL_ONE
    assert message.fetch_size == 7
    assert message.custom_payload == {"who": b"first"}


def test_a_prepared_statement_may_be_changed() -> None:
    """A call of a prepared statement is sent with the options that the statement had."""
    queue = Queue()
    statement = prepare("SELECT a FROM t", "a")
    queue.view.submit(statement, 1)
    statement.consistency_level = ConsistencyLevel.ALL
    assert queue.sent().consistency_level == ConsistencyLevel.LOCAL_ONE


def test_the_payload_of_a_view_may_be_changed() -> None:
    """A dict that was given to `with_options` is not looked at again for a waiting call."""
    payload = {"who": b"first"}
    queue = Queue(custom_payload=payload)
    queue.view.submit("SELECT 2")
    payload["who"] = b"second"
    assert queue.sent().custom_payload == {"who": b"first"}


def test_who_a_view_executes_as_is_not_passed_on() -> None:
    """`execute_as` of one view is not that of another one with the same `custom_payload`.

    The driver writes it into the dict that it is given.
    """
    session = DriverSession()
    base = CassandraExecutor(session).with_options(custom_payload={"who": b"first"})
    base.with_options(execute_as="bob").submit("SELECT 1")
    base.submit("SELECT 2")
    assert session.requests[0].message.custom_payload == {"who": b"first", "ProxyExecute": b"bob"}
    assert session.requests[1].message.custom_payload == {"who": b"first"}


@taken_by
@pytest.mark.parametrize("text", ["INSERT (%s, %s)", "INSERT (%(a)s, %(b)s)"])
def test_parameters_of_a_text_may_be_reused(take: Callable[..., object], text: str) -> None:
    """A list or dict of parameters that is changed afterwards is sent as it was."""
    queue = Queue()
    parameters: Any = [1, 2] if "(%s" in text else {"a": 1, "b": 2}
    take(queue.view, text, parameters)
    parameters[0 if isinstance(parameters, list) else "a"] = 3
    assert queue.sent().query == "INSERT (1, 2)"


@taken_by
@pytest.mark.parametrize("given", [[1, 2], {"a": 1, "b": 2}], ids=["list", "dict"])
def test_parameters_of_a_prepared_statement_may_be_reused(
    take: Callable[..., object], given: Any
) -> None:
    """A list or dict of parameters that is changed afterwards is sent as it was."""
    queue = Queue()
    given = copy.copy(given)
    take(queue.view, INSERT, given)
    given[0 if isinstance(given, list) else "a"] = 3
    assert values_of(queue.sent()) == [1, 2]


@pytest.mark.parametrize("buffersize", [None, 2, 10])
def test_one_list_may_serve_a_whole_input(buffersize: Any) -> None:
    """An input that yields one and the same list, changed for each item, is sent as it was."""
    session = DriverSession()

    def rows() -> Iterator[List[int]]:
        row = [0, 0]
        for n in range(5):
            row[:] = n, 10 * n
            yield row

    def run() -> int:
        executor = CassandraExecutor(session, concurrency=1)
        return len(list(executor.starmap(INSERT, rows(), buffersize=buffersize)))

    running = Background(run)
    for n in range(5):
        request = session.wait_for(n + 1)
        assert values_of(request.message) == [n, 10 * n]
        request.void()
    assert running.result() == 5


@pytest.mark.parametrize("name", ["list", "with_args", "async"])
@pytest.mark.parametrize("statement", [INSERT, "INSERT (%s, %s)"], ids=["prepared", "text"])
def test_one_list_may_serve_a_whole_input_of_the_drop_ins(name: str, statement: Any) -> None:
    """The drop-ins take a list that is changed for each item as it was, prepared or not."""
    session = DriverSession()

    def rows() -> Iterator[List[int]]:
        row = [0, 0]
        for n in range(5):
            row[:] = n, 10 * n
            yield row

    def run() -> Any:
        if name == "with_args":
            return execute_concurrent_with_args(session, statement, rows(), concurrency=1)
        pairs = ((statement, row) for row in rows())
        if name == "list":
            return execute_concurrent(session, pairs, 1)
        return execute_concurrent_async(session, pairs, 1).result(LIMIT)

    running = Background(run)
    for n in range(5):
        request = session.wait_for(n + 1)
        if statement is INSERT:
            assert values_of(request.message) == [n, 10 * n]
        else:
            assert request.message.query == f"INSERT ({n}, {10 * n})"
        request.void()
    assert len(running.result()) == 5


def test_a_value_that_does_not_fit_stays_the_one_that_was_taken() -> None:
    """A call with a value of the wrong type fails, also when the list was mended since.

    Otherwise it would store the values of another call.
    """
    session = DriverSession()

    def rows() -> Iterator[List[Any]]:
        row: List[Any] = [0, 0]
        for row[0] in (1, "wrong", 3):
            yield row

    results = execute_concurrent_with_args(session, INSERT, rows(), 1, False, True)
    for number in (1, 2):
        session.wait_for(number).void()
    assert [values_of(request.message) for request in session.requests] == [[1, 0], [3, 0]]
    errors = [None if success else type(error) for success, error in results]
    assert errors == [None, TypeError, None]


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: [1, 2], lambda value: value.append(3)),
        (lambda: {1, 2}, lambda value: value.add(3)),
        (lambda: {1: 2}, lambda value: value.update({1: 3})),
        (lambda: bytearray(b"12"), lambda value: value.extend(b"3")),
        (lambda: [[1], [2]], lambda value: value[0].append(3)),
        (lambda: {1: [2]}, lambda value: value[1].append(3)),
        (lambda: (1, [2]), lambda value: value[1].append(3)),
        (lambda: (1, ([2],)), lambda value: value[1][0].append(3)),
        (lambda: SortedSet([1, 2]), lambda value: value.add(3)),
    ],
    ids=["list", "set", "dict", "bytearray", "list in list", "list in dict", "list in tuple",
         "list in tuple in tuple", "SortedSet"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["INSERT (%s)", "INSERT (%(a)s)"])
def test_values_may_be_changed(text: str, make: Any, change: Any) -> None:
    """A collection that is changed afterwards, at any depth, is sent as it was."""
    expected, queue = Queue(), Queue()
    take, name = TAKERS["submit"], "a" if "%(" in text else None
    value, untouched = make(), make()
    take(queue.view, text, {name: value} if name else [value])
    take(expected.view, text, {name: untouched} if name else [untouched])
    change(value)
    assert queue.sent().query == expected.sent().query


NESTED = st.recursive(
    st.integers(0, 9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=10,
)


def spoil(value: Any) -> None:
    """Change everything in a value that can be changed."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if isinstance(inner, (list, tuple)):
        for each in inner:
            spoil(each)
    if isinstance(value, list):
        value.append("spoilt")
    elif isinstance(value, dict):
        value["spoilt"] = "spoilt"


@given(st.lists(NESTED, min_size=1, max_size=4), st.sampled_from(sorted(TAKERS)))
def test_no_change_reaches_a_waiting_call(parameters: List[Any], name: str) -> None:
    """Whatever is changed in the parameters after a call was taken, it is sent as it was."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, concurrency=1)
    executor.submit("SELECT 1")
    before = tuple(copy.deepcopy(parameters))
    TAKERS[name](executor, "INSERT", parameters)
    for value in parameters:
        spoil(value)
    parameters.clear()
    session.pending[0].succeed()
    assert session.requests[1].parameters == before


def test_a_map_of_the_driver_may_be_changed() -> None:
    """A map that the driver has returned, with keys of any type, is sent as it was."""
    queue = Queue()
    value = OrderedMapSerializedKey(INSERT.column_metadata[0].type, 4)
    value._insert(1, 2)
    queue.view.submit("INSERT (%s)", value)
    value._insert(1, 3)
    assert queue.sent().query == "INSERT ({1: 2})"


def test_a_retry_sends_what_was_taken(clock: ManualClock) -> None:
    """Every attempt sends what the first one did, although the statement was changed since."""
    session = ScriptedSession()
    executor = CassandraExecutor(session, clock=clock, retry=Retry(delay=0))
    bound = session.prepare("INSERT ?", a="int").bind((1,))
    bound.is_idempotent = True
    executor.submit(bound)
    clock.advance(10.0)
    bound.bind((2,))
    clock.advance(1.0)
    first, second = session.wait_for(2)
    assert second.statement.values == first.statement.values == [b"\0\0\0\1"]


def test_a_later_page_is_that_of_what_was_taken() -> None:
    """The next page is asked for as the first one was, although the statement was changed."""
    session = DriverSession()
    statement = SimpleStatement("SELECT n", fetch_size=1)
    future = CassandraExecutor(session).submit(statement)
    session.requests[0].rows([(1,)], ["n"], paging_state=b"1")
    statement.fetch_size = 1000
    fetching = Background(future.result(0).fetch_next_page)
    message = session.wait_for(2).message
    assert (message.fetch_size, message.paging_state) == (1, b"1")
    session.requests[1].rows([(2,)], ["n"], paging_state=b"2")
    fetching.result()
