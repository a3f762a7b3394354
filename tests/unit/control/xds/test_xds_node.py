"""The node: configuration, flags and environment."""

from __future__ import annotations

import pytest
from envoy.config.core.v3 import base_pb2

from pymosn.control.xds.node import NodeError, NodeFlags, flags_of, make_node
from pymosn.control.xds.wire import InvalidMessage, node_message

POD = NodeFlags(pod_ip="10.0.0.7", pod_name="echo-1", pod_namespace="default")


def message_of(node: dict[str, object]) -> base_pb2.Node:
    return base_pb2.Node.FromString(node_message(node))


def test_the_configured_node_is_sent_whole() -> None:
    configured = {
        "id": "n1",
        "cluster": "c1",
        "metadata": {"A": {"b": [1, "x"]}},
        "locality": {"region": "r", "zone": "z", "sub_zone": "s"},
        "userAgentName": "other",
        "unknown": 1,
    }
    node = message_of(make_node(configured, NodeFlags(), {}))
    assert (node.id, node.cluster, node.locality.sub_zone, node.user_agent_name) == ("n1", "c1", "s", "pymosn")
    assert node.metadata["A"]["b"][1] == "x"
    assert node.user_agent_build_version.version.minor_number == 1
    assert "xds.config.resource-in-sotw" in node.client_features
    assert "unknown" in configured, "the configuration is not changed"


def test_flags_replace_id_and_cluster() -> None:
    node = make_node({"id": "n1", "cluster": "c1"}, NodeFlags(service_node="n2", service_cluster="c2"), {})
    assert (node["id"], node["cluster"]) == ("n2", "c2")


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("", "sidecar~10.0.0.7~echo-1.default~default.svc.cluster.local"),
        ("mesh.example", "sidecar~10.0.0.7~echo-1.default~mesh.example"),
    ],
)
def test_the_id_of_a_service_type(domain: str, expected: str) -> None:
    assert make_node(None, POD._replace(service_type="sidecar", cluster_domain=domain), {})["id"] == expected


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (POD._replace(service_type="other"), "--service-type: expected one of sidecar"),
        (POD._replace(service_type="router", pod_ip=""), "needs --pod-ip or the variable POD_IP"),
        (NodeFlags(service_meta=("x",)), "--service-meta: expected KEY:VALUE, got 'x'"),
        (NodeFlags(service_lables=(":x",)), "--service-lables: expected KEY:VALUE"),
    ],
)
def test_invalid_flags_are_named(flags: NodeFlags, text: str) -> None:
    with pytest.raises(NodeError, match=text):
        make_node(None, flags, {})


def test_metadata_is_extended_and_not_replaced() -> None:
    flags = POD._replace(service_meta=("IstioVersion:1.31.0", "own:a:b"), service_lables=("app:echo",))
    metadata = make_node({"metadata": {"A": "b", "CLUSTER_ID": "east"}}, flags, {}, lambda: 'app="pod"\nx="q\\"q"\nbad')[
        "metadata"
    ]
    assert metadata == {
        "A": "b",
        "CLUSTER_ID": "east",
        "INTERCEPTION_MODE": "REDIRECT",
        "NAMESPACE": "default",
        "ISTIO_VERSION": "1.31.0",
        "own": "a:b",
        "LABELS": {"app": "pod", "x": 'q"q'},
    }


def test_mosns_default_label_and_variables() -> None:
    environ = {"SERVICE_META": "A:b,C:d", "POD_NAME": "p", "ISTIO_META_NETWORK": "n", "ISTIO_META_A": "overridden"}
    flags = flags_of({"pod_name": ("first", "last"), "service_cluster": ()}, environ)
    assert (flags.service_meta, flags.pod_name, flags.service_cluster) == (("A:b", "C:d"), "last", "")
    metadata = make_node(None, flags, environ)["metadata"]
    assert metadata["LABELS"] == {"istio": "ingressgateway"}
    assert (metadata["NETWORK"], metadata["A"]) == ("n", "b")


@pytest.mark.parametrize("configured", [{"id": 5}, {"locality": {"region": 1}}])
def test_an_invalid_node_is_a_fault(configured: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage, match="node: "):
        node_message(configured)
    with pytest.raises(NodeError, match=r"node\.metadata: expected an object, got list"):
        make_node({"metadata": []}, NodeFlags(), {})
