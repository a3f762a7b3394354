"""The real program asks services by gRPC: whether requests and connections are allowed, and whether there are too many."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.service.ratelimit.v3 import rls_pb2
from google.rpc import status_pb2
from plain_sockets import PATIENCE, connect, read_all, rejection
from process_fixtures import Start
from pymosn_process import READY, Upstream, free_ports, get
from thread_server import ThreadServer

pytestmark = pytest.mark.once


class Services:
    """envoy.service.auth.v3 and envoy.service.ratelimit.v3 on one port.

    A request is allowed unless its path begins with /denied, a connection while `allows_connections`; a user has 2 requests.
    """

    def __init__(self) -> None:
        self.allows_connections = True
        self.asked: list[auth.CheckRequest] = []
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = (
            ("envoy.service.auth.v3.Authorization", "Check", self._check, auth.CheckRequest),
            ("envoy.service.ratelimit.v3.RateLimitService", "ShouldRateLimit", self._count, rls_pb2.RateLimitRequest),
        )
        for service, method, behaviour, kind in handlers:
            call = grpc.unary_unary_rpc_method_handler(
                behaviour, request_deserializer=kind.FromString, response_serializer=lambda value: value.SerializeToString()
            )
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: call}),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE)

    def _check(self, request: auth.CheckRequest, _context: Any) -> auth.CheckResponse:
        self.asked.append(request)
        path = request.attributes.request.http.path
        allows = not path.startswith("/denied") if path else self.allows_connections
        if not allows:
            return auth.CheckResponse(
                status=status_pb2.Status(code=7), denied_response=auth.DeniedHttpResponse(body="not you")
            )
        made = auth.CheckResponse(status=status_pb2.Status(code=0))
        made.ok_response.headers.add().header.key = "x-checked"
        made.ok_response.headers[0].header.value = "yes"
        return made

    def _count(self, request: rls_pb2.RateLimitRequest, _context: Any) -> rls_pb2.RateLimitResponse:
        user = request.descriptors[0].entries[0].value
        with self._lock:
            self._counts[user] = self._counts.get(user, 0) + 1
            over = self._counts[user] > 2
        return rls_pb2.RateLimitResponse(overall_code=2 if over else 1)


@pytest.fixture
def services() -> Iterator[Services]:
    made = Services()
    yield made
    made.close()


def configuration(
    services: int, upstream: int, admin: int, filters: list[dict[str, Any]], port: int, **listener: Any
) -> dict[str, Any]:
    user = {"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster_name": "server"},
        "per_filter_config": {"ratelimit": {"rate_limits": [{"actions": [user]}]}},
    }
    table = {"router_config_name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": [route]}]}
    clusters = [
        {"name": "server", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{upstream}"}]},
        {"name": "services", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{services}"}]},
    ]
    address = {"name": "l", "address": f"127.0.0.1:{port}", "bind_port": True, "filter_chains": [{"filters": filters}]}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "servers": [
            {
                "default_log_path": "stdout",
                "default_log_level": "INFO",
                "graceful_timeout": "1s",
                "processor": 1,
                "routers": [table],
                "listeners": [{**address, **listener}],
            }
        ],
        "cluster_manager": {"clusters": clusters},
    }


def test_requests(start: Start, services: Services, upstream: Upstream) -> None:
    port, admin = free_ports(2)
    grpc_settings = {"grpc": {"cluster": "services"}, "timeout": "10s"}
    stream_filters = [
        {"type": "external_authz", "config": grpc_settings},
        {"type": "ratelimit", "config": {**grpc_settings, "domain": "d"}},
    ]
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r"}}
    running = start(configuration(services.port, upstream.port, admin, [proxy], port, stream_filters=stream_filters))
    running.wait_for(READY)
    assert get(port, "/a")[0] == 200
    assert services.asked[-1].attributes.request.http.path == "/a"
    assert get(port, "/denied/a") == (403, "not you")
    assert [status_for(port, "ann") for _ in range(3)] == [200, 200, 429]
    assert status_for(port, "bob") == 200
    services.close()
    assert get(port, "/a")[0] == 403


def status_for(port: int, user: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/a", headers={"x-user": user})
        response = connection.getresponse()
        response.read()
        return response.status


def test_connections(start: Start, services: Services) -> None:
    def answers(sock: socket.socket) -> None:
        sock.sendall(b"hello")

    server = ThreadServer(answers)
    port, admin = free_ports(2)
    any_ = [{"any": True}]
    shadow = {"action": "DENY", "policies": {"ext": {"permissions": any_, "principals": any_}}}
    condition = {
        "filter": "envoy.filters.network.rbac",
        "path": [{"key": "x_shadow_effective_policy_id"}],
        "value": {"string_match": {"exact": "ext"}},
    }
    asks = {"grpc": {"cluster": "services"}, "timeout": 10.0, "enabled_metadata": condition}
    loopback = {"direct_remote_ip": {"address_prefix": "127.0.0.1", "prefix_len": 32}}
    allows = {"action": "ALLOW", "policies": {"p": {"permissions": any_, "principals": [loopback]}}}
    filters = [
        {
            "type": "python",
            "config": {"name": "rbac", "config": {"shadow_rules": shadow, "shadow_rules_stat_prefix": "x_"}},
        },
        {"type": "python", "config": {"name": "external_authz", "config": asks}},
        {"type": "python", "config": {"name": "rbac", "config": {"rules": allows}}},
        {"type": "tcp_proxy", "config": {"cluster": "server"}},
    ]
    try:
        running = start(configuration(services.port, server.port, admin, filters, port))
        running.wait_for(READY)
        with connect(port) as client:
            assert read_all(client) == b"hello"
        asked = services.asked[-1].attributes
        assert asked.source.address.socket_address.address == "127.0.0.1"
        assert asked.destination.address.socket_address.port_value == port
        services.allows_connections = False
        assert rejection(port) == "reset"
        services.allows_connections = True
        with connect(port) as client:
            assert read_all(client) == b"hello"
    finally:
        server.close()
