"""Resources of xDS in the shapes that istiod gives to sidecars: mutual TLS by SDS, virtual listeners, passthrough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import Message
from tests.kit.xds_messages import message_of
from udpa.type.v1 import typed_struct_pb2  # noqa: F401 - known to the JSON parser

_TYPES: Final = "type.googleapis.com/envoy."
_TLS: Final = _TYPES + "extensions.transport_sockets.tls.v3."
_LISTENER: Final = _TYPES + "extensions.filters.listener."
DOMAIN: Final = "spiffe://cluster.local/"
#: Protocols of HTTP between sidecars, and of other traffic.
HTTP_ALPN: Final = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
TCP_ALPN: Final = ("istio-peer-exchange", "istio")
#: A limit that is none.
NO_LIMIT: Final = 4294967295


def identity(account: str) -> str:
    """The SPIFFE id of a service account."""
    return f"{DOMAIN}ns/default/sa/{account}"


def service(name: str) -> str:
    """The full name of a service."""
    return f"{name}.default.svc.cluster.local"


# ---- TLS


def _sds(name: str) -> dict[str, Any]:
    source = {"api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": True}
    source["grpc_services"] = [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]
    config = {"api_config_source": source, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    return {"name": name, "sds_config": config}


def _common(alpn: Sequence[str], names: dict[str, Any]) -> dict[str, Any]:
    default = {"match_subject_alt_names": [names]} if names else {}
    return {
        "alpn_protocols": list(alpn),
        "combined_validation_context": {
            "default_validation_context": default,
            "validation_context_sds_secret_config": _sds("ROOTCA"),
        },
        "tls_certificate_sds_secret_configs": [_sds("default")],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
    }


def _socket(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": _TLS + kind, **fields}}


def _downstream(alpn: Sequence[str]) -> dict[str, Any]:
    common = _common(alpn, {"prefix": DOMAIN})
    return _socket("DownstreamTlsContext", common_tls_context=common, require_client_certificate=True)


# ---- clusters


def _breakers() -> dict[str, Any]:
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(names, NO_LIMIT)]}


def _http_options(**options: Any) -> dict[str, Any]:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {kind: {"@type": f"type.googleapis.com/{kind}", **options}}


def _cluster(name: str, kind: str, **more: Any) -> Message:
    return message_of("envoy.config.cluster.v3.Cluster", {"name": name, "type": kind, "connect_timeout": "10s", **more})


def outbound_name(host: str, port: int) -> str:
    """The name of the cluster of a service."""
    return f"outbound|{port}||{service(host)}"


_ANY_HTTP: Final = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}


def outbound(host: str, port: int, *, uses: int = 0, is_declared: bool = True) -> Message:
    """The cluster of a service: mutual TLS to hosts with a sidecar, else plain text.

    `uses`: requests per connection. `is_declared`: as an HTTP/1.1 port; else requests have the protocol of the client.
    """
    tls = _common(TCP_ALPN, {"exact": identity(host)})
    sni = f"outbound_.{port}_._.{service(host)}"
    plain = {"name": "envoy.transport_sockets.raw_buffer"}
    plain["typed_config"] = {"@type": _TYPES + "extensions.transport_sockets.raw_buffer.v3.RawBuffer"}  # type: ignore[assignment]
    matches = [
        {
            "name": "tlsMode-istio",
            "match": {"tlsMode": "istio"},
            "transport_socket": _socket("UpstreamTlsContext", common_tls_context=tls, sni=sni),
        },
        {"name": "tlsMode-disabled", "match": {}, "transport_socket": plain},
    ]
    common = {"max_requests_per_connection": uses} if uses else {}
    http = {"explicit_http_config": {"http_protocol_options": {}}} if is_declared else _ANY_HTTP
    return _cluster(
        outbound_name(host, port),
        "EDS",
        eds_cluster_config={
            "eds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "service_name": outbound_name(host, port),
        },
        circuit_breakers=_breakers(),
        common_lb_config={"healthy_panic_threshold": {}},
        lb_policy="LEAST_REQUEST",
        transport_socket_matches=matches,
        typed_extension_protocol_options=_http_options(common_http_protocol_options=common, **http),
    )


def endpoints(host: str, port: int, *addresses: str, has_sidecar: bool) -> Message:
    """The hosts of a service."""
    labels: dict[str, Any] = {"istio": {"workload": f"{host};default;{host};v1;Kubernetes"}}
    if has_sidecar:
        labels["envoy.transport_socket_match"] = {"tlsMode": "istio"}
    hosts = [
        {
            "endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}},
            "load_balancing_weight": 1,
            "metadata": {"filter_metadata": labels},
        }
        for address in addresses
    ]
    locality = {"region": "region1", "zone": "zone1"}
    value = {
        "cluster_name": outbound_name(host, port),
        "endpoints": [{"lb_endpoints": hosts, "load_balancing_weight": len(hosts), "locality": locality}],
    }
    return message_of("envoy.config.endpoint.v3.ClusterLoadAssignment", value)


def _passthrough(name: str, **more: Any) -> Message:
    options = _http_options(common_http_protocol_options={"idle_timeout": "300s"}, **_ANY_HTTP)
    return _cluster(
        name,
        "ORIGINAL_DST",
        lb_policy="CLUSTER_PROVIDED",
        circuit_breakers=_breakers(),
        typed_extension_protocol_options=options,
        **more,
    )


_FROM_PROXY: Final = {"source_address": {"address": "127.0.0.6", "port_value": 0}}


def common_clusters(*ports: int) -> list[Message]:
    """The clusters of every sidecar; `ports`: of its own app."""
    inbound = [_passthrough(f"inbound|{port}||", upstream_bind_config=_FROM_PROXY, cleanup_interval="60s") for port in ports]
    return [
        _cluster("BlackHoleCluster", "STATIC"),
        _passthrough("PassthroughCluster"),
        _passthrough("InboundPassthroughCluster", upstream_bind_config=_FROM_PROXY),
        *inbound,
    ]


# ---- listeners


def _tcp(cluster: str) -> dict[str, Any]:
    kind = _TYPES + "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    config = {"@type": kind, "cluster": cluster, "stat_prefix": cluster}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _manager(stat: str, filters: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    router = {"@type": _TYPES + "extensions.filters.http.router.v3.Router"}
    uuid = {"@type": _TYPES + "extensions.request_id.uuid.v3.UuidRequestIdConfig", "use_request_id_for_trace_sampling": True}
    config = {
        "@type": _TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": stat,
        "http_filters": [*filters, {"name": "envoy.filters.http.router", "typed_config": router}],
        "normalize_path": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "proxy_100_continue": True,
        "request_id_extension": {"typed_config": uuid},
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "use_remote_address": False,
        **more,
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _inbound_http(cluster: str, filters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    route = {
        "match": {"prefix": "/"},
        "name": "default",
        "decorator": {"operation": f"{cluster}/*"},
        "route": {
            "cluster": cluster,
            "timeout": "0s",
            "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
            "retry_policy": {"num_retries": 2, "retry_on": "reset-before-request"},
        },
    }
    table = {
        "name": cluster,
        "validate_clusters": False,
        "virtual_hosts": [{"name": "inbound|http|80", "domains": ["*"], "routes": [route]}],
    }
    details = {"subject": True, "dns": True, "uri": True}
    return _manager(
        cluster,
        filters,
        route_config=table,
        server_name="istio-envoy",
        forward_client_cert_details="APPEND_FORWARD",
        set_current_client_cert_details=details,
    )


def _chain(name: str, filters: Sequence[dict[str, Any]], tls: Sequence[str] = (), **match: Any) -> dict[str, Any]:
    chain: dict[str, Any] = {"name": name, "filters": list(filters)}
    if match:
        chain["filter_chain_match"] = match
    if tls:
        chain["transport_socket"] = _downstream(tls)
    return chain


def _inspector(kind: str, config: str, *skipped: int) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"envoy.filters.listener.{kind}", "typed_config": {"@type": _LISTENER + config}}
    rules = [{"destination_port_range": {"start": port, "end": port + 1}} for port in skipped]
    if rules:
        found["filter_disabled"] = {"or_match": {"rules": rules}} if len(rules) > 1 else rules[0]
    return found


def _listener(
    name: str, port: int, direction: str, chains: list[dict[str, Any]], host: str = "0.0.0.0", **more: Any
) -> Message:
    value = {
        "name": name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "traffic_direction": direction,
        "filter_chains": chains,
        "max_connections_to_accept_per_socket_event": 1,
        **more,
    }
    return message_of("envoy.config.listener.v3.Listener", value)


def virtual_outbound() -> Message:
    """The listener of everything that the app sends: handed over by the port, else to where the app wanted to go."""
    chains = [
        _chain("virtualOutbound-blackhole", [_tcp("BlackHoleCluster")], destination_port=15001),
        _chain("virtualOutbound-catchall-tcp", [_tcp("PassthroughCluster")]),
    ]
    return _listener("virtualOutbound", 15001, "OUTBOUND", chains, use_original_dst=True)


def virtual_inbound(
    *ports: int,
    is_strict: bool = False,
    undeclared: Sequence[int] = (),
    filters: Sequence[dict[str, Any]] = (),
    network_filters: Sequence[dict[str, Any]] = (),
) -> Message:
    """The listener of everything that is sent to the app. `ports`: HTTP ports of the app, which demand TLS if `is_strict`.

    `undeclared`: ports of the app whose protocol is found out. `filters`: HTTP filters of `ports`, `network_filters`: of
    connections to other ports.
    """
    both = ("h2", "http/1.1")
    passthrough = _inbound_http("InboundPassthroughCluster", ())
    tcp = [*network_filters, _tcp("InboundPassthroughCluster")]
    chains = [
        _chain("virtualInbound-blackhole", [_tcp("BlackHoleCluster")], destination_port=15006),
        _chain(
            "virtualInbound-catchall-http",
            [passthrough],
            both,
            transport_protocol="tls",
            application_protocols=list(HTTP_ALPN),
        ),
        _chain(
            "virtualInbound-catchall-http",
            [passthrough],
            transport_protocol="raw_buffer",
            application_protocols=["http/1.1", "h2c"],
        ),
        _chain(
            "virtualInbound",
            tcp,
            ("istio-peer-exchange", *both),
            transport_protocol="tls",
            application_protocols=list(TCP_ALPN),
        ),
        _chain("virtualInbound", tcp, transport_protocol="raw_buffer"),
        _chain("virtualInbound", tcp, transport_protocol="tls"),
    ]
    for port in ports:
        manager = _inbound_http(f"inbound|{port}||", filters)
        match: dict[str, Any] = {"destination_port": port, "transport_protocol": "tls"}
        if not is_strict:
            match["application_protocols"] = [*TCP_ALPN, *HTTP_ALPN]
            chains.append(_chain(f"0.0.0.0_{port}", [manager], destination_port=port, transport_protocol="raw_buffer"))
        chains.append(_chain(f"0.0.0.0_{port}", [manager], both, **match))
    for port in undeclared:
        chains.extend(_undeclared_chains(port))
    return _listener(
        "virtualInbound",
        15006,
        "INBOUND",
        chains,
        listener_filters=[
            _inspector("original_dst", "original_dst.v3.OriginalDst"),
            _inspector("tls_inspector", "tls_inspector.v3.TlsInspector", 15006),
            _inspector("http_inspector", "http_inspector.v3.HttpInspector", 15006, *ports),
        ],
        listener_filters_timeout="0s",
        continue_on_listener_filters_timeout=True,
    )


def _undeclared_chains(port: int) -> list[dict[str, Any]]:
    """The chains of a port of the app: the sender's ALPN decides, or the first bytes of plain text."""
    both = ("h2", "http/1.1")
    http, tcp = [_inbound_http(f"inbound|{port}||", ())], [_tcp(f"inbound|{port}||")]
    found = (
        (http, both, {"transport_protocol": "tls", "application_protocols": list(HTTP_ALPN)}),
        (http, (), {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}),
        (tcp, (TCP_ALPN[0], *both), {"transport_protocol": "tls", "application_protocols": list(TCP_ALPN)}),
        (tcp, (), {"transport_protocol": "raw_buffer"}),
        (tcp, (), {"transport_protocol": "tls"}),
    )
    return [_chain(f"0.0.0.0_{port}", filters, tls, destination_port=port, **match) for filters, tls, match in found]


def alpn_filter() -> dict[str, Any]:
    """The filter by which receiving sidecars learn the protocol of requests."""
    names = {"HTTP10": ("istio-http/1.0", "http/1.0"), "HTTP11": ("istio-http/1.1", "http/1.1"), "HTTP2": ("istio-h2", "h2")}
    lists = [
        {"upstream_protocol": protocol, "alpn_override": [first, "istio", last]} for protocol, (first, last) in names.items()
    ]
    kind = "type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
    struct = "type.googleapis.com/udpa.type.v1.TypedStruct"
    return {"name": "istio.alpn", "typed_config": {"@type": struct, "type_url": kind, "value": {"alpn_override": lists}}}


def undeclared_listener(host: str, address: str, port: int, *, has_alpn: bool = True) -> Message:
    """The listener without a socket of a service whose port has no declared protocol. `has_alpn`: the filter of ALPN."""
    rds = {"route_config_name": str(port), "config_source": {"ads": {}, "initial_fetch_timeout": "0s"}}
    filters = [alpn_filter()] if has_alpn else []
    chain = _chain(
        "",
        [_manager(f"outbound_{address}_{port}", filters, rds=rds)],
        transport_protocol="raw_buffer",
        application_protocols=["http/1.1", "h2c"],
    )
    return _listener(
        f"{address}_{port}",
        port,
        "OUTBOUND",
        [chain],
        host=address,
        bind_to_port=False,
        default_filter_chain=_chain("", [_tcp(outbound_name(host, port))]),
        listener_filters=[_inspector("http_inspector", "http_inspector.v3.HttpInspector")],
        listener_filters_timeout="0s",
        continue_on_listener_filters_timeout=True,
    )


def outbound_listener(port: int) -> Message:
    """The listener without a socket of all services on a port, whose table has the port's name."""
    rds = {"route_config_name": str(port), "config_source": {"ads": {}, "initial_fetch_timeout": "0s"}}
    chain = _chain(
        "",
        [_manager(f"outbound_0.0.0.0_{port}", [alpn_filter()], rds=rds)],
        transport_protocol="raw_buffer",
        application_protocols=["http/1.1", "h2c"],
    )
    return _listener(
        f"0.0.0.0_{port}",
        port,
        "OUTBOUND",
        [chain],
        bind_to_port=False,
        default_filter_chain=_chain("PassthroughFilterChain", [_tcp("PassthroughCluster")]),
        listener_filters=[_inspector("http_inspector", "http_inspector.v3.HttpInspector")],
        listener_filters_timeout="0s",
        continue_on_listener_filters_timeout=True,
    )


def outbound_tcp_listener(host: str, address: str, port: int) -> Message:
    """The listener without a socket of one TCP service."""
    chains = [_chain("", [_tcp(outbound_name(host, port))])]
    return _listener(f"{address}_{port}", port, "OUTBOUND", chains, host=address, bind_to_port=False)


def rbac(*policies: tuple[str, dict[str, Any]], for_bytes: bool = False) -> dict[str, Any]:
    """A filter that allows what one of the policies allows: a service account, and a permission. `for_bytes`: of TCP."""
    found = {
        f"ns[default]-policy[allow]-rule[{i}]": {
            "permissions": [{"and_rules": {"rules": [permission]}}],
            "principals": [{"and_ids": {"ids": [{"authenticated": {"principal_name": {"exact": identity(account)}}}]}}],
        }
        for i, (account, permission) in enumerate(policies)
    }
    kind = "network" if for_bytes else "http"
    more = {"stat_prefix": "tcp."} if for_bytes else {}
    config = {"@type": f"{_TYPES}extensions.filters.{kind}.rbac.v3.RBAC", "rules": {"policies": found}, **more}
    return {"name": f"envoy.filters.{kind}.rbac", "typed_config": config}


def table(port: int, *hosts: str) -> Message:
    """The routes to the services on a port; other hosts are passed through."""
    retries = {
        "num_retries": 2,
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "host_selection_retry_max_attempts": "5",
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": _TYPES + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }
        ],
    }
    virtual = [
        {
            "name": f"{service(host)}:{port}",
            "domains": [service(host), f"{service(host)}.", host, f"{host}.default"],
            "include_request_attempt_count": True,
            "routes": [
                {
                    "name": "default",
                    "match": {"prefix": "/"},
                    "decorator": {"operation": f"{service(host)}:{port}/*"},
                    "route": {
                        "cluster": outbound_name(host, port),
                        "timeout": "0s",
                        "max_grpc_timeout": "0s",
                        "retry_policy": retries,
                    },
                }
            ],
        }
        for host in hosts
    ]
    any_other = {"match": {"prefix": "/"}, "name": "allow_any", "route": {"cluster": "PassthroughCluster", "timeout": "0s"}}
    virtual.append({"name": "allow_any", "domains": ["*"], "include_request_attempt_count": True, "routes": [any_other]})
    value = {
        "name": str(port),
        "virtual_hosts": virtual,
        "validate_clusters": False,
        "ignore_port_in_host_matching": True,
        "max_direct_response_body_size_bytes": 1048576,
    }
    return message_of("envoy.config.route.v3.RouteConfiguration", value)


# ---- secrets and the bootstrap


def secrets(chain: bytes, key: bytes, authorities: bytes) -> list[Message]:
    """The secrets `default` and `ROOTCA`, in PEM."""
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    pair = {"certificate_chain": {"inline_string": chain.decode()}, "private_key": {"inline_string": key.decode()}}
    return [
        message_of(kind, {"name": "default", "tls_certificate": pair}),
        message_of(kind, {"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": authorities.decode()}}}),
    ]


def bootstrap(name: str, ip: str, xds: str, sds: str) -> dict[str, Any]:
    """The configuration of a sidecar, as pilot-agent writes it. `xds`, `sds`: paths of the agent's sockets."""

    def server(cluster: str, path: str) -> dict[str, Any]:
        ends = [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": path}}}}]}]
        return {
            "name": cluster,
            "type": "STATIC",
            "connect_timeout": "1s",
            "lb_policy": "ROUND_ROBIN",
            "load_assignment": {"cluster_name": cluster, "endpoints": ends},
            "typed_extension_protocol_options": _http_options(explicit_http_config={"http2_protocol_options": {}}),
        }

    source = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
    ads = {
        "api_type": "DELTA_GRPC",
        "set_node_on_first_message_only": True,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
    }
    return {
        "node": {
            "id": f"sidecar~{ip}~{name}.default~default.svc.cluster.local",
            "cluster": f"{name}.default",
            "metadata": {
                "ISTIO_VERSION": "1.31.0",
                "NAMESPACE": "default",
                "CLUSTER_ID": "Kubernetes",
                "NAME": f"{name}-0",
                "WORKLOAD_NAME": f"{name}-v1",
                "LABELS": {"app": name, "version": "v1", "service.istio.io/canonical-name": name},
            },
        },
        "dynamic_resources": {"ads_config": ads, "cds_config": source, "lds_config": source},
        "static_resources": {"clusters": [server("xds-grpc", xds), server("sds-grpc", sds)]},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 15000}}},
    }
