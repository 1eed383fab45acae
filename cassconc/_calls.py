"""Calls: what is taken, checked and fixed before it waits for its turn."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Dict, NamedTuple, Optional, Tuple, Union

from ._driver import (
    CHANGEABLE,
    BatchStatement,
    BoundStatement,
    PreparedStatement,
    Statement,
    fixed,
    with_own_payload,
)

Parameters = Union[Tuple[Any, ...], Dict[Any, Any]]

_LONGEST = 200  # characters of a statement that are shown


class Call(NamedTuple):
    """A statement or a plain callable with its arguments, and its place in the input of its `map`.

    `statement` and `parameters` are what was given; `position` counts from 0 and is `None` for a
    call of `submit`. The `repr` shows no parameter values.
    """

    statement: Any
    parameters: Any
    position: Optional[int] = None

    def __repr__(self) -> str:
        return f"<Call {self}>"

    def __str__(self) -> str:
        number = "" if self.position is None else f"{self.position}: "
        return number + text_of(self.statement)


def text_of(statement: Any) -> str:
    """Return the text of a statement or the name of a callable, on one line and shortened."""
    if isinstance(statement, BoundStatement):
        statement = statement.prepared_statement
    text: Any
    if isinstance(statement, BatchStatement):
        text = f"batch of {len(statement)} statements"
    elif isinstance(statement, str):
        text = statement
    else:
        text = getattr(statement, "query_string", None)
        if not isinstance(text, str):
            text = getattr(statement, "__qualname__", None) or type(statement).__qualname__
    line = " ".join(text[: 2 * _LONGEST].split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def is_statement(thing: Any) -> bool:
    """Return whether this is a statement; asked before `callable`, for a mock is always that."""
    return isinstance(thing, (str, Statement, PreparedStatement))


def check_runnable(name: str, thing: Any) -> bool:
    """Return whether `thing` is a statement; raise `TypeError` where it is no callable either."""
    if is_statement(thing):
        return True
    if callable(thing):
        return False
    raise TypeError(
        f"{name} must be a statement (a CQL string or one of the driver's statements) "
        f"or a callable, not {type(thing).__name__}"
    )


Taken = Tuple[Any, Any]  # a statement and parameters that nobody else can change


def take(statement: Any, given: Any, position: Optional[int] = None) -> Taken:
    """Check a statement with the parameters that were given for it, and fix both as they are now.

    `position` is the place in the input, for messages.

    Raises `TypeError` for parameters that are no sequence and no dict, and for those of a
    statement that has its own, and `ValueError` where a prepared statement has other markers:
    the driver would take `UNSET_VALUE` for what is missing.
    """
    # type, not isinstance: a Mock(spec=PreparedStatement) has no columns to compare with
    if issubclass(type(statement), PreparedStatement):
        return _take_prepared(statement, given, position)
    given = checked(given, statement, position)
    if isinstance(statement, str):
        return statement, _fixed_values(given)
    if given and isinstance(statement, (BoundStatement, BatchStatement)):
        kind = type(statement).__name__
        raise TypeError(
            f"{place(position)}a {kind} takes no parameters, it has its own: {text_of(statement)}"
        )
    return fixed(statement), _fixed_values(given)


def take_as_driver(statement: Any, given: Any) -> Taken:
    """Fix a statement and its parameters as they are now; what they may be, the driver says."""
    if issubclass(type(statement), PreparedStatement):
        return _bound(statement, given)
    if isinstance(given, (tuple, list, dict)):
        given = _fixed_values(given)
    return (statement if isinstance(statement, str) else fixed(statement)), given


def _take_prepared(statement: Any, given: Any, position: Optional[int]) -> Taken:
    if type(given) is not tuple:
        given = checked(given, statement, position)
    columns = statement.column_metadata or ()
    if isinstance(given, dict):
        matches = set(given) == {column.name for column in columns}
    else:
        matches = len(given) == len(columns)
    if not matches:
        raise _mismatch(statement, given, position)
    return _bound(statement, given)


def _bound(statement: Any, given: Any) -> Taken:
    try:
        bound = statement.bind(given)
        return (bound if bound.custom_payload is None else with_own_payload(bound)), None
    except Exception:  # a value of the wrong type: it will be raised again when the call is sent
        if isinstance(given, (tuple, list, dict)):
            given = _fixed_values(given)
        return statement, given


def pair(item: Any, position: int) -> Any:
    """Return an item as a statement and its parameters; raise `TypeError` for what is no pair."""
    if type(item) is tuple and len(item) == 2:
        return item
    if isinstance(item, (str, bytes, Mapping)) or not hasattr(type(item), "__iter__"):
        raise no_pair(item, position)
    given = tuple(item)
    if len(given) != 2:
        raise no_pair(item, position)
    return given


def no_pair(item: Any, position: int) -> TypeError:
    """Return the exception for an item that is no pair of a statement and its parameters."""
    return TypeError(
        f"{place(position)[:-2]} must be a pair of a statement and its parameters, "
        f"not {type(item).__name__}"
    )


def place(position: Optional[int]) -> str:
    """Return how a message begins that is about an item of an input."""
    return "" if position is None else f"item {position} of the input: "


def checked(given: Any, statement: Any, position: Optional[int] = None) -> Parameters:
    """Return the parameters as a tuple or a dict; raise `TypeError` for what can be neither."""
    if given is None:
        return ()
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, (str, bytes, bytearray, memoryview, set, frozenset)) or not (
        hasattr(given, "__len__") and hasattr(given, "__iter__")
    ):
        raise TypeError(
            f"{place(position)}parameters must be a sequence, such as a tuple or a list, or a "
            f"dict, not {type(given).__name__}: {text_of(statement)}"
        )
    return tuple(given)


def _mismatch(statement: Any, given: Parameters, position: Optional[int]) -> ValueError:
    markers = ", ".join(column.name for column in statement.column_metadata or ()) or "none"
    got = ", ".join(map(str, given)) if isinstance(given, dict) else len(given)
    return ValueError(
        f"{place(position)}the parameters must be those of the markers {markers}, got {got}; "
        f"cassandra.query.UNSET_VALUE leaves a column as it is: {text_of(statement)}"
    )


def _fixed_values(given: Any) -> Any:
    if not given:
        return None
    if isinstance(given, dict):
        return {name: _fixed_value(value) for name, value in given.items()}
    return tuple([_fixed_value(value) for value in given])


def _fixed_value(value: Any) -> Any:
    return copy.deepcopy(value) if isinstance(value, CHANGEABLE) else value
