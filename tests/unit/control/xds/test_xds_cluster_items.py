"""Clusters and endpoints as the application takes them: what a cluster waits for, and its join with its endpoints."""

from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2  # noqa: F401 - known to the JSON parser
from google.protobuf import json_format

from pymosn.config.sds import SecretKey
from pymosn.control.xds.convert.kinds import KINDS, Item, Need
from pymosn.control.xds.convert.view import Report, View
from pymosn.control.xds.layer import needed_secrets
from pymosn.control.xds.types import CLUSTER, ENDPOINTS

EDS = {"type": "EDS", "eds_cluster_config": {"service_name": "s", "eds_config": {"ads": {}, "initial_fetch_timeout": "0s"}}}
SDS = {"ads": {}}


def item(kind: str, message: Any) -> Item:
    report = Report()
    found = KINDS[kind](View(message, "", report))
    assert not report.faults, report.text()
    return found


def cluster(**keys: Any) -> Item:
    return item(CLUSTER, json_format.ParseDict({"name": "c", **EDS, **keys}, cluster_pb2.Cluster()))


def endpoints(*places: tuple[str, int]) -> Item:
    localities = [
        {
            "priority": priority,
            "lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": ip, "port_value": 80}}}}],
        }
        for ip, priority in places
    ]
    body = {"cluster_name": "s", "endpoints": localities}
    return item(ENDPOINTS, json_format.ParseDict(body, endpoint_pb2.ClusterLoadAssignment()))


def test_a_cluster_waits_for_its_endpoints_by_the_name_of_the_service() -> None:
    assert cluster().needs == (Need(ENDPOINTS, "s", "ads", 0.0),)
    service = {"api_config_source": {"api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "x"}}]}}
    found = cluster(eds_cluster_config={"eds_config": service})
    assert found.needs == (Need(ENDPOINTS, "c", "cluster:x", 15.0),)


# Row 12 of the complaints: a changed cluster is joined with the endpoints that are known.
def test_a_changed_cluster_keeps_its_hosts() -> None:
    hosts = endpoints(("10.0.0.1", 0), ("10.0.0.2", 1)).block
    for changed in (cluster(), cluster(connect_timeout="2s")):
        assert changed.joined is not None
        joined = changed.joined(hosts)
        assert [(host.address, host.priority) for host in joined.hosts] == [("10.0.0.1:80", 0), ("10.0.0.2:80", 1)]
        assert joined.connect_timeout == changed.block.connect_timeout
        assert changed.block.hosts == []


# Row 21: zero endpoints are obeyed, and the next message fills the cluster again.
def test_a_cluster_can_be_emptied_and_filled_again() -> None:
    made = cluster()
    assert made.joined is not None
    counts = [len(made.joined(endpoints(*places).block).hosts) for places in ([("10.0.0.1", 0)], [], [("10.0.0.2", 0)])]
    assert counts == [1, 0, 1]


def test_secrets_of_tls_that_only_some_hosts_have_are_needed_too() -> None:
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": SDS}],
            "combined_validation_context": {
                "default_validation_context": {},
                "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": SDS},
            },
        },
    }
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    found = cluster(transport_socket_matches=[{"name": "m", "match": {"tlsMode": "istio"}, "transport_socket": socket}])
    assert set(needed_secrets(found.block)) == {SecretKey("ads", "default"), SecretKey("ads", "ROOTCA")}
