"""The PROXY protocol step of a listener from its configuration."""

from __future__ import annotations

from ipaddress import ip_network

from pymosn.api.network import FirstBytes
from pymosn.config.schema import Listener
from pymosn.network.proxy_protocol import ProxyProtocol


def proxy_protocol_steps(config: Listener) -> list[FirstBytes]:
    """The step that comes before all others; none without the key."""
    block = config.proxy_protocol
    if block is None:
        return []
    trusted = [ip_network(prefix, strict=False) for prefix in block.trusted_prefixes]
    return [ProxyProtocol(trusted, is_required=block.is_required, timeout=block.timeout)]
