"""A cluster that runs already, named by an environment variable."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from ._member import Node

VARIABLE = "CASSCONC_CONTACT_POINTS"
_DEFAULT_PORT = 9042
# host, host:port, [IPv6] or [IPv6]:port
_CONTACT_POINT = re.compile(r"(?P<host>[^\s:\[\]]+|\[[^\s\[\]]+\])(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class ExistingCluster:
    """A cluster that somebody else runs, with the attributes of a LocalCluster.

    Attributes:
        contact_points: its addresses or host names, as a list of str.
        port: the port of all of them, an int.
        nodes: always empty, since it is not ours to stop or to kill.
    """

    contact_points: list[str]
    port: int
    nodes: list[Node] = field(default_factory=list)

    def check(self) -> None:
        """Nothing is known here of how its nodes are."""


def existing_cluster() -> ExistingCluster | None:
    """What CASSCONC_CONTACT_POINTS names, or None where it is unset or blank.

    Its value is `host[:port],...`; a port left out is 9042, and all hosts have one port.

    Raises ValueError where the value is malformed.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return None
    points = [_parse(item.strip(), value) for item in value.split(",")]
    ports = sorted({port for _, port in points})
    if len(ports) > 1:
        raise ValueError(
            f"{VARIABLE} must have one port for all hosts, and {value!r} has "
            f"{' and '.join(map(str, ports))} (a port left out is {_DEFAULT_PORT})"
        )
    return ExistingCluster([host for host, _ in points], ports[0])


def _parse(item: str, value: str) -> tuple[str, int]:
    match = _CONTACT_POINT.fullmatch(item)
    port = int(match["port"] or _DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(
            f"{VARIABLE} must be host[:port],... with an IPv6 address in brackets, "
            f"and {value!r} has {item!r} in it"
        )
    return match["host"].strip("[]"), port
