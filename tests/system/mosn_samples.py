"""MOSN's TLS samples (http, auto, sofarpc, flowcontrol): their configurations re-created, on free ports.

client -> client hop -> TLS -> server hop -> upstream. Both hops have the same certificate, from `pymosn certs new`.
"""

import http.server
from pathlib import Path
from typing import Any

from bench.machine import free_port

from pymosn.kit.new_certs import write_certificates

Config = dict[str, Any]

_PROTOCOLS = {"http": "Http1", "auto": "Auto", "sofarpc": "bolt", "flowcontrol": "Http1"}
_HTTP_MATCH = {"prefix": "/"}
_RPC_MATCH = {"headers": [{"name": "service", "value": ".*"}]}


class Page(http.server.BaseHTTPRequestHandler):
    """The upstream of the samples: says what it received, and 404 on /nowhere."""

    protocol_version = "HTTP/1.1"
    #: Also of the response to the preface of HTTP/2, which would have no status line otherwise.
    default_request_version = "HTTP/1.1"

    def do_GET(self) -> None:
        received = self.rfile.read(int(self.headers.get("content-length", "0")))
        body = f"{self.command} {self.path} {len(received)} success".encode()
        self.send_response(404 if self.path == "/nowhere" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Sample:
    """The two configurations of one sample, and the ports in them."""

    def __init__(self, name: str, folder: Path, upstream: int) -> None:
        """`folder`: for the certificates. `upstream`: its port."""
        write_certificates(folder, (), "", 30, force=True)
        self.name = name
        self.ca = folder / "ca.pem"
        self._certificates = folder
        self.client_port, self.server_port = free_port(), free_port()
        own = self._tls(server_name="127.0.0.1")
        demands = self._tls(verify_client=True, require_client_cert=True)
        if name == "auto":
            own |= {"verify_client": True, "ecdh_curves": "P256"}
            demands = self._tls(verify_client=True, ecdh_curves="P256")
        self.client_config = self._config("client", self.client_port, {}, self.server_port, own)
        self.server_config = self._config("server", self.server_port, demands, upstream, {})

    def _tls(self, **more: Any) -> Config:
        files = {"ca_cert": "ca.pem", "cert_chain": "server.pem", "private_key": "server.key"}
        return {"status": True, **{key: str(self._certificates / file) for key, file in files.items()}, **more}

    def _config(self, side: str, port: int, listener: Config, target: int, cluster: Config) -> Config:
        protocol = _PROTOCOLS[self.name]
        match = _RPC_MATCH if self.name == "sofarpc" else _HTTP_MATCH
        route = {"match": match, "route": {"cluster_name": f"{side}Cluster"}}
        host = {"name": f"{side}Host", "domains": ["*"], "routers": [route]}
        settings = {"downstream_protocol": protocol, "upstream_protocol": protocol, "router_config_name": f"{side}_router"}
        if self.name == "sofarpc":
            del settings["upstream_protocol"]
        chain: Config = {"filters": [{"type": "proxy", "config": settings}]}
        if listener:
            chain["tls_context"] = listener
        made: Config = {
            "name": f"{side}Listener",
            "address": f"127.0.0.1:{port}",
            "bind_port": True,
            "filter_chains": [chain],
        }
        if side == "server" and self.name in _STREAM_FILTERS:
            made["stream_filters"] = [_STREAM_FILTERS[self.name]]
        hosts: Config = {
            "name": f"{side}Cluster",
            "type": "SIMPLE",
            "lb_type": "LB_RANDOM",
            "max_request_per_conn": 1024,
            "conn_buffer_limit_bytes": 32768,
            "hosts": [{"address": f"127.0.0.1:{target}"}],
        }
        if cluster:
            hosts["tls_context"] = cluster
        table = {"router_config_name": f"{side}_router", "virtual_hosts": [host]}
        return {
            "disable_upgrade": True,
            "servers": [{"default_log_path": "stdout", "routers": [table], "listeners": [made]}],
            "cluster_manager": {"clusters": [hosts]},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": free_port()}}},
        }


#: Of the server hops.
_STREAM_FILTERS: dict[str, Config] = {
    "sofarpc": {"type": "healthcheck", "config": {}},
    "flowcontrol": {
        "type": "flowControlFilter",
        "config": {
            "global_switch": True,
            "monitor": False,
            "limit_key_type": "PATH",
            "action": {"status": 500, "body": "blocked"},
            "rules": [{"resource": "/test", "limitApp": "", "grade": 1, "threshold": 1, "strategy": 0}],
        },
    },
}
