"""A socket that several threads may use, and any of them may close.

Guarantees:
- The socket's number is never used after `drop`, so that it cannot hit a socket that came later.
- No wait is longer than `SEND_LIMIT`: a client that does not read for that long is dropped.
"""

import os
import select
import socket
import struct
import threading
import time

from .peer import unread_by_peer

SEND_LIMIT = 10.0
_TICK_MS = 50
_TORN_TICK = 0.001
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Channel:
    """The bytes of one connection; one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.own: tuple[str, int] = sock.getsockname()[:2]
        self.peer: tuple[str, int] = sock.getpeername()[:2]
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Guards _dropped, _deaf and each single call on the socket, none of which blocks.
        self._lock = threading.Lock()
        self._dropped = threading.Event()
        self._deaf = False
        self._wake_in, self._wake_out = os.pipe()

    @property
    def is_open(self) -> bool:
        """False from the moment that either side ended it, as far as that was seen."""
        return not self._dropped.is_set()

    def send(self, data: bytes) -> bool:
        """Writes all of it, waiting for the client to read; false if the connection is gone."""
        rest = memoryview(data)
        limit = time.monotonic() + SEND_LIMIT
        while rest:
            with self._lock:
                if not self.is_open:
                    return False
                number = self._socket.fileno()
                try:
                    rest = rest[self._socket.send(rest) :]
                    continue
                except BlockingIOError:
                    pass
                except OSError:
                    return False
            if time.monotonic() > limit:
                self.drop(reset=True)
                return False
            _poll({number: select.POLLOUT}, _TICK_MS)
        return True

    def wait_until_read(self) -> bool:
        """Waits until the client's program has taken what was sent; false if it never did."""
        limit = time.monotonic() + SEND_LIMIT
        while self.is_open and time.monotonic() < limit:
            if not unread_by_peer(self.peer, self.own):
                return True
            self._dropped.wait(_TORN_TICK)
        return False

    def receive(self) -> bytes:
        """What the client sent; nothing when the connection has ended."""
        while True:
            with self._lock:
                if not self.is_open:
                    return b""
                number = None if self._deaf else self._socket.fileno()
                try:
                    if number is not None:
                        return self._socket.recv(65536)
                except BlockingIOError:
                    pass
                except OSError:
                    return b""
            wanted = {self._wake_in: select.POLLIN}
            if number is not None:
                wanted[number] = select.POLLIN
            if self._wake_in in _poll(wanted, 1000):
                os.read(self._wake_in, 4096)

    def set_deaf(self, deaf: bool) -> None:
        """Receives nothing any more, or again."""
        with self._lock:
            self._deaf = deaf
            if self.is_open:
                self._wake()

    def drop(self, *, reset: bool = False) -> None:
        """Ends the connection, orderly (FIN) or not (RST)."""
        with self._lock:
            if not self.is_open:
                return
            self._dropped.set()
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            else:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self._socket.close()
            self._wake()

    def release(self) -> None:
        """Ends the connection and everything here; called when nobody receives any more."""
        self.drop()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _wake(self) -> None:
        os.write(self._wake_out, b"w")


def _poll(wanted: dict[int, int], limit_ms: int) -> list[int]:
    poll = select.poll()
    for number, events in wanted.items():
        poll.register(number, events)
    return [number for number, _ in poll.poll(limit_ms)]
