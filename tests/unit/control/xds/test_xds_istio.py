"""Istio's own filters and metadata: metrics, their reporters, peers, services of clusters and workloads of endpoints."""

from typing import Any

import pytest
from tests.kit.xds_messages import message_of, view_of

from pymosn.config.schema import Listener, StreamFilter
from pymosn.config.schema.cluster import IstioFacts
from pymosn.config.schema.network_filters import TcpProxyFilter
from pymosn.control.xds.convert.clusters import convert_cluster
from pymosn.control.xds.convert.endpoints import convert_endpoints
from pymosn.control.xds.convert.extensions import Discovery, ExtendedListener, Extension, FilterSlot
from pymosn.control.xds.convert.filters import convert_http_filter
from pymosn.control.xds.convert.istio import read_stats
from pymosn.control.xds.convert.listeners import convert_listener
from pymosn.control.xds.convert.sources import Source
from pymosn.control.xds.convert.view import Report, View

NETWORK = "type.googleapis.com/envoy.extensions.filters.network."
STATS = "type.googleapis.com/stats.PluginConfig"
PEERS = "io.istio.http.peer_metadata.Config"


def typed(kind: str, value: dict[str, Any], name: str = "f") -> dict[str, Any]:
    struct = {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": kind, "value": value}
    return {"name": name, "typed_config": struct}


def warnings(report: Report) -> list[str]:
    assert report.faults == []
    return [warning.text() for warning in report.warnings]


def listener(direction: str, *, http: dict[str, Any] | None = None, tcp: dict[str, Any] | None = None) -> Listener:
    chains = []
    if http is not None:
        route = {"name": "r", "virtual_hosts": []}
        router = {"name": "envoy.filters.http.router"}
        manager = {
            "@type": NETWORK + "http_connection_manager.v3.HttpConnectionManager",
            "http_filters": [typed(STATS, http, "istio.stats"), router],
            "route_config": route,
        }
        chains.append({"name": "http", "filters": [{"name": "m", "typed_config": manager}]})
    if tcp is not None:
        proxy = {"@type": NETWORK + "tcp_proxy.v3.TcpProxy", "cluster": "c"}
        filters = [typed(STATS, tcp, "istio.stats"), {"name": "t", "typed_config": proxy}]
        match = {"destination_port": 9}
        chains.append({"name": "tcp", "filters": filters, "filter_chain_match": match})
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 15006}}
    value = {"name": "l", "address": address, "traffic_direction": direction, "filter_chains": chains}
    view, report = view_of("envoy.config.listener.v3.Listener", value)
    found = convert_listener(view).listener
    assert report.faults == []
    return found


def filters_of(found: Listener) -> list[StreamFilter]:
    return [entry for acting in found.acting_filters() if acting.proxy for entry in acting.proxy.stream_filters or ()]


@pytest.mark.parametrize(
    ("direction", "settings", "reporter"),
    [
        ("INBOUND", {}, "destination"),
        ("OUTBOUND", {}, "source"),
        ("UNSPECIFIED", {"tcp_reporting_duration": "1s", "disable_host_header_fallback": True}, "source"),
        ("INBOUND", {"reporter": "SERVER_GATEWAY"}, "waypoint"),
    ],
)
def test_the_direction_of_the_listener_tells_who_reports(direction: str, settings: dict[str, Any], reporter: str) -> None:
    found = listener(direction, http=settings, tcp=settings)
    assert [(entry.type, entry.config["reporter"]) for entry in filters_of(found)] == [("istio.stats", reporter)]
    [proxy] = [item for chain in found.filter_chains for item in chain.filters if isinstance(item, TcpProxyFilter)]
    assert [stats.reporter for stats in proxy.config.istio_stats] == [reporter]


def test_a_discovered_filter_reports_by_the_direction_of_each_listener() -> None:
    view, _ = view_of("stats.PluginConfig", {"disable_host_header_fallback": True})
    shared = Extension("s", "stats.PluginConfig", convert_http_filter(view))
    discovery = Discovery("s", Source(), ("stats.PluginConfig",), None, False, False)
    found = [
        filters_of(ExtendedListener(made, (FilterSlot(0, 0, 0, discovery),)).joined({"s": shared}))[0].config
        for made in (listener("INBOUND", http={}), listener("OUTBOUND", http={}))
    ]
    assert found == [
        {"reporter": "destination", "disable_host_header_fallback": True},
        {"reporter": "source", "disable_host_header_fallback": True},
    ]


def test_what_istiod_sends() -> None:
    body = bytes.fromhex("30014226 0a140a04686f7374120c726571756573742e686f7374 120e72657175657374735f746f74616c")
    message = message_of("stats.PluginConfig", {})
    message.ParseFromString(body)
    report = Report()
    stats = read_stats(View(message, "", report))
    assert warnings(report) == []
    assert (stats.disable_host_header_fallback, stats.tcp_reporting_duration) == (True, 5.0)
    [metric] = stats.metrics
    assert (metric.name, metric.dimensions) == ("requests_total", {"host": "request.host"})


def test_overrides_and_what_is_not_supported_of_them() -> None:
    value = {
        "tcp_reporting_duration": "15s",
        "rotation_interval": "3600s",
        "definitions": [{"name": "mine", "value": "1", "type": "COUNTER"}],
        "metrics": [
            {"name": "request_bytes", "drop": True},
            {"tags_to_remove": ["response_flags"], "dimensions": {"port": "string(destination.port)"}},
            {"name": "requests_total", "dimensions": {"a": "request.host", "b": "request.host + 'x'", "c": "'text'"}},
            {"name": "request_messages_total", "drop": False},
            {"name": "unheard_of"},
        ],
    }
    view, report = view_of("stats.PluginConfig", value)
    stats = read_stats(view)
    assert stats.tcp_reporting_duration == 15.0
    assert [(metric.name, metric.drop, metric.dimensions, metric.tags_to_remove) for metric in stats.metrics] == [
        ("request_bytes", True, {}, []),
        ("", False, {"port": "string(destination.port)"}, ["response_flags"]),
        ("requests_total", False, {"a": "request.host", "c": "'text'"}, []),
        ("request_messages_total", False, {}, []),
    ]
    assert warnings(report) == [
        "metrics[2].dimensions[b]: istio_requests_total: the label b is not changed, because the expression "
        "\"request.host + 'x'\" is not supported",
        "metrics[3].name: istio_request_messages_total is not reported: messages of gRPC are not counted",
        "metrics[4].name: istio_unheard_of is not one of Istio's metrics",
        "definitions[0]: the metric istio_mine is not reported: metrics of one's own are not supported",
        "rotation_interval: sets of labels that are no longer used are not forgotten",
    ]


def test_metrics_of_connections_need_a_tcp_proxy() -> None:
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 1}}
    chain = {"filters": [typed(STATS, {}, "istio.stats")]}
    view, report = view_of("envoy.config.listener.v3.Listener", {"name": "l", "address": address, "filter_chains": [chain]})
    convert_listener(view)
    assert [text for text in warnings(report) if "only connections of tcp_proxy are counted" in text]


def test_peers_are_known_by_headers() -> None:
    value = {
        "upstream_discovery": [{"istio_headers": {}}, {"workload_discovery": {}}],
        "upstream_propagation": [{"istio_headers": {"skip_external_clusters": True}}],
        "additional_labels": ["role"],
    }
    view, report = view_of(PEERS, value)
    made = convert_http_filter(view)
    assert made is not None
    assert (made.type, made.config) == (
        "peer_metadata",
        {
            "upstream_discovery": True,
            "upstream_propagation": True,
            "skip_external_clusters": True,
            "additional_labels": ["role"],
        },
    )
    assert warnings(report) == [
        "upstream_discovery[1].workload_discovery: not supported: peers are only known by the headers that they send"
    ]
    view, report = view_of(PEERS, {"downstream_discovery": [{"workload_discovery": {}}]})
    assert convert_http_filter(view) is None
    assert len(warnings(report)) == 1


def istio(**fields: Any) -> dict[str, Any]:
    return {"filter_metadata": {"istio": fields}}


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (istio(config="/apis/x"), None),
        (
            istio(services=[{"host": "a.b.svc", "name": "a", "namespace": "b"}, {"host": "c"}]),
            IstioFacts(service="a.b.svc", name="a", namespace="b"),
        ),
        (istio(services=[{"host": "a.b.svc"}]), IstioFacts(service="a.b.svc", name="a")),
        (istio(services=[], external=True, disable_mx=True), IstioFacts(external=True, disable_mx=True)),
        (istio(services="x", external="yes"), None),
        (istio(services=[7]), None),
        (istio(services=[{"host": 7, "name": ["x"]}]), None),
        ({"filter_metadata": {"other": {"services": []}}}, None),
    ],
)
def test_the_service_of_a_cluster(metadata: dict[str, Any], expected: IstioFacts | None) -> None:
    value = {"name": "c", "type": "STATIC", "metadata": metadata}
    view, report = view_of("envoy.config.cluster.v3.Cluster", value)
    assert convert_cluster(view).cluster.istio == expected
    assert report.faults == []


@pytest.mark.parametrize("is_slow", [False, True])
def test_the_workload_of_an_endpoint(is_slow: bool) -> None:
    endpoint: dict[str, Any] = {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}}
    if is_slow:
        endpoint["health_check_config"] = {}
    metadata = istio(workload="echo-v1;default;echo;v1;Kubernetes")
    hosts = [{"endpoint": endpoint, "metadata": metadata}]
    view, report = view_of(
        "envoy.config.endpoint.v3.ClusterLoadAssignment", {"cluster_name": "c", "endpoints": [{"lb_endpoints": hosts}]}
    )
    assert [host.workload for host in convert_endpoints(view).hosts] == ["echo-v1;default;echo;v1;Kubernetes"]
    assert report.faults == []
