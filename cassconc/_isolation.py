"""Host isolation: hosts that let requests run into their time limits are asked last."""

from __future__ import annotations

import functools
import math
import threading
from contextvars import Context
from typing import Any, Dict, Iterator, List

from ._clock import Clock
from ._driver import NO_ANSWER, ask_host, has_profiles, is_known
from ._threads import helper_threads

# seconds
_PROBE_LIMIT = 1.0
_FIRST_INTERVAL = 1.0  # between probes; not less than the limit
_LONGEST_INTERVAL = 60.0
_WELL_AFTER = 120.0  # since it was cleared, a host is as good as one that never was suspect


class Suspect:
    """A host that is suspect, or was until a probe cleared it."""

    def __init__(self, host: Any, interval: float, now: float) -> None:
        self.host = host
        self.interval = interval
        self.next_probe = now + interval
        self.is_probed = False
        self.cleared = 0.0


class Isolation:
    """Knows which hosts are suspect, and has them asked last.

    A host is suspect from a request's time-out until it answers any. Its place is then at the end
    of each query plan, and now and then a plan that it is in has it probed: by a request of our
    own, so that no call of the caller waits for it. While no host is suspect, requests are sent as
    they are.

    Who answers probes and lets calls hang would be suspect and cleared in turns, and each turn
    costs a time limit. So a host that is suspect again soon after a probe has cleared it is probed
    half as often as before.

    Thread-safe. Nothing is sent under the lock, or on the thread whose call meets the suspect.
    """

    def __init__(self, session: Any, clock: Clock, enabled: bool) -> None:
        self._session = session
        self._clock = clock
        self._enabled = enabled
        self._lock = threading.RLock()  # re-entrant, see Gate
        # Written under _lock. By id, for a host's hash is slow; the host is kept so that the id
        # stays its own.
        self.suspects: Dict[int, Suspect] = {}
        # guarded by _lock:
        self._cleared: Dict[int, Suspect] = {}  # by probes
        self._next_sweep = -math.inf  # read without it

    def timed_out(self, host: Any) -> None:
        """Suspect a host."""
        if not self._enabled or host is None:
            return
        with self._lock:
            if id(host) in self.suspects:
                return
            now = self._clock.monotonic()
            earlier = self._cleared.pop(id(host), None)
            interval = _FIRST_INTERVAL
            if earlier is not None and now < earlier.cleared + _WELL_AFTER:
                interval = min(2 * earlier.interval, _LONGEST_INTERVAL)
            self.suspects[id(host)] = Suspect(host, interval, now)

    def answered(self, host: Any) -> None:
        """Clear a host that has answered a call."""
        with self._lock:
            self.suspects.pop(id(host), None)

    def arguments(self, arguments: Dict[str, Any], profile: Any) -> Dict[str, Any]:
        """Return the arguments of `execute_async` with suspects last in the query plan.

        A session without execution profiles does not allow that.
        """
        if not has_profiles(self._session):
            return arguments
        if self._clock.monotonic() >= self._next_sweep:
            self._sweep()
        policy = SuspectsLast(profile.load_balancing_policy, self)
        clone = self._session.execution_profile_clone_update(profile, load_balancing_policy=policy)
        return {**arguments, "execution_profile": clone}

    def _sweep(self) -> None:
        """Forget the hosts that were taken out of the cluster: nobody would ever probe them."""
        with self._lock:
            self._next_sweep = self._clock.monotonic() + _FIRST_INTERVAL
            hosts = [each.host for each in (*self.suspects.values(), *self._cleared.values())]
        gone = [id(host) for host in hosts if not is_known(self._session, host)]
        with self._lock:
            for key in gone:
                self.suspects.pop(key, None)
                self._cleared.pop(key, None)

    def comes_last(self, host: Any) -> bool:
        """Return whether a host is to be asked last; if so, it is probed when that is due."""
        suspect = self.suspects.get(id(host))
        if suspect is None:
            return False
        with self._lock:
            now = self._clock.monotonic()
            is_due = now >= suspect.next_probe and not suspect.is_probed
            if is_due:
                suspect.next_probe = now + suspect.interval
        if is_due:
            helper_threads.run(functools.partial(self._probe, suspect))
        return True

    def _probe(self, suspect: Suspect) -> None:
        with self._lock:
            if suspect.is_probed or self.suspects.get(id(suspect.host)) is not suspect:
                return
            # here, on a helper thread, where no interrupt strikes: else it might stay so
            suspect.is_probed = True
        try:
            response = Context().run(ask_host, self._session, suspect.host, _PROBE_LIMIT)
            args = (suspect,)
            response.add_callbacks(
                self._probe_answered, self._probe_failed, callback_args=args, errback_args=args
            )
        except BaseException:  # of a session that is none of the driver's, most likely
            suspect.is_probed = False

    def _probe_answered(self, _: Any, suspect: Suspect) -> None:
        with self._lock:
            suspect.is_probed = False
            if self.suspects.get(id(suspect.host)) is suspect:
                suspect.cleared = self._clock.monotonic()
                self._cleared[id(suspect.host)] = self.suspects.pop(id(suspect.host))

    def _probe_failed(self, error: BaseException, suspect: Suspect) -> None:
        if isinstance(error, NO_ANSWER):
            suspect.is_probed = False
        else:
            self._probe_answered(error, suspect)


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
