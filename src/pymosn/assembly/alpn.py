"""What the proxy of a listener offers to hosts by ALPN."""

from __future__ import annotations

from pymosn.api.alpn import AlpnOffer, AlpnOffers
from pymosn.config.schema.network_filters import UpstreamAlpn
from pymosn.upstream.way_out import AUTO


def alpn_offers(config: UpstreamAlpn | None) -> AlpnOffers | None:
    """The offers by the protocol spoken to hosts; None if clusters decide. Both lists, if the handshake decides."""
    if config is None:
        return None
    names = {"Http1": config.Http1, "Http2": config.Http2, AUTO: [*config.Http2, *config.Http1]}
    found = {name: AlpnOffer(name, tuple(dict.fromkeys(listed))) for name, listed in names.items() if listed}
    return found or None
