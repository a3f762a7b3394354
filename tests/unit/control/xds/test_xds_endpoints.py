"""`ClusterLoadAssignment`: all localities, priorities, health, labels and addresses; faults with their paths."""

from typing import Any

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import json_format

from pymosn.config.schema import Cluster, Host
from pymosn.config.schema.cluster import DropOverload, LocalityWeight
from pymosn.control.xds.convert import endpoints as module
from pymosn.control.xds.convert.endpoints import ConvertedEndpoints, convert_endpoints, with_endpoints
from pymosn.control.xds.convert.view import Report, View


def assignment(*localities: dict[str, Any], **keys: Any) -> endpoint_pb2.ClusterLoadAssignment:
    body = {"cluster_name": "c", "endpoints": list(localities), **keys}
    return json_format.ParseDict(body, endpoint_pb2.ClusterLoadAssignment())


def place(*hosts: Any, **keys: Any) -> dict[str, Any]:
    return {"lb_endpoints": [host if isinstance(host, dict) else at(host) for host in hosts], **keys}


def at(ip: str, port: int = 80, **keys: Any) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}}, **keys}


def convert(message: endpoint_pb2.ClusterLoadAssignment, has_names: bool = False) -> tuple[ConvertedEndpoints, Report]:
    report = Report()
    return convert_endpoints(View(message, "", report), has_names), report


def good(message: endpoint_pb2.ClusterLoadAssignment, has_names: bool = False) -> ConvertedEndpoints:
    found, report = convert(message, has_names)
    assert not report.faults, report.text()
    return found


def faults(message: endpoint_pb2.ClusterLoadAssignment, has_names: bool = False) -> list[str]:
    return [fault.text() for fault in convert(message, has_names)[1].faults]


# Row 22 of the complaints: MOSN keeps only the last locality of a message.
def test_all_localities_and_priorities_are_kept() -> None:
    found = good(
        assignment(
            place("10.0.0.3", priority=1, load_balancing_weight=2, locality={"region": "b"}),
            place("10.0.0.1", load_balancing_weight=3, locality={"region": "a", "zone": "z", "sub_zone": "s"}),
            place("10.0.0.2", locality={"region": "a"}),
        )
    )
    assert [(host.address, host.priority, host.locality) for host in found.hosts] == [
        ("10.0.0.1:80", 0, "a/z/s"),
        ("10.0.0.2:80", 0, "a"),
        ("10.0.0.3:80", 1, "b"),
    ]
    assert found.localities == [
        LocalityWeight(locality="b", priority=1, weight=2),
        LocalityWeight(locality="a/z/s", priority=0, weight=3),
    ]


# Row 21: zero endpoints are obeyed.
def test_no_endpoints_are_no_fault() -> None:
    assert good(assignment()).hosts == []
    assert good(assignment({"locality": {"region": "a"}})).hosts == []


def test_health_and_weights() -> None:
    states = ["UNKNOWN", "HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"]
    hosts = [at(f"10.0.0.{n}", health_status=state, load_balancing_weight=n + 1) for n, state in enumerate(states)]
    found = good(assignment(place(*hosts)))
    assert [host.health for host in found.hosts] == ["", "healthy", "unhealthy", "draining", "unhealthy", "degraded"]
    assert [host.weight for host in found.hosts] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("status", [-(2**31), -1, 6, 2**31 - 1])
def test_an_unknown_health_is_a_fault(status: int) -> None:
    message = assignment(place("10.0.0.1"))
    message.endpoints[0].lb_endpoints[0].health_status = status  # type: ignore[assignment]
    assert convert(message)[1].text() == f"endpoints[0].lb_endpoints[0].health_status: unknown value {status}"


def test_large_weights_keep_their_proportion() -> None:
    found = good(assignment(place(at("10.0.0.1", load_balancing_weight=1000), at("10.0.0.2", load_balancing_weight=250))))
    assert [host.weight for host in found.hosts] == [128, 32]


def test_addresses_of_all_kinds() -> None:
    pipe = {"endpoint": {"address": {"pipe": {"path": "/run/x.sock"}}, "hostname": "x"}}
    found = good(assignment(place("::1", "10.0.0.1", pipe)))
    assert [host.address for host in found.hosts] == ["[::1]:80", "10.0.0.1:80", "unix:/run/x.sock"]
    assert found.hosts[2].hostname == "x"
    assert good(assignment(place("a.test")), has_names=True).hosts == [Host(address="a.test:80")]


def test_labels_are_text() -> None:
    labels = {
        "envoy.lb": {"v": "2", "n": 1, "b": True},
        "envoy.transport_socket_match": {"tlsMode": "istio"},
        "istio": {"x": []},
    }
    host = good(assignment(place(at("10.0.0.1", metadata={"filter_metadata": labels})))).hosts[0]
    assert host.metadata is not None
    assert host.metadata.filter_metadata.mosn_lb == {"v": "2", "n": "1", "b": "true"}
    assert host.tls_labels == {"tlsMode": "istio"}


def test_the_policy() -> None:
    drops = [
        {"category": "a", "drop_percentage": {"numerator": 5}},
        {"category": "b", "drop_percentage": {"numerator": 5, "denominator": "TEN_THOUSAND"}},
        {"drop_percentage": {"numerator": 5, "denominator": "MILLION"}},
    ]
    found = good(assignment(policy={"overprovisioning_factor": 200, "drop_overloads": drops}))
    assert found.overprovisioning == 200
    assert found.drops == (
        DropOverload(category="a", per_million=50_000),
        DropOverload(category="b", per_million=500),
        DropOverload(category="", per_million=5),
    )
    assert good(assignment()).overprovisioning == 140


def test_further_addresses_are_reported_once() -> None:
    more = [{"address": {"socket_address": {"address": "::1", "port_value": 80}}}]
    hosts = [{"endpoint": {**at(f"10.0.0.{n}")["endpoint"], "additional_addresses": more}} for n in range(3)]
    found, report = convert(assignment(place(*hosts)))
    assert not report.faults
    assert len(found.hosts) == 3
    assert [warning.path for warning in report.warnings] == ["endpoints"]


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (place("nonsense"), "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address"),
        (place("10.0.0.1", at("10.0.0.2", 0)), "endpoints[0].lb_endpoints[1].endpoint.address.socket_address.port_value"),
        (place(at("10.0.0.1", 70000)), "endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value"),
        (place(at("10.0.0.1", load_balancing_weight=0)), "endpoints[0].lb_endpoints[0].load_balancing_weight"),
        (place({"endpoint_name": "x"}), "endpoints[0].lb_endpoints[0].endpoint_name"),
        (place({}), "endpoints[0].lb_endpoints[0].endpoint"),
        (place({"endpoint": {}}), "endpoints[0].lb_endpoints[0].endpoint.address"),
        ({"leds_cluster_locality_config": {"leds_collection_name": "x"}}, "endpoints[0].leds_cluster_locality_config"),
        (
            place({"endpoint": {**at("10.0.0.1")["endpoint"], "health_check_config": {"port_value": 81}}}),
            "endpoints[0].lb_endpoints[0].endpoint.health_check_config.port_value",
        ),
        (
            place({"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "x"}}}}),
            "endpoints[0].lb_endpoints[0].endpoint.address.envoy_internal_address",
        ),
        (
            place(at("10.0.0.1", metadata={"filter_metadata": {"envoy.lb": {"a": [1]}}})),
            "endpoints[0].lb_endpoints[0].metadata.filter_metadata[envoy.lb]",
        ),
    ],
)
def test_faults_have_their_paths(message: dict[str, Any], path: str) -> None:
    found = faults(assignment(message))
    assert [fault.partition(": ")[0] for fault in found] == [path]


def test_udp_and_named_ports_are_rejected() -> None:
    udp = {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 1, "protocol": "UDP"}}}}
    named = {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "named_port": "http"}}}}
    assert len(faults(assignment(place(udp)))) == 1
    assert any("named_port" in fault for fault in faults(assignment(place(named))))


def test_a_field_of_a_newer_protocol_deep_inside_rejects_the_assignment() -> None:
    message = assignment(place("10.0.0.1", "10.0.0.2"))
    address = message.endpoints[0].lb_endpoints[1].endpoint.address.socket_address
    address.MergeFromString(b"\xc2\x3e\x01x")  # field 1000
    (fault,) = faults(message)
    assert fault.startswith("endpoints[0].lb_endpoints[1].endpoint.address.socket_address: field number 1000")


def test_the_fast_way_knows_all_fields_and_gives_what_the_slow_way_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._is_as_expected(), "a newer version of the protocol: the fast way must consider its fields"
    labels = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}, "envoy.lb": {"v": "1"}}}
    hosts = [at(f"10.0.{n}.1", health_status="DEGRADED", load_balancing_weight=n + 1, metadata=labels) for n in range(5)]
    hosts.append(at("::1"))
    message = assignment(place(*hosts, priority=1, locality={"region": "a"}))
    fast = good(message)
    monkeypatch.setattr(module, "_is_as_expected", lambda: False)
    assert good(message) == fast


def test_ordinary_endpoints_need_no_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand of them take about a second so, and four with a view of each."""

    def fail(*arguments: object) -> None:
        raise AssertionError("took the slow way")

    labels = {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": "istio"}, "istio": {"workload": "w"}}}
    hosts = [at(f"10.0.{n >> 8}.{n & 255}", metadata=labels, load_balancing_weight=1) for n in range(2000)]
    message = assignment(place(*hosts))
    monkeypatch.setattr(module._Reader, "_slow", fail)
    assert len(good(message).hosts) == 2000


def test_a_cluster_gets_the_hosts_and_stays_as_it_was() -> None:
    cluster = Cluster(name="c")
    found = good(assignment(place("10.0.0.1", locality={"region": "a"}, load_balancing_weight=2)))
    made = with_endpoints(cluster, found, True)
    assert made.hosts == found.hosts
    assert made.localities == found.localities
    assert with_endpoints(cluster, found, False).localities == []
    assert cluster == Cluster(name="c")


def test_weights_above_those_of_files_stay_exact_for_hashing() -> None:
    found = good(assignment(place(at("10.0.0.1", load_balancing_weight=1000), at("10.0.0.2", load_balancing_weight=3))))
    assert [(host.weight, host.hash_weight) for host in found.hosts] == [(128, 1000), (1, 3)]
    found = good(assignment(place(at("10.0.0.1", load_balancing_weight=128), at("10.0.0.2", load_balancing_weight=3))))
    assert [(host.weight, host.hash_weight) for host in found.hosts] == [(128, 0), (3, 0)]
