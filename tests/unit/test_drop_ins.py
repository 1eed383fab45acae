"""The drop-ins of `cassconc.concurrent` against `cassandra.concurrent` of driver 3.30.

Where both must behave in the same way, both run on the same script, side by side. What is
different on purpose (see the module's docstring) has tests of ours alone.
"""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import CancelledError, Future, wait
from typing import Any, Iterator, List, Optional, Sequence, Set, Tuple

import pytest
from cassandra import InvalidRequest
from cassandra import concurrent as driver
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ResultSet
from hypothesis import given, note
from hypothesis import strategies as st

import cassconc
from cassconc import concurrent as ours
from cassconc.testing import History, ScriptedRequest, ScriptedSession
from tests.driver import DriverSession
from tests.waits import LIMIT, Background

has_async = pytest.mark.skipif(
    not hasattr(driver, "execute_concurrent_async"), reason="this driver has no such function"
)

MODULES = [driver, ours]
either = pytest.mark.parametrize("module", MODULES, ids=["driver", "ours"])

Pairs = List[Tuple[Any, Any]]


def pairs(count: int) -> Pairs:
    """Return as many pairs, each with its number as a parameter."""
    return [("SELECT %s", (n,)) for n in range(count)]


def echo(request: ScriptedRequest) -> None:
    """Answer with the parameters."""
    request.succeed([request.parameters or ()], ["n"] if request.parameters else [])


def shape(results: Any) -> List[Tuple[bool, Any]]:
    """Return what results show: for each whether it succeeded, and its rows or its exception."""
    return [
        (
            each.success,
            [tuple(row) for row in each.result_or_exc]
            if each.success
            else (type(each.result_or_exc), str(each.result_or_exc)),
        )
        for each in results
    ]


# The interface

NAMES = ["execute_concurrent", "execute_concurrent_with_args", "execute_concurrent_async"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signature(name: str) -> None:
    """Names, kinds, order and defaults of all arguments are those of the driver's function."""
    if not hasattr(driver, name):
        pytest.skip("this driver has no such function")
    theirs, mine = [
        [
            (each.name, each.kind, each.default)
            for each in inspect.signature(getattr(module, name)).parameters.values()
        ]
        for module in MODULES
    ]
    assert mine == theirs


def test_the_default_profile_is_the_drivers() -> None:
    """The default of `execution_profile` is the driver's own object, and reaches the session."""
    session = ScriptedSession(echo)
    parameter = inspect.signature(ours.execute_concurrent).parameters["execution_profile"]
    assert parameter.default is EXEC_PROFILE_DEFAULT
    ours.execute_concurrent(session, pairs(1))
    assert session.requests[0].options["execution_profile"] is EXEC_PROFILE_DEFAULT


def test_the_same_names() -> None:
    """The module has the public names of the driver's, and the package exports them."""
    for name in [*NAMES, "ExecutionResult"]:
        assert getattr(cassconc, name) is getattr(ours, name)
        assert name in ours.__all__
        assert name in cassconc.__all__
    assert ours.ExecutionResult is driver.ExecutionResult


@either
def test_arguments_by_position(module: Any) -> None:
    """All arguments may be given by position, as existing code does."""
    session = ScriptedSession(echo)
    args = (1, False, False, EXEC_PROFILE_DEFAULT)
    assert len(module.execute_concurrent(session, pairs(2), *args)) == 2
    assert len(module.execute_concurrent_with_args(session, "SELECT", [()] * 2, *args)) == 2


# Results


@either
def test_result_types(module: Any) -> None:
    """A list, or an iterator, of the driver's `ExecutionResult` with its `ResultSet`."""
    session = ScriptedSession(echo)
    results = module.execute_concurrent(session, pairs(2))
    assert type(results) is list
    for each in results:
        assert type(each) is driver.ExecutionResult
        success, result = each
        assert success is True
        assert isinstance(result, ResultSet)
    results = module.execute_concurrent(session, pairs(2), results_generator=True)
    assert inspect.isgenerator(results) or type(results).__name__ == "generator"
    assert [type(each) for each in results] == [driver.ExecutionResult] * 2


@either
@pytest.mark.parametrize("empty", [[], (), {}, "", None], ids=repr)
@pytest.mark.parametrize("generator", [True, False])
def test_empty_input(module: Any, empty: Any, generator: bool) -> None:
    """What is empty, or None, gives an empty list, also where a generator was asked for."""
    session = ScriptedSession()
    assert module.execute_concurrent(session, empty, results_generator=generator) == []
    assert not session.requests


@either
@pytest.mark.parametrize("generator", [True, False])
def test_empty_input_that_does_not_look_so(module: Any, generator: bool) -> None:
    """An iterator that yields nothing gives no results, in a list or a generator."""
    session = ScriptedSession()
    results = module.execute_concurrent(session, iter(()), results_generator=generator)
    assert isinstance(results, list) is not generator
    assert list(results) == []
    results = module.execute_concurrent_with_args(
        session, "SELECT", [], results_generator=generator
    )
    assert isinstance(results, list) is not generator
    assert list(results) == []


@pytest.mark.parametrize("empty", [[], (), iter(())], ids=["list", "tuple", "iterator"])
def test_empty_input_in_the_background(empty: Any) -> None:
    """The future of an empty input has an empty list; the driver's never ends."""
    assert ours.execute_concurrent_async(ScriptedSession(), empty).result(LIMIT) == []


class Player:
    """Answers the requests of a function that blocks, all in `execute_async`, in a given order.

    When `window` requests are pending, or no more will come, it answers them in the order of
    `picks`: the n-th pick says which of those that are pending is next.
    """

    def __init__(self, count: int, window: int, picks: Sequence[int], failing: Set[int]) -> None:
        self.left = count  # requests that are still to come
        self.window = window
        self.picks = list(picks)
        self.failing = failing
        self.pending: List[ScriptedRequest] = []
        self.playing = False

    def respond(self, request: ScriptedRequest) -> None:
        """Take a request, and answer when nothing else can come before an answer."""
        self.left -= 1
        self.pending.append(request)
        if self.playing:
            return
        self.playing = True
        while self.pending and (self.left == 0 or len(self.pending) >= self.window):
            pick = self.picks.pop(0) if self.picks else 0
            answered = self.pending.pop(pick % len(self.pending))
            if answered.parameters[0] in self.failing:
                answered.fail(InvalidRequest(f"{answered.parameters[0]} is wrong"))
            else:
                echo(answered)
        self.playing = False


@given(
    st.integers(1, 12),
    st.integers(1, 5),
    st.lists(st.integers(0, 4)),
    st.sets(st.integers(0, 11)),
    st.sampled_from(["list", "generator", "with_args", "async"]),
)
def test_the_same_results_whatever_the_order(
    count: int, concurrency: int, picks: List[int], failing: Set[int], way: str
) -> None:
    """In any order of answers, with any failures kept, both give the same, in input order."""
    shown: List[Any] = []
    sent: List[Any] = []
    for module in MODULES:
        player = Player(count, min(concurrency, count), picks, failing)
        session = ScriptedSession(player.respond)
        if way == "async" and module is ours:  # the driver's ends too early at times, or twice
            results = ours.execute_concurrent_async(
                session, pairs(count), concurrency, False
            ).result(LIMIT)
        elif way == "with_args":
            results = module.execute_concurrent_with_args(
                session, "SELECT %s", [(n,) for n in range(count)], concurrency, False
            )
        else:
            results = list(
                module.execute_concurrent(
                    session, pairs(count), concurrency, False, way == "generator"
                )
            )
        note(session.history)
        shown.append(shape(results))
        sent.append([request.parameters for request in session.requests])
        assert session.most_pending <= concurrency
    assert shown[0] == shown[1]
    assert sent[0] == sent[1] == [(n,) for n in range(count)]


@given(st.integers(1, 8), st.lists(st.integers(0, 7)), st.sets(st.integers(0, 7)), st.booleans())
def test_a_generator_yields_what_comes_before_the_failure(
    count: int, picks: List[int], failing: Set[int], with_args: bool
) -> None:
    """With `raise_on_first_error`, both yield the same, then raise the same failure."""
    shown: List[Any] = []
    for module in MODULES:
        session = ScriptedSession()
        if with_args:
            results = module.execute_concurrent_with_args(
                session, "SELECT %s", [(n,) for n in range(count)], results_generator=True
            )
        else:
            results = module.execute_concurrent(session, pairs(count), results_generator=True)
        order = list(picks)
        while session.pending:
            pick = order.pop(0) if order else 0
            request = session.pending[pick % len(session.pending)]
            if request.parameters[0] in failing:
                request.fail(InvalidRequest(f"{request.parameters[0]} is wrong"))
            else:
                echo(request)
        yielded: List[Any] = []
        raised: Optional[str] = None
        try:
            for each in results:
                yielded.append(each)
        except InvalidRequest as error:
            raised = str(error)
        shown.append((shape(yielded), raised))
    assert shown[0] == shown[1]


@either
def test_a_list_raises_the_first_failure_in_time(module: Any) -> None:
    """A list is not waited for: the failure that comes first is raised while others are pending."""
    session = ScriptedSession()
    running = Background(lambda: module.execute_concurrent(session, pairs(4)))
    session.wait_for(4)
    session.requests[2].fail(InvalidRequest("2 is wrong"))
    with pytest.raises(InvalidRequest, match="2 is wrong"):
        running.result()
    assert len(session.pending) == 3


@either
@pytest.mark.parametrize("generator", [True, False])
def test_a_session_that_raises(module: Any, generator: bool) -> None:
    """What `execute_async` raises is the result, or is raised, as any failure."""

    def respond(request: ScriptedRequest) -> None:
        if request.parameters == (1,):
            raise OSError("no route")
        echo(request)

    session = ScriptedSession(respond)
    results = module.execute_concurrent(session, pairs(3), 1, False, generator)
    assert shape(results) == [(True, [(0,)]), (False, (OSError, "no route")), (True, [(2,)])]
    with pytest.raises(OSError, match="no route"):
        list(module.execute_concurrent(session, pairs(3), 1, True, generator))


@either
@pytest.mark.parametrize("parameters", [None, [], (), {}, [1], {"n": 1}], ids=repr)
def test_parameters_of_every_kind(module: Any, parameters: Any) -> None:
    """Sequences, dicts and None reach the session as the driver's function passes them."""
    session = DriverSession()
    text = "SELECT %(n)s" if isinstance(parameters, dict) else "SELECT %s"
    text = text if parameters else "SELECT 1"
    running = Background(lambda: module.execute_concurrent(session, [(text, parameters)]))
    request = session.wait_for(1)
    assert request.message.query == "SELECT 1"
    request.void()
    assert len(running.result()) == 1


@either
def test_the_profile_is_passed_on(module: Any) -> None:
    """The name of an execution profile, or a profile, reaches the session as it was given."""
    session = DriverSession()
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, request_timeout=None)
    session.profiles["mine"] = profile
    for wanted in ("mine", profile):
        session.requests.clear()
        running = Background(
            lambda wanted=wanted: module.execute_concurrent(  # type: ignore[misc]
                session, pairs(1), execution_profile=wanted
            )
        )
        session.wait_for(1).void()
        running.result()
        assert session.arguments[-1]["execution_profile"] is wanted


@either
def test_the_session_is_not_asked_for_more(module: Any) -> None:
    """A session is used through `execute_async` alone: one of the user's own will do."""

    class Own:
        def execute_async(self, statement: Any, parameters: Any, **_: Any) -> Any:
            session = ScriptedSession(echo)
            return session.execute_async(statement, parameters)

    assert shape(module.execute_concurrent(Own(), pairs(2))) == [(True, [(0,)]), (True, [(1,)])]


# In the background


@has_async
@either
def test_a_future_of_a_list(module: Any) -> None:
    """It is a standard future, of a list in input order with the failures in their places."""
    player = Player(count=3, window=3, picks=[2, 0, 0], failing={1})
    future = module.execute_concurrent_async(ScriptedSession(player.respond), pairs(3))
    assert isinstance(future, Future)
    results = future.result(LIMIT)
    assert type(results) is list
    assert shape(results) == [
        (True, [(0,)]),
        (False, (InvalidRequest, "1 is wrong")),
        (True, [(2,)]),
    ]


def test_the_call_returns_at_once() -> None:
    """The future is pending until the last answer; the driver's function waits for that."""
    session = ScriptedSession()
    future = ours.execute_concurrent_async(session, pairs(3))
    for request in session.wait_for(3):
        assert not future.done()
        echo(request)
    assert shape(future.result(LIMIT)) == [(True, [(n,)]) for n in range(3)]


def test_the_first_failure_in_the_background() -> None:
    """`raise_on_first_error` makes the first failure in time that of the future, at once."""
    session = ScriptedSession()
    future = ours.execute_concurrent_async(session, pairs(3), raise_on_first_error=True)
    session.wait_for(3)[1].fail(InvalidRequest("1 is wrong"))
    assert str(future.exception(LIMIT)) == "1 is wrong"
    assert len(session.pending) == 2


def test_the_call_returns_before_the_input_is_taken() -> None:
    """The input is iterated on another thread, which is none of the driver's."""
    session = ScriptedSession(echo)
    goes_on = threading.Event()
    threads: List[int] = []

    def items() -> Iterator[Any]:
        threads.append(threading.get_ident())
        assert goes_on.wait(LIMIT)
        yield from pairs(3)

    future = ours.execute_concurrent_async(session, session.input(items()))
    assert not future.done()
    goes_on.set()
    assert len(future.result(LIMIT)) == 3
    assert threads != [threading.get_ident()]
    assert not session.misplaced


def test_cancelling_aborts() -> None:
    """Cancelling the future takes and sends nothing more, and whoever waits for it is told."""
    session = ScriptedSession()
    taken: List[int] = []

    def items() -> Iterator[Any]:
        for n in range(10_000):
            taken.append(n)
            yield "SELECT %s", (n,)

    future = ours.execute_concurrent_async(session, items(), concurrency=3)
    session.wait_for(3)
    assert future.cancel()
    assert future.cancelled()
    assert wait([future], LIMIT).done == {future}
    with pytest.raises(CancelledError):
        future.result(0)
    for request in session.pending:
        echo(request)
    assert len(session.requests) == 3
    assert len(taken) < 10_000


def test_cancelling_after_the_end() -> None:
    """A future that has ended can't be cancelled, and its list stays."""
    future = ours.execute_concurrent_async(ScriptedSession(echo), pairs(2))
    assert len(future.result(LIMIT)) == 2
    assert not future.cancel()
    assert len(future.result(0)) == 2


def test_callbacks_of_the_future_run_on_no_driver_thread() -> None:
    """A done-callback of the future may block, and may use the session."""
    session = ScriptedSession()
    seen: List[int] = []
    done = threading.Event()

    def callback(future: Future[Any]) -> None:
        session.respond = echo
        seen.append(session.execute("SELECT %s", (5,)).one().n)
        done.set()

    future = ours.execute_concurrent_async(session, pairs(1))
    future.add_done_callback(session.caller(callback))
    echo(session.wait_for(1)[0])
    assert done.wait(LIMIT)
    assert seen == [5]
    assert not session.misplaced


def test_an_error_of_the_input_in_the_background() -> None:
    """What the input raises is the exception of the future; nothing later is sent."""
    session = ScriptedSession(echo)

    def items() -> Iterator[Any]:
        yield from pairs(2)
        raise KeyError("mine")

    future = ours.execute_concurrent_async(session, items())
    assert type(future.exception(LIMIT)) is KeyError
    assert len(session.requests) == 2


# What is different on purpose


@pytest.mark.parametrize(("concurrency", "window"), [(1, 1000), (100, 1000), (150, 1500)])
@pytest.mark.parametrize("with_args", [True, False])
def test_a_generator_takes_a_first_window(concurrency: int, window: int, with_args: bool) -> None:
    """The call takes ten times the concurrency, at least 1,000, and sends what may be in flight."""
    session = ScriptedSession()
    taken: List[int] = []

    def items() -> Iterator[Any]:
        for n in range(5000):
            taken.append(n)
            yield (n,) if with_args else ("SELECT %s", (n,))

    if with_args:
        results = ours.execute_concurrent_with_args(
            session, "SELECT %s", items(), concurrency, results_generator=True
        )
    else:
        results = ours.execute_concurrent(session, items(), concurrency, results_generator=True)
    assert len(taken) == window
    assert len(session.requests) == concurrency
    while session.pending:
        echo(session.pending[0])
    assert len(taken) == len(session.requests) == window, "it goes on when it is consumed"
    session.respond = echo
    ahead = 0
    for count, _ in enumerate(results, 1):
        ahead = max(ahead, len(taken) - count)
    assert count == 5000
    assert ahead <= window


@pytest.mark.parametrize("concurrency", [1, 2, 5])
@pytest.mark.parametrize("way", ["list", "generator", "async"])
def test_nothing_is_sent_after_the_first_failure(concurrency: int, way: str) -> None:
    """After a failure, what was in flight goes on, and nothing else is sent; the driver goes on."""
    session = ScriptedSession()

    def run() -> Any:
        if way == "async":
            return ours.execute_concurrent_async(session, pairs(50), concurrency, True).result(
                LIMIT
            )
        return list(ours.execute_concurrent(session, pairs(50), concurrency, True, way != "list"))

    running = Background(run)
    session.wait_for(concurrency)
    session.requests[concurrency - 1].fail(InvalidRequest("wrong"))
    for request in session.pending:
        echo(request)
    with pytest.raises(InvalidRequest):
        running.result()
    assert len(session.requests) == concurrency


@pytest.mark.parametrize("way", ["list", "generator", "async"])
@pytest.mark.parametrize("raises", [True, False])
def test_an_error_of_the_input_is_raised(way: str, raises: bool) -> None:
    """What the input raises reaches the caller, after the results of what came before it.

    The driver's functions lose it on the event loop thread, or hang.
    """
    session = ScriptedSession()
    error = KeyError("mine")

    def items() -> Iterator[Any]:
        yield from pairs(3)
        raise error

    yielded: List[Any] = []

    def run() -> None:
        if way == "async":
            ours.execute_concurrent_async(session, items(), 1, raises).result(LIMIT)
        for each in ours.execute_concurrent(session, items(), 1, raises, way == "generator"):
            yielded.append(each)

    running = Background(run)
    for number in range(3):
        echo(session.wait_for(number + 1)[number])
    with pytest.raises(KeyError) as caught:
        running.result()
    assert caught.value is error
    assert shape(yielded) == ([(True, [(n,)]) for n in range(3)] if way == "generator" else [])
    assert len(session.requests) == 3


@pytest.mark.parametrize("way", ["list", "generator", "async"])
def test_the_callers_code_runs_on_no_driver_thread(way: str) -> None:
    """The input is never iterated on a driver thread; the driver's functions do that."""
    session = ScriptedSession()
    items = session.input(pairs(30))

    def run() -> Any:
        if way == "async":
            return ours.execute_concurrent_async(session, items, 2).result(LIMIT)
        return list(ours.execute_concurrent(session, items, 2, results_generator=way != "list"))

    running = Background(run)
    for number in range(30):
        echo(session.wait_for(number + 1)[number])
    assert len(running.result()) == 30
    assert not session.misplaced


def test_closing_a_generator_aborts() -> None:
    """Nothing is sent any more when a generator that was asked for something is closed."""
    session = ScriptedSession()
    results = ours.execute_concurrent(session, pairs(50), 1, results_generator=True)
    echo(session.pending[0])
    next(results)
    results.close()
    echo(session.pending[0])
    assert len(session.requests) == 2


@pytest.mark.parametrize("way", ["list", "generator", "async"])
def test_a_long_input(way: str) -> None:
    """A long input whose requests end at once needs no deep stack, and keeps its order."""
    count = 10_000
    session = ScriptedSession()
    session.history = Silent()

    def respond(request: ScriptedRequest) -> None:
        session.requests.clear()
        request.succeed([request.parameters], ["n"])

    session.respond = respond
    items = (("SELECT %s", (n,)) for n in range(count))
    results: Any
    if way == "async":
        results = ours.execute_concurrent_async(session, items).result(60)
    else:
        results = ours.execute_concurrent(session, items, results_generator=way == "generator")
    number = -1
    for number, (success, result) in enumerate(results):
        assert success
        assert result.one().n == number
    assert number == count - 1


class Silent(History):
    """A history of nothing."""

    def note(self, event: str) -> None:
        """Forget an event."""


def test_a_failure_is_raised_by_itself() -> None:
    """The exception that is raised is the one that `raise_on_first_error=False` would return."""
    session = ScriptedSession(lambda request: request.fail(InvalidRequest("wrong")))
    [result] = ours.execute_concurrent(session, pairs(1), raise_on_first_error=False)
    assert result.success is False
    assert result.result_or_exc.call.position == 0
    with pytest.raises(InvalidRequest, match="wrong"):
        ours.execute_concurrent(session, pairs(1))
