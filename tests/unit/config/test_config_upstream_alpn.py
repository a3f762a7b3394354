"""`upstream_alpn` of a proxy: its names, what is offered for which protocol, and `keep_alpn` of a cluster."""

import json

import pytest

from pymosn.assembly.alpn import alpn_offers
from pymosn.assembly.clusters import plan_cluster
from pymosn.assembly.share import WorkerShare
from pymosn.config.check.tls import check_upstream_alpn
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.load import load_text
from pymosn.config.schema import Cluster
from pymosn.config.schema.network_filters import UpstreamAlpn
from pymosn.upstream.way_out import AUTO

MESH = UpstreamAlpn(Http1=["istio-http/1.1", "istio", "http/1.1"], Http2=["istio-h2", "istio", "h2"])


@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("Http1", "", "expected the name of a protocol, of 1 to 255 ASCII characters"),
        ("Http2", "h" * 256, "expected the name of a protocol, of 1 to 255 ASCII characters"),
        ("Http1", "é", "expected the name of a protocol, of 1 to 255 ASCII characters"),
        ("Http2", "h\n2", "expected the name of a protocol, of 1 to 255 ASCII characters"),
        ("Http2", "istio-peer-exchange", "is not supported: nothing is exchanged before the first request"),
        ("Http1", "h2", "a host that selects it expects HTTP/2"),
        ("Http1", "istio-h2", "a host that selects it expects HTTP/2"),
    ],
)
def test_invalid_names(key: str, name: str, message: str) -> None:
    report = Diagnostics()
    check_upstream_alpn(UpstreamAlpn(**{key: ["istio", name]}), "p", report)
    assert [(fault.severity, fault.path, fault.message) for fault in report.items] == [("error", f"p.{key}[1]", message)]


def test_the_lists_of_a_mesh_are_valid_in_a_file() -> None:
    report = Diagnostics()
    check_upstream_alpn(MESH, "p", report)
    assert report.items == []
    names = {"Http1": MESH.Http1, "Http2": ["istio-h2", "istio-peer-exchange"]}
    proxy = {"type": "proxy", "config": {"downstream_protocol": "Http1", "router_config_name": "r", "upstream_alpn": names}}
    listener = {"name": "l", "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}
    text = json.dumps({"servers": [{"listeners": [listener], "routers": [{"router_config_name": "r"}]}]})
    faults = [fault for fault in load_text(text, "c.json").faults if "upstream_alpn" in fault.path]
    assert [fault.path.rpartition(".config.")[2] for fault in faults] == ["upstream_alpn.Http2[1]"]


def test_what_is_offered_for_each_protocol() -> None:
    offers = alpn_offers(MESH)
    assert offers is not None
    assert offers["Http1"].names == ("istio-http/1.1", "istio", "http/1.1")
    assert offers["Http2"].names == ("istio-h2", "istio", "h2")
    assert offers[AUTO].names == ("istio-h2", "istio", "h2", "istio-http/1.1", "http/1.1")
    assert len({offer.key for offer in offers.values()}) == 3


def test_a_protocol_without_a_list_has_no_offer() -> None:
    offers = alpn_offers(UpstreamAlpn(Http2=["h2"]))
    assert offers is not None
    assert set(offers) == {"Http2", AUTO}
    assert alpn_offers(UpstreamAlpn()) is None
    assert alpn_offers(None) is None


def test_a_cluster_may_keep_its_list() -> None:
    share = WorkerShare(1, 0)
    assert plan_cluster(Cluster(name="c", keep_alpn=True), share).keeps_alpn
    assert not plan_cluster(Cluster(name="c"), share).keeps_alpn
