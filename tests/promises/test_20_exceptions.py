"""Promise 20: each failed call has an exception of its own that tells which call it was."""

from __future__ import annotations

import logging
import pprint
import threading
import traceback
from concurrent.futures import Future
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from cassandra import (
    AlreadyExists,
    InvalidRequest,
    OperationTimedOut,
    ReadFailure,
    ReadTimeout,
    Unavailable,
    WriteTimeout,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException, ConnectionShutdown
from cassandra.protocol import OverloadedErrorMessage
from cassandra.query import BatchStatement, SimpleStatement
from hypothesis import given
from hypothesis import strategies as st

from cassconc import (
    Call,
    CassandraExecutor,
    Retry,
    TooManyErrors,
    execute_concurrent,
    execute_concurrent_async,
)
from cassconc.testing import ManualClock, ScriptedRequest, ScriptedSession
from tests.driver import DriverSession, prepare
from tests.parts import needs
from tests.waits import LIMIT, Background, logged

ERRORS: Dict[str, Callable[[], Exception]] = {
    "AlreadyExists": lambda: AlreadyExists("ks", "t"),
    "ConnectionException": lambda: ConnectionException("lost", "host"),
    "ConnectionShutdown": lambda: ConnectionShutdown("shut down", "host"),
    "InvalidRequest": lambda: InvalidRequest("no such table"),
    "KeyError": lambda: KeyError("key"),
    "NoHostAvailable": lambda: NoHostAvailable("none", {"host": ValueError("1")}),
    "OSError": lambda: OSError(13, "Permission denied"),
    "OperationTimedOut": lambda: OperationTimedOut({"host": "slow"}, "host"),
    "Overloaded": lambda: OverloadedErrorMessage(0x1001, "busy", None),
    "ReadFailure": lambda: ReadFailure("failed", error_code_map={"host": 1}),
    "ReadTimeout": lambda: ReadTimeout("slow", consistency=1, data_retrieved=False),
    "Unavailable": lambda: Unavailable("few", 4, 3, 2),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("ascii", b"\xff", 0, 1, "why"),
    "WriteTimeout": lambda: WriteTimeout("slow", consistency=1, write_type=0),
}

any_error = pytest.mark.parametrize("make", list(ERRORS.values()), ids=list(ERRORS))


def fail_all(session: ScriptedSession, error: BaseException) -> None:
    """Fail all that is pending with one and the same exception, as a lost connection does."""
    for request in session.pending:
        request.fail(error)


def failures(futures: List[Future[Any]]) -> List[BaseException]:
    """Return the exceptions of futures that have failed."""
    errors = [future.exception(LIMIT) for future in futures]
    return [error for error in errors if error is not None]


def content(error: BaseException) -> Dict[str, Any]:
    """Return what an exception tells, but for what we have added."""
    return {k: v for k, v in vars(error).items() if k not in ("call", "__notes__")}


@any_error
def test_the_type_and_what_it_tells_stay(make: Callable[[], Exception]) -> None:
    """Of one exception for three calls each has its own, of the same type, with all it tells."""
    session, original = ScriptedSession(), make()
    executor = CassandraExecutor(session)
    futures: List[Future[Any]] = [executor.submit(f"SELECT {n}") for n in range(3)]
    fail_all(session, original)
    errors = failures(futures)
    assert len({id(error) for error in errors}) == 3
    for error in errors:
        assert type(error) is type(original)
        assert error.args == original.args
        assert str(error) == str(make())
        assert content(error) == content(original)


@any_error
def test_a_copy_has_the_original_as_its_cause(make: Callable[[], Exception]) -> None:
    """All but one are copies, which lead to the exception of the driver."""
    session, original = ScriptedSession(), make()
    executor = CassandraExecutor(session)
    futures: List[Future[Any]] = [executor.submit(f"SELECT {n}") for n in range(3)]
    fail_all(session, original)
    first, *copies = failures(futures)
    assert first is original
    assert first.__cause__ is None
    assert [error.__cause__ for error in copies] == [original] * 2


def test_each_exception_tells_its_own_call(session: ScriptedSession) -> None:
    """The note and the attribute `call` are those of the call, also where the driver shares."""
    executor = CassandraExecutor(session)
    results = executor.map("SELECT %s", "abc", return_exceptions=True)
    fail_all(session, ConnectionShutdown("lost"))
    for position, error in enumerate(results):
        assert error.call == Call("SELECT %s", ("abc"[position],), position)
        assert error.__notes__ == [f"call {position}: SELECT %s"]


def test_one_exception_for_several_executors() -> None:
    """An exception that a session raises again and again is not shared by executors either."""
    error = InvalidRequest("always the same")

    def respond(request: ScriptedRequest) -> None:
        raise error

    session = ScriptedSession(respond)
    futures: List[Future[Any]] = [
        CassandraExecutor(session).submit(f"SELECT {n}") for n in range(3)
    ]
    assert [vars(error)["__notes__"] for error in failures(futures)] == [
        [f"call SELECT {n}"] for n in range(3)
    ]


def test_one_exception_from_several_threads(session: ScriptedSession) -> None:
    """Calls that get the same exception at the same moment have one each."""
    executor = CassandraExecutor(session)
    futures: List[Future[Any]] = [executor.submit(f"SELECT {n}") for n in range(20)]
    error = ConnectionShutdown("lost")
    barrier = threading.Barrier(20)

    def fail(request: ScriptedRequest) -> None:
        barrier.wait(LIMIT)
        request.fail(error)

    for thread in [
        Background(lambda request=request: fail(request)) for request in session.pending
    ]:  # type: ignore[misc]
        thread.result()
    errors = failures(futures)
    assert len({id(error) for error in errors}) == 20
    for n, each in enumerate(errors):
        assert vars(each)["__notes__"] == [f"call SELECT {n}"]
        assert vars(each)["call"].statement == f"SELECT {n}"


class Keyword(Exception):
    """An exception that is made with a keyword alone."""

    def __new__(cls, *, host: str) -> Keyword:
        return super().__new__(cls)

    def __init__(self, *, host: str) -> None:
        super().__init__(f"lost {host}")
        self.host = host


class Strict(Exception):
    """An exception that wants two arguments and keeps none of them."""

    def __new__(cls, one: str, two: str) -> Strict:
        return super().__new__(cls)

    def __init__(self, one: str, two: str) -> None:
        super().__init__()
        self.one, self.two = one, two


class Sealed(Exception):
    """An exception that can't be changed."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} can't be set")


@pytest.mark.parametrize(
    "make",
    [lambda: Keyword(host="one"), lambda: Strict("one", "two"), lambda: Sealed("one")],
    ids=["Keyword", "Strict", "Sealed"],
)
def test_an_exception_that_is_hard_to_copy(
    session: ScriptedSession, make: Callable[[], Exception]
) -> None:
    """Whatever its class is like, each call ends, with an exception of that class (promise 1)."""
    executor = CassandraExecutor(session)
    futures: List[Future[Any]] = [executor.submit(f"SELECT {n}") for n in range(3)]
    error = make()
    for request in session.pending:
        try:
            request.fail(error)
        except Exception as raised:
            pytest.fail(f"the driver's thread was thrown {raised!r}")
    errors = failures(futures)
    assert [type(each) for each in errors] == [type(error)] * 3
    assert [vars(each)["__notes__"] for each in errors] == [[f"call SELECT {n}"] for n in range(3)]


def test_notes_that_were_there_stay(session: ScriptedSession) -> None:
    """A note that an exception brings along is kept, before ours."""
    error = InvalidRequest("wrong")
    vars(error)["__notes__"] = ["a note of the session"]
    executor = CassandraExecutor(session)
    futures: List[Future[Any]] = [executor.submit(f"SELECT {n}") for n in range(2)]
    fail_all(session, error)
    for n, each in enumerate(failures(futures)):
        assert vars(each)["__notes__"] == ["a note of the session", f"call SELECT {n}"]


def test_the_note_is_in_the_traceback(session: ScriptedSession) -> None:
    """The standard way to show an exception shows which call it was, where Python knows notes."""
    results = CassandraExecutor(session).map("SELECT %s", [1])
    fail_all(session, InvalidRequest("wrong"))
    with pytest.raises(InvalidRequest) as caught:
        next(results)
    if hasattr(BaseException, "add_note"):
        assert "call 0: SELECT %s" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT 1", "SELECT 1"),
        (SimpleStatement("SELECT 2"), "SELECT 2"),
        (prepare("SELECT 3"), "SELECT 3"),
        (prepare("SELECT 4").bind(()), "SELECT 4"),
        (BatchStatement().add("INSERT 1").add("INSERT 2"), "batch of 2 statements"),
        ("SELECT\n\t a,\u2028 b \r\n FROM t", "SELECT a, b FROM t"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
        ("\U0001d11e" * 10_000_000, "\U0001d11e" * 197 + "..."),
        ("\ud800 lone", "\ud800 lone"),
        ("", ""),
    ],
    ids=range(11),
)
def test_the_note_is_one_short_line(session: ScriptedSession, statement: Any, text: str) -> None:
    """The statement is shown on one line of 200 characters at most, whatever kind it is."""
    future = CassandraExecutor(session).submit(statement)
    fail_all(session, InvalidRequest("wrong"))
    error = future.exception(LIMIT)
    assert vars(error)["__notes__"] == [f"call {text}"]
    assert str(vars(error)["call"]) == text


@needs("batches")
def test_the_note_tells_what_was_sent(session: ScriptedSession) -> None:
    """A batch that is cleared afterwards is described as it was (promise 18)."""
    batch = BatchStatement().add("INSERT 1").add("INSERT 2")
    future = CassandraExecutor(session).submit(batch)
    batch.clear()
    fail_all(session, InvalidRequest("wrong"))
    assert vars(future.exception(LIMIT))["__notes__"] == ["call batch of 2 statements"]


def test_the_position_counts_from_zero_in_each_map(session: ScriptedSession) -> None:
    """A call of a `map` has its place in that map's input, one of `submit` has none."""
    executor = CassandraExecutor(session)
    first = executor.map("SELECT %s", [1, 2], return_exceptions=True)
    second = executor.starmap("SELECT %s", [(1,)], return_exceptions=True, ordered=False)
    third = executor.execute_concurrent([("SELECT 1", None)] * 2, return_exceptions=True)
    alone = executor.submit("SELECT 1")
    fail_all(session, InvalidRequest("wrong"))
    positions = [[error.call.position for error in each] for each in (first, second, third)]
    assert positions == [[0, 1], [0], [0, 1]]
    assert vars(alone.exception(LIMIT))["call"].position is None


def test_the_drop_ins_tell_it_as_well(session: ScriptedSession) -> None:
    """A failure in a result of the drop-ins is one's own, with its position."""
    error = InvalidRequest("wrong")
    session.respond = lambda request: request.fail(error)
    pairs = [("SELECT 1", None), ("SELECT 2", None)]
    for results in (
        execute_concurrent(session, pairs, raise_on_first_error=False),
        execute_concurrent_async(session, pairs).result(LIMIT),
    ):
        assert [each.result_or_exc.call.position for each in results] == [0, 1]
        assert len({id(each.result_or_exc) for each in results}) == 2


def test_a_failed_page_tells_its_call() -> None:
    """What fails when a later page is fetched tells which statement it was."""
    session = DriverSession()
    results = CassandraExecutor(session).map("SELECT %s", [1, 2])
    for request in list(session.requests):
        request.rows([(1,)], ["one"], paging_state=b"1")
    next(results)
    rows = next(results)
    fetching = Background(rows.fetch_next_page)
    session.wait_for(3).answer(InvalidRequest("wrong"))
    with pytest.raises(InvalidRequest) as caught:
        fetching.result()
    assert "SELECT %s" in vars(caught.value)["__notes__"][0]


def test_callables_fail_as_in_a_pool() -> None:
    """What a callable raises is left as it is: one object for all, without notes."""
    error = KeyError("mine")

    def fail(_: int) -> None:
        raise error

    with CassandraExecutor(ScriptedSession()) as executor:
        assert executor.submit(fail, 1).exception(LIMIT) is error
        results: List[Any] = list(executor.map(fail, [1, 2], return_exceptions=True))
    assert results == [error, error]
    assert not hasattr(error, "__notes__")
    assert not hasattr(error, "call")


# What must never be shown. Hypothesis draws the rest of it, and where it stands.
SECRET = "s3cr3t"


def shown(thing: Any) -> Iterator[str]:
    """Yield all that an object shows of itself, exceptions with what belongs to them."""
    yield repr(thing)
    yield str(thing)
    yield f"{thing}"
    yield pprint.pformat(thing)
    if isinstance(thing, BaseException):
        yield "".join(traceback.format_exception(type(thing), thing, thing.__traceback__))
        yield from vars(thing).get("__notes__", ())
        yield from shown(vars(thing).get("call"))
        for other in (thing.__cause__, thing.__context__):
            if other is not None:
                yield from shown(other)


def check_hidden(*things: Any) -> None:
    """Check that nothing shows the secret."""
    for thing in things:
        for text in shown(thing):
            assert SECRET not in text


SECRETS = st.builds("{}{}{}".format, st.text(max_size=3), st.just(SECRET), st.text(max_size=3))


@given(SECRETS, st.sampled_from(["submit", "named", "map", "starmap", "pairs"]))
def test_values_are_not_shown_by_failures(secret: str, way: str) -> None:
    """No exception, note, call or future of a failed statement shows its parameters."""
    session = ScriptedSession()
    executor = CassandraExecutor(session)
    text = "INSERT (%s, %s)"
    things: List[Any]
    if way == "submit":
        things = [executor.submit(text, secret, [secret])]
    elif way == "named":
        things = [executor.submit("INSERT (%(a)s)", a=secret)]
    else:
        if way == "map":
            results = executor.map(text, [secret], [{secret}], return_exceptions=True)
        elif way == "starmap":
            results = executor.starmap(text, [(secret, {1: secret})], return_exceptions=True)
        else:
            results = executor.execute_concurrent([(text, (secret, 1))], return_exceptions=True)
        things = [results]
    things += [executor, executor.stats(), executor.with_options(timeout=1)]
    check_hidden(*things)
    fail_all(session, InvalidRequest("wrong"))
    if isinstance(things[0], Future):
        things.append(things[0].exception(LIMIT))
    else:
        things.append(next(things[0]))
    check_hidden(*things)


INSERT = prepare("INSERT INTO t (a, b) VALUES (?, ?)", "a", "b")
BOUND = INSERT.bind((1, 2))


@pytest.mark.parametrize(
    ("statement", "given"),
    [
        (INSERT, [SECRET]),
        (INSERT, [SECRET, SECRET, SECRET]),
        (INSERT, {"a": SECRET}),
        (INSERT, {"a": SECRET, "b": SECRET, "c": SECRET}),
        (INSERT, SECRET),
        (INSERT, SECRET.encode()),
        (INSERT, {SECRET}),
        (BOUND, [SECRET]),
        (BatchStatement(), {"a": SECRET}),
        ("INSERT %s", SECRET),
        ("INSERT %s", {SECRET}),
        ("INSERT %s", iter([SECRET])),
    ],
)
def test_values_are_not_shown_when_a_call_is_refused(
    session: ScriptedSession, statement: Any, given: Any
) -> None:
    """What we raise for parameters that do not fit tells names and numbers, not values."""
    executor = CassandraExecutor(session)
    with pytest.raises((TypeError, ValueError)) as caught:
        executor.starmap(statement, [given])
    check_hidden(caught.value)
    with pytest.raises((TypeError, ValueError)) as caught:
        executor.execute_concurrent([(statement, given)])
    check_hidden(caught.value)


@pytest.mark.parametrize("item", [SECRET, (SECRET,), [SECRET] * 3, {"a": SECRET}, {SECRET}])
def test_values_are_not_shown_when_an_item_is_no_pair(session: ScriptedSession, item: Any) -> None:
    """An item that is no pair of statement and parameters may be parameters: it is not shown."""
    with pytest.raises(TypeError) as caught:
        CassandraExecutor(session).execute_concurrent([item])
    check_hidden(caught.value)


def test_values_are_not_shown_by_a_value_of_the_wrong_type(session: ScriptedSession) -> None:
    """A value that can't be bound fails its call with the driver's words, and ours add nothing."""
    future = CassandraExecutor(session).submit(INSERT, SECRET, 1)
    error = future.exception(LIMIT)
    assert type(error) is TypeError
    check_hidden(error, vars(error)["call"], future)


@pytest.mark.parametrize("max_errors", [None, 0])
def test_values_are_not_logged(
    session: ScriptedSession, caplog: pytest.LogCaptureFixture, max_errors: Optional[int]
) -> None:
    """A failure that nobody looked at, and one in a callback, are logged without values."""
    caplog.set_level(logging.DEBUG, "cassconc")
    session.respond = lambda request: request.fail(InvalidRequest("wrong"))
    executor = CassandraExecutor(session)
    called = threading.Event()

    def callback(future: Future[Any]) -> None:
        called.set()
        raise ValueError("in a callback")

    results = executor.map("INSERT %s", [SECRET] * 3, max_errors=max_errors)
    future: Future[Any] = executor.submit("INSERT %s", SECRET)
    future.add_done_callback(callback)
    del results
    executor.shutdown()
    assert called.wait(LIMIT)
    logged()
    assert {record.name for record in caplog.records} == {"cassconc"}
    assert any("in a callback" in (record.exc_text or "") for record in caplog.records)
    assert any("map(INSERT %s)" in record.getMessage() for record in caplog.records)
    assert SECRET not in caplog.text


def test_values_are_not_shown_by_reports(session: ScriptedSession) -> None:
    """`TooManyErrors` and its report show statements and positions, not values."""
    session.respond = lambda request: request.fail(InvalidRequest("wrong"))
    executor = CassandraExecutor(session)
    results = executor.map("INSERT %s", [SECRET] * 3, max_errors=1)
    with pytest.raises(TooManyErrors) as caught:
        for error in results:
            check_hidden(error)
    check_hidden(caught.value, caught.value.report, *caught.value.report.types.values())
    assert "INSERT %s" in str(caught.value)


def test_values_are_not_shown_by_retries(clock: ManualClock) -> None:
    """What the hook of a retry is told, and what the last failure carries, shows no values."""
    session = ScriptedSession()
    told: List[Any] = []
    hooked = threading.Event()

    def hook(event: Any) -> None:
        told.append(event)
        hooked.set()

    executor = CassandraExecutor(session, clock=clock, retry=Retry(attempts=2, on_retry=hook))
    statement = SimpleStatement("INSERT %s", is_idempotent=True)
    future = executor.submit(statement, SECRET)
    fail_all(session, OverloadedErrorMessage(0x1001, "busy", None))
    assert hooked.wait(LIMIT)
    check_hidden(*told)
    clock.advance(1.0)
    session.wait_for(2)
    fail_all(session, OverloadedErrorMessage(0x1001, "busy", None))
    check_hidden(future.exception(LIMIT))


@given(st.text(), st.lists(SECRETS), st.none() | st.integers(0))
def test_a_call_shows_its_statement_and_position(
    text: str, parameters: List[str], position: Optional[int]
) -> None:
    """The `repr` of a `Call` is that of its position and statement, whatever its parameters."""
    call = Call(text, parameters, position)
    assert repr(call) == repr(Call(text, None, position))
    assert str(call) == str(Call(text, None, position))
    assert call.parameters is parameters
