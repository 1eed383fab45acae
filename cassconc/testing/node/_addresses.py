"""Which loopback addresses and ports the nodes of one cluster take."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from ._errors import NodeError

# One pair for all nodes of a cluster, since the driver takes one port for all contact points.
PORTS = tuple((9042 + step, 7000 + step) for step in range(0, 1000, 100))
_HOSTS = tuple(f"127.0.0.{last}" for last in range(1, 255))


@dataclass(frozen=True)
class Reservation:
    """Addresses that no other LocalCluster takes until `release` is called.

    Guarantees: of any number of processes that reserve at once, no two get the same address. Each
    address is held by a socket that is bound to its port `storage_port + 1`, which never listens;
    the kernel gives it back when its process ends in whatever way.
    """

    addresses: list[str]
    native_port: int
    storage_port: int
    held: ExitStack

    def release(self) -> None:
        self.held.close()


def reserve(
    count: int,
    *,
    ports: Iterable[tuple[int, int]] = PORTS,
    hosts: Iterable[str] = _HOSTS,
) -> Reservation:
    """Reserves `count` addresses that share one native and one storage port.

    Args:
        count: how many addresses.
        ports: pairs of native port and storage port, tried in this order.
        hosts: addresses, tried in this order; those that are taken are stepped over.

    Raises NodeError where no pair of ports is free on enough addresses.
    """
    hosts = list(hosts)
    most = 0
    for native_port, storage_port in ports:
        with ExitStack() as stack:
            addresses = []
            for address, holder in _free(hosts, native_port, storage_port):
                stack.enter_context(holder)
                addresses.append(address)
                if len(addresses) == count:
                    return Reservation(addresses, native_port, storage_port, stack.pop_all())
            most = max(most, len(addresses))
    raise NodeError(
        f"{count} nodes need {count} free loopback addresses, and {most} were found: end what "
        f"listens on the ports {PORTS[0][0]} and {PORTS[0][1]}, or, on macOS, add addresses with "
        f"`sudo ifconfig lo0 alias 127.0.0.2`."
    )


def _free(
    hosts: list[str], native_port: int, storage_port: int
) -> Iterator[tuple[str, socket.socket]]:
    for host in hosts:
        try:
            holder = _bind(host, storage_port + 1, reuse=False)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                raise
            continue
        try:
            # As Java binds: connections of an earlier node that linger are no obstacle.
            for port in (native_port, storage_port):
                _bind(host, port, reuse=True).close()
        except OSError:
            holder.close()
        else:
            yield host, holder


def _bind(host: str, port: int, *, reuse: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound
