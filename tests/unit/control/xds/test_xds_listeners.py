"""Listeners of xDS: the shapes that Istio and Envoy Gateway send, and what is rejected."""

from typing import Any

import pytest
from tests.kit import certificates as made
from tests.kit.xds_messages import view_of

from pymosn.config.check import check
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Cluster, ClusterManager, MosnConfig, ProxyConfig, RouterConfiguration, Server
from pymosn.config.schema.network_filters import ProxyFilter, TcpProxyFilter
from pymosn.config.schema.server import ChainMatch, ListenerFilter, ProxyProtocol
from pymosn.control.xds.convert.listeners import ConvertedListener, convert_listener
from pymosn.control.xds.convert.sources import Source
from pymosn.control.xds.convert.view import Report, View

TYPE = "type.googleapis.com/envoy.extensions."
MANAGER = f"{TYPE}filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {"name": "router", "typed_config": {"@type": f"{TYPE}filters.http.router.v3.Router"}}
RDS = {"config_source": {"ads": {}, "initial_fetch_timeout": "0s"}, "route_config_name": "7070"}
CERTIFICATE = {
    "certificate_chain": {"inline_string": made.server().certificate.decode()},
    "private_key": {"inline_string": made.server().key.decode()},
}


def routes(view: View, name: str) -> RouterConfiguration:
    """Stands for `convert_routes`."""
    return RouterConfiguration(router_config_name=name)


def convert(listener: dict[str, Any]) -> tuple[ConvertedListener, Report]:
    view, report = view_of("envoy.config.listener.v3.Listener", listener)
    return convert_listener(view, routes), report


def listening(*chains: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {
        "name": "l",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
        "filter_chains": list(chains),
        **keys,
    }


def manager(**keys: Any) -> dict[str, Any]:
    content = {"@type": MANAGER, "stat_prefix": "x", "rds": RDS, "http_filters": [ROUTER], **keys}
    if "route_config" in keys or "scoped_routes" in keys:
        del content["rds"]
    return {"filters": [{"name": "manager", "typed_config": content}]}


def tcp(cluster: str = "PassthroughCluster", **keys: Any) -> dict[str, Any]:
    content = {"@type": f"{TYPE}filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "x", **keys}
    if cluster:
        content["cluster"] = cluster
    return {"filters": [{"name": "tcp", "typed_config": content}]}


def proxy_of(converted: ConvertedListener, chain: int = 0) -> ProxyConfig:
    found = converted.listener.filter_chains[chain].filters[0]
    assert isinstance(found, ProxyFilter)
    return found.config


def inspector(name: str, kind: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{TYPE}filters.listener.{name}.v3.{kind}"}, **keys}


def test_the_inbound_listener_of_a_sidecar() -> None:
    ports = [{"destination_port_range": {"start": first, "end": first + 1}} for first in (15006, 26024, 26025)]
    tls = {"common_tls_context": {"tls_certificates": [CERTIFICATE], "alpn_protocols": ["h2", "http/1.1"]}}
    socket = {"name": "tls", "typed_config": {"@type": f"{TYPE}transport_sockets.tls.v3.DownstreamTlsContext", **tls}}
    istio = {"transport_protocol": "tls", "application_protocols": ["istio-http/1.1", "istio-h2"], "destination_port": 26021}
    plain = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    converted, report = convert(
        listening(
            {"filter_chain_match": istio, "transport_socket": socket, "name": "0.0.0.0_26021", **manager()},
            {"filter_chain_match": plain, "name": "virtualInbound-catchall-http", **manager(route_config={"name": "in"})},
            {
                "filter_chain_match": {"destination_port": 15006},
                "name": "virtualInbound-blackhole",
                **tcp("BlackHoleCluster"),
            },
            {"filter_chain_match": {"transport_protocol": "tls"}, "name": "virtualInbound", **tcp()},
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "name": "virtualInbound", **tcp()},
            name="virtualInbound",
            traffic_direction="INBOUND",
            continue_on_listener_filters_timeout=True,
            listener_filters_timeout="0s",
            listener_filters=[
                inspector("original_dst", "OriginalDst"),
                inspector("tls_inspector", "TlsInspector", filter_disabled=ports[0]),
                inspector("http_inspector", "HttpInspector", filter_disabled={"or_match": {"rules": ports}}),
            ],
        )
    )
    assert report.text() == ""
    listener = converted.listener
    assert (listener.name, listener.address, listener.type) == ("virtualInbound", "0.0.0.0:15006", "ingress")
    assert (listener.bind_port, listener.use_original_dst) == (True, "redirect")
    assert not listener.hand_over  # an outbound listener may have the same port
    # Or plain text of PERMISSIVE would get 421.
    assert (listener.refuse_misdirected, listener.refuse_misdirected_plain) == (True, False)
    assert listener.listener_filters == [ListenerFilter(type="original_dst", config={"type": "redirect"})]
    assert listener.http_inspector
    assert (listener.tls_uninspected_ports, listener.http_uninspected_ports) == ("15006", "15006,26024-26025")
    names = [chain.name for chain in listener.filter_chains][-2:]
    assert all(name.startswith("virtualInbound#") for name in names)
    assert len(set(names)) == 2
    first = listener.filter_chains[0]
    assert first.match == ChainMatch(
        transport_protocol="tls", application_protocols=["istio-http/1.1", "istio-h2"], destination_port=26021
    )
    assert first.tls_context is not None
    assert not first.tls_context.alpn_required
    assert converted.routes == (("7070", Source(fetch_timeout=0.0)),)
    assert [table.router_config_name for table in converted.tables] == ["virtualInbound/virtualInbound-catchall-http/0"]
    assert proxy_of(converted, 1).router_config_name == converted.tables[0].router_config_name


def test_the_outbound_listeners_of_a_sidecar() -> None:
    converted, report = convert(
        listening(
            {"filter_chain_match": {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1"]}, **manager()},
            bind_to_port=False,
            default_filter_chain={"name": "PassthroughFilterChain", **tcp()},
        )
    )
    assert report.text() == ""
    assert not converted.listener.bind_port
    last = converted.listener.filter_chains[-1]
    assert last.is_default
    assert last.name == "PassthroughFilterChain"
    converted, report = convert(listening(tcp(), use_original_dst=True, deprecated_v1={"bind_to_port": False}))
    assert report.text() == ""
    assert (converted.listener.use_original_dst, converted.listener.bind_port) == ("redirect", False)


def test_envoys_defaults_of_a_manager() -> None:
    converted, report = convert(listening(manager()))
    assert report.text() == ""
    proxy = proxy_of(converted)
    http = proxy.extend_config.Http1
    assert proxy.downstream_protocol == "Http1,Http2"
    assert proxy.connection_idle_timeout == 3600.0
    assert (http.stream_idle_timeout, http.max_header_size, http.max_header_count) == (300.0, 60 * 1024, 100)
    assert (http.merge_slashes, http.encoded_slashes, http.underscores_in_headers) == (False, "keep", "pass")
    assert http.forward_client_cert == "sanitize"
    assert (http.upgrades, http.connect) == ([], "off")
    assert proxy.stream_filters == []
    assert proxy.access_logs == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"use_remote_address": True}, (0, False, True)),
        ({"use_remote_address": True, "xff_num_trusted_hops": 2}, (2, False, True)),
        ({"use_remote_address": True, "skip_xff_append": True}, (0, False, False)),
        ({}, (1, True, False)),
        ({"xff_num_trusted_hops": 1}, (2, True, False)),
    ],
)
def test_the_address_of_clients(keys: dict[str, Any], expected: tuple[int, bool, bool]) -> None:
    converted, _ = convert(listening(manager(**keys)))
    http = proxy_of(converted).extend_config.Http1
    assert (http.trusted_hops, http.trust_forwarded, http.x_forwarded) == expected


@pytest.mark.parametrize(
    ("details", "pairs"),
    [
        ({}, []),
        ({"subject": True, "dns": True, "uri": True}, ["subject", "dns", "uri"]),
        ({"subject": False, "cert": True, "uri": True}, ["cert", "uri"]),
    ],
)
def test_the_parts_of_the_element_about_a_certificate(details: dict[str, Any], pairs: list[str]) -> None:
    keys = {"forward_client_cert_details": "APPEND_FORWARD", "set_current_client_cert_details": details}
    converted, report = convert(listening(manager(**keys)))
    assert report.text() == ""
    assert proxy_of(converted).extend_config.Http1.client_cert_details == pairs


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ("pymosn", False)),
        ({"server_name": "istio-envoy"}, ("istio-envoy", False)),
        ({"server_name": "x", "server_header_transformation": "APPEND_IF_ABSENT"}, ("x", True)),
        ({"server_name": "x", "server_header_transformation": "PASS_THROUGH"}, ("", False)),
    ],
)
def test_the_server_header(keys: dict[str, Any], expected: tuple[str, bool]) -> None:
    converted, report = convert(listening(manager(**keys)))
    assert (report.text(), report.warnings) == ("", [])
    http = proxy_of(converted).extend_config.Http1
    assert (http.server_header, http.server_if_absent) == expected


@pytest.mark.parametrize(
    ("keys", "is_replaced"),
    [
        ({}, False),
        ({"use_remote_address": True}, True),
        ({"use_remote_address": True, "preserve_external_request_id": True}, False),
    ],
)
def test_ids_of_requests_from_outside(keys: dict[str, Any], is_replaced: bool) -> None:
    converted, _ = convert(listening(manager(**keys)))
    assert proxy_of(converted).extend_config.Http1.replace_request_id is is_replaced


def test_parts_of_the_host_that_are_removed() -> None:
    keys = {"strip_matching_host_port": True, "strip_trailing_host_dot": True}
    converted, report = convert(listening(manager(**keys)))
    assert report.text() == ""
    assert proxy_of(converted).extend_config.Http1.simplify_host == ["own_port", "trailing_dot"]


def test_limits_of_a_tcp_proxy() -> None:
    policies = [{"source_ip": {}}]
    converted, report = convert(listening(tcp(max_downstream_connection_duration="60s", hash_policy=policies)))
    assert (report.text(), report.warnings) == ("", [])
    [made] = converted.listener.filter_chains[0].filters
    assert isinstance(made, TcpProxyFilter)
    assert made.config.max_connection_duration == 60.0


def test_settings_of_a_manager() -> None:
    converted, report = convert(
        listening(
            manager(
                codec_type="HTTP2",
                stream_idle_timeout="0s",
                request_headers_timeout="5s",
                max_request_headers_kb=8,
                merge_slashes=True,
                normalize_path=True,
                path_with_escaped_slashes_action="REJECT_REQUEST",
                forward_client_cert_details="APPEND_FORWARD",
                set_current_client_cert_details={"subject": True, "dns": True, "uri": True},
                upgrade_configs=[{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
                common_http_protocol_options={
                    "idle_timeout": "7s",
                    "max_headers_count": 50,
                    "max_requests_per_connection": 3,
                    "headers_with_underscores_action": "REJECT_REQUEST",
                },
                http2_protocol_options={
                    "max_concurrent_streams": 7,
                    "initial_stream_window_size": 70000,
                    "initial_connection_window_size": 80000,
                    "hpack_table_size": 0,
                    "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                },
                http_protocol_options={"accept_http_10": True},
            )
        )
    )
    assert report.text() == ""
    proxy = proxy_of(converted)
    http, http2 = proxy.extend_config.Http1, proxy.extend_config.Http2
    assert proxy.downstream_protocol == "Http2"
    assert proxy.connection_idle_timeout == 7.0
    assert (http.stream_idle_timeout, http.header_timeout, http.max_header_size) == (0.0, 5.0, 8192)
    assert (http.merge_slashes, http.encoded_slashes, http.underscores_in_headers) == (True, "refuse", "refuse")
    assert (http.forward_client_cert, http.max_header_count) == ("append_forward", 50)
    assert (http.max_requests_per_connection, http.upgrades, http.connect) == (3, ["websocket"], "terminate")
    assert (http2.max_concurrent_streams, http2.initial_stream_window_size) == (7, 70000)
    assert (http2.initial_connection_window_size, http2.header_table_size) == (80000, 0)
    assert (http2.keepalive_interval, http2.keepalive_timeout) == (30.0, 5.0)


def test_tcp_proxies() -> None:
    split = {"clusters": [{"name": "a", "weight": 3}, {"name": "b", "weight": 1}, {"name": "c", "weight": 0}]}
    converted, report = convert(listening(tcp("", weighted_clusters=split, idle_timeout="30s", max_connect_attempts=2)))
    assert report.text() == ""
    found = converted.listener.filter_chains[0].filters[0]
    assert isinstance(found, TcpProxyFilter)
    assert [(entry.name, entry.weight) for entry in found.config.weighted_clusters] == [("a", 3), ("b", 1)]
    assert (found.config.idle_timeout, found.config.max_connect_attempts) == (30_000_000_000, 2)
    assert found.config.access_logs == []


def test_an_inline_route_configuration() -> None:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "inbound|26021||"}}
    hosts = [{"name": "inbound|http|26021", "domains": ["*"], "routes": [route]}]
    listener = listening(
        manager(route_config={"name": "inbound|26021||", "virtual_hosts": hosts, "validate_clusters": False})
    )
    view, report = view_of("envoy.config.listener.v3.Listener", listener)
    converted = convert_listener(view)
    assert report.text() == ""
    [table] = converted.tables
    assert table.router_config_name == proxy_of(converted).router_config_name
    assert table.router_config_name.startswith("l/#")
    assert [host.domains for host in table.virtual_hosts] == [["*"]]


def test_all_conditions_of_a_chain() -> None:
    match = {
        "destination_port": 8080,
        "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}],
        "direct_source_prefix_ranges": [{"address_prefix": "192.168.0.0", "prefix_len": 16}],
        "source_type": "EXTERNAL",
        "source_prefix_ranges": [{"address_prefix": "::", "prefix_len": 0}],
        "source_ports": [1, 2],
        "server_names": ["a.test", "*.b.test"],
        "transport_protocol": "tls",
        "application_protocols": ["h2"],
    }
    converted, report = convert(listening({"filter_chain_match": match, **tcp()}))
    assert report.text() == ""
    assert converted.listener.filter_chains[0].match == ChainMatch(
        destination_port=8080,
        destination_prefixes=["10.0.0.0/8"],
        direct_source_prefixes=["192.168.0.0/16"],
        source_type="external",
        source_prefixes=["::/0"],
        source_ports=[1, 2],
        server_names=["a.test", "*.b.test"],
        transport_protocol="tls",
        application_protocols=["h2"],
    )


def test_other_addresses() -> None:
    more = [{"address": {"socket_address": {"address": "::", "port_value": 81}}}]
    converted, report = convert(listening(tcp(), additional_addresses=more))
    assert report.text() == ""
    assert [(other.name, other.address) for other in converted.others] == [("l@[::]:81", "[::]:81")]
    converted, report = convert(listening(tcp(), address={"pipe": {"path": "/run/x.sock", "mode": 0o660}}, name=""))
    assert report.text() == ""
    listener = converted.listener
    assert (listener.network, listener.address, listener.mode) == ("unix", "/run/x.sock", "0660")
    assert listener.name == "/run/x.sock"


def test_the_proxy_protocol() -> None:
    filter = inspector("proxy_protocol", "ProxyProtocol")
    filter["typed_config"]["allow_requests_without_proxy_protocol"] = True
    converted, report = convert(listening(tcp(), listener_filters=[filter]))
    assert report.text() == ""
    assert converted.listener.proxy_protocol == ProxyProtocol(trusted_prefixes=["0.0.0.0/0", "::/0"], is_required=False)


def http_filter(kind: str, name: str = "f", **keys: Any) -> dict[str, Any]:
    """A filter whose type is known to protobuf, so that its JSON can be read, but not to the converter."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}"}, **keys}


UNKNOWN = "envoy.config.cluster.v3.Cluster"


def test_an_unknown_http_filter_is_left_out_only_if_it_is_optional() -> None:
    optional = manager(http_filters=[http_filter(UNKNOWN, is_optional=True), ROUTER])
    converted, report = convert(listening(optional))
    assert report.text() == ""
    assert proxy_of(converted).stream_filters == []
    assert "left out" in report.warnings[0].message
    _, report = convert(listening(manager(http_filters=[http_filter(UNKNOWN), ROUTER])))
    assert [fault.path for fault in report.faults] == [
        "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config"
    ]


@pytest.mark.parametrize(
    "name", ["envoy.filters.http.rbac", "my-ext_authz", "envoy.filters.http.jwt_authn", "oauth2", "csrf"]
)
def test_a_filter_that_guards_is_never_left_out(name: str) -> None:
    _, report = convert(listening(manager(http_filters=[http_filter(UNKNOWN, name, is_optional=True), ROUTER])))
    assert "http_filters[0].typed_config" in report.text()


def test_the_router_filter_needs_no_settings() -> None:
    """MOSN's sample of a control plane sends it so."""
    converted, report = convert(listening(manager(http_filters=[{"name": "envoy.filters.http.router"}])))
    assert not report.faults
    assert not proxy_of(converted).stream_filters


def test_an_unknown_network_filter_rejects_the_listener() -> None:
    chain = {"filters": [{"name": "x", "typed_config": {"@type": f"type.googleapis.com/{UNKNOWN}"}}]}
    _, report = convert(listening(chain))
    assert report.faults[0].path == "filter_chains[0].filters[0].typed_config"


LISTENER_FAULTS: list[tuple[dict[str, Any], str]] = [
    (listening(), "filter_chains"),
    (listening(tcp(), filter_chain_matcher={}), "filter_chain_matcher"),
    (listening(tcp(), socket_options=[{"level": 1, "name": 2, "int_value": 3}]), "socket_options[0]"),
    (listening(tcp(), freebind=True), "freebind"),
    (listening(tcp(), udp_listener_config={}), "udp_listener_config"),
    (listening(tcp(), address={}), "address"),
    (listening(tcp(), address={"socket_address": {"address": "a", "named_port": "http"}}), "address.socket_address"),
    (listening(tcp(), address={"socket_address": {"address": "::"}}), "address.socket_address.port_value"),
    (
        listening(tcp(), address={"socket_address": {"address": "::", "port_value": 65536}}),
        "address.socket_address.port_value",
    ),
    (listening({"filter_chain_match": {"address_suffix": "x"}, **tcp()}), "filter_chains[0].filter_chain_match"),
    (listening({"filter_chain_match": {"transport_protocol": "quic"}, **tcp()}), "filter_chains[0].filter_chain_match"),
    (
        listening(tcp(), default_filter_chain={"filter_chain_match": {"destination_port": 1}, **tcp()}),
        "default_filter_chain",
    ),
    (listening(tcp("")), "typed_config.cluster"),
    (listening(tcp(tunneling_config={"hostname": "x"})), "tunneling_config"),
    (listening(manager(scoped_routes={"name": "x"})), "scoped_routes"),
    (listening(manager(codec_type="HTTP3")), "codec_type"),
    (listening(manager(upgrade_configs=[{"upgrade_type": "h2c"}])), "upgrade_configs[0].upgrade_type"),
    (listening(manager(http_filters=[{"name": "x"}])), "http_filters[0].typed_config"),
    (
        listening(
            manager(
                http_filters=[
                    {"name": "x", "disabled": True, "typed_config": {"@type": f"{TYPE}filters.http.grpc_web.v3.GrpcWeb"}}
                ]
            )
        ),
        "http_filters[0].disabled",
    ),
    (listening(manager(original_ip_detection_extensions=[{"name": "x"}])), "original_ip_detection_extensions"),
]


@pytest.mark.parametrize(("listener", "path"), LISTENER_FAULTS)
def test_what_is_rejected(listener: dict[str, Any], path: str) -> None:
    _, report = convert(listener)
    assert any(path in fault.path for fault in report.faults), report.text()


def test_the_longest_exchange() -> None:
    converted, report = convert(listening(manager(common_http_protocol_options={"max_stream_duration": "2.5s"})))
    assert not report.faults
    assert not report.warnings
    assert proxy_of(converted).max_stream_duration == 2.5
    _, report = convert(listening(manager(common_http_protocol_options={"max_stream_duration": "-1s"})))
    assert ["invalid duration" in fault.message for fault in report.faults] == [True]


def test_filters_have_names_and_may_wait_for_a_route() -> None:
    kind = f"{TYPE}filters.http.rbac.v3.RBAC"
    filters = [
        {"name": "one", "typed_config": {"@type": kind}},
        {"name": "two", "disabled": True, "typed_config": {"@type": kind}},
        ROUTER,
    ]
    converted, report = convert(listening(manager(http_filters=filters)))
    assert not report.faults
    found = proxy_of(converted).stream_filters
    assert found is not None
    assert [(made.type, made.name, made.disabled) for made in found] == [("rbac", "one", False), ("rbac", "two", True)]


def test_a_converted_listener_passes_the_check_of_configurations() -> None:
    plain = {"transport_protocol": "raw_buffer", "application_protocols": ["http/1.1", "h2c"]}
    converted, _ = convert(
        listening(
            {"filter_chain_match": plain, **manager(route_config={"name": "in"})},
            listener_filters=[inspector("http_inspector", "HttpInspector")],
            default_filter_chain=tcp("c"),
        )
    )
    server = Server(listeners=[converted.listener], routers=list(converted.tables))
    config = MosnConfig(servers=[server], cluster_manager=ClusterManager(clusters=[Cluster(name="c", type="SIMPLE")]))
    report = Diagnostics()
    check(config, report, ())
    assert [fault for fault in report.items if fault.severity == "error"] == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (15.0, "close")),
        ({"listener_filters_timeout": "0s", "continue_on_listener_filters_timeout": True}, (15.0, "continue")),
        ({"listener_filters_timeout": "0.1s"}, (0.1, "close")),
    ],
)
def test_the_time_for_listener_filters(keys: dict[str, Any], expected: tuple[float, str]) -> None:
    converted, report = convert(listening(tcp(), **keys))
    assert report.text() == ""
    listener = converted.listener
    assert (listener.inspection_timeout, listener.on_undecided) == expected
    assert listener.tls_handshake_timeout == 10.0
