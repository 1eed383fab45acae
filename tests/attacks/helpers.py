"""What the attacks share: a session whose responses are answered at will, and waits."""

from __future__ import annotations

import threading
from typing import Any, Callable

from cassconc import CassandraExecutor
from tests.waits import Background


def comes_back(code: Callable[[], Any]) -> Any:
    """Run code on a thread of its own, and fail if it does not come back."""
    return Background(code).result()


class Plain:
    """The smallest response there can be: answered by `succeed` and `fail`, as often as one likes.

    `session` is a session whose responses these are; `responses` are those that were sent.
    """

    _col_names = _col_types = None
    has_more_pages = False
    warnings = None

    def __init__(self, number: int) -> None:
        self.number = number
        self._added = threading.Event()

    def add_callbacks(
        self, callback: Any, errback: Any, callback_args: Any = (), errback_args: Any = ()
    ) -> None:
        self.succeed: Callable[[], Any] = lambda: callback([], *callback_args)
        self.fail: Callable[[BaseException], Any] = lambda error: errback(error, *errback_args)

    def clear_callbacks(self) -> None:
        pass


class PlainSession:
    """Its responses are `Plain`."""

    default_timeout = 10.0

    def __init__(self) -> None:
        self.responses: list[Plain] = []

    def execute_async(self, *args: Any, **kwargs: Any) -> Plain:
        response = Plain(len(self.responses))
        self.responses.append(response)
        return response


def shut_down(executor: CassandraExecutor, **options: Any) -> None:
    """Shut an executor down on another thread, and fail if that does not come back."""
    comes_back(lambda: executor.shutdown(**options))
