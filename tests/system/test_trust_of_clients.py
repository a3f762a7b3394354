"""What clients and trusted proxies say, on the real program: the scheme everywhere the same, and healthy hosts stay so."""

import http.client
import json
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, Upstream, _cluster, _listener, _table, eventually, free_ports
from recorder import Recorder

pytestmark = pytest.mark.once


class Edge:
    """One listener whose router and cluster a test changes, and an admin port."""

    def __init__(self, upstream_port: int, **http1: Any) -> None:
        self.port, self.admin_port = free_ports(2)
        self.listener = _listener("edge", self.port, "router")
        self.listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": http1}
        self.cluster: dict[str, Any] = _cluster("service", upstream_port)
        self.table: dict[str, Any] = _table("router", "service")
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [{"default_log_path": "stdout", "routers": [self.table], "listeners": [self.listener]}],
            "cluster_manager": {"clusters": [self.cluster]},
        }

    @property
    def routes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.table["virtual_hosts"][0]["routers"]
        return found

    def ask(self, path: str = "/", **fields: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def hosts(self) -> list[dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=20)
        connection.request("GET", "/api/v1/clusters")
        clusters = json.loads(connection.getresponse().read())
        connection.close()
        found: list[dict[str, Any]] = next(cluster for cluster in clusters if cluster["name"] == "service")["hosts"]
        return found


def test_a_clients_timeout_ejects_no_host(start: Start, upstream: Upstream) -> None:
    edge = Edge(upstream.port)
    edge.cluster["outlier_detection"] = {"consecutive_errors": 2, "max_ejection_percent": 100}
    proxy = start(edge.config, "--workers", "1")
    proxy.wait_for(READY)
    for _ in range(5):
        assert edge.ask("/slow", x_mosn_global_timeout="1")[0] == 504
    upstream.gate.set()
    assert edge.ask()[0] == 200
    assert [host["health"] for host in edge.hosts()] == ["unchecked"]


def test_the_operators_timeout_ejects_a_host(start: Start, upstream: Upstream) -> None:
    edge = Edge(upstream.port)
    edge.cluster["outlier_detection"] = {"consecutive_errors": 2, "max_ejection_percent": 100}
    edge.routes[0]["route"]["timeout"] = "100ms"
    proxy = start(edge.config, "--workers", "1")
    proxy.wait_for(READY)
    for _ in range(2):
        assert edge.ask("/slow")[0] == 504
    assert eventually(lambda: [host["health"] for host in edge.hosts()] == ["ejected"])
    assert edge.ask()[0] == 502


@pytest.mark.parametrize(
    ("http1", "scheme"), [({"trusted_hops": 1}, "https"), ({"trust_forwarded": True}, "https"), ({}, "http")]
)
def test_redirects_filters_and_upstreams_agree_about_the_scheme(start: Start, http1: dict[str, Any], scheme: str) -> None:
    recorder = Recorder(["service", "auth"])
    try:
        edge = Edge(recorder.ports["service"], **http1)
        edge.config["cluster_manager"]["clusters"].append(_cluster("auth", recorder.ports["auth"]))
        edge.listener["stream_filters"] = [{"type": "ext_authz", "config": {"cluster": "auth"}}]
        redirect = {"match": {"prefix": "/old"}, "redirect": {"response_code": 302, "path_redirect": "/new"}}
        edge.routes.insert(0, redirect)
        proxy = start(edge.config, "--workers", "1")
        proxy.wait_for(READY)
        said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "9.9.9.9", "Host": "public.test"}
        status, headers, _ = edge.ask("/old", **said)
        assert (status, headers["location"]) == (302, f"{scheme}://public.test/new")
        assert edge.ask("/", **said)[0] == 200
        heads = [head.lower() for _, head in recorder.take()]
        assert len(heads) == 3, "two to the service that authorizes, one to the upstream"
        for head in heads:
            assert [line for line in head.split(b"\r\n") if line.startswith(b"x-forwarded-proto")] == [
                f"x-forwarded-proto: {scheme}".encode()
            ]
    finally:
        recorder.close()


def test_rules_and_routes_see_what_protocol_a_client_asks_for(start: Start, upstream: Upstream) -> None:
    edge = Edge(upstream.port)
    principal = {"header": {"name": "upgrade", "exact_match": "websocket"}}
    rules = {"action": "DENY", "policies": {"p": {"permissions": [{"any": True}], "principals": [principal]}}}
    direct = {"match": {"prefix": "/routed", "headers": [{"name": "Upgrade", "value": "WebSocket"}]}}
    edge.routes.insert(0, {**direct, "direct_response": {"status": 418}})
    rbac = {"type": "rbac", "config": {"version": "1", "rules": rules}}
    proxy = start(edge.config, "--workers", "1")
    proxy.wait_for(READY)
    asked = {"Connection": "Upgrade", "Upgrade": "websocket"}
    assert edge.ask("/routed", **asked)[0] == 418
    assert edge.ask("/routed")[0] == 200
    edge.listener["stream_filters"] = [rbac]
    del edge.config["admin"]  # its port is taken
    edge.port = free_ports(1)[0]
    edge.listener["address"] = f"127.0.0.1:{edge.port}"
    other = start(edge.config, "--workers", "1")
    other.wait_for(READY)
    assert edge.ask("/", **asked)[0] == 403
    assert edge.ask("/")[0] == 200
