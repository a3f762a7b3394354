"""The scripted control plane of the kit, with a plain client of gRPC."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from tests.kit.xds_server import CLUSTER, ENDPOINTS, XdsServer

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"


class Call:
    """A stream of a client. `send` takes the fields of a request."""

    def __init__(self, server: XdsServer, is_delta: bool) -> None:
        self.kind = discovery_pb2.DeltaDiscoveryRequest if is_delta else discovery_pb2.DiscoveryRequest
        response = discovery_pb2.DeltaDiscoveryResponse if is_delta else discovery_pb2.DiscoveryResponse
        self.channel = grpc.insecure_channel(server.address)
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        method = ADS + ("DeltaAggregatedResources" if is_delta else "StreamAggregatedResources")
        call = self.channel.stream_stream(
            method, request_serializer=self.kind.SerializeToString, response_deserializer=response.FromString
        )
        self._responses: Iterator[Any] = call(iter(self._requests.get, None), timeout=20)

    def send(self, type_url: str, **fields: Any) -> None:
        self._requests.put(self.kind(type_url=type_url, **fields))

    def read(self) -> Any:
        return next(self._responses)


@pytest.fixture
def server() -> Iterator[XdsServer]:
    with XdsServer() as server:
        yield server


def test_state_of_the_world(server: XdsServer) -> None:
    server.set(cluster_pb2.Cluster(name="a"))
    call = Call(server, False)
    call.send(CLUSTER)
    first = call.read()
    call.send(CLUSTER, response_nonce=first.nonce, version_info=first.version_info)
    server.wait(lambda: server.acks(CLUSTER, "1"))
    server.set(cluster_pb2.Cluster(name="b"))
    assert len(call.read().resources) == 2
    server.remove(CLUSTER, "a")
    assert [one.value for one in call.read().resources] == [b"\x0a\x01b"]
    call.channel.close()
    server.wait(lambda: not server.open_streams())


def test_delta(server: XdsServer) -> None:
    server.set(cluster_pb2.Cluster(name="a"))
    call = Call(server, True)
    call.send(CLUSTER, initial_resource_versions={"a": "1", "old": "0"})
    assert list(call.read().removed_resources) == ["old"]
    server.set(cluster_pb2.Cluster(name="b"))
    assert [one.name for one in call.read().resources] == ["b"]
    call.send(ENDPOINTS, resource_names_subscribe=["x"])
    assert list(call.read().removed_resources) == ["x"]
    call.channel.close()


def test_silence_and_a_restart_on_the_same_port(server: XdsServer) -> None:
    server.set(cluster_pb2.Cluster(name="a"))
    server.silent.add(CLUSTER)
    call = Call(server, False)
    call.send(CLUSTER)
    server.wait(lambda: server.of(CLUSTER))
    server.answer(CLUSTER)
    assert call.read().version_info == "1"
    port = server.port
    server.stop()
    with pytest.raises(grpc.RpcError):
        call.read()
    server.start()
    assert server.port == port
    again = Call(server, False)
    again.send(CLUSTER)
    assert again.read().version_info == "1"
    again.channel.close()
