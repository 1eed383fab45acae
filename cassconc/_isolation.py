"""Host isolation: hosts that let requests run into their time limits are asked last."""

from __future__ import annotations

import threading
from typing import Any, Dict, Iterator, List, Tuple

from ._clock import Clock
from ._driver import has_profiles

_PROBE_EVERY = 1.0  # seconds


class Isolation:
    """Knows which hosts are suspect, and has them asked last.

    A host is suspect from a request's time-out until it answers any. Its place is then at the end
    of the query plan, but for one request a second, which asks it as if nothing had happened.
    While no host is suspect, requests are sent as they are. Thread-safe.
    """

    def __init__(self, session: Any, clock: Clock, enabled: bool) -> None:
        self._session = session
        self._clock = clock
        self._enabled = enabled
        self._lock = threading.Lock()
        # Written under _lock. By id, for a host's hash is slow; the host is kept so that the id
        # stays its own. With each, when it may be asked again.
        self.suspects: Dict[int, Tuple[Any, float]] = {}

    def timed_out(self, host: Any) -> None:
        """Suspect a host."""
        if self._enabled and host is not None:
            with self._lock:
                next_probe = self._clock.monotonic() + _PROBE_EVERY
                self.suspects.setdefault(id(host), (host, next_probe))

    def answered(self, host: Any) -> None:
        """Clear a host of suspicion."""
        with self._lock:
            self.suspects.pop(id(host), None)

    def arguments(self, arguments: Dict[str, Any], profile: Any) -> Dict[str, Any]:
        """Return the arguments of `execute_async` with suspects last in the query plan.

        A session without execution profiles does not allow that.
        """
        if not has_profiles(self._session):
            return arguments
        policy = SuspectsLast(profile.load_balancing_policy, self)
        clone = self._session.execution_profile_clone_update(profile, load_balancing_policy=policy)
        return {**arguments, "execution_profile": clone}

    def comes_last(self, host: Any) -> bool:
        """Return whether a host is to be asked last; if not, it may be that it is probed."""
        with self._lock:
            suspect = self.suspects.get(id(host))
            if suspect is None:
                return False
            now = self._clock.monotonic()
            if now < suspect[1]:
                return True
            self.suspects[id(host)] = (host, now + _PROBE_EVERY)
            return False


class SuspectsLast:
    """A load balancing policy that asks suspect hosts last, and else does as another one."""

    def __init__(self, policy: Any, isolation: Isolation) -> None:
        self._policy = policy
        self._isolation = isolation

    def make_query_plan(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield the hosts of the other policy's plan."""
        last: List[Any] = []
        for host in self._policy.make_query_plan(*args, **kwargs):
            if self._isolation.comes_last(host):
                last.append(host)
            else:
                yield host
        yield from last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)
