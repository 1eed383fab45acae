"""Sessions of the driver: what can be seen of them."""

from __future__ import annotations

from typing import Any

from .names import (
    EXEC_PROFILE_DEFAULT,
    LEGACY,
    ConsistencyLevel,
    FallthroughRetryPolicy,
    Session,
    private,
    tuple_factory,
)

DEFAULT_TIMEOUT = 10.0  # of a session, in seconds; only one without profiles can change its own

# How many streams of each connection stay free for those who send at the same time.
_SPARE_STREAMS = 1024


def is_session(session: Any) -> bool:
    """Return whether this is the driver's own kind of session, whose private parts may be used."""
    return issubclass(type(session), Session)  # isinstance is true of a Mock(spec=Session)


def is_shutdown(session: Any) -> bool:
    """Return whether the session says that it was shut down."""
    try:
        return getattr(session, "is_shutdown", False) is True
    except Exception:  # of a session that is not the driver's: then nobody knows
        return False


def hides_session(session: Any) -> bool:
    """Return whether this is no session of the driver, but one stands behind it."""
    # all. Without it, that is found when the first response comes
    return not is_session(session) and type(getattr(session, "_pools", None)) is dict


def has_profiles(session: Any) -> bool:
    """Return whether requests of this session may have an execution profile of their own."""
    mode = getattr(getattr(session, "cluster", None), "_config_mode", LEGACY)
    return private.profiles and isinstance(mode, int) and mode != LEGACY


def is_known(session: Any, host: Any) -> bool:
    """Return whether a host is one of the session's cluster; also where nobody can tell."""
    try:
        return any(each is host for each in session.cluster.metadata.all_hosts())
    except Exception:  # of a session that is not the driver's
        return True


def ask_host(session: Any, host: Any, timeout: float) -> Any:
    """Ask a host for what each can answer by itself; returns the response future.

    For a session with profiles. Nothing of the caller's own sees it or has a say in it: no row
    factory, no retry policy.
    """
    profile = session.execution_profile_clone_update(
        EXEC_PROFILE_DEFAULT,
        consistency_level=ConsistencyLevel.ONE,
        retry_policy=FallthroughRetryPolicy(),
        row_factory=tuple_factory,
    )
    statement = "SELECT key FROM system.local"
    return session.execute_async(statement, timeout=timeout, execution_profile=profile, host=host)


def may_block(session: Any) -> bool:
    """Return whether `execute_async` may have to wait for a free stream."""
    if not private.streams:
        return True
    try:
        for pool in session._pools.values():
            # all. _pools is {host: pool}; without it, driver threads never send
            for connection in pool.get_connections():
                if (
                    connection.in_flight + _SPARE_STREAMS > connection.max_request_id
                    or connection.is_closed
                    or connection.is_defunct
                ):
                    return True
    except (AttributeError, TypeError, RuntimeError):  # the last: a host has come or gone just now
        return True
    return False
