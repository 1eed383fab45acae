"""One client's connection, as the scripted server sees it: frames both ways, and a reading thread.

Guarantees:
- Whole messages are never mixed: what one call sends is on the wire before the next call's.
- Every method may be called from any thread, also after the connection ended; those that send say
  whether the bytes were handed over (or are held back by `hang`).
- The cluster is told of frames on the reading thread, under none of the locks here.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from .channel import Channel
from .frames import (
    Frame,
    FrameReader,
    Opcode,
    encode_frame,
    encode_segment,
    encode_segments,
)

if TYPE_CHECKING:
    from .node import ScriptedNode

Settle = Callable[[], None]


class ServerConnection:
    """A connection that a client opened.

    `number` counts the connections of the cluster from 1; `events` are the event types that the
    client registered for, `options` those of its STARTUP, `keyspace` that of its last USE.
    """

    def __init__(self, node: "ScriptedNode", sock: socket.socket, number: int) -> None:
        self.node = node
        self.number = number
        self.version = 0
        self.options: dict[str, str] = {}
        self.events: frozenset[str] = frozenset()
        self.keyspace: str | None = None
        # Kept, and guarded, by the cluster's ledger.
        self.unanswered = 0
        self.max_unanswered = 0
        # One message after the other: held while a message is written. Guards _held, _segmented.
        self._order = threading.RLock()
        self._held: list[tuple[bytes, Sequence[int], Settle | None]] | None = None
        self._segmented = False
        self._reader = FrameReader()
        self._channel = Channel(sock)
        self.thread = threading.Thread(
            target=self._run, name=f"scripted-{node.address}-{number}", daemon=True
        )

    def __repr__(self) -> str:
        return f"<connection {self.number} to {self.node.address} from port {self.peer[1]}>"

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the client."""
        return self._channel.peer

    @property
    def is_open(self) -> bool:
        """False from the moment that either side ended it, as far as that was seen."""
        return self._channel.is_open

    def send_raw(
        self, data: bytes, *, pieces: Sequence[int] = (), settle: Settle | None = None
    ) -> bool:
        """Writes bytes as they are.

        Arguments:
            data: the bytes.
            pieces: sizes of the pieces to write; what remains is one more. Each is sent after the
                client has read the one before.
            settle: called just before the last piece is written.
        """
        with self._order:
            if self._held is not None and self.is_open:
                self._held.append((data, pieces, settle))
                return True
            return self._write(data, pieces, settle)

    def send_frame(
        self,
        stream: int,
        opcode: int,
        body: bytes = b"",
        *,
        version: int | None = None,
        flags: int = 0,
        length: int | None = None,
        pieces: Sequence[int] = (),
        settle: Settle | None = None,
    ) -> bool:
        """Sends a frame, right or wrong: any stream, opcode, version; any declared `length`."""
        number = (self.version or 4) if version is None else version
        frame = encode_frame(number, stream, opcode, body, flags=flags, length=length)
        return self.send_frames([frame], pieces=pieces, settle=settle)

    def send_frames(
        self,
        frames: Sequence[bytes],
        *,
        pieces: Sequence[int] = (),
        settle: Settle | None = None,
    ) -> bool:
        """Sends frames made by `encode_frame` in one write, and with v5 in one segment."""
        data = b"".join(frames)
        with self._order:
            if self._segmented:
                data = encode_segments(data)
            return self.send_raw(data, pieces=pieces, settle=settle)

    def send_segment(
        self,
        payload: bytes,
        *,
        self_contained: bool = True,
        corrupt: Literal["header", "payload"] | None = None,
    ) -> bool:
        """Sends one v5 segment, with a bit of its header's or its payload's checksum inverted."""
        data = bytearray(encode_segment(payload, self_contained))
        if corrupt:
            data[5 if corrupt == "header" else -1] ^= 0x01
        return self.send_raw(bytes(data))

    def start(self, version: int, stream: int) -> bool:
        """Answers a STARTUP with READY; with v5, all that follows is in segments."""
        with self._order:
            self.version = version
            sent = self.send_frame(stream, Opcode.READY)
            if version >= 5:
                self._segmented = True
                self._reader.start_segments()
            return sent

    def hang(self) -> None:
        """From now on holds back all that is sent; reading goes on."""
        with self._order:
            if self._held is None:
                self._held = []

    def resume(self, *, discard: bool = False) -> None:
        """Sends what was held back, in order, or forgets it; then sends at once again."""
        with self._order:
            held, self._held = self._held or [], None
            for data, pieces, settle in [] if discard else held:
                self._write(data, pieces, settle)

    def drop(self, *, reset: bool = False) -> None:
        """Ends the connection, orderly (FIN, unless something was left unread) or not (RST)."""
        self._channel.drop(reset=reset)
        self.node.cluster.ledger.lost(self)

    def stop_reading(self) -> None:
        """Reads no more, so that the client's writes fill the buffers between."""
        self._channel.set_deaf(True)

    def resume_reading(self) -> None:
        """Ends `stop_reading`."""
        self._channel.set_deaf(False)

    def _write(self, data: bytes, pieces: Sequence[int], settle: Settle | None) -> bool:
        at = 0
        for size in pieces:
            if at + size >= len(data):
                break
            if not self._channel.send(data[at : at + size]):
                return False
            if not self._channel.wait_until_read():
                return False
            at += size
        if settle is not None:
            settle()
        return self._channel.send(data[at:])

    def _run(self) -> None:
        cluster = self.node.cluster
        try:
            while data := self._channel.receive():
                for frame in self._reader.feed(data):
                    self._arrived(frame)
        except Exception as problem:
            cluster.failed(problem)
        finally:
            self._channel.release()
            cluster.ledger.ended(self)

    def _arrived(self, frame: Frame) -> None:
        if not self.version:
            self.version = frame.version
        self.node.cluster.arrived(self, frame)
