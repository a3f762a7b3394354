"""Names of ALPN, and what a listener's proxy offers to hosts instead of what their cluster offers."""

from __future__ import annotations

from typing import Final

#: The prefix of the names that mark connections between the proxies of an Istio mesh.
_MESH: Final = "istio-"


class AlpnOffer:
    """The names that are offered by ALPN on connections of one protocol. Immutable."""

    def __init__(self, protocol: str, names: tuple[str, ...]) -> None:
        """`protocol`: the name of the protocol, such as `Http1`. `names`: at least one, in order of preference."""
        self.names = names
        #: Identifies the pool of the connections with this offer, among all pools of a host.
        self.key = f"{protocol} {','.join(names)}"


#: The offers of a listener's proxy, by the protocol that is spoken to the host.
AlpnOffers = dict[str, AlpnOffer]


def plain_name(name: str) -> str:
    """The name of the protocol that is spoken after `name` was negotiated: `h2` for `istio-h2`."""
    return name.removeprefix(_MESH)
