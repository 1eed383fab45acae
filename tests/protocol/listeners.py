"""The listening sockets of a cluster: several addresses, one port, one accepting thread."""

import os
import select
import socket
import threading
from collections.abc import Callable, Sequence

_ATTEMPTS = 50
_BACKLOG = 512

Accepted = Callable[[str, socket.socket], None]


def _bound(address: str, port: int, receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _reserve(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets bound to one port on every address: the given one, or any that is free on all."""
    for attempt in range(_ATTEMPTS):
        socks: list[socket.socket] = []
        try:
            for address in addresses:
                socks.append(_bound(address, socks[0].getsockname()[1] if socks else port))
            return socks
        except OSError:
            for sock in socks:
                sock.close()
            if port or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


class Listeners:
    """Accepts connections on some addresses.

    Guarantees: the port stays reserved on every address until `close`, also while it refuses: a
    bound socket that never listens holds it. `accepted` is called on the accepting thread, under no
    lock. All methods may be called from any thread.
    """

    def __init__(
        self, addresses: Sequence[str], port: int, receive_buffer: int | None, accepted: Accepted
    ) -> None:
        self._accepted = accepted
        self._receive_buffer = receive_buffer
        self._reserved = _reserve(addresses, port)
        self.port: int = self._reserved[0].getsockname()[1]
        # Guards _listening, _closed and each accept, so that no socket is closed within one.
        self._lock = threading.Lock()
        self._listening: dict[str, socket.socket] = {}
        self._closed = False
        self._wake_in, self._wake_out = os.pipe()
        self._thread = threading.Thread(
            target=self._run, name=f"scripted-accept-{self.port}", daemon=True
        )

    def start(self) -> None:
        """Starts to accept, on those addresses that `listen` was called for."""
        self._thread.start()

    def listen(self, address: str) -> None:
        """Accepts connections to this address."""
        with self._lock:
            if address in self._listening or self._closed:
                return
            sock = _bound(address, self.port, self._receive_buffer)
            sock.setblocking(False)
            sock.listen(_BACKLOG)
            self._listening[address] = sock
            self._wake()

    def refuse(self, address: str) -> None:
        """Refuses connections to this address; those that are open stay open."""
        with self._lock:
            sock = self._listening.pop(address, None)
            if sock is not None:
                sock.close()
                self._wake()

    def close(self, limit: float) -> bool:
        """Refuses everything and ends the thread; false if that did not end within `limit` s."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for sock in (*self._listening.values(), *self._reserved):
                    sock.close()
                self._listening.clear()
                self._wake()
        if self._thread.ident is not None:
            self._thread.join(limit)
        return not self._thread.is_alive()

    def _wake(self) -> None:
        os.write(self._wake_out, b"w")

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    break
                numbers = {sock.fileno(): address for address, sock in self._listening.items()}
            poll = select.poll()
            for number in (self._wake_in, *numbers):
                poll.register(number, select.POLLIN)
            for number, _ in poll.poll(1000):
                if number == self._wake_in:
                    os.read(self._wake_in, 4096)
                else:
                    self._accept(numbers[number])
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _accept(self, address: str) -> None:
        with self._lock:
            sock = self._listening.get(address)
            try:
                client = None if sock is None else sock.accept()[0]
            except OSError:
                client = None
        if client is not None:
            self._accepted(address, client)
