"""Statements, and the driver's response futures, up to their end."""

from __future__ import annotations

import copy
from typing import Any

from .names import BatchStatement, OperationTimedOut, ResponseFuture, private


def fixed(statement: Any) -> Any:
    """Return a copy that does not change when `statement` is bound again, cleared or changed."""
    taken = copy.copy(statement)
    if isinstance(statement, BatchStatement) and private.batches:
        # all; without it, a batch that is cleared while it waits is sent without what it held
        taken._statements_and_parameters = list(statement._statements_and_parameters)
    return with_own_payload(taken)


def with_own_payload(statement: Any) -> Any:
    """Give a statement a custom payload of its own: the driver itself adds to it."""
    if type(getattr(statement, "custom_payload", None)) is dict:
        statement.custom_payload = dict(statement.custom_payload)
    return statement


def timed_out(response: Any, limit: float) -> OperationTimedOut:
    """Return the exception with which the driver would end `response` at its `limit` in seconds."""
    host = last_host(response)
    where = (
        "no host queried before timeout" if host is None else str(getattr(host, "endpoint", host))
    )
    reason = "Client request timeout. See Session.execute[_async](timeout)"
    if awaits_agreement(response):
        reason = "Request timed out while waiting for schema agreement"
    # `_errors`: all. Without it, what other hosts have answered before is not told
    errors = getattr(response, "_errors", None)
    if not (isinstance(errors, dict) and errors):
        errors = {where: reason}
    if not hasattr(OperationTimedOut, "in_flight"):
        return OperationTimedOut(errors, host)
    # scylla-driver's tells more. `_connection`: all; without it, it tells less
    in_flight = getattr(getattr(response, "_connection", None), "in_flight", None)
    return OperationTimedOut(errors, host, limit, in_flight)


def awaits_agreement(response: Any) -> bool:
    """Return whether a schema change was answered, and the nodes do not agree on it yet."""
    return getattr(response, "is_schema_agreed", True) is False


def keep_timestamp(response: Any, tries: Any) -> None:
    """Give a request the timestamp of the first attempt, or keep its own if it is the first.

    `message.timestamp`: all. Without it, writes that have no timestamp of their own are not tried
    again: the driver would draw a new one, and overwrite what was written in between.
    """
    message = getattr(response, "message", None)
    if not tries.was_sent:
        tries.was_sent = True
        tries.timestamp = getattr(message, "timestamp", None)
    elif message is not None and tries.timestamp is not None:
        message.timestamp = tries.timestamp


def last_host(response: Any) -> Any:
    """Return the host that a request was last sent to, or `None`."""
    attempted = getattr(response, "attempted_hosts", None)
    return attempted[-1] if isinstance(attempted, list) and attempted else None


def give_up(response: Any, exception: BaseException) -> None:
    """Keep the driver from working on for a response that nobody waits for any more."""
    response.clear_callbacks()
    if private.give_up and type(response) is ResponseFuture:
        # all; without it, the driver's retry policy may send it again, unheard
        response._set_final_exception(exception)
        _orphan(response)


def _orphan(response: Any) -> None:
    """Tell the connection that nobody waits for this stream any more.

    What the driver's own time-out does: a connection with too many such streams is replaced. But
    that one trusts `_req_id`, which is another request's after a retry on the same host, and does
    not hear when the connection is lost. Here the stream must belong to this response. All have
    these parts; without them, a connection to a node that hangs for long runs out of streams, and
    is lost then.
    """
    try:
        connection, stream = response._connection, response._req_id
        host, pools = response._current_host, response.session._pools

        def hear(answer: Any) -> None:
            pool = pools.get(host)
            with connection.lock:
                # else the connection itself has seen to that
                has_raced = stream in connection.orphaned_request_ids
                if has_raced:
                    connection.orphaned_request_ids.remove(stream)
                    connection.in_flight -= 1
            if has_raced and pool is not None:
                pool.on_orphaned_stream_released()
            if isinstance(answer, Exception) and pool is not None:
                # the connection may be lost: the pool looks, and has it replaced
                pool.return_connection(connection, stream_was_orphaned=True)

        with connection.lock:
            callback, *decoding = connection._requests[stream]
            if callback.func.__self__ is not response:
                return
            connection._requests[stream] = (hear, *decoding)
            connection.orphaned_request_ids.add(stream)
            if len(connection.orphaned_request_ids) >= connection.orphaned_threshold:
                connection.orphaned_threshold_reached = True
        pool = pools.get(host)
        if pool is not None:
            pool.return_connection(connection, stream_was_orphaned=True)
    except (AttributeError, KeyError, TypeError, ValueError):
        pass  # it was answered meanwhile, or the parts are not there
