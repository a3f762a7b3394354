"""The PROXY protocol step of a listener from its configuration."""

from __future__ import annotations

from pymosn.api.network import FirstBytes
from pymosn.config.schema import Listener
from pymosn.core.address_ranges import parse_network
from pymosn.network.proxy_protocol import ProxyProtocol


def proxy_protocol_steps(config: Listener) -> list[FirstBytes]:
    """The step that comes before all others; none without the key."""
    block = config.proxy_protocol
    if block is None:
        return []
    trusted = [parse_network(prefix) for prefix in block.trusted_prefixes]
    return [ProxyProtocol(trusted, is_required=block.is_required, timeout=block.timeout)]
