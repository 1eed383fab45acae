"""Promise 19: parameters match their statement exactly, or the call is refused when it is taken."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

import pytest
from cassandra import concurrent as driver
from cassandra.query import UNSET_VALUE, BatchStatement
from hypothesis import given
from hypothesis import strategies as st

import cassconc
from cassconc import CassandraExecutor
from cassconc.testing import ScriptedSession
from tests.driver import DriverRequest, DriverSession, prepare

INSERT = prepare("INSERT INTO t (a, b) VALUES (?, ?)", "a", "b")
NOTHING = prepare("INSERT INTO t (a) VALUES (1)")

Take = Callable[[CassandraExecutor, Any, Any], object]

# Each takes one call; what is wrong with its parameters is raised at once.
TAKERS: Dict[str, Take] = {
    "starmap": lambda ex, statement, given: ex.starmap(statement, [given]),
    "starmap unordered": lambda ex, statement, given: ex.starmap(
        statement, [given], ordered=False, return_exceptions=True
    ),
    "starmap, when asked": lambda ex, statement, given: next(
        ex.starmap(statement, [given], buffersize=1)
    ),
    "execute_concurrent": lambda ex, statement, given: ex.execute_concurrent([(statement, given)]),
    "execute_concurrent, when asked": lambda ex, statement, given: next(
        ex.execute_concurrent([(statement, given)], buffersize=1, return_exceptions=True)
    ),
}


def submit(executor: CassandraExecutor, statement: Any, given: Any) -> object:
    """Take a call by `submit`."""
    return (
        executor.submit(statement, **given)
        if isinstance(given, dict)
        else executor.submit(statement, *given)
    )


def map_(executor: CassandraExecutor, statement: Any, given: Any) -> object:
    """Take a call by `map`."""
    return executor.map(statement, *[[value] for value in given])


ANY_WAY = {"submit": submit, **TAKERS}

taken_by = pytest.mark.parametrize("take", list(TAKERS.values()), ids=list(TAKERS))
taken_any_way = pytest.mark.parametrize("take", list(ANY_WAY.values()), ids=list(ANY_WAY))


def answer(request: DriverRequest) -> None:
    """Answer at once."""
    request.void()


def refused(take: Take, error: Any, statement: Any, given: Any) -> str:
    """Check that a call is refused when it is taken, and that nothing is sent; return the text."""
    session = DriverSession(answer)
    executor = CassandraExecutor(session)
    with pytest.raises(error) as caught:
        take(executor, statement, given)
    assert type(caught.value) is error
    assert not session.requests
    assert executor.stats().submitted == 0
    return str(caught.value)


@taken_any_way
@pytest.mark.parametrize("given", [(), (1,), (1, 2, 3)])
def test_the_number_of_parameters_matches_exactly(take: Take, given: Any) -> None:
    """Too few or too many are a `ValueError` that names the markers and says how many came."""
    text = refused(take, ValueError, INSERT, given)
    assert "a, b" in text
    assert f"got {len(given)}" in text
    assert "INSERT INTO t (a, b)" in text


@taken_any_way
@pytest.mark.parametrize("given", [{"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}])
def test_the_names_of_parameters_match_exactly(take: Take, given: Any) -> None:
    """Names that are missing or too many are a `ValueError` with the markers and the names."""
    text = refused(take, ValueError, INSERT, given)
    assert "a, b" in text
    assert f"got {', '.join(given)}" in text


@pytest.mark.parametrize("given", [(1,), (1, 2, 3)])
def test_map_wants_one_iterable_for_each_marker(given: Any) -> None:
    """`map` with another number of iterables than markers is a `ValueError`."""
    refused(map_, ValueError, INSERT, given)


@taken_by
def test_a_statement_without_markers_takes_no_parameters(take: Take) -> None:
    """A prepared statement without markers is called with none, and refuses any."""
    refused(take, ValueError, NOTHING, (1,))
    refused(take, ValueError, NOTHING, {"a": 1})
    nothing: List[Any] = [None, (), [], {}]
    for each in nothing:
        take(CassandraExecutor(DriverSession(answer)), NOTHING, each)


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, unique=True),
    st.lists(st.sampled_from("abcd"), unique=True),
)
def test_named_parameters_are_taken_exactly_when_the_names_are_the_markers(
    markers: List[str], names: List[str]
) -> None:
    """Whatever the names: those of the markers, in any order, are sent; others are refused."""
    session = DriverSession()
    executor = CassandraExecutor(session)
    statement = prepare("INSERT", *markers)
    values = {name: ord(name) for name in names}
    if set(markers) == set(names):
        executor.execute_concurrent([(statement, values)])
        sent = [int.from_bytes(value, "big") for value in session.requests[0].message.query_params]
        assert sent == [ord(name) for name in markers]
    else:
        with pytest.raises(ValueError):
            executor.execute_concurrent([(statement, values)])
        assert not session.requests


@pytest.mark.parametrize("given", [(1, UNSET_VALUE), {"a": 1, "b": UNSET_VALUE}])
def test_unset_is_said_explicitly(given: Any) -> None:
    """`UNSET_VALUE` leaves a column as it is, and `None` stores a null, where they are given."""
    session = DriverSession()
    submit(CassandraExecutor(session), INSERT, given)
    submit(CassandraExecutor(session), INSERT, (None, 2))
    first, second = (request.message.query_params for request in session.requests)
    assert first == [b"\0\0\0\1", UNSET_VALUE]
    assert second == [None, b"\0\0\0\2"]


BATCH = BatchStatement()
BATCH.add("INSERT")


@taken_any_way
@pytest.mark.parametrize("given", [(1,), {"a": 1}])
@pytest.mark.parametrize("statement", [INSERT.bind((1, 2)), BATCH], ids=["bound", "batch"])
def test_what_is_bound_takes_no_parameters(take: Take, statement: Any, given: Any) -> None:
    """A bound statement or a batch with parameters is a `TypeError` that says so."""
    text = refused(take, TypeError, statement, given)
    assert type(statement).__name__ in text
    assert "no parameters" in text


@taken_any_way
@pytest.mark.parametrize("given", [(), {}])
@pytest.mark.parametrize("statement", [INSERT.bind((1, 2)), BATCH], ids=["bound", "batch"])
def test_what_is_bound_is_sent_without_parameters(take: Take, statement: Any, given: Any) -> None:
    """A bound statement or a batch is sent as it is, whichever way nothing is said."""
    session = DriverSession(answer)
    executor = CassandraExecutor(session)
    take(executor, statement, given)
    assert executor.stats().succeeded == 1


@taken_by
@pytest.mark.parametrize("statement", ["INSERT (%s, %s)", INSERT], ids=["text", "prepared"])
@pytest.mark.parametrize(
    "given",
    ["ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), {1, 2}, frozenset([1]), 12, 1.5, iter([1])],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_sequence_is_refused(take: Take, statement: Any, given: Any) -> None:
    """A text or bytes, a set, an iterator, a number as parameters: a `TypeError`.

    A text of the right length would be taken apart otherwise, and its letters stored.
    """
    text = refused(take, TypeError, statement, given)
    assert "must be a sequence" in text
    assert type(given).__name__ in text


class Row:
    """A sequence that is neither list nor tuple."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Any:
        return iter((1, 2))

    def __getitem__(self, index: int) -> int:
        return (1, 2)[index]


@taken_by
@pytest.mark.parametrize("statement", ["INSERT (%s, %s)", INSERT], ids=["text", "prepared"])
@pytest.mark.parametrize(
    "given", [(1, 2), [1, 2], range(1, 3), Row(), {"a": 1, "b": 2}.values()], ids=repr
)
def test_any_sequence_will_do(take: Take, statement: Any, given: Any) -> None:
    """Tuples, lists and other sequences are parameters."""
    session = DriverSession(answer)
    take(CassandraExecutor(session), statement, given)
    [request] = session.requests
    if statement is INSERT:
        assert request.message.query_params == [b"\0\0\0\1", b"\0\0\0\2"]
    else:
        assert request.message.query == "INSERT (1, 2)"


@pytest.mark.parametrize("buffersize", [None, 1, 2, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_misfit_in_an_input_is_raised_at_its_place(
    session: ScriptedSession, buffersize: Optional[int], ordered: bool
) -> None:
    """With `buffersize` what came before it is yielded first; its place is in the message.

    Without it, `map` raises at the call. Nothing that comes later is sent, and it is raised with
    `return_exceptions=True`, too: it is no failure of a statement.
    """
    session.respond = lambda request: request.succeed([request.parameters], ["a", "b"])
    items = [(0, 0), (1, 1), (2,), (3, 3)]
    got: List[Any] = []
    with pytest.raises(ValueError, match="item 2 of the input"):
        for rows in CassandraExecutor(session).starmap(
            INSERT, items, buffersize=buffersize, ordered=ordered, return_exceptions=True
        ):
            got.append(rows.one())
    assert got == ([] if buffersize is None else [(0, 0), (1, 1)])
    assert len(session.requests) <= 2


# The driver's own rules for the parameters of its functions.
DRIVERS_CASES = {
    "too few": (INSERT, [1]),
    "none": (INSERT, None),
    "too many": (INSERT, [1, 2, 3]),
    "names missing": (INSERT, {"a": 1}),
    "names too many": (INSERT, {"a": 1, "b": 2, "c": 3}),
    "bound with parameters": (INSERT.bind((1, 2)), [3, 4]),
    "batch with parameters": (BATCH, [3, 4]),
    "text with a text": ("INSERT (%s, %s)", "ab"),
    "text with a set": ("INSERT (%s)", {1}),
    "text with an iterator": ("INSERT (%s, %s)", iter([1, 2])),
    "wrong type": (INSERT, ["one", 2]),
    "too few for a text": ("INSERT (%s, %s)", [1]),
    "no statement": (12, [1]),
}


@pytest.mark.parametrize("name", list(DRIVERS_CASES))
def test_the_drop_ins_keep_the_rules_of_the_driver(name: str) -> None:
    """What the driver's function sends, or fails with, is what ours does."""
    statement, given = DRIVERS_CASES[name]
    outcomes = []
    for function in (driver.execute_concurrent, cassconc.execute_concurrent):
        session = DriverSession(answer)
        if name == "text with an iterator":
            given = iter([1, 2])
        [(success, result)] = function(session, [(statement, given)], raise_on_first_error=False)
        sent = [
            vars(request.message).get("query_params") or vars(request.message).get("query")
            for request in session.requests
        ]
        outcomes.append((success, sent, None if success else (type(result), str(result))))
    assert outcomes[0] == outcomes[1]
