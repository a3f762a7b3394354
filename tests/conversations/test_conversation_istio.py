"""Istio's telemetry: metadata of peers in headers that neither side sees, and metrics of requests and connections."""

import asyncio
from typing import Any

from tests.kit import GET, OK, Start
from tests.kit.options import http1_policy, http_options
from tests.kit.talk import Talk

from pymosn.api.stream_filter import FilterContext, StreamFilter
from pymosn.api.upstream import ServiceFacts
from pymosn.filters.istio.settings import HttpSettings, Metric, StatsSettings
from pymosn.filters.istio.tcp import TcpStats
from pymosn.filters.istio.workload import HEADER, Workload, header_of
from pymosn.filters.stream.istio_stats import IstioStatsFilter
from pymosn.filters.stream.peer_metadata import PeerMetadataFilter, Settings
from pymosn.proxy.cluster_client import ClusterClients
from pymosn.proxy.tcp_options import TcpObserver
from pymosn.upstream.plan import HostPlan

SLEEP = Workload("sleep", "default", "c1", "sleep", "v1", "sleep", "v1", "sleep-0")
ECHO = SLEEP._replace(workload="echo", service="echo", app="echo", instance="echo-0")
NODE: dict[str, Any] = {
    "id": "own-id",
    "metadata": {"WORKLOAD_NAME": "own", "NAMESPACE": "default", "LABELS": {"app": "own", "version": "v2"}},
}
PLAN = {
    "hosts": (HostPlan("10.0.0.1:80", workload="echo-v9;shop;echo;v9;c9"),),
    "service": ServiceFacts("echo.default.svc", "echo", "default"),
}


def filters(settings: Settings, stats: HttpSettings) -> dict[str, StreamFilter]:
    return {"peer_metadata": PeerMetadataFilter(settings), "istio.stats": IstioStatsFilter(stats)}


def begin(talk: Talk, made: dict[str, StreamFilter]) -> Talk:
    """Starts the filters in the worker of the conversation."""
    for name, entry in made.items():
        entry.context = FilterContext(
            name, talk.log, ClusterClients(talk.runtime), talk.clock, all_metrics=talk.metrics, node=NODE
        )
        asyncio.run(entry.start())
    return talk


def labels(talk: Talk, metric: str = "requests_total") -> list[dict[str, str]]:
    groups = [group for group in talk.metrics.snapshot() if group["type"] == "istio" and metric in group["counters"]]
    return [dict(group["labels"]) for group in groups]


def picked(found: dict[str, str], *names: str) -> list[str]:
    return [found[name] for name in names]


def test_the_clients_sidecar_sends_its_metadata_and_hides_the_servers(start: Start) -> None:
    made = filters(Settings(upstream_discovery=True, upstream_propagation=True), HttpSettings())
    talk = begin(start(filters=made, plan=PLAN), made)
    client, upstream = talk.opening(GET)
    request = upstream.takes()
    assert b"x-envoy-peer-metadata-id: own-id\r\n" in request
    assert b"x-envoy-peer-metadata: " in request
    upstream.sends(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n%s: %s\r\n\r\nok" % (HEADER.encode(), header_of(ECHO).encode()))
    assert b"x-envoy" not in client.takes()
    [found] = labels(talk)
    assert picked(found, "reporter", "source_workload", "destination_workload") == ["source", "own", "echo"]
    assert picked(found, "destination_service", "destination_cluster") == ["echo.default.svc", "c1"]


def test_a_host_without_a_sidecar_is_known_by_its_endpoint(start: Start) -> None:
    made = filters(Settings(upstream_discovery=True, upstream_propagation=True), HttpSettings())
    talk = begin(start(filters=made, plan=PLAN), made)
    client, upstream = talk.opening(GET)
    upstream.takes()
    upstream.sends(OK)
    client.receives(OK)
    [found] = labels(talk)
    assert picked(found, "destination_workload", "destination_workload_namespace") == ["echo-v9", "shop"]


def test_the_servers_sidecar_hides_the_clients_metadata_from_the_app(start: Start) -> None:
    settings = Settings(downstream_discovery=True, downstream_propagation=True)
    stats = HttpSettings(reporter="destination", disable_host_header_fallback=True)
    made = filters(settings, stats)
    talk = begin(start(filters=made, http1=http_options(policy=http1_policy(trusts_peer=True))), made)
    request = b"GET / HTTP/1.1\r\nhost: x\r\n%s: %s\r\n\r\n" % (HEADER.encode(), header_of(SLEEP).encode())
    client, upstream = talk.opening(request)
    assert b"x-envoy-peer" not in upstream.takes()
    upstream.sends(OK)
    answer = client.takes()
    assert b"x-envoy-peer-metadata: " in answer
    assert b"x-envoy-peer-metadata-id" not in answer
    [found] = labels(talk)
    assert picked(found, "reporter", "source_workload", "destination_workload") == ["destination", "sleep", "own"]


def test_a_request_without_a_host_is_counted_with_its_flags(start: Start) -> None:
    made = filters(Settings(), HttpSettings(metrics=[Metric(dimensions={"host": "request.host"})]))
    talk = begin(start(filters=made, plan=PLAN), made)
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial()
    assert client.takes().startswith(b"HTTP/1.1 502 ")
    [found] = labels(talk)
    assert picked(found, "response_code", "response_flags") == ["502", "UF"]


def test_connections_of_tcp(start: Start) -> None:
    observers: list[TcpObserver] = []
    talk = start(tcp={"observers": observers}, plan=PLAN)
    context = FilterContext("t", talk.log, ClusterClients(talk.runtime), all_metrics=talk.metrics, node=NODE)
    observers.append(TcpStats(StatsSettings(reporter="destination", tcp_reporting_duration=5.0), context, talk.wheel))
    client = talk.connect()
    upstream = talk.expect_dial()
    client.sends(b"hello")
    upstream.receives(b"hello")
    talk.advance(6.0)
    [group] = [group for group in talk.metrics.snapshot() if group["type"] == "istio"]
    assert group["counters"]["tcp_received_bytes_total"] == 5
    upstream.sends(b"bye")
    client.receives(b"bye")
    client.shuts()
    upstream.shuts()
    [group] = [group for group in talk.metrics.snapshot() if group["type"] == "istio"]
    assert group["counters"] == {
        "tcp_connections_opened_total": 1,
        "tcp_connections_closed_total": 1,
        "tcp_sent_bytes_total": 3,
        "tcp_received_bytes_total": 5,
    }
    assert dict(group["labels"])["destination_workload"] == "own"
