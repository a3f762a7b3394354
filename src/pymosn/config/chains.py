"""The conditions of filter chains as the data path compares them."""

from __future__ import annotations

from pymosn.config.schema import FilterChain, Listener
from pymosn.config.schema.server import ChainMatch
from pymosn.core.address_ranges import parse_network, port_ranges
from pymosn.core.server_names import server_name_pattern
from pymosn.network.chain_match import ChainConditions, Network
from pymosn.network.inspection import Inspection


def chain_conditions(chain: FilterChain) -> ChainConditions:
    """The conditions of one chain. Raises ValueError for invalid ones, which the check of the configuration reports."""
    return ChainConditions(is_default=True) if chain.is_default else conditions_of(chain.conditions())


def conditions_of(match: ChainMatch) -> ChainConditions:
    """The conditions of a match. Raises ValueError."""
    return ChainConditions(
        server_names=tuple(dict.fromkeys(server_name_pattern(name) for name in match.server_names)),
        protocols=tuple(dict.fromkeys(match.application_protocols)),
        transport=match.transport_protocol,
        port=match.destination_port,
        networks=_networks(match.source_prefixes),
        destinations=_networks(match.destination_prefixes),
        direct=_networks(match.direct_source_prefixes),
        source_type=match.source_type,
        source_ports=tuple(dict.fromkeys(match.source_ports)),
    )


def inspection_of(listener: Listener) -> Inspection:
    """What a listener reads of the first bytes. Raises ValueError."""
    return Inspection(
        listener.http_inspector,
        tuple(port_ranges(listener.tls_uninspected_ports)),
        tuple(port_ranges(listener.http_uninspected_ports)),
    )


def _networks(texts: list[str]) -> tuple[Network, ...]:
    return tuple(dict.fromkeys(network(text) for text in texts))


def network(text: str) -> Network:
    """A network such as `10.0.0.0/8`. Raises ValueError with a message for the user."""
    try:
        return parse_network(text)
    except ValueError:
        raise ValueError("not a network: expected an IP address and the length of its prefix, such as 10.0.0.0/8") from None


def chain_name(listener: Listener, index: int) -> str:
    """The name of a filter chain for logs and errors: its own, or its position."""
    return listener.filter_chains[index].name or f"filter_chains[{index}]"
