"""`istio.stats`: the labels of both sides, changes to them, and a bounded number of sets."""

from typing import Any

import pytest
from istio_kit import CLUSTER, FakeCluster, Worker, exchange, node
from shipped_kit import problems, shipped
from tests.kit.tls_facts import certificate, tls_info

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import GrpcRequest
from pymosn.api.network import Connection
from pymosn.api.upstream import ServiceFacts
from pymosn.core.failure import CLIENT_GONE, CONNECT_REFUSED
from pymosn.core.headers import headers_from
from pymosn.filters.istio.labels import DOWNSTREAM_PEER, LABELS, UPSTREAM_PEER, Labeller
from pymosn.filters.istio.settings import HttpSettings
from pymosn.filters.istio.workload import Workload

SLEEP = Workload("sleep", "other", "c3", "sleep", "v3", "sleep", "v3")
#: Labels of the workload `echo` itself, as `istio_kit.node` describes it.
OWN = {
    "workload": "echo",
    "canonical_service": "echo",
    "canonical_revision": "v1",
    "workload_namespace": "default",
    "app": "echo",
    "version": "v1",
    "cluster": "c1",
}
PEER = {
    "workload": "sleep",
    "canonical_service": "sleep",
    "canonical_revision": "v3",
    "workload_namespace": "other",
    "app": "sleep",
    "version": "v3",
    "cluster": "c3",
}


def sides(**names: dict[str, str]) -> dict[str, str]:
    return {f"{side}_{key}": value for side, labels in names.items() for key, value in labels.items()}


def counted(worker: Worker, config: dict[str, Any], *exchanges: Exchange) -> None:
    made = worker.started(shipped("istio.stats", config))
    for one in exchanges:
        made.on_complete(one)


def test_the_destination_reports_its_own_workload_and_the_client() -> None:
    worker, connection = Worker(node("echo")), Connection()
    connection.tls = tls_info(certificate(uris=["spiffe://td/ns/verified/sa/sleep"]))
    connection.tls.own_uris = ("spiffe://td/ns/default/sa/echo",)
    one = exchange(connection=connection, host=b"chosen.by.the.client")
    one.state[DOWNSTREAM_PEER] = SLEEP
    counted(worker, {"reporter": "destination", "disable_host_header_fallback": True}, one)
    labels = worker.labels("requests_total")
    assert labels == {
        "reporter": "destination",
        **sides(source=PEER, destination=OWN),
        # The certificate of the peer counts, not what it sends.
        "source_workload_namespace": "verified",
        "source_principal": "spiffe://td/ns/verified/sa/sleep",
        "destination_principal": "spiffe://td/ns/default/sa/echo",
        "destination_service": "echo.default.svc.cluster.local",
        "destination_service_name": "echo",
        "destination_service_namespace": "default",
        "request_protocol": "http",
        "response_code": "200",
        "grpc_response_status": "",
        "response_flags": "-",
        "connection_security_policy": "mutual_tls",
    }
    assert set(labels) == set(LABELS)
    [group] = worker.groups("requests_total")
    assert group["counters"] == {"requests_total": 1}
    assert {key: (data["count"], data["sum"]) for key, data in group["histograms"].items()} == {
        "request_duration_milliseconds": (1, pytest.approx(7.0)),
        "request_bytes": (1, 3.0),
        "response_bytes": (1, 2000.0),
    }
    duration = group["histograms"]["request_duration_milliseconds"]
    assert dict(zip(duration["bounds"], duration["buckets"], strict=False))[10.0] == 1


def test_the_source_reports_the_host_by_its_headers_or_else_by_its_endpoint() -> None:
    worker = Worker(node("echo"))
    known, unknown = exchange(), exchange()
    known.state[UPSTREAM_PEER] = SLEEP
    known.upstream_tls = tls_info(certificate(uris=["spiffe://td/ns/default/sa/server"]))
    known.upstream_tls.own_uris = ("spiffe://td/ns/default/sa/client",)
    counted(worker, {"reporter": "source"}, known, unknown)
    first, second = (dict(group["labels"]) for group in worker.groups("requests_total"))
    assert first.items() >= {**sides(source=OWN, destination={**PEER, "workload_namespace": "default"})}.items()
    assert (first["source_principal"], first["destination_principal"]) == (
        "spiffe://td/ns/default/sa/client",
        "spiffe://td/ns/default/sa/server",
    )
    assert first["connection_security_policy"] == "unknown"
    assert second["destination_workload"] == "echo-v2"
    assert (second["destination_app"], second["destination_principal"]) == ("unknown", "unknown")
    assert (second["destination_canonical_revision"], second["destination_cluster"]) == ("v2", "c2")


@pytest.mark.parametrize(
    ("cluster", "route", "fallback", "expected"),
    [
        ("plain", "default", True, ("shop.example", "shop.example", "unknown")),
        ("plain", "default", False, ("unknown", "unknown", "unknown")),
        ("PassthroughCluster", "default", True, ("shop.example", "PassthroughCluster", "unknown")),
        ("other", "allow_any", True, ("shop.example", "PassthroughCluster", "unknown")),
        ("", "block_all", True, ("shop.example", "BlackHoleCluster", "unknown")),
        (CLUSTER, "default", True, ("echo.default.svc.cluster.local", "echo", "default")),
    ],
)
def test_the_service(cluster: str, route: str, fallback: bool, expected: tuple[str, str, str]) -> None:
    worker = Worker({}, plain=FakeCluster(None))
    one = exchange(cluster=cluster, route=route, host=b"shop.example")
    counted(worker, {"disable_host_header_fallback": not fallback}, one)
    labels = worker.labels("requests_total")
    names = ("destination_service", "destination_service_name", "destination_service_namespace")
    assert tuple(labels[name] for name in names) == expected
    assert (labels["source_workload"], labels["source_canonical_revision"]) == ("unknown", "latest")


def test_a_gateway_for_several_servers_reports_both_of_them() -> None:
    worker = Worker(node("gateway"))
    one = exchange()
    one.state[DOWNSTREAM_PEER] = SLEEP
    counted(worker, {"reporter": "waypoint"}, one)
    labels = worker.labels("requests_total")
    assert labels["reporter"] == "waypoint"
    assert labels.items() >= sides(source=PEER).items()
    assert (labels["destination_workload"], labels["destination_service"]) == ("echo-v2", "echo.default.svc.cluster.local")
    assert labels["connection_security_policy"] == "none"


def test_failures_have_envoys_flags() -> None:
    worker = Worker(node("echo"))
    refused, gone = exchange(status=503), exchange(status=0)
    refused.failure, gone.failure = CONNECT_REFUSED, CLIENT_GONE
    counted(worker, {}, refused, gone)
    found = [dict(group["labels"]) for group in worker.groups("requests_total")]
    assert [(labels["response_code"], labels["response_flags"]) for labels in found] == [("503", "UF"), ("0", "DC")]


def test_calls_of_grpc_have_their_status() -> None:
    worker = Worker(node("echo"))
    one = exchange()
    one.request = GrpcRequest()
    assert one.response is not None
    one.response.trailers = headers_from({"grpc-status": "14"})
    counted(worker, {}, one)
    labels = worker.labels("requests_total")
    assert (labels["request_protocol"], labels["response_code"], labels["grpc_response_status"]) == ("grpc", "200", "14")


def test_labels_are_changed_for_one_metric_or_all() -> None:
    worker = Worker(node("echo"))
    one = exchange(host=b"shop.example")
    one.request.headers.add("x-team", "red")
    metrics = [
        {
            "name": "requests_total",
            "dimensions": {"host": "request.host", "team": "request.headers['x-team']", "reporter": "'proxy'"},
            "tags_to_remove": ["source_principal"],
        },
        {"tags_to_remove": ["response_flags"], "dimensions": {"zone": "node.metadata['LABELS'].role"}},
        {"name": "request_bytes", "drop": True},
    ]
    counted(worker, {"metrics": metrics}, one)
    requests, durations = worker.labels("requests_total"), worker.labels("request_duration_milliseconds")
    assert set(requests) == {*LABELS, "host", "team", "zone"} - {"source_principal", "response_flags"}
    assert (requests["host"], requests["team"], requests["zone"]) == ("shop.example", "red", "r")
    assert requests["reporter"] == "proxy"
    assert set(durations) == {*LABELS, "zone"} - {"response_flags"}
    assert worker.groups("request_bytes") == []


@pytest.mark.parametrize("value", ["a\u2028b", "\x1b[31m", "x" * 300, ""])
def test_values_that_clients_choose_are_bounded_and_can_be_shown(value: str) -> None:
    worker = Worker(node("echo"))
    one = exchange(host=value.encode())
    counted(worker, {"metrics": [{"dimensions": {"host": "request.host"}}]}, one)
    assert worker.labels("requests_total")["host"] == "unknown"


def test_further_sets_are_counted_together_and_logged_once() -> None:
    worker = Worker(node("echo"))
    config = {"max_label_sets": 3, "metrics": [{"dimensions": {"host": "request.host"}}]}
    first = worker.started(shipped("istio.stats", config))
    second = worker.started(shipped("istio.stats", {**config, "reporter": "destination"}))
    for number in range(20):
        first.on_complete(exchange(host=b"h%d" % number))
    second.on_complete(exchange(host=b"h1"))
    groups = worker.groups("requests_total")
    assert len(groups) == 5
    over = [dict(group["labels"]) for group in groups[3:]]
    assert [labels["reporter"] for labels in over] == ["source", "destination"]
    assert {value for labels in over for key, value in labels.items() if key != "reporter"} == {"overflow"}
    assert [group["counters"]["requests_total"] for group in groups] == [1, 1, 1, 17, 1]
    assert len(worker.log.lines) == 2
    assert "more than 3 sets of labels" in worker.log.lines[0]
    # What was known before is still counted by its own labels.
    first.on_complete(exchange(host=b"h0"))
    assert worker.groups("requests_total")[0]["counters"]["requests_total"] == 2


def test_the_version_of_istio_is_reported_once() -> None:
    own = node("echo", ISTIO_VERSION="1.31.0")
    first, second = Worker(own), Worker(own)
    second.context.worker = 1
    for worker in (first, second):
        counted(worker, {})
        counted(worker, {"reporter": "destination"})
    builds = [group for worker in (first, second) for group in worker.metrics.snapshot() if "build" in group["gauges"]]
    assert [(group["labels"], group["gauges"]) for group in builds] == [
        ([("component", "proxy"), ("tag", "1.31.0")], {"build": 1})
    ]


def test_equal_requests_have_one_set() -> None:
    worker = Worker(node("echo"))
    counted(worker, {}, *[exchange() for _ in range(5)])
    assert [group["counters"] for group in worker.groups("requests_total")] == [{"requests_total": 5}]


def test_the_facts_that_are_remembered_are_small_and_the_same_for_all_replicas() -> None:
    labeller = Labeller(HttpSettings(reporter="destination"), {}, {})
    replicas = []
    for number in range(2):
        one = exchange(host=b"h" * 60_000, cluster="")
        one.state[DOWNSTREAM_PEER] = SLEEP._replace(instance=f"sleep-{number}", kind="deployment", labels=(("a", "b"),))
        replicas.append(labeller.facts(one, "http"))
    assert replicas[0] == replicas[1]
    assert (replicas[0].peer, replicas[0].service, replicas[0].service_name) == (SLEEP, "", "")


def test_another_service_of_the_same_cluster_has_other_labels() -> None:
    cluster = FakeCluster(ServiceFacts("a.example", "a", "x"))
    worker = Worker(node("echo"), changing=cluster)
    made = worker.started(shipped("istio.stats", {}))
    made.on_complete(exchange(cluster="changing"))
    cluster._service = ServiceFacts("b.example", "b", "x")
    made.on_complete(exchange(cluster="changing"))
    found = [dict(group["labels"])["destination_service"] for group in worker.groups("requests_total")]
    assert found == ["a.example", "b.example"]


def test_faults_of_settings() -> None:
    assert problems("istio.stats", {"reporter": "x"}) == [".reporter: must be one of source, destination, waypoint, not 'x'"]
    assert problems("istio.stats", {"definitions": [{"name": "x"}]})[0].startswith(".definitions: ")
    bad = [{"name": "requests_total", "dimensions": {"a": "request.host + 'x'"}}]
    assert problems("istio.stats", {"metrics": bad}) == [
        """.metrics[0].dimensions.a: requests_total: the expression "request.host + 'x'" is not supported"""
    ]
    assert problems("istio.stats", {"metrics": [{"name": "x"}]})[0].startswith(".metrics[0].name: must be one of")
