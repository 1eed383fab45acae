"""Checks of arguments: each raises at once, naming the argument and what was expected."""

from __future__ import annotations

from typing import Any, Iterator, Optional


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def positive_int(name: str, value: Any) -> int:
    """Return a positive int, or raise `TypeError` or `ValueError`."""
    if not _is_int(value):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be greater than 0, but is {value}")
    return int(value)


def positive_int_or_none(name: str, value: Any) -> Optional[int]:
    """Return a positive int or `None`, or raise `TypeError` or `ValueError`."""
    if value is None:
        return None
    if not _is_int(value):
        raise TypeError(f"{name} must be an integer or None, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be None or > 0, but is {value}")
    return int(value)


def seconds_or_none(name: str, value: Any) -> Optional[float]:
    """Return a number of seconds or `None`, or raise `TypeError` or `ValueError`."""
    if value is None:
        return None
    if not (_is_int(value) or isinstance(value, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if not value >= 0:  # refuses nan as well
        raise ValueError(f"{name} must be None or >= 0 seconds, but is {value}")
    return float(value)


def iterator(name: str, value: Any) -> Iterator[Any]:
    """Return an iterator over `value`, or raise `TypeError`."""
    try:
        return iter(value)
    except TypeError:
        raise TypeError(f"{name} must be an iterable, not {type(value).__name__}") from None
