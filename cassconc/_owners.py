"""What a future asks of those that it belongs to: its gate, and the window of its map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ContextManager, List, Optional, Protocol, Tuple

if TYPE_CHECKING:
    from ._futures import CallFuture

    # Whether an outcome counts, and who is admitted in the place of the call.
    Outcome = Tuple[bool, Optional[CallFuture]]


class Owner(Protocol):
    """The gate of a future, as far as those need it who have the future; see `Gate`."""

    @property
    def lock(self) -> ContextManager[bool]: ...
    def claim(self, call: CallFuture) -> bool: ...
    def sent(self, call: CallFuture, attempt: int, response: Any) -> bool: ...
    def put_aside(self, call: CallFuture, attempt: int, exception: BaseException) -> Outcome: ...
    def try_again(self, call: CallFuture) -> Tuple[bool, bool]: ...
    def end(
        self,
        call: CallFuture,
        attempt: Optional[int],
        result: Any,
        exception: Optional[BaseException],
        may_wait: bool = True,
    ) -> Outcome: ...
    def retried(self) -> None: ...
    @property
    def has_unwanted(self) -> bool: ...
    def unwanted(self) -> List[CallFuture]: ...
    def cancel(self, call: CallFuture) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...


class Observer(Protocol):
    """What a future tells the window that it belongs to."""

    closed: bool  # nothing more is wanted
    last: float  # what comes later in the input is not wanted; guarded by the gate's lock
    heeds_successes: bool  # `settled` is to be told of them, too

    def settled(self, call: CallFuture, exception: Optional[BaseException]) -> bool:
        """Note an outcome; returns whether less is wanted now. The gate's lock is held."""

    def ended(self, call: CallFuture) -> None:
        """Note that the call has ended, in whatever way; no lock is held."""
