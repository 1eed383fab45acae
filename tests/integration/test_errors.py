"""Promise 20 with the real driver: exceptions are the driver's, each call's own, and say which."""

from __future__ import annotations

import gc
import logging
import traceback
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unavailable, WriteTimeout, WriteType
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.policies import RetryPolicy, RoundRobinPolicy
from cassandra.protocol import OverloadedErrorMessage, SyntaxException
from cassandra.query import BatchStatement, SimpleStatement

from cassconc import (
    CassandraExecutor,
    FailureReport,
    Retry,
    RetryEvent,
    execute_concurrent,
    execute_concurrent_async,
    execute_concurrent_with_args,
)
from tests.integration.error_kinds import ERRORS
from tests.integration.helpers import (
    INSERT,
    LIMIT,
    SELECT,
    connected,
    done,
    executing,
    failure,
    failure_of,
    name_of,
    profile_of,
    user,
)
from tests.protocol import ScriptedServer, ServerRequest
from tests.protocol.errors import ErrorKind
from tests.waits import eventually

SECRET = "hunter2"


def state_of(error: Any) -> dict[str, Any]:
    """The attributes of an exception, but for those that are ours, and its stream."""
    others = ("call", "__notes__", "attempts", "stream_id")
    return {name: value for name, value in vars(error).items() if name not in others}


@pytest.mark.parametrize(("kind", "expected", "info"), ERRORS, ids=[each[0] for each in ERRORS])
def test_errors_are_the_drivers(
    server: ScriptedServer,
    session: Any,
    kind: ErrorKind,
    expected: type[BaseException],
    info: dict[str, Any],
) -> None:
    """Each error has the type, the text and the fields that the driver gives it."""
    server.on_request = lambda r: r.error(kind, "so it goes", **info)
    with executing(session) as executor:
        ours: Any = failure_of(executor.submit("SELECT 1"))
    if kind == "protocol_error":  # it ends the connection
        assert type(ours) is expected
        return
    theirs = failure(session.execute_async("SELECT 1"))
    assert type(ours) is type(theirs)
    assert isinstance(ours, expected)
    assert str(ours) == str(theirs)
    assert ours.args == theirs.args  # type: ignore[union-attr]
    assert state_of(ours) == state_of(theirs)


def test_an_error_tells_which_call_it_was(
    server: ScriptedServer, executor: CassandraExecutor, session: Any
) -> None:
    """Statement and position are in a note, and the call, with its parameters, an attribute."""
    server.on_request = lambda r: r.error("invalid", "no such thing")
    insert = session.prepare(INSERT)
    for statement, given, text in (
        ("INSERT 1", (), "INSERT 1"),
        ("INSERT %s", (SECRET,), "INSERT %s"),
        (SimpleStatement("INSERT\n   2"), (), "INSERT 2"),
        (insert, (1, SECRET), INSERT),
        (insert.bind((1, SECRET)), (), INSERT),
    ):
        error: Any = failure_of(executor.submit(statement, *given))
        assert isinstance(error, InvalidRequest)
        assert error.call.statement is statement
        assert error.call.parameters == given
        assert error.call.position is None
        assert error.__notes__ == [f"call {text}"]
        assert SECRET not in repr(error.call)
        assert SECRET not in "".join(traceback.format_exception(error))
    batch = BatchStatement()
    batch.add(insert, (1, SECRET))
    batch.add(insert, (2, SECRET))
    error = failure_of(executor.submit(batch))
    assert error.__notes__ == ["call batch of 2 statements"]
    assert error.call.statement is batch


def test_named_parameters_of_a_call(
    server: ScriptedServer, executor: CassandraExecutor, session: Any
) -> None:
    """Parameters that were given by name are kept by name."""
    server.on_request = lambda r: r.error("invalid")
    insert = session.prepare(INSERT)
    error: Any = failure_of(executor.submit(insert, id=1, name=SECRET))
    assert error.call.parameters == {"id": 1, "name": SECRET}
    assert SECRET not in "".join(error.__notes__)


def test_errors_of_a_map_tell_their_place(
    server: ScriptedServer, executor: CassandraExecutor, session: Any
) -> None:
    """In a map each error has the position of its call in the input."""
    server.on_request = lambda r: r.error("unavailable") if r.parameters[0] % 3 else user(r)
    select = session.prepare(SELECT)
    results = list(executor.map(select, range(30), return_exceptions=True))
    report = FailureReport()
    for position, result in enumerate(results):
        if position % 3:
            assert isinstance(result, Unavailable)
            assert result.call.position == position
            assert result.call.parameters == (position,)
            assert result.__notes__ == [f"call {position}: {SELECT}"]
            report.add(result)
        else:
            assert result.one() == (position, name_of(position))
    assert report.types["Unavailable"].positions == [n for n in range(30) if n % 3]


def test_long_statements_are_shortened(server: ScriptedServer, executor: CassandraExecutor) -> None:
    """What is shown of a statement is 200 characters at most, on one line."""
    server.on_request = lambda r: r.error("syntax_error", "too long")
    error: Any = failure_of(executor.submit("SELECT " + "\n x," * 5000))
    assert isinstance(error, SyntaxException)
    (note,) = error.__notes__
    assert len(note) <= len("call ") + 200
    assert note.endswith("...")
    assert "\n" not in note


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_a_lost_connection_gives_each_call_its_own_error(
    server: ScriptedServer, session: Any, reset: bool
) -> None:
    """The driver gives one exception to all calls; here each has one, with its own notes."""
    with executing(session, concurrency=300) as executor:
        select = session.prepare(SELECT)
        futures = [executor.submit(select, n) for n in range(300)]
        server.requests(300)
        server.drop_all(reset=reset)
        errors: list[Any] = [failure_of(future) for future in futures]
    assert {type(error) for error in errors} == {ConnectionShutdown}
    assert len(set(map(id, errors))) == 300
    assert [error.call.parameters for error in errors] == [(n,) for n in range(300)]
    assert {tuple(error.__notes__) for error in errors} == {(f"call {SELECT}",)}
    originals = [error for error in errors if error.__cause__ is None]
    assert len(originals) == 1, "one has the driver's own, the others copies of it"
    assert {id(error.__cause__) for error in errors if error.__cause__} == {id(originals[0])}
    assert {str(error) for error in errors} == {str(originals[0])}
    assert {error.args for error in errors} == {originals[0].args}


def test_copies_lose_nothing(server: ScriptedServer) -> None:
    """An exception that several calls share is copied with all its attributes."""
    with connected(server) as session, executing(session) as executor:
        response = session.execute_async("SELECT 1")
        server.next_request().error(
            "write_timeout", consistency=4, received_responses=1, required_responses=2,
            write_type="CAS",
        )  # fmt: skip
        shared: Any = failure(response)
        session.execute_async = lambda *args, **kwargs: response
        errors: list[Any] = [failure_of(executor.submit(f"SELECT {n}")) for n in range(3)]
    assert errors[0] is shared
    for n, error in enumerate(errors):
        assert type(error) is WriteTimeout
        assert (error.consistency, error.received_responses, error.required_responses) == (4, 1, 2)
        assert error.write_type == WriteType.CAS
        assert str(error) == str(shared)
        assert error.__notes__ == [f"call SELECT {n}"]
        assert error.call.statement == f"SELECT {n}"
    assert [error.__cause__ for error in errors] == [None, shared, shared]


def test_an_error_before_anything_was_sent(session: Any, executor: CassandraExecutor) -> None:
    """What the driver cannot even encode ends its call with the driver's exception."""
    insert = session.prepare(INSERT)
    error: Any = failure_of(executor.submit(insert, "not a number", "Ann"))
    assert isinstance(error, TypeError)
    assert error.call.parameters == ("not a number", "Ann")
    assert "not a number" not in "".join(error.__notes__)
    wrong = failure_of(executor.submit("SELECT %s AND %s", 1))
    assert isinstance(wrong, TypeError)


def test_no_host(server: ScriptedServer, session: Any, executor: CassandraExecutor) -> None:
    """A call that no host can take ends with `NoHostAvailable` and the driver's errors by host."""
    server.refuse_connections()
    server.drop_all()
    error: Any
    for _ in range(20):
        error = failure_of(executor.submit("SELECT 1"))
        if isinstance(error, NoHostAvailable):
            break
    assert isinstance(error, NoHostAvailable)
    assert error.call.statement == "SELECT 1"
    assert error.errors or error.args


@pytest.mark.parametrize("kind", ["invalid", "overloaded", "unavailable", "read_timeout"])
def test_errors_of_the_drop_ins(server: ScriptedServer, session: Any, kind: ErrorKind) -> None:
    """They are raised or returned as the driver's, with call and position."""
    server.on_request = lambda r: r.error(kind) if r.parameters[0] == 3 else user(r)
    select = session.prepare(SELECT)
    parameters = [(n,) for n in range(5)]
    theirs = failure(session.execute_async(select, (3,)))
    for generator in (False, True):
        results = list(
            execute_concurrent_with_args(
                session,
                select,
                parameters,
                raise_on_first_error=False,
                results_generator=generator,
            )
        )
        assert [each.success for each in results] == [True, True, True, False, True]
        error: Any = results[3].result_or_exc
        assert type(error) is type(theirs)
        assert error.call.position == 3
        with pytest.raises(type(theirs)) as caught:
            list(execute_concurrent_with_args(session, select, parameters, 1, True, generator))
        assert caught.value.call.position == 3  # type: ignore[attr-defined]
    pairs = [(select, each) for each in parameters]
    future = execute_concurrent_async(session, pairs, raise_on_first_error=True)
    assert type(failure_of(future)) is type(theirs)


def test_an_error_leaves_the_others_alone(
    server: ScriptedServer, executor: CassandraExecutor, session: Any
) -> None:
    """Whatever ends one call, the others of the same connection get their results."""
    kinds = [kind for kind, _, _ in ERRORS if kind != "protocol_error"]

    def answer(request: ServerRequest) -> None:
        number = request.parameters[0]
        if number % 2:
            request.error(kinds[number // 2 % len(kinds)])
        else:
            user(request)

    server.on_request = answer
    select = session.prepare(SELECT)
    for number, result in enumerate(executor.map(select, range(200), return_exceptions=True)):
        if number % 2:
            assert isinstance(result, Exception)
        else:
            assert result.one() == (number, name_of(number))


def test_an_error_raised_by_a_map_is_the_calls(
    server: ScriptedServer, executor: CassandraExecutor, session: Any
) -> None:
    """What `map` raises is the exception of the call, not a copy, and not raised anew."""
    server.on_request = lambda r: r.error("overloaded")
    select = session.prepare(SELECT)
    results = executor.map(select, range(3), buffersize=1)
    with pytest.raises(OverloadedErrorMessage) as caught:
        next(results)
    assert caught.value.call.position == 0
    assert caught.value.__cause__ is None


def test_no_values_in_what_is_logged(
    server: ScriptedServer, session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Parameter values are in no line that we log, whatever fails."""
    caplog.set_level(logging.DEBUG, "cassconc")
    server.on_request = lambda r: r.error("invalid")
    insert = session.prepare(INSERT)
    executor = CassandraExecutor(session)
    results = executor.map(insert, [1, 2, "x"], [SECRET, SECRET, SECRET])
    executor.shutdown()
    del results
    executor = CassandraExecutor(session)
    future = executor.submit(insert, 1, SECRET)
    future.add_done_callback(lambda future: future.result())
    executor.shutdown()

    def ours() -> list[logging.LogRecord]:
        gc.collect()  # the traceback of the third call's error leads to the map
        return [each for each in caplog.records if each.name.startswith("cassconc")]

    eventually(lambda: len(ours()) >= 2)  # when the driver's thread has let go of the map
    for record in ours():
        assert SECRET not in logging.Formatter().format(record)


def test_time_outs_are_each_calls_own(server: ScriptedServer, session: Any) -> None:
    """Time-outs, too, are exceptions of their own, with call and note."""
    with executing(session) as executor:
        view = executor.with_options(timeout=0.05)
        errors: list[Any] = [
            failure_of(each) for each in [view.submit(f"SELECT {n}") for n in range(20)]
        ]
    assert {type(error) for error in errors} == {OperationTimedOut}
    assert len(set(map(id, errors))) == 20
    assert [error.__notes__ for error in errors] == [[f"call SELECT {n}"] for n in range(20)]


def test_both_raise_the_same(server: ScriptedServer, session: Any) -> None:
    """A pair that the driver's rules refuse is refused here with the driver's exception."""
    server.on_request = done
    insert = session.prepare(INSERT)
    for statement, given in (
        (insert, (1, "a", "too many")),
        (insert, {"id": 1, "nonsense": 2}),
        (insert, ("not a number", "a")),
        ("SELECT %s AND %s", (1,)),
        (5, None),
    ):
        (pair,) = execute_concurrent(session, [(statement, given)], raise_on_first_error=False)
        theirs: Any = None
        try:
            theirs = session.execute_async(statement, given)
        except Exception as error:
            theirs = error
        assert pair.success is not isinstance(theirs, Exception), statement
        if not pair.success:
            assert type(pair.result_or_exc) is type(theirs), statement
            assert str(pair.result_or_exc) == str(theirs)


class Failing(RoundRobinPolicy):  # type: ignore[misc]
    """A load balancing policy that fails for every third request, before or within its plan."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.fails = False

    def make_query_plan(self, *args: Any, **kwargs: Any) -> Any:
        """As the class says."""
        self.count += 1
        if self.fails and self.count % 3 == 0:
            raise ZeroDivisionError("no plan")
        return self._plan(self.count, *args, **kwargs)

    def _plan(self, number: int, *args: Any, **kwargs: Any) -> Any:
        if self.fails and number % 3 == 1:
            raise ZeroDivisionError("no host")
        yield from super().make_query_plan(*args, **kwargs)


def test_a_failing_policy(server: ScriptedServer) -> None:
    """What a load balancing policy raises ends its own call, whichever thread sends it."""
    server.on_request = done
    policy = Failing()
    with connected(server, policy=policy) as session, executing(session, concurrency=2) as executor:
        policy.fails = True
        results = list(executor.map("SELECT %s", range(90), return_exceptions=True))
        policy.fails = False
    failed = [each for each in results if isinstance(each, Exception)]
    assert {type(error) for error in failed} == {ZeroDivisionError}
    assert len(failed) == 60


class FailingRetryPolicy(RetryPolicy):  # type: ignore[misc]
    """A retry policy that fails."""

    def on_request_error(self, *args: Any, **kwargs: Any) -> Any:
        """As the class says."""
        raise ZeroDivisionError("no decision")


def test_a_failing_retry_policy(server: ScriptedServer) -> None:
    """What a retry policy of the driver raises ends the call, with or without our own retries."""
    server.on_request = lambda r: r.error("overloaded")
    with connected(server, profile=profile_of(retry_policy=FailingRetryPolicy())) as session:
        for retry in (None, Retry(delay=0)):
            with executing(session, retry=retry) as executor:
                error = failure_of(executor.submit("SELECT 1"))
                assert isinstance(error, ZeroDivisionError)


def test_a_failing_listener(server: ScriptedServer, session: Any) -> None:
    """What a listener for requests raises ends the call that it was told of, and no other."""
    server.on_request = done

    def on_request(response: Any) -> None:
        if "7" in response.query.query_string:
            raise ZeroDivisionError("seven")

    session.add_request_init_listener(on_request)
    with executing(session, concurrency=2) as executor:
        futures = [executor.submit(f"SELECT {n}") for n in range(10)]
        assert isinstance(failure_of(futures.pop(7)), ZeroDivisionError)
        assert [future.exception(LIMIT) for future in futures] == [None] * 9


def test_a_failing_hook(
    server: ScriptedServer, session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What `on_retry` raises is logged, and changes nothing."""

    def fail(event: RetryEvent) -> None:
        raise ZeroDivisionError("my own")

    kinds: list[ErrorKind] = ["overloaded", "overloaded"]
    server.on_request = lambda r: r.error(kinds.pop()) if kinds else r.void()
    with executing(session, retry=Retry(delay=0, on_retry=fail)) as executor:
        statement = SimpleStatement("INSERT 1", is_idempotent=True)
        assert executor.submit(statement).result(LIMIT).all() == []
    eventually(lambda: caplog.text.count("ZeroDivisionError: my own") == 2)
