"""What is offered to hosts by ALPN because of the client's listener: own pools, own transports, and the exceptions."""

import pytest
from tests.unit.upstream.test_upstream_hosts import Pooled, Worker

from pymosn.api.alpn import AlpnOffer, plain_name
from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.network.tls.upstream import ClientTls
from pymosn.upstream.cluster_host import ClusterHost
from pymosn.upstream.plan import HostPlan
from pymosn.upstream.way_out import AUTO

MESH = ClientSettings(TlsSettings(alpn=("istio",)), is_verified=False)
OFFERS = {"P": AlpnOffer("P", ("istio-p", "istio", "p")), AUTO: AlpnOffer(AUTO, ("istio-p", "p"))}
OTHERS = {"P": AlpnOffer("P", ("own",))}


def offered(host: ClusterHost, *offer: str) -> tuple[str, ...]:
    """What a connection of a pool with this offer offers."""
    transport = host.peer_for("p", False, offer).transport
    assert isinstance(transport, ClientTls)
    return transport.settings.tls.alpn


def test_connections_with_different_offers_are_in_different_pools() -> None:
    host = Worker().put("a:1", tls=MESH).hosts[0]
    plain, first, second = host.pool("P"), host.pool("P", OFFERS), host.pool("P", OTHERS)
    assert len({id(plain), id(first), id(second)}) == 3
    assert [pool.offer for pool in (plain, first, second)] == [(), ("istio-p", "istio", "p"), ("own",)]
    assert host.pool("P", OFFERS) is first
    same = {"P": AlpnOffer("P", ("own",))}  # of another listener
    assert host.pool("P", same) is second
    assert host.pool("P", {"Q": AlpnOffer("Q", ("q",))}) is plain


def test_an_offer_replaces_the_list_of_the_cluster() -> None:
    host = Worker().put("a:1", tls=MESH).hosts[0]
    assert offered(host) == ("istio",)
    assert offered(host, "istio-p", "p") == ("istio-p", "p")
    assert host.peer_for("p", False, ("p",)) is host.peer_for("p", False, ("p",)), "its TLS sessions are resumed"
    assert host.peer_for("p", False, ("istio",)) is host.peer


@pytest.mark.parametrize("wishes", [{}, {"tls": MESH, "keeps_alpn": True}])
def test_hosts_without_tls_and_clusters_that_keep_their_list(wishes: dict[str, object]) -> None:
    host = Worker().put("a:1", **wishes).hosts[0]
    assert host.pool("P", OFFERS) is host.pool("P")


def test_a_host_without_tls_in_a_cluster_with_tls() -> None:
    cluster = Worker().put("a:1", HostPlan("b:1", transport=1), host_tls=(MESH,))
    plain, secure = cluster.hosts
    assert plain.pool("P", OFFERS) is plain.pool("P")
    assert secure.pool("P", OFFERS) is not secure.pool("P")


def test_a_change_of_the_exception_applies_to_hosts_that_are_kept() -> None:
    worker = Worker()
    host = worker.put("a:1", tls=MESH).hosts[0]
    assert host.pool("P", OFFERS) is not host.pool("P")
    assert worker.put("a:1", tls=MESH, keeps_alpn=True).hosts[0] is host
    assert host.pool("P", OFFERS) is host.pool("P")


def test_a_protocol_that_is_spoken_instead_has_its_own_offer() -> None:
    worker = Worker()
    worker.maker.protocols.add("Q", Pooled(worker.closed))
    host = worker.put("a:1", tls=MESH).hosts[0]
    offers = {**OFFERS, "Q": AlpnOffer("Q", ("istio-q",))}
    assert host.pool("Q", offers).offer == ("istio-q",)
    host.speak_instead("Q", "P")
    assert host.pool("Q", offers) is host.pool("P", offers)


def test_new_tls_and_the_end_of_a_host_close_all_pools() -> None:
    worker = Worker()
    host = worker.put("a:1", tls=MESH).hosts[0]
    host.pool("P")
    old = host.pool("P", OFFERS)
    worker.put("a:1", tls=MESH._replace(server_name="x"))
    assert worker.closed == ["a:1", "a:1"]
    assert host.pool("P", OFFERS) is not old
    assert offered(host, "p") == ("p",)
    host.close()
    assert len(worker.closed) == 3


def test_an_unknown_protocol_has_no_pool() -> None:
    host = Worker().put("a:1", tls=MESH).hosts[0]
    with pytest.raises(KeyError):
        host.pool("Morse", {"Morse": AlpnOffer("Morse", ("m",))})


def test_names_of_a_mesh_and_of_protocols() -> None:
    assert [plain_name(name) for name in ("istio-h2", "istio-http/1.1", "h2", "istio", "")] == [
        *("h2", "http/1.1", "h2", "istio", "")
    ]
