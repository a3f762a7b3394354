"""ALPN between pymosn and Envoy, each with the filter chains of a sidecar, which separate the other's HTTP from its TCP.

Envoy as it is distributed has no filter `istio.alpn`: as a sender, its clusters list what the filter would offer.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.certificates import Issued, server
from tests.system.h2_peers import H2Client
from tests.system.process_fixtures import Start
from tests.system.pymosn_process import PATIENCE, READY, eventually, free_ports, get
from tests.system.thread_server import ThreadServer
from tests.system.tls_peers import config_of, context_for, exchange, listener_of, proxy_filter, table_of

from interop.programs import program

TYPE = "type.googleapis.com/envoy.extensions."
FOR_HTTP1 = ["istio-http/1.1", "istio", "http/1.1"]
FOR_HTTP2 = ["istio-h2", "istio", "h2"]
HTTP_NAMES = ["istio-http/1.0", "istio-http/1.1", "istio-h2"]
TCP_NAMES = ["istio-peer-exchange", "istio"]
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _tcp(cluster: str) -> dict[str, Any]:
    kind = f"{TYPE}filters.network.tcp_proxy.v3.TcpProxy"
    return {"name": "tcp", "typed_config": {"@type": kind, "stat_prefix": cluster, "cluster": cluster}}


def _http(action: dict[str, Any]) -> dict[str, Any]:
    header = {"header": {"key": "x-protocol", "value": "%PROTOCOL%"}}
    hosts = [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]
    router = {"name": "router", "typed_config": {"@type": f"{TYPE}filters.http.router.v3.Router"}}
    config = {
        "@type": f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": hosts, "response_headers_to_add": [header]},
        "http_filters": [router],
    }
    return {"name": "http", "typed_config": config}


def _tls(kind: str, alpn: list[str], issued: Issued | None = None) -> dict[str, Any]:
    common: dict[str, Any] = {"alpn_protocols": alpn}
    if issued is not None:
        pair = {"certificate_chain": issued.certificate, "private_key": issued.key}
        common["tls_certificates"] = [{name: {"inline_string": text.decode()} for name, text in pair.items()}]
    config = {"@type": f"{TYPE}transport_sockets.tls.v3.{kind}TlsContext", "common_tls_context": common}
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def _cluster(name: str, port: int, alpn: list[str], http: str = "") -> dict[str, Any]:
    ends = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    found: dict[str, Any] = {"name": name, "load_assignment": {"cluster_name": name, "endpoints": ends}}
    if alpn:
        found["transport_socket"] = _tls("Upstream", alpn)
    if http:
        options = {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", "explicit_http_config": {http: {}}}
        found["typed_extension_protocol_options"] = {HTTP_OPTIONS: options}
    return found


def _envoy(ports: list[int], admin: int, peer: int, tcp: int) -> dict[str, Any]:
    """Envoy's bootstrap. `ports`: of what it receives, and of three listeners that send to `peer`; `tcp`: of a server."""

    def chain(names: list[str], alpn: list[str], filter: dict[str, Any]) -> dict[str, Any]:
        match = {"transport_protocol": "tls", "application_protocols": names}
        socket = _tls("Downstream", alpn, server())
        return {"filter_chain_match": match, "filters": [filter], "transport_socket": socket}

    http = _http({"direct_response": {"status": 200, "body": {"inline_string": "http"}}})
    inspector = {"name": "tls", "typed_config": {"@type": f"{TYPE}filters.listener.tls_inspector.v3.TlsInspector"}}
    receiving = {
        "listener_filters": [inspector],
        "filter_chains": [
            chain(HTTP_NAMES, ["h2", "http/1.1"], http),
            chain(TCP_NAMES, ["istio-peer-exchange", "h2", "http/1.1"], _tcp("tcp")),
        ],
    }
    sending = [_http({"route": {"cluster": "one"}}), _http({"route": {"cluster": "two"}}), _tcp("bytes")]
    listeners = [receiving, *({"filter_chains": [{"filters": [filter]}]} for filter in sending)]
    clusters = [
        _cluster("tcp", tcp, []),
        _cluster("one", peer, FOR_HTTP1, "http_protocol_options"),
        _cluster("two", peer, FOR_HTTP2, "http2_protocol_options"),
        _cluster("bytes", peer, TCP_NAMES),
    ]
    named = [{"name": f"l{port}", "address": _address(port), **one} for port, one in zip(ports, listeners, strict=True)]
    return {"admin": {"address": _address(admin)}, "static_resources": {"listeners": named, "clusters": clusters}}


def _pymosn(ports: list[int], peer: int, tcp: int) -> dict[str, Any]:
    """The same for pymosn, which needs one listener for both versions of HTTP."""
    receiving, sending, sending_bytes = ports
    both = {"downstream_protocol": "Http1,Http2"}
    http = proxy_filter("http")
    http["config"] |= both
    out = proxy_filter("out")
    out["config"] |= {**both, "upstream_alpn": {"Http1": FOR_HTTP1, "Http2": FOR_HTTP2}}

    def chain(names: list[str], filter: dict[str, Any]) -> dict[str, Any]:
        match = {"transport_protocol": "tls", "application_protocols": names}
        return {
            "match": match,
            "filters": [filter],
            "tls_context": context_for(server(), alpn="h2,http/1.1", alpn_required=False),
        }

    chains = [chain(HTTP_NAMES, http), chain(TCP_NAMES, {"type": "tcp_proxy", "config": {"cluster": "tcp"}})]
    bytes_out = {"type": "tcp_proxy", "config": {"cluster": "peer"}}
    listeners = [
        listener_of("in", receiving, chains),
        listener_of("out", sending, [{"filters": [out]}]),
        listener_of("bytes", sending_bytes, [{"filters": [bytes_out]}]),
    ]
    tables = [table_of("http", "http"), table_of("out", cluster="peer")]
    config = config_of(listeners, tables, {"peer": f"127.0.0.1:{peer}", "tcp": f"127.0.0.1:{tcp}"})
    config["cluster_manager"]["clusters"][0]["tls_context"] = {"status": True, "insecure_skip": True, "alpn": "istio"}
    return config


class Both:
    """Envoy and pymosn, each of which sends to the other. Ports of senders: for HTTP/1.1, HTTP/2 and TCP."""

    def __init__(self, start: Start, folder: Path, envoy: str) -> None:
        self.tcp = ThreadServer(lambda sock: sock.sendall(b"TCP:" + sock.recv(100)))
        ports = free_ports(8)
        theirs, ours, admin = ports[:4], ports[4:7], ports[7]
        self.to_pymosn = theirs[1:]
        self.to_envoy = [ours[1], ours[1], ours[2]]
        path = folder / "envoy.json"
        path.write_text(json.dumps(_envoy(theirs, admin, ours[0], self.tcp.port)))
        self._log = (folder / "envoy.log").open("w")
        command = [envoy, "-c", str(path), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
        self._envoy = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        start(_pymosn(ours, theirs[0], self.tcp.port)).wait_for(READY)
        assert eventually(lambda: self._is_live(admin)), (folder / "envoy.log").read_text()

    def _is_live(self, admin: int) -> bool:
        try:
            return get(admin, "/ready")[0] == 200
        except OSError:
            return False

    def close(self) -> None:
        self._envoy.kill()
        self._envoy.wait()
        self._log.close()
        self.tcp.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    envoy = program("envoy")
    folder = tmp_path_factory.mktemp("alpn")
    start = Start(folder)
    try:
        made = Both(start, folder, envoy)
        yield made
        made.close()
    finally:
        start.end()


@pytest.mark.parametrize("way", ["to_envoy", "to_pymosn"])
def test_everything_arrives_as_what_it_is(both: Both, way: str) -> None:
    http1, http2, tcp = getattr(both, way)
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", http1), PATIENCE) as sock:
            assert exchange(sock) == (200, b"http")
        with H2Client(http2) as client:
            response = client.request()
            assert (response.status, response.body) == (200, b"http")
            if way == "to_envoy":
                assert response.value("x-protocol") == "HTTP/2"
        with socket.create_connection(("127.0.0.1", tcp), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n")
            assert sock.recv(100) == b"TCP:GET / HTTP/1.1\r\n"
