"""Which ALPN protocols a filter chain offers: at most those that it serves."""

from __future__ import annotations

from typing import Final, NamedTuple

from pymosn.api.alpn import plain_name
from pymosn.config.schema import FilterChain
from pymosn.network.tls.names import alpn_of
from pymosn.stream.registry import protocols

#: The ALPN protocol of each built-in protocol that has one.
_ALPN: Final = {
    name: protocol.spec.alpn for name in protocols().names() if (protocol := protocols().get(name)) and protocol.spec.alpn
}
#: The protocol that most clients do not speak over TLS unless it is negotiated: contexts without `alpn` offer it too.
_H2: Final = "h2"
#: The name that MOSN knows besides those of HTTP, and that of Istio's meshes. What follows may be any protocol.
_ANYTHING: Final = ("sofa", "istio")
#: Served by HTTP/1.1.
_HTTP_1_0: Final = "http/1.0"
_HTTP_1_1: Final = "http/1.1"


class AlpnOffer(NamedTuple):
    """`served`: the protocols that a chain can serve; None for any. `default`: for contexts without `alpn`, in order."""

    default: tuple[str, ...] = ()
    served: frozenset[str] | None = None

    def of(self, text: str) -> tuple[str, ...]:
        """The protocols that a context with this `alpn` negotiates."""
        if not text.strip():
            return self.default
        return tuple(name for name in alpn_of(text) if self.serves(name))

    def serves(self, name: str) -> bool:
        """Whether a protocol with this ALPN name is served."""
        plain = plain_name(name)
        return self.served is None or (_HTTP_1_1 if plain == _HTTP_1_0 else plain) in self.served or name in _ANYTHING


def alpn_offer(chain: FilterChain) -> AlpnOffer:
    """The offer of a chain. One that passes bytes on to a host, or may do so, serves whatever the host does."""
    acting = chain.acting_filters()
    names = [] if acting.proxy is None else acting.proxy.protocols()
    if not names:
        return AlpnOffer()
    spoken = list(_ALPN.values()) if names == ["Auto"] else [_ALPN[name] for name in names if name in _ALPN]
    default = tuple(sorted(spoken, key=lambda name: name != _H2)) if _H2 in spoken else ()
    return AlpnOffer(default, None if acting.tcp is not None else frozenset(spoken))
