"""What a future asks of those that it belongs to: its gate, and the window of its map."""

from __future__ import annotations

from typing import Any, ContextManager, List, Optional, Protocol, Tuple, Union

AnyCall = Any  # a CallFuture, whose module needs this one


class Owner(Protocol):
    """The gate of a future, as far as those need it who have the future; see `Gate`."""

    @property
    def lock(self) -> ContextManager[bool]: ...
    def claim(self, call: AnyCall) -> bool: ...
    def wants(self, call: AnyCall) -> bool: ...
    def sent(self, call: AnyCall, attempt: int, response: Any) -> bool: ...
    def put_aside(
        self, call: AnyCall, attempt: int, exception: BaseException
    ) -> Tuple[bool, AnyCall]: ...
    def try_again(self, call: AnyCall) -> Tuple[bool, bool]: ...
    def end(
        self,
        call: AnyCall,
        attempt: Optional[int],
        result: Any,
        exception: Optional[BaseException],
        may_wait: bool = True,
    ) -> Tuple[bool, AnyCall]: ...
    def retried(self) -> None: ...
    @property
    def unwanted(self) -> List[AnyCall]: ...
    def take_unwanted(self) -> List[AnyCall]: ...
    def cancel(self, call: AnyCall, claimed: bool = False) -> None: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...


class Observer(Protocol):
    """What a future tells the window that it belongs to."""

    closed: bool  # nothing more is wanted
    last: float  # what comes later in the input is not wanted; guarded by the gate's lock
    max_errors: Union[int, float, None]  # with it, `settled` is to be told of successes, too

    def settled(self, call: AnyCall, exception: Optional[BaseException]) -> bool:
        """Note an outcome; returns whether less is wanted now. The gate's lock is held."""

    def ended(self, call: AnyCall) -> None:
        """Note that the call has ended, in whatever way; no lock is held."""
