"""How the hosts of a cluster are dialed: their peers, and what connections to them offer by ALPN."""

from __future__ import annotations

from typing import Final, NamedTuple

from pymosn.api.network import PLAIN, DialRule, Peer, TcpKeepalive, Transport
from pymosn.network.tls.upstream import ClientTls, server_name_of
from pymosn.upstream.plan import ClusterPlan, HostPlan

#: The ALPN names of HTTP.
HTTP_ALPN: Final = ("h2", "http/1.1")


def offered(configured: tuple[str, ...], alpn: str, needs_alpn: bool) -> tuple[str, ...]:
    """What is offered for a protocol with the identifier `alpn` by a cluster that offers `configured`; see `peer_for`."""
    if alpn in configured if needs_alpn else not configured:
        return configured
    # Names of other protocols, such as Istio's, are agreements with the host, and are offered in any case.
    others = [name for name in configured if name == alpn or name not in HTTP_ALPN]
    if not others or (needs_alpn and alpn not in others):
        others.append(alpn)
    return tuple(others)


class Sockets(NamedTuple):
    """The settings of the sockets of connections; see `Peer`."""

    mark: int
    keepalive: TcpKeepalive | None
    bind: str
    attempt_delay: float


def sockets_for(cluster: ClusterPlan) -> Sockets:
    """Those of a cluster."""
    return Sockets(cluster.mark, cluster.keepalive, cluster.bind, cluster.attempt_delay)


def sockets_of(peer: Peer) -> Sockets:
    """Those that a peer has."""
    return Sockets(int(peer.mark), peer.keepalive, peer.bind, peer.attempt_delay)


def peer_of(host: HostPlan, transport: Transport, rule: DialRule | None, sockets: Sockets) -> Peer:
    """How a host of a cluster is dialed. `transport`: of its connections."""
    server_name = ""
    if host.tls_disable or not isinstance(transport, ClientTls):
        transport = PLAIN
    else:
        server_name = server_name_of(transport.settings, host.hostname, host.address)
    return Peer(
        host.address,
        transport=transport,
        server_name=server_name,
        bind=sockets.bind,
        rule=rule,
        mark=sockets.mark,
        keepalive=sockets.keepalive,
        attempt_delay=sockets.attempt_delay,
    )
