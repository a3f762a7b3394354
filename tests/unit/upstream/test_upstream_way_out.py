"""In which protocol requests are sent, and pools whose protocol the TLS handshake decides."""

import pytest
from tests.kit.pools import Caller, HandDialer, Plug, Target

from pymosn.api.alpn import AlpnOffer, AlpnOffers
from pymosn.api.network import Connection, Peer
from pymosn.api.stream import ConnectionPool, ResponseReceiver
from pymosn.core.failure import CONNECT_REFUSED
from pymosn.stream.registry import protocols
from pymosn.upstream.alpn_pool import AlpnPool
from pymosn.upstream.way_out import AUTO, WayOut

KNOWN = protocols()
BOTH = ("h2", "http/1.1")


@pytest.mark.parametrize(
    ("route", "cluster", "alpn", "client", "chosen"),
    [
        ("", "", (), "Http1", "Http1"),
        ("", "", (), "bolt", "bolt"),
        ("Auto", "Auto", (), "Http1", "Http1"),
        ("", "Http1", (), "Http2", "Http1"),
        ("Http2", "Http1", (), "Http1", "Http2"),
        ("Auto", "Http1", BOTH, "Http2", "Http1"),
        ("", "", ("http/1.1",), "Http2", "Http1"),
        ("", "", BOTH, "Http1", AUTO),
        ("", "Auto", BOTH, "Http2", AUTO),
        ("", "", BOTH, "bolt", "bolt"),
        ("dubbo", "Http1", BOTH, "Http1", "dubbo"),
    ],
)
def test_the_route_decides_then_the_cluster_then_alpn_then_the_client(
    route: str, cluster: str, alpn: tuple[str, ...], client: str, chosen: str
) -> None:
    if "Http2" in (client, chosen) or chosen == AUTO:
        pytest.importorskip("pymosn.stream.http2.client")
    assert WayOut(cluster, alpn, KNOWN).protocol(route, client) == chosen


@pytest.mark.parametrize(
    ("protocol", "client", "translates"),
    [
        ("Http1", "Http1", False),
        ("Http2", "Http1", False),
        ("Http1", "Http2", False),
        (AUTO, "Http1", False),
        ("dubbo", "Http1", True),
        ("Http1", "bolt", True),
        ("Morse", "Http1", True),
        ("Morse", "Morse", False),
    ],
)
def test_only_protocols_of_one_family_need_no_translation(protocol: str, client: str, translates: bool) -> None:
    if "Http2" in (protocol, client):
        pytest.importorskip("pymosn.stream.http2.client")
    assert WayOut("", (), KNOWN).translates(protocol, client) is translates


class Inner(ConnectionPool):
    """The pool of one protocol."""

    def __init__(self) -> None:
        self.adopted: list[tuple[Connection, bytes]] = []
        self.callers: list[ResponseReceiver] = []
        self.withdrawn: list[ResponseReceiver] = []

    def adopt(self, connection: Connection, data: bytes) -> None:
        self.adopted.append((connection, data))

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        self.callers.append(receiver)

    def withdraw(self, receiver: ResponseReceiver) -> None:
        self.withdrawn.append(receiver)


class HostTarget(Target):
    def __init__(self) -> None:
        super().__init__()
        self.pools: dict[str, Inner] = {}
        self.offered: list[tuple[str, ...]] = []

    def pool(self, protocol: str, offers: AlpnOffers | None = None) -> ConnectionPool:
        return self.pools.setdefault(protocol if offers is None else offers[protocol].key, Inner())

    def peer_for(self, alpn: str, needs_alpn: bool, offer: tuple[str, ...] = ()) -> Peer:
        self.offered.append(offer)
        return self.peer


class Bench:
    def __init__(self, offers: AlpnOffers | None = None) -> None:
        self.target = HostTarget()
        self.dialer = HandDialer()
        self.pool = AlpnPool(self.target, self.dialer, KNOWN, offers)
        if offers is not None:
            self.pool.offer = offers[AUTO].names

    def call(self) -> Caller:
        caller = Caller()
        self.pool.acquire(caller, False)
        return caller

    def connect(self, alpn: str, early: bytes = b"") -> Plug:
        """The host has selected `alpn`, and sends `early` with the end of the handshake."""
        plug, _ = self.dialer.answer(alpn, early)
        return plug


def test_the_first_handshake_decides_and_is_remembered() -> None:
    bench = Bench()
    callers = [bench.call(), bench.call()]
    assert len(bench.dialer.dials) == 1, "one connection is enough to know"
    plug = bench.connect("http/1.1", b"early")
    inner = bench.target.pools["Http1"]
    assert inner.adopted == [(plug, b"early")]
    assert inner.callers == callers
    late = bench.call()
    assert inner.callers[2:] == [late]
    bench.pool.withdraw(late)
    assert inner.withdrawn == [late]
    assert bench.dialer.dials == []


def test_a_host_that_selects_nothing_speaks_http1() -> None:
    bench = Bench()
    bench.call()
    bench.connect("")
    assert list(bench.target.pools) == ["Http1"]


def test_those_who_wait_fail_with_the_dial_and_the_next_one_tries_again() -> None:
    bench = Bench()
    caller, leaving = bench.call(), bench.call()
    bench.pool.withdraw(leaving)
    bench.dialer.refuse(CONNECT_REFUSED)
    assert caller.events == ["connect_refused"]
    assert (leaving.events, bench.target.failed, bench.target.open) == ([], 1, 0)
    bench.call()
    assert len(bench.dialer.dials) == 1


def test_a_limit_of_connections_holds_for_the_first_one() -> None:
    bench = Bench()
    bench.target.limit = 1
    bench.target.open = 1
    assert bench.call().events == ["overflow"]


def test_an_unknown_selection_and_a_lost_connection_fail_the_requests() -> None:
    bench = Bench()
    caller = bench.call()
    plug = bench.connect("spdy/3")
    assert (caller.events, plug.ending, bench.target.open) == (["protocol_mismatch"], "close", 0)


def test_with_the_proxy_protocol_every_client_has_connections_of_its_own() -> None:
    bench = Bench()
    bench.target.proxy_protocol = "v1"
    caller = bench.call()
    assert bench.target.pools["Http1"].callers == [caller]
    assert bench.dialer.dials == []


OFFERS = {
    "Http1": AlpnOffer("Http1", ("istio-http/1.1", "istio", "http/1.1")),
    "Http2": AlpnOffer("Http2", ("istio-h2", "istio", "h2")),
    AUTO: AlpnOffer(AUTO, ("istio-h2", "istio", "h2", "istio-http/1.1", "http/1.1")),
}


@pytest.mark.parametrize(
    ("selected", "protocol"),
    [
        ("istio-h2", "Http2"),
        ("h2", "Http2"),
        ("istio-http/1.1", "Http1"),
        ("http/1.1", "Http1"),
        ("istio", "Http1"),
        ("", "Http1"),
    ],
)
def test_an_offer_of_the_proxy_decides_too_and_applies_to_further_connections(selected: str, protocol: str) -> None:
    bench = Bench(OFFERS)
    caller = bench.call()
    assert bench.target.offered == [OFFERS[AUTO].names]
    plug = bench.connect(selected)
    assert list(bench.target.pools) == [OFFERS[protocol].key]
    inner = bench.target.pools[OFFERS[protocol].key]
    assert (inner.adopted, inner.callers) == ([(plug, b"")], [caller])


def test_a_name_that_was_not_offered_is_no_protocol() -> None:
    bench = Bench(OFFERS)
    caller = bench.call()
    assert bench.connect("spdy/3").ending == "close"
    assert caller.events == ["protocol_mismatch"]
