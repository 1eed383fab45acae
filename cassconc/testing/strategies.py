"""Hypothesis strategies for the order in which requests are answered, and for failures.

They draw `Script`s, which shrink to the empty script: everything succeeds, in the order of
sending. With `hypothesis.note(session.history)` a failing example prints what happened, numbered.
"""

from __future__ import annotations

from typing import Callable

from cassandra import (
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    Unavailable,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from hypothesis import strategies as st

from .script import Script

__all__ = ["driver_errors", "scripts"]

_ERRORS: list[Callable[[], BaseException]] = [
    lambda: InvalidRequest("scripted"),
    lambda: WriteTimeout("scripted", write_type=0),
    lambda: ReadTimeout("scripted"),
    lambda: Unavailable("scripted"),
    lambda: OperationTimedOut({"scripted": "Client request timeout"}),
    lambda: NoHostAvailable("scripted", {}),
    lambda: ConnectionShutdown("scripted"),
]


def driver_errors() -> st.SearchStrategy[BaseException]:
    """Exceptions that the driver gives to a failed request, each a new object."""
    return st.sampled_from(_ERRORS).map(lambda make: make())


@st.composite
def scripts(
    draw: st.DrawFn,
    requests: int = 30,
    *,
    failures: bool = False,
    stragglers: bool = True,
    bursts: bool = True,
) -> Script:
    """Scripts for about so many requests; more are answered in their order.

    Args:
        requests: How many requests the script has something to say about.
        failures: Whether some of them fail.
        stragglers: Whether some of them are answered last.
        bursts: Whether several are answered at a time.
    """
    number = st.integers(0, max(requests - 1, 0))
    picks = draw(st.lists(number, max_size=requests), label="picks")
    failing = st.dictionaries(number, driver_errors(), max_size=3) if failures else st.just({})
    late = st.frozensets(number, max_size=3) if stragglers else st.just(frozenset[int]())
    sizes = st.lists(st.integers(1, 5), max_size=requests) if bursts else st.just([])
    return Script(
        picks,
        failures=draw(failing, label="failures"),
        stragglers=draw(late, label="stragglers"),
        bursts=draw(sizes, label="bursts"),
    )
