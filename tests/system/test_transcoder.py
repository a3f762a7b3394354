"""The real program between HTTP clients and servers that speak an RPC protocol: examples/transcoder, and MOSN's sample."""

import http.client
import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bolt_peers import BoltServer
from process_fixtures import Start
from pymosn_process import READY, free_ports
from tests.kit import dubbo_frames as dubbo
from thread_server import ThreadServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "transcoder"


class Provider(ThreadServer):
    """Says of each call of `find` how long it was and whether it had a needle; other methods it does not know."""

    def __init__(self) -> None:
        super().__init__(self._read)

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while head := stream.read(16):
                _, flags, _, number, size = struct.unpack(">HBBqI", head)
                body = stream.read(size)
                if flags & 0x20:
                    connection.sendall(dubbo.heartbeat_ack(number))
                elif b"\x04find" in body:
                    connection.sendall(dubbo.result(number, {"size": size, "has": b"needle" in body}))
                else:
                    connection.sendall(dubbo.error(number, 60, "no such method"))


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


def call(connection: http.client.HTTPConnection, path: str, body: str) -> tuple[int, Any]:
    connection.request("POST", path, body)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def test_the_example_calls_a_provider(start: Start, provider: Provider) -> None:
    config = json.loads((EXAMPLE / "config.json").read_text())
    listener = config["servers"][0]["listeners"][0]
    (port,) = free_ports(1)
    listener["address"] = f"127.0.0.1:{port}"
    listener["stream_filters"][0]["config"]["path"] = str(EXAMPLE / "json_to_dubbo.py")
    config["cluster_manager"]["clusters"][0]["hosts"] = [{"address": f"127.0.0.1:{provider.port}"}]
    proxy = start(config)
    proxy.wait_for(READY)

    def calls(number: int) -> list[tuple[int, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        words = ["needle" if number % 2 else "hay", "x" * number * 1000]
        replies = [call(connection, "/a.Service/find", json.dumps(words)) for _ in range(20)]
        connection.close()
        return replies

    with ThreadPoolExecutor(4) as pool:
        for number, replies in enumerate(pool.map(calls, range(4))):
            status, value = replies[0]
            assert status == 200
            assert value["has"] == bool(number % 2)
            assert value["size"] > number * 1000
            assert replies == [replies[0]] * 20
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    assert call(connection, "/a.Service/lose", "[]") == (404, {"error": "no such method"})
    assert call(connection, "/a.Service/find?types=strng", '["a"]')[0] == 400
    assert call(connection, "/a.Service/find", "[]")[0] == 200
    connection.close()


def _sample(side: str, port: int, target: int, proxy: dict[str, Any], filters: list[dict[str, Any]]) -> dict[str, Any]:
    """One of the two configurations of MOSN's sample filter/transcoder, re-created."""
    match = {"headers": [{"name": "service", "value": ".*"}]}
    host = {
        "name": f"{side}Host",
        "domains": ["*"],
        "routers": [{"match": match, "route": {"cluster_name": f"{side}Cluster"}}],
    }
    router = {"router_config_name": f"{side}_router", "virtual_hosts": [host]}
    chain = {"type": "proxy", "config": {**proxy, "router_config_name": f"{side}_router"}}
    listener = {
        "name": f"{side}Listener",
        "address": f"127.0.0.1:{port}",
        "bind_port": True,
        "log_path": "stdout",
        "filter_chains": [{"tls_context": {}, "filters": [chain]}],
        **({"stream_filters": filters} if filters else {}),
    }
    cluster = {
        "Name": f"{side}Cluster",
        "type": "SIMPLE",
        "lb_type": "LB_RANDOM",
        "max_request_per_conn": 1024,
        "conn_buffer_limit_bytes": 32768,
        "hosts": [{"address": f"127.0.0.1:{target}"}],
    }
    return {
        "disable_upgrade": True,
        "servers": [
            {"default_log_path": "stdout", "default_log_level": "DEBUG", "routers": [router], "listeners": [listener]}
        ],
        "cluster_manager": {"clusters": [cluster]},
        "tracing": {"enable": True, "driver": "SOFATracer"},
    }


@pytest.mark.once
def test_the_sample_of_mosn(start: Start) -> None:
    server = BoltServer()
    client_port, server_port = free_ports(2)
    proxy = {"downstream_protocol": "Http1", "upstream_protocol": "X", "extend_config": {"sub_protocol": "bolt"}}
    filters = [{"type": "transcoder", "config": {"type": "http2bolt_simple"}}]
    hops = [
        start(_sample("server", server_port, server.port, {"downstream_protocol": "bolt"}, [])),
        start(_sample("client", client_port, server_port, proxy, filters)),
    ]
    for hop in hops:
        hop.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", client_port, timeout=20)
    for size in (0, 5, 300_000):
        connection.request("POST", "/hello", b"x" * size, {"service": "test"})
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b"x" * size)
    connection.request("GET", "/hello", headers={"service": "test"})
    assert connection.getresponse().read() == b""
    connection.close()
    server.close()
