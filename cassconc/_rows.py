"""Rows: the driver's named tuples, without making their class anew for every response."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from ._driver import named_tuple_factory

_MOST_CLASSES = 512

# The class of the rows with these columns. Read and written by driver threads without a lock: a
# dict's single operations are atomic, and a class that is made twice does no harm.
_classes: Dict[Tuple[str, ...], Any] = {}


def named_rows(names: Sequence[str], rows: Sequence[Any]) -> List[Any]:
    """Return what the driver's `named_tuple_factory` returns, and remember the rows' class.

    The class is the driver's own, with its names and its rules for names that are none in Python;
    but its rows can be pickled.
    """
    make = _row_class(tuple(names))._make
    return [make(row) for row in rows]


def _row_class(names: Tuple[str, ...]) -> Any:
    row_class: Any = _classes.get(names)
    if row_class is None:
        row_class = type(named_tuple_factory(names, [names])[0])

        def reduce(row: Any) -> Any:
            return _restore, (names, tuple(row))

        row_class.__reduce__ = reduce
        if len(_classes) >= _MOST_CLASSES:
            _classes.clear()
        _classes[names] = row_class
    return row_class


def _restore(names: Tuple[str, ...], values: Tuple[Any, ...]) -> Any:
    return _row_class(names)._make(values)


def is_remembered(row: Any) -> bool:
    """Return whether `row` is of a class made here."""
    reduce: Any = type(row).__reduce__
    return reduce is not object.__reduce__
