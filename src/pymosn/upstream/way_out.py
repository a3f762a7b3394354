"""In which protocol requests are sent to the hosts of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pymosn.api.stream import StreamProtocol
from pymosn.core.registry import Registry

#: In the configuration: no own choice. As the name of a pool: the handshake of each connection decides, by ALPN.
AUTO: Final = "Auto"


class WayOut:
    """The choice of the upstream protocol for one cluster. Immutable.

    The route's `upstream_protocol` decides, then the cluster's, then what the cluster's TLS offers by ALPN, else the
    request is sent in the protocol of its client. ALPN is about the client's family of protocols only: it makes HTTP/2 of
    HTTP/1, but not of an RPC protocol. `Auto` in the configuration means no choice.
    """

    def __init__(self, configured: str, alpn: Sequence[str], protocols: Registry[StreamProtocol]) -> None:
        """`configured`: the cluster's `upstream_protocol`. `alpn`: of its TLS context; empty without TLS."""
        self._configured = "" if configured == AUTO else configured
        self._protocols = protocols
        self._by_alpn = ""
        self._family = ""
        for name in protocols.names():
            protocol = protocols.get(name)
            if protocol is not None and protocol.spec.alpn and protocol.spec.alpn in alpn:
                self._by_alpn = AUTO if self._by_alpn else name
                self._family = protocol.spec.family

    def protocol(self, route: str, client: str) -> str:
        """The name of the protocol, or AUTO. `route`: the route's `upstream_protocol`; `client`: the client's protocol."""
        if route and route != AUTO:
            return route
        if self._configured:
            return self._configured
        if self._by_alpn and family_of(client, self._protocols) == self._family:
            return self._by_alpn
        return client

    def for_bytes(self, protocol: str, client: str) -> str:
        """The protocol for a connection that will carry other bytes: of the same family, and with one stream at a time."""
        family = family_of(client if protocol == AUTO else protocol, self._protocols)
        for name in self._protocols.names():
            found = self._protocols.get(name)
            if found is not None and found.spec.family == family and not found.spec.multiplexed:
                return name
        return protocol

    def translates(self, protocol: str, client: str) -> bool:
        """Whether a request of `client` must be translated for `protocol`, which the method `protocol` has chosen."""
        if protocol in (client, AUTO):
            return False
        return family_of(protocol, self._protocols) != family_of(client, self._protocols)


def family_of(name: str, protocols: Registry[StreamProtocol]) -> str:
    """The family of a protocol: requests of one can be sent in any other. An unknown one is alone."""
    found = protocols.get(name)
    return name if found is None else found.spec.family
