"""What the listener of a client offers by ALPN to hosts with TLS, as Istio's filter `istio.alpn` asks for."""

from typing import Any

import pytest
from tests.kit.h2_peers import get, h2_client, h2_upstream
from tests.kit.peers import Peer
from tests.kit.starting import Start
from tests.kit.talk import Talk

from pymosn.api.alpn import AlpnOffer
from pymosn.api.routing import Route
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.routing.actions import Forward, ForwardOptions, Mirror
from pymosn.routing.matchers import AnyRequest
from pymosn.upstream.way_out import AUTO

pytestmark = pytest.mark.whole_only

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ndate: d\r\ncontent-length: 2\r\n\r\nok"
SIZED = [(b"date", b"d"), (b"content-length", b"2")]
FOR_HTTP1 = ("istio-http/1.1", "istio", "http/1.1")
FOR_HTTP2 = ("istio-h2", "istio", "h2")
OFFERS = {
    "Http1": AlpnOffer("Http1", FOR_HTTP1),
    "Http2": AlpnOffer("Http2", FOR_HTTP2),
    AUTO: AlpnOffer(AUTO, (*FOR_HTTP2, "istio-http/1.1", "http/1.1")),
}
#: As Istio's clusters have it for hosts with a sidecar.
MESH = ClientSettings(TlsSettings(alpn=("istio",)), is_verified=False)
MESH_H2 = ClientSettings(TlsSettings(alpn=("istio", "h2")), is_verified=False)
BOTH = ClientSettings(TlsSettings(alpn=("h2", "http/1.1")), is_verified=False)


def begin(start: Start, **plan: Any) -> Talk:
    return start(plan={"tls": MESH, **plan}, protocols=("Http1", "Http2"), offers=OFFERS)


def exchange(client: Peer, upstream: Peer) -> None:
    """A request of HTTP/1, which has been sent, is answered in HTTP/1."""
    upstream.receives(GET)
    upstream.sends(OK)
    client.receives(OK)


@pytest.mark.parametrize("selected", ["http/1.1", "istio", "istio-http/1.1", ""])
def test_http1(start: Start, selected: str) -> None:
    talk = begin(start)
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == FOR_HTTP1
    upstream = dial.connects(alpn=selected)
    exchange(client, upstream)
    client.sends(GET)
    exchange(client, upstream)
    talk.expect_no_dial()


@pytest.mark.parametrize("selected", ["h2", "istio", "istio-h2", ""])
def test_http2(start: Start, selected: str) -> None:
    talk = begin(start)
    client = h2_client(talk)
    stream = client.requests(get())
    dial = talk.hold_dial()
    assert dial.offered == FOR_HTTP2
    upstream = h2_upstream(dial.connects(alpn=selected))
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    assert client.result(stream) == (200, b"ok")


def test_the_protocol_of_the_cluster_decides_not_that_of_the_client(start: Start) -> None:
    talk = begin(start, tls=MESH_H2, upstream_protocol="Http2")
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == FOR_HTTP2
    upstream = h2_upstream(dial.connects(alpn="h2"))
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    client.receives(OK)


def test_a_host_that_selects_http1_is_spoken_to_in_http1_with_its_offer(start: Start) -> None:
    offers = {**OFFERS, "Http2": AlpnOffer("Http2", ("istio-h2", "h2", "http/1.1"))}
    talk = start(plan={"tls": MESH_H2, "upstream_protocol": "Http2"}, offers=offers)
    client = talk.connect()
    client.sends(GET)
    first = talk.hold_dial().connects(alpn="http/1.1")
    assert not first.is_open()
    dial = talk.hold_dial()
    assert dial.offered == FOR_HTTP1
    exchange(client, dial.connects(alpn="http/1.1"))


@pytest.mark.parametrize(("selected", "offered_next"), [("istio-http/1.1", FOR_HTTP1), ("http/1.1", FOR_HTTP1)])
def test_the_handshake_decides_among_the_offers_of_both(start: Start, selected: str, offered_next: tuple[str, ...]) -> None:
    talk = begin(start, tls=BOTH)
    one, two = talk.connect(), talk.connect()
    one.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == OFFERS[AUTO].names
    upstream = dial.connects(alpn=selected)
    two.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == offered_next
    exchange(one, upstream)
    exchange(two, dial.connects(alpn=selected))


def test_the_handshake_selects_http2_by_the_name_of_the_mesh(start: Start) -> None:
    talk = begin(start, tls=BOTH)
    client = talk.connect()
    client.sends(GET)
    upstream = h2_upstream(talk.hold_dial().connects(alpn="istio-h2"))
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    client.receives(OK)


@pytest.mark.parametrize(
    ("plan", "offered"), [({"keeps_alpn": True}, ("istio",)), ({"tls": None}, ()), ({"tls": MESH}, FOR_HTTP1)]
)
def test_clusters_that_keep_their_list_or_have_no_tls(start: Start, plan: dict[str, Any], offered: tuple[str, ...]) -> None:
    talk = begin(start, **plan)
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == offered
    exchange(client, dial.connects())


@pytest.mark.parametrize("selected", ["istio-h2", "istio", "h2"])
def test_names_of_the_mesh_in_the_list_of_a_cluster_do_not_change_its_protocol(start: Start, selected: str) -> None:
    tls = ClientSettings(TlsSettings(alpn=FOR_HTTP2), is_verified=False)
    talk = start(plan={"tls": tls, "upstream_protocol": "Http2"})
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == FOR_HTTP2
    upstream = h2_upstream(dial.connects(alpn=selected))
    upstream.responds(upstream.takes_stream(), 200, SIZED, b"ok")
    client.receives(OK)


def test_without_offers_of_the_listener_the_cluster_decides(start: Start) -> None:
    talk = start(plan={"tls": MESH})
    client = talk.connect()
    client.sends(GET)
    dial = talk.hold_dial()
    assert dial.offered == ("istio",)
    exchange(client, dial.connects(alpn="istio"))


def test_retries_and_copies_have_the_same_offer(start: Start) -> None:
    routes = [Route("all", AnyRequest(), Forward("service", 60.0, ForwardOptions(mirrors=[Mirror("other", 100.0)])))]
    plan = {"tls": MESH}
    talk = start(plan=plan, other_plan=plan, routes=routes, hosts=("10.0.0.1:80", "10.0.0.2:80"), offers=OFFERS)
    client = talk.connect()
    client.sends(GET)
    talk.refuse_dial()
    again = talk.hold_dial("10.0.0.2:80")
    assert again.offered == FOR_HTTP1
    upstream = again.connects(alpn="http/1.1")
    copy = talk.hold_dial("10.0.1.1:80")
    assert copy.offered == FOR_HTTP1
    mirror = copy.connects(alpn="http/1.1")
    mirror.receives(GET)
    mirror.sends(OK)
    exchange(client, upstream)
