"""Istio's filter `istio.alpn` -> `proxy.upstream_alpn`: the names by which a sidecar announces what it will speak."""

from __future__ import annotations

from typing import Final

from pymosn.config.schema.network_filters import UpstreamAlpn
from pymosn.control.xds.convert.view import View
from pymosn.network.tls.names import UNSUPPORTED

ALPN: Final = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"
#: Requests of HTTP/1.0 are forwarded in HTTP/1.1, so that the list for HTTP10 is never used; nor is it by Envoy.
_KEYS: Final = {"HTTP11": "Http1", "HTTP2": "Http2"}
#: The namespace and the key of a cluster's metadata by which Istio excepts the cluster.
_SPACE: Final = "istio"
_KEY: Final = "alpn_override"


def read_upstream_alpn(view: View) -> UpstreamAlpn | None:
    """The lists of the filter by the protocol that is spoken to the hosts; None if there are none."""
    found: dict[str, list[str]] = {}
    with view:
        for item in view.items("alpn_override"):
            with item:
                protocol = item.enum("upstream_protocol")
                names = [str(name) for name in item.values("alpn_override") if name not in UNSUPPORTED]
                key = _KEYS.get(protocol)
                if key is not None and names:
                    found.setdefault(key, names)
                elif protocol not in ("HTTP10", *_KEYS):
                    item.fault("upstream_protocol", f"unknown protocol {protocol}")
    return UpstreamAlpn(**found) if found else None


def keeps_alpn(view: View | None) -> bool:
    """Whether the metadata of a cluster excepts it from the filter. Other keys are for filters that do not exist here."""
    if view is None:
        return False
    with view:
        space = view.table("filter_metadata").get(_SPACE)
    return space is not None and _KEY in space.fields and space.fields[_KEY].string_value == "false"
