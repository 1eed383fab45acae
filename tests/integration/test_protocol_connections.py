"""The scripted server, tried with the real driver: connections, several nodes, its end."""

import socket
import threading

import pytest
from cassandra import protocol
from cassandra.connection import ConnectionShutdown
from cassandra.policies import (
    ConstantReconnectionPolicy,
    HostFilterPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)

from tests.integration.bare_client import BareClient, query_body
from tests.integration.helpers import (
    INSERT,
    LIMIT,
    USERS,
    Listener,
    connected,
    done,
    failure,
    not_with_asyncio,
    serving,
)
from tests.protocol import Opcode, ScriptedCluster, ScriptedServer, ServerRequest, encode_frame

# -- connecting


def test_connects(version: int) -> None:
    """The driver asks with its highest version, is told which are there, and takes the highest."""
    with serving(version) as (server, session):
        assert session.cluster.protocol_version == version
        assert {each.version for each in server.connections} == {version}
        row = session.execute("SELECT cluster_name, rpc_address FROM system.local").one()
        assert row == ("scripted", server.address)
        assert server.statistics().requests == 0


@not_with_asyncio("its clients here always say so, see VERSIONS")
def test_both_versions() -> None:
    """A server of both versions is used with v5, or with v4 where the client says so."""
    with ScriptedServer() as server:
        with connected(server) as newer, connected(server, protocol_version=4) as older:
            assert newer.cluster.protocol_version == 5
            assert older.cluster.protocol_version == 4


def test_without_peers_v2() -> None:
    """Where there is no system.peers_v2, the driver finds the nodes in system.peers."""
    with ScriptedCluster(2, peers_v2=False) as server, connected(server) as session:
        assert {host.address for host in session.cluster.metadata.all_hosts()} == set(
            server.addresses
        )


# -- connections


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
def test_drop(version: int, reset: bool) -> None:
    """A dropped connection fails what was on it, and the driver connects anew."""
    with serving(version) as (server, session):
        listener = Listener()
        session.cluster.register_listener(listener)
        future = session.execute_async("x")
        request = server.next_request()
        server.drop_all(reset=reset)
        with pytest.raises(ConnectionShutdown):
            future.result()
        assert not request.connection.is_open
        assert not request.void()
        listener.wait_for("up", server.address)
        server.on_request = done
        session.execute("y")
        server.wait_until(lambda now: now.unanswered == 0)


def test_refuse_connections() -> None:
    """A server that refuses connections is down for the driver until it accepts them again."""
    with serving(5) as (server, session):
        listener = Listener()
        session.cluster.register_listener(listener)
        server.refuse_connections()
        session.execute_async("x")
        server.next_request()
        server.drop_all()
        listener.wait_for("down", server.address)
        with pytest.raises(OSError):
            socket.create_connection((server.address, server.port), LIMIT)
        server.accept_connections()
        listener.wait_for("up", server.address)


def test_two_clients(version: int) -> None:
    """Two clients have connections, streams and keyspaces of their own."""
    with serving(version) as (server, first), connected(server) as second:
        futures = [first.execute_async("first"), second.execute_async("second")]
        one, two = sorted(server.requests(2), key=lambda request: request.text or "")
        assert one.connection is not two.connection
        two.rows([("who", "text")], [("second",)])
        one.rows([("who", "text")], [("first",)])
        assert [future.result().one().who for future in futures] == ["first", "second"]
        assert server.statistics().max_unanswered_per_connection == 1
        assert server.statistics().max_unanswered == 2


def test_backpressure() -> None:
    """A server that does not read fills the client's buffers; then it gets all that was sent."""
    with ScriptedServer(protocol_versions=[4], receive_buffer=8192) as server:
        with connected(server) as session:
            insert = session.prepare("INSERT INTO ks.t (id, data) VALUES (?, ?)")
            server.stop_reading()
            futures = [session.execute_async(insert, (n, "x" * 100_000)) for n in range(60)]
            assert server.statistics().requests == 0
            server.on_request = done
            server.resume_reading()
            refused = [each for each in map(failure, futures) if each]
            assert all("overloaded" in str(each) for each in refused)
            assert 0 < len(futures) - len(refused) == server.statistics().requests


def test_stopped_reading_blocks_the_client() -> None:
    """The client's writes are held up by a node that does not read, and arrive when it does."""
    with ScriptedServer(receive_buffer=8192) as server, BareClient(server, 4) as client:
        server.node.stop_reading()
        client.socket.setblocking(False)
        data = encode_frame(4, 1, Opcode.QUERY, query_body("x" * 50_000, 4), direction=0)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 100 * 2**20:
                sent += client.socket.send(data[sent % len(data) :])
        assert server.statistics().requests == 0
        server.node.resume_reading()
        client.socket.settimeout(LIMIT)
        client.socket.sendall(data[sent % len(data) :])
        whole = sent // len(data) + 1
        assert [len(each.text or "") for each in server.requests(whole)] == [50_000] * whole


# -- several nodes


def test_cluster_uses_all_nodes() -> None:
    """The driver sees every node of a cluster, with its own host id, and uses them all."""
    with ScriptedCluster(3) as server, connected(server) as session:
        hosts = session.cluster.metadata.all_hosts()
        assert {host.host_id for host in hosts} == {node.host_id for node in server.nodes}
        assert all(host.is_up for host in hosts)
        futures = [session.execute_async("x") for _ in range(6)]
        requests = server.requests(6)
        assert {request.node.address for request in requests} == set(server.addresses)
        for request in requests:
            request.void()
        for future in futures:
            future.result()


def test_cluster_routes_by_token() -> None:
    """The client's token map is as declared: a statement goes to the one node that has its key."""
    with ScriptedCluster(3, keyspaces={"ks": 1}, types=USERS) as server:
        with connected(server, policy=TokenAwarePolicy(RoundRobinPolicy())) as session:
            insert = session.prepare(INSERT)
            owners = set()
            for key in range(30):
                bound = insert.bind((key, ""))
                (owner,) = session.cluster.metadata.get_replicas("ks", bound.routing_key)
                session.execute_async(bound)
                request = server.next_request()
                assert request.node.address == owner.address
                request.void()
                owners.add(owner.address)
            assert owners == set(server.addresses)


def test_status_events() -> None:
    """A DOWN and an UP event reach the driver; it believes them for nodes that it does not use."""
    ignored: set[str] = set()
    policy = HostFilterPolicy(RoundRobinPolicy(), lambda host: host.address not in ignored)
    with ScriptedCluster(2) as server, connected(server, policy=policy) as session:
        listener = Listener()
        session.cluster.register_listener(listener)
        node = server.nodes[1]
        host = session.cluster.metadata.get_host(node.address, node.port)
        ignored.add(node.address)
        assert server.push_status("DOWN", node) == 1
        listener.wait_for("down", node.address)
        assert not host.is_up
        ignored.clear()
        assert server.push_status("UP", node) == 1
        listener.wait_for("up", node.address)
        assert host.is_up


def test_topology_events() -> None:
    """A node that leaves the ring is removed by the driver, one that comes is added."""
    with ScriptedCluster(2) as server, connected(server) as session:
        listener = Listener()
        session.cluster.register_listener(listener)
        node = server.nodes[1]
        node.in_ring = False
        assert server.push_topology("REMOVED_NODE", node) == 1
        listener.wait_for("remove", node.address)
        node.in_ring = True
        assert server.push_topology("NEW_NODE", node) == 1
        listener.wait_for("add", node.address)


def test_one_node_fails() -> None:
    """What befalls one node leaves the others alone."""
    with ScriptedCluster(3) as server, connected(server) as session:
        listener = Listener()
        session.cluster.register_listener(listener)
        futures = [session.execute_async("x") for _ in range(3)]
        lost = next(each for each in server.requests(3) if each.node is server.nodes[2])
        lost.node.refuse_connections()
        lost.node.drop_all()
        listener.wait_for("down", lost.node.address)
        assert {each.node.address for each in server.unanswered} == set(server.addresses[:2])
        for request in server.unanswered:
            request.void()
        (lost_connection,) = [each for each in map(failure, futures) if each]
        assert isinstance(lost_connection, ConnectionShutdown)
        lost.node.accept_connections()
        listener.wait_for("up", lost.node.address)


# -- the server's own manners


def test_failing_handler() -> None:
    """A handler that raises answers with a server error; its exception is raised at the end."""

    def fail(request: ServerRequest) -> None:
        raise LookupError("my bad")

    with pytest.raises(LookupError, match="my bad"):
        with serving(5, on_request=fail) as (server, session):
            with pytest.raises(protocol.ServerError, match="my bad"):
                session.execute("x")
            assert len(server.errors) == 1


def test_not_the_protocol() -> None:
    """A client that sends garbage is told so and dropped, and it is raised at the end."""
    with pytest.raises(ValueError, match="bytes wanted"):
        with ScriptedServer() as server, BareClient(server, 4) as client:
            client.ask(Opcode.QUERY, b"\x00\x00")
            assert client.answer().opcode == Opcode.ERROR
            assert client.socket.recv(100) == b""


def test_no_request() -> None:
    """A wait for a request that does not come says what did come."""
    with ScriptedServer() as server:
        with pytest.raises(TimeoutError, match="0 of 2 requests came"):
            server.requests(2, timeout=0.01)
        with pytest.raises(TimeoutError, match="connections_open=0"):
            server.wait_until(lambda now: now.connections_open > 0, timeout=0.01)


def test_close_leaves_nothing() -> None:
    """After close no thread is left and the port is free, whatever went on."""
    before = set(threading.enumerate())
    server = ScriptedServer()
    with connected(server, reconnection_policy=ConstantReconnectionPolicy(60)) as session:
        session.execute_async("x")
        server.next_request()
        server.hang()
        server.stop_reading()
        server.close()
        server.close()
    left = [each for each in threading.enumerate() if each not in before]
    assert not [each for each in left if each.name.startswith("scripted")]
    with socket.create_server((server.address, server.port)):
        pass
    assert not server.errors
