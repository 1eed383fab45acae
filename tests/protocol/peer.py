"""Whether the other end of a local TCP connection has read what it was sent.

A message that is written in pieces arrives in pieces only if the client reads between them. On
Linux the kernel tells how much lies unread in the client's socket; elsewhere a pause has to do.
"""

import sys
import threading

_TABLE = "/proc/net/tcp"


def _hex(address: tuple[str, int]) -> str:
    packed = bytes(map(int, address[0].split(".")))
    return f"{int.from_bytes(packed, sys.byteorder):08X}:{address[1]:04X}"


def unread_by_peer(peer: tuple[str, int], own: tuple[str, int]) -> int:
    """Bytes that wait in the socket with the local address `peer` and the remote address `own`."""
    ends = [_hex(peer), _hex(own)]
    try:
        with open(_TABLE) as table:
            for line in table:
                fields = line.split()
                if fields[1:3] == ends:
                    return int(fields[4].partition(":")[2], 16)
    except OSError:
        threading.Event().wait(0.005)
    return 0
