"""The client against the scripted control plane, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import any_pb2
from tests.kit import certificates
from tests.kit.xds_server import TlsFiles, XdsServer, packed, wrapped

from pymosn.control.xds.client import Options, XdsClient
from pymosn.control.xds.grpc_transport import GrpcTransport
from pymosn.control.xds.pacing import Backoff
from pymosn.control.xds.transport import Server, Tls
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, SECRET, Rejected, Update
from pymosn.control.xds.wire import node_message
from pymosn.core.log import Log

PATIENCE = 20.0
ALL = {"*": 15.0}


class Lines(Log):
    """Keeps the log's lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def write(self, level: int, text: str, alert: str = "") -> None:
        self.lines.append(text)


class Store:
    """A consumer that keeps resources, and rejects bodies that contain `bad`. It waits while `gate` is closed."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], bytes] = {}
        self.updates: list[Update] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def accept(self, update: Update) -> Rejected:
        await self.gate.wait()
        self.updates.append(update)
        rejected = {}
        for resource in update.resources:
            if b"bad" in resource.body:
                rejected[resource.name] = "lb_policy: bad"
            else:
                self.held[update.type_url, resource.name] = resource.body
        for name in update.removed:
            self.held.pop((update.type_url, name), None)
        return rejected

    def names(self, type_url: str = CLUSTER) -> list[str]:
        return sorted(name for kind, name in self.held if kind == type_url)


class Rig:
    """One client of one server. Pauses between connections are short."""

    def __init__(self, *addresses: str, tls: Tls | None = None, options: Options | None = None, **server: Any) -> None:
        self.store = Store()
        self.log = Lines()
        servers = [Server(address, tls, **server) for address in addresses]
        options = options or Options(node=node_message({"id": "n1", "cluster": "c1"}))
        backoff = Backoff(lambda: 1.0, first=0.01, longest=0.05)
        self.client = XdsClient(
            "ads", servers, options, GrpcTransport(), self.store, self.log, chance=lambda: 0.0, backoff=backoff
        )

    async def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """Waits for a state that changes in this event loop or in the server's threads."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, (self.client.status(), self.log.lines)
            await asyncio.sleep(0.005)
        return found


def run(rig_of: Callable[[], Rig], scenario: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        rig = rig_of()
        rig.client.start()
        try:
            await scenario(rig)
        finally:
            await rig.client.stop()

    uvloop.run(main())


@pytest.fixture
def server() -> Iterator[XdsServer]:
    with XdsServer() as server:
        yield server


def cluster(name: str, text: str = "") -> cluster_pb2.Cluster:
    return cluster_pb2.Cluster(name=name, alt_stat_name=text)


def endpoints(name: str) -> endpoint_pb2.ClusterLoadAssignment:
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name)


@pytest.mark.parametrize("is_delta", [False, True])
def test_resources_come_change_and_go(server: XdsServer, is_delta: bool) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"), cluster("b"), endpoints("a"), endpoints("z"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: rig.store.names() == ["a", "b"])
        rig.client.want(ENDPOINTS, {"a": 15.0})
        await rig.until(lambda: rig.store.names(ENDPOINTS) == ["a"])
        server.remove(CLUSTER, "b")
        await rig.until(lambda: rig.store.names() == ["a"])
        server.set(cluster("a", "bad"), cluster("c"))
        nack = await rig.until(lambda: server.nacks(CLUSTER))
        assert nack[0].message.error_detail.code == 3
        assert nack[0].message.error_detail.message == "a: lb_policy: bad"
        assert rig.store.names() == ["a", "c"]
        assert b"bad" not in rig.store.held[CLUSTER, "a"]

    run(lambda: Rig(server.address, options=Options(is_delta)), scenario)


def test_row_23_node_on_the_first_message_of_each_stream(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.acks(CLUSTER))
        server.streams[0].end()
        await rig.until(lambda: len(server.streams) == 2 and len(server.streams[1].requests) == 2)
        nodes = [(one.stream, one.message.node.id) for one in server.requests]
        assert nodes == [(1, "n1"), (1, ""), (2, "n1"), (2, "")]

    run(lambda: Rig(server.address), scenario)


def test_row_23_node_on_all_messages(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.acks(CLUSTER))
        assert [one.message.node.cluster for one in server.requests] == ["c1", "c1"]

    node = node_message({"id": "n1", "cluster": "c1"})
    run(lambda: Rig(server.address, options=Options(node=node, node_on_first_message_only=False)), scenario)


def test_row_30_names_and_the_wildcard(server: XdsServer) -> None:
    """An empty list means all of them until names were sent on the stream, and none from then on."""

    async def scenario(rig: Rig) -> None:
        asked: list[list[str]] = []

        async def wants(*names: str) -> None:
            rig.client.want(CLUSTER, dict.fromkeys(names, 15.0))
            await rig.until(lambda: len(server.of(CLUSTER)) > 0 and lists()[-1] == expected[len(asked)])
            asked.append(lists()[-1])

        def lists() -> list[list[str]]:
            return [list(one.message.resource_names) for one in server.of(CLUSTER)]

        expected = [[], ["a"], ["*", "a"], ["*"], []]
        server.set(cluster("a"), cluster("b"))
        await wants("*")
        await rig.until(lambda: rig.store.names() == ["a", "b"])
        await wants("a")
        await wants("a", "*")
        await wants("*")
        server.set(cluster("c"))
        await rig.until(lambda: rig.store.names() == ["a", "b", "c"])
        await wants()
        server.set(cluster("d"), endpoints("e"))
        rig.client.want(ENDPOINTS, {"e": 15.0})
        await rig.until(lambda: rig.store.names(ENDPOINTS) == ["e"])
        assert "d" not in rig.store.names()
        assert asked == expected

    run(lambda: Rig(server.address), scenario)


def test_row_9_large_messages(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(*(cluster(str(i), "x" * 4_000_000) for i in range(10)))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: len(rig.store.names()) == 10)
        assert rig.client.status().types[0].bytes > 40_000_000

    run(lambda: Rig(server.address), scenario)


def test_row_9_a_message_above_the_limit_ends_the_stream_and_loses_nothing(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(rig.store.names)
        server.set(cluster("b", "x" * 100_000))
        await rig.until(lambda: rig.client.status().failures > 1)
        assert "larger than max_message_bytes, 50000" in rig.client.status().error
        assert sum("larger than max_message_bytes" in line for line in rig.log.lines) == 1
        assert rig.store.names() == ["a"]
        server.remove(CLUSTER, "b")
        server.set(cluster("c"))
        await rig.until(lambda: rig.store.names() == ["a", "c"])

    run(lambda: Rig(server.address, max_message_bytes=50_000), scenario)


def test_servers_are_tried_in_turn(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(rig.store.names)
        assert rig.client.status().server == server.address
        assert rig.client.status().failures == 1

    run(lambda: Rig("127.0.0.1:1", server.address), scenario)


@pytest.mark.parametrize("is_delta", [False, True])
def test_row_5_a_restarted_control_plane_with_older_versions(server: XdsServer, is_delta: bool) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"), version="9")
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.acks(CLUSTER))
        server.stop()
        await rig.until(lambda: rig.client.status().failures)
        assert rig.store.names() == ["a"]
        server.set(cluster("a", "new"), version="1")
        server.start()
        await rig.until(lambda: b"new" in rig.store.held[CLUSTER, "a"])
        first = next(one for one in server.requests if one.stream == 2).message
        assert first.response_nonce == ""
        if is_delta:
            assert dict(first.initial_resource_versions) == {"a": "9"}
        else:
            assert first.version_info == "9"

    run(lambda: Rig(server.address, options=Options(is_delta)), scenario)


def test_row_10_a_frozen_peer_is_found_by_pings() -> None:
    """A peer that accepts the connection and its settings, and then never answers."""

    async def main() -> None:
        greeted = asyncio.Event()

        async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\0\0\0\4\0\0\0\0\0")  # SETTINGS
            await reader.read(1)
            greeted.set()

        frozen = await asyncio.start_server(freeze, "127.0.0.1", 0)
        port = frozen.sockets[0].getsockname()[1]
        rig = Rig(f"127.0.0.1:{port}", keepalive=0.2, keepalive_timeout=0.2)
        rig.client.start()
        rig.client.want(CLUSTER, ALL)
        await greeted.wait()
        await rig.until(lambda: rig.client.status().failures)
        await rig.client.stop()
        frozen.close()

    uvloop.run(main())


def test_tls_with_client_certificates_and_no_plaintext() -> None:
    authority = certificates.issue("ca", None, is_ca=True)
    own = certificates.issue("control plane", authority, names=("control.example",))
    client = certificates.issue("client", authority)
    tls = Tls(authority.certificate, client.certificate, client.key, "control.example")

    async def scenario(rig: Rig) -> None:
        rig.client.want(CLUSTER, ALL)
        await rig.until(rig.store.names)

    async def refused(rig: Rig) -> None:
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: rig.client.status().failures > 1)
        assert rig.client.status().connects == 0

    with XdsServer(tls=TlsFiles(own.certificate, own.key, authority.certificate)) as server:
        server.set(cluster("a"))
        run(lambda: Rig(server.address, tls=tls), scenario)
        run(lambda: Rig(server.address, tls=tls._replace(server_name="other.example")), refused)
        run(lambda: Rig(server.address, tls=tls._replace(authorities=client.certificate)), refused)
    with XdsServer() as plain:
        run(lambda: Rig(plain.address, tls=tls), refused)


@pytest.mark.parametrize("is_delta", [False, True])
def test_secrets_on_a_stream_of_their_own_over_a_unix_socket(tmp_path: Path, is_delta: bool) -> None:
    async def scenario(rig: Rig) -> None:
        rig.client.want(SECRET, {"default": 0.0, "ROOTCA": 0.0})
        await rig.until(lambda: rig.store.names(SECRET) == ["ROOTCA", "default"])

    with XdsServer(f"unix:{tmp_path}/sds") as server:
        server.set(secret_pb2.Secret(name="default"), secret_pb2.Secret(name="ROOTCA"))
        run(lambda: Rig(server.address, options=Options(is_delta, SECRET)), scenario)
        assert server.streams[0].method.endswith(
            "SecretDiscoveryService/" + ("DeltaSecrets" if is_delta else "StreamSecrets")
        )


def test_row_27_reading_goes_on_while_an_update_is_applied(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        rig.store.gate.clear()
        server.set(endpoints("e"))
        rig.client.want(CLUSTER, ALL)
        rig.client.want(ENDPOINTS, {"e": 0.0})
        await rig.until(lambda: server.of(CLUSTER) and server.of(ENDPOINTS))
        stream = server.streams[0]
        for version in range(1, 6):
            stream.send_sotw(CLUSTER, cluster("a", str(version)), version=str(version), nonce=f"x{version}")
        await rig.until(lambda: rig.client.status().types[0].responses == 5)
        rig.store.gate.set()
        await rig.until(lambda: server.acks(CLUSTER, "5"))
        # The first may have been taken before the gate; between it and the last nothing was applied or answered.
        assert len([one for one in rig.store.updates if one.type_url == CLUSTER]) <= 2
        assert [one.message.response_nonce for one in server.acks(CLUSTER)] == ["x5"]

    run(lambda: Rig(server.address), scenario)


def test_version_2_and_unknown_types_are_not_answered(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.acks(CLUSTER))
        stream = server.streams[0]
        stream.send_sotw("type.googleapis.com/envoy.api.v2.Cluster", version="1", nonce="old")
        await rig.until(lambda: rig.client.status().unknown)
        assert any("version 2" in line for line in rig.log.lines)
        old = any_pb2.Any(type_url="type.googleapis.com/envoy.api.v2.Cluster", value=cluster("b").SerializeToString())
        stream.send_sotw(CLUSTER, old, cluster("a"), version="2", nonce="mixed")
        nack = await rig.until(lambda: server.nacks(CLUSTER))
        assert "b: envoy.api.v2.Cluster is of xDS version 2" in nack[0].message.error_detail.message
        assert {one.message.type_url for one in server.requests} == {CLUSTER}

    run(lambda: Rig(server.address), scenario)


def test_garbage_ends_the_stream_and_resources_that_cannot_be_read_are_named(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.acks(CLUSTER))
        broken = any_pb2.Any(type_url=CLUSTER, value=b"\x0a\xff")
        server.streams[0].send_sotw(CLUSTER, cluster("b"), broken, version="2", nonce="x")
        nack = await rig.until(lambda: server.nacks(CLUSTER))
        assert nack[0].message.error_detail.message == "resources[1]: the content is not a valid Cluster"
        # Nobody knows which cluster the broken one is, so none is missing.
        assert rig.store.names() == ["a", "b"]
        server.streams[0].send(b"\xff\xff\xff")
        await rig.until(lambda: len(server.streams) == 2 and rig.store.names() == ["a"])
        assert any("invalid response: 3 bytes that are not a valid DiscoveryResponse" in line for line in rig.log.lines)

    run(lambda: Rig(server.address), scenario)


def test_row_24_the_time_to_live_and_heartbeats_over_the_wire(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.of(CLUSTER))
        stream = server.streams[0]
        stream.send_sotw(CLUSTER, packed(wrapped(cluster("a"), "a", "1", 0.3)), version="1", nonce="x1")
        await rig.until(rig.store.names)
        stream.send_sotw(CLUSTER, packed(wrapped(None, "a", "1", 0.3)), version="1", nonce="x2")
        await rig.until(lambda: len(server.acks(CLUSTER)) == 2)
        await rig.until(lambda: not rig.store.names())
        assert len([one for one in rig.store.updates if one.resources]) == 1
        again = await rig.until(lambda: [one for one in server.of(CLUSTER)[1:] if not one.message.version_info])
        assert again[0].message.response_nonce == "x2"
        assert rig.client.status().types[0].expired == 1

    run(lambda: Rig(server.address), scenario)


def test_an_orderly_end_is_no_failure_and_an_error_is(server: XdsServer) -> None:
    async def scenario(rig: Rig) -> None:
        server.set(cluster("a"))
        rig.client.want(CLUSTER, ALL)
        await rig.until(lambda: server.acks(CLUSTER))
        server.streams[0].end()
        await rig.until(lambda: len(server.acks(CLUSTER)) == 2)
        assert rig.client.status().failures == 0
        server.streams[1].end(grpc.StatusCode.INTERNAL, "out of order")
        await rig.until(lambda: len(server.acks(CLUSTER)) == 3)
        assert rig.client.status().failures == 1
        assert rig.client.status().error == "INTERNAL: out of order"

    run(lambda: Rig(server.address), scenario)
