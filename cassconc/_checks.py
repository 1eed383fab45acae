"""Checks of arguments: each raises at once, naming the argument and what was expected."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Type, TypeVar, Union

T = TypeVar("T")


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


def error_budget_or_none(name: str, value: Any) -> Union[int, float, None]:
    """Return a number of errors, or a fraction below 1, or `None`; or raise."""
    if value is None:
        return None
    if not (_is_int(value) or isinstance(value, float)):
        kind = type(value).__name__
        raise TypeError(f"{name} must be an integer, a fraction or None, not {kind}")
    if isinstance(value, float) and not 0 <= value < 1:
        raise ValueError(f"{name} as a fraction must be >= 0 and < 1, but is {value}")
    if value < 0:
        raise ValueError(f"{name} must be None or >= 0, but is {value}")
    return value  # type: ignore[no-any-return]


def instance_or_none(name: str, kind: Type[T], value: Any) -> Optional[T]:
    """Return a `kind` or `None`, or raise `TypeError`."""
    if value is None or isinstance(value, kind):
        return value
    raise TypeError(f"{name} must be a {kind.__name__} or None, not {type(value).__name__}")


def iterator(name: str, value: Any) -> Iterator[Any]:
    """Return an iterator over `value`, or raise `TypeError`."""
    try:
        return iter(value)
    except TypeError:
        if hasattr(type(value), "__iter__") or hasattr(type(value), "__getitem__"):
            raise  # it is the caller's own
        raise TypeError(f"{name} must be an iterable, not {type(value).__name__}") from None
