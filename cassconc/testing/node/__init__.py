"""Real Cassandra nodes on this machine with pip alone: no Docker, no Java, no Maven.

For example::

    from cassandra.cluster import Cluster
    from cassconc.testing.node import LocalCluster

    with LocalCluster(nodes=3) as cluster:
        session = Cluster(cluster.contact_points, port=cluster.port).connect()
        cluster.nodes[0].kill()

`pip install 'cassconc[node]'` brings what it needs; the first start fetches 66 MB from Maven
Central, later ones need no network. `python -m cassconc.testing.node` gives a cluster to play
with.
"""

# `_cluster` is the ring, `_member` one node of it, `_process` and `_supervisor` run it. `_java` and
# `_jars` find what to run, `_addresses` where, `_config` how.

from __future__ import annotations

from ._cluster import LocalCluster, cluster_for
from ._errors import NodeError
from ._existing import ExistingCluster
from ._member import Node

__all__ = ["ExistingCluster", "LocalCluster", "Node", "NodeError", "cluster_for"]
