"""The command line: a cluster to play with until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from ._cluster import LocalCluster
from ._errors import NodeError
from ._existing import VARIABLE
from ._jars import cassandra_version

_CHECK_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: a cluster to play with until Ctrl-C. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cassconc.testing.node",
        description="Runs real Cassandra nodes until Ctrl-C, then deletes them and their data.",
    )
    parser.add_argument("--nodes", type=int, default=1, help="how many (default: %(default)s)")
    parser.add_argument("--heap", default="512M", help="Java heap of each (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        cluster = LocalCluster(options.nodes, heap=options.heap)
        version = cassandra_version()
        print(f"Starting Cassandra {version}; the first time it is fetched ...", flush=True)
        with cluster:
            print(_greeting(cluster), flush=True)
            while True:
                time.sleep(_CHECK_SECONDS)
                cluster.check()
    except KeyboardInterrupt:
        print()
    except ValueError as error:
        parser.error(str(error))
    except NodeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _greeting(cluster: LocalCluster) -> str:
    points = ",".join(f"{address}:{cluster.port}" for address in cluster.contact_points)
    return f"""\
Contact points: {points}

    from cassandra.cluster import Cluster
    cluster = Cluster({cluster.contact_points}, port={cluster.port})
    session = cluster.connect()

For tests, demo and benchmarks: export {VARIABLE}={points}
Ctrl-C ends it."""


if __name__ == "__main__":
    sys.exit(main())
