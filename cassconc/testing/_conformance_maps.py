"""Checks of the conformance suite: order, abort and bounds of `map`."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterator
from concurrent.futures import TimeoutError
from contextlib import closing

from ._conformance import CQL, MakeExecutor, Scripted, answered_on_failure, raises, values
from .responses import LIMIT
from .script import DriverThread, Script, echo
from .session import ScriptedSession


def check_order(make_executor: MakeExecutor) -> None:
    """`map` yields in the order of its input, whatever the order of completion."""
    for buffersize in (None, 1, 7):
        session = ScriptedSession()
        newest_first = Script([-1] * 100)
        with make_executor(session, 5) as executor, DriverThread(session, newest_first):
            yielded = values(executor.map(CQL, range(40), buffersize=buffersize))
        assert yielded == list(range(40)), f"buffersize={buffersize} yielded {yielded}"


def check_all_results(make_executor: MakeExecutor) -> None:
    """Each call has exactly one result, ordered or not, and the last one comes, too."""
    for ordered in (True, False):
        for count in (0, 1, 2, 23):
            session = ScriptedSession()
            script = Script([3, 1, 4, 1, 5, 9, 2, 6], stragglers={2})
            with make_executor(session, 4) as executor, DriverThread(session, script):
                yielded = values(executor.map(CQL, range(count), buffersize=3, ordered=ordered))
            assert sorted(yielded) == list(range(count)), f"of {count} calls {yielded} came back"


def check_completion_order(make_executor: MakeExecutor) -> None:
    """`map(ordered=False)` yields in the order of completion."""
    session = ScriptedSession()
    with make_executor(session, 5) as executor, answered_on_failure(session):
        results = executor.map(CQL, range(5), ordered=False)
        for number in (3, 0, 4, 1, 2):
            echo(session.requests[number])
        yielded = values(results)
        assert yielded == [3, 0, 4, 1, 2], f"3, 0, 4, 1, 2 ended, but {yielded} were yielded"


def check_abort(make_executor: MakeExecutor) -> None:
    """After the first failure nothing is sent that comes later in the input."""
    session = ScriptedSession()
    with make_executor(session, 4) as executor, answered_on_failure(session):
        results = executor.map(CQL, range(50))
        session.requests[2].fail(Scripted())
        for request in session.pending:
            echo(request)
        sent = len(session.requests)
        assert sent == 4, f"{sent - 4} were sent after the failure of one of the first 4"
        assert next(results).one()[0] == 0
        assert next(results).one()[0] == 1
        raises(Scripted, results)


def check_abort_keeps_what_is_earlier(make_executor: MakeExecutor) -> None:
    """What comes before the failed call in the input is still sent, and yielded."""
    session = ScriptedSession()
    with (
        make_executor(session, 1) as executor,
        DriverThread(session, Script(failures={3: Scripted()})),
    ):
        results = executor.map(CQL, range(9), buffersize=4)
        assert [next(results).one()[0] for _ in range(3)] == [0, 1, 2]
        raises(Scripted, results)


def check_return_exceptions(make_executor: MakeExecutor) -> None:
    """With `return_exceptions=True` failures are yielded in their place, and nothing stops."""
    session = ScriptedSession()
    script = Script([-1] * 99, failures={3: Scripted(), 5: Scripted()})
    with make_executor(session, 3) as executor, DriverThread(session, script):
        results = list(executor.map(CQL, range(8), return_exceptions=True))
    failed = [i for i, result in enumerate(results) if isinstance(result, Exception)]
    assert len(results) == 8 and len(failed) == 2, f"{len(results)} results, failed: {failed}"


def check_buffersize(make_executor: MakeExecutor) -> None:
    """With `buffersize=n`, no more than n calls are taken ahead of the consumer."""
    taken = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    session = ScriptedSession()
    with make_executor(session, 100) as executor, DriverThread(session):
        with closing(executor.map(CQL, endless(), buffersize=5)) as results:
            for yielded in range(30):
                ahead = len(taken) - yielded
                assert ahead <= 5, f"{ahead} were taken ahead with buffersize=5"
                next(results)


def check_input_error(make_executor: MakeExecutor) -> None:
    """An error of the input is raised at its place, after the results of what came before."""

    def broken_input() -> Iterator[int]:
        yield from range(3)
        raise Scripted

    for options in ({}, {"return_exceptions": True}, {"ordered": False}):
        session = ScriptedSession()
        with make_executor(session, 2) as executor, DriverThread(session):
            results = executor.map(CQL, broken_input(), buffersize=10, **options)
            assert sorted(next(results).one()[0] for _ in range(3)) == [0, 1, 2]
            raises(Scripted, results)


def check_yielded_results_are_let_go(make_executor: MakeExecutor) -> None:
    """A result that was yielded is not kept alive."""
    for ordered in (True, False):
        session = ScriptedSession()
        with make_executor(session, 3) as executor, DriverThread(session):
            for result in executor.map(CQL, range(10), buffersize=4, ordered=ordered):
                reference = weakref.ref(result)
                del result
                if reference() is not None:
                    gc.collect()  # which takes long in a large program
                assert reference() is None, "the executor keeps it"


def check_close(make_executor: MakeExecutor) -> None:
    """Closing an iterator that was asked sends nothing more, and the executor goes on."""
    session = ScriptedSession()
    with make_executor(session, 2) as executor, answered_on_failure(session):
        results = executor.map(CQL, range(50))
        echo(session.requests[0])
        next(results)
        results.close()
        sent = len(session.requests)
        for request in session.pending:
            echo(request)
        assert len(session.requests) == sent, "more was sent after close()"
        future = executor.submit(CQL, "more")
        for request in session.pending:
            echo(request)
        assert future.result(LIMIT).one()[0] == "more"


def check_unasked_map_runs(make_executor: MakeExecutor) -> None:
    """A `map` that nobody iterates runs all the same, also when its iterator is dropped."""
    session = ScriptedSession()
    with make_executor(session, 2) as executor, DriverThread(session):
        executor.map(CQL, range(20))
    assert len(session.requests) == 20, f"{len(session.requests)} of 20 were sent"


def check_timeout(make_executor: MakeExecutor) -> None:
    """`map(timeout=0)` raises `TimeoutError` for what is not there, and yields what is."""
    session = ScriptedSession()
    with make_executor(session, 2) as executor, answered_on_failure(session):
        results = executor.map(CQL, range(2), timeout=0)
        echo(session.requests[0])
        assert next(results).one()[0] == 0
        raises(TimeoutError, results)
        echo(session.requests[1])
