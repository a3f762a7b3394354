"""Istio's filter `istio.alpn` -> `upstream_alpn`, and the clusters that its control plane excepts."""

import base64
from typing import Any

import pytest
from tests.kit.xds_messages import view_of
from tests.unit.control.xds.test_xds_clusters import good
from tests.unit.control.xds.test_xds_listeners import ROUTER, convert, listening, manager, proxy_of

from pymosn.config.schema.network_filters import UpstreamAlpn
from pymosn.control.xds.convert.filter_alpn import ALPN, read_upstream_alpn
from pymosn.control.xds.convert.messages import parse
from pymosn.control.xds.convert.view import Report, View

#: As today's istiod sends it.
SENT = (
    "CiESDmlzdGlvLWh0dHAvMS4wEgVpc3RpbxIIaHR0cC8xLjAKIwgBEg5pc3Rpby1odHRwLzEuMRIFaXN0"
    "aW8SCGh0dHAvMS4xChcIAhIIaXN0aW8taDISBWlzdGlvEgJoMg=="
)
MESH = UpstreamAlpn(Http1=["istio-http/1.1", "istio", "http/1.1"], Http2=["istio-h2", "istio", "h2"])
TYPED = "type.googleapis.com/udpa.type.v1.TypedStruct"


def override(protocol: str, *names: str) -> dict[str, Any]:
    return {"upstream_protocol": protocol, "alpn_override": list(names)}


def alpn_filter(*overrides: dict[str, Any], **keys: Any) -> dict[str, Any]:
    value = {"alpn_override": list(overrides)}
    config = {"@type": TYPED, "type_url": f"type.googleapis.com/{ALPN}", "value": value}
    return {"name": "istio.alpn", "typed_config": config, **keys}


def read(*overrides: dict[str, Any]) -> tuple[UpstreamAlpn | None, Report]:
    view, report = view_of(ALPN, {"alpn_override": list(overrides)})
    return read_upstream_alpn(view), report


def test_what_istiod_sends() -> None:
    report = Report()
    assert read_upstream_alpn(View(parse(ALPN, base64.b64decode(SENT)), "", report)) == MESH
    assert report.text() == ""


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ([], None),
        ([override("HTTP10", "istio-http/1.0")], None),
        ([override("HTTP2")], None),
        ([override("HTTP2", "a"), override("HTTP2", "b")], UpstreamAlpn(Http2=["a"])),
        ([override("HTTP11", "istio-peer-exchange", "istio")], UpstreamAlpn(Http1=["istio"])),
    ],
)
def test_lists(overrides: list[dict[str, Any]], found: UpstreamAlpn | None) -> None:
    made, report = read(*overrides)
    assert (made, report.text()) == (found, "")


def test_an_unknown_protocol_is_a_fault() -> None:
    view, report = view_of(ALPN, {"alpn_override": [{"upstream_protocol": 7, "alpn_override": ["a"]}]})
    assert read_upstream_alpn(view) is None
    assert [fault.path for fault in report.faults] == ["alpn_override[0].upstream_protocol"]


def test_the_filter_of_a_manager() -> None:
    mesh = alpn_filter(override("HTTP11", *MESH.Http1), override("HTTP2", *MESH.Http2), is_optional=True)
    converted, report = convert(listening({"name": "a", **manager(http_filters=[mesh, ROUTER])}, {**manager()}))
    assert report.text() == ""
    proxy = proxy_of(converted)
    assert (proxy.upstream_alpn, proxy.stream_filters) == (MESH, [])
    assert proxy_of(converted, 1).upstream_alpn is None


def test_one_filter_is_enough() -> None:
    mesh = alpn_filter(override("HTTP2", "h2"))
    _, report = convert(listening(manager(http_filters=[mesh, mesh, ROUTER])))
    assert [fault.path for fault in report.faults] == [
        "filter_chains[0].filters[0].typed_config.http_filters[1]",
    ]


@pytest.mark.parametrize(
    ("metadata", "keeps"),
    [
        ({"istio": {"alpn_override": "false"}}, True),
        ({"istio": {"alpn_override": "true"}}, False),
        ({"istio": {"alpn_override": False}}, False),
        ({"istio": {"config": "/apis/x", "services": [{"name": "a"}]}}, False),
        ({"other": {"alpn_override": "false"}}, False),
        ({}, False),
    ],
)
def test_clusters_that_the_control_plane_excepts(metadata: dict[str, Any], keeps: bool) -> None:
    assert good(metadata={"filter_metadata": metadata}).keep_alpn is keeps
