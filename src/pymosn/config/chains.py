"""The conditions of filter chains as the data path compares them."""

from __future__ import annotations

from pymosn.config.schema import Listener
from pymosn.config.schema.server import ChainMatch
from pymosn.core.address_ranges import parse_network
from pymosn.core.server_names import server_name_pattern
from pymosn.network.chain_match import ChainConditions, Network


def conditions_of(match: ChainMatch) -> ChainConditions:
    """The conditions of one chain. Raises ValueError for invalid ones, which the check of the configuration reports."""
    return ChainConditions(
        server_names=tuple(dict.fromkeys(server_name_pattern(name) for name in match.server_names)),
        protocols=tuple(dict.fromkeys(match.application_protocols)),
        transport=match.transport_protocol,
        port=match.destination_port,
        networks=tuple(dict.fromkeys(network(text) for text in match.source_prefixes)),
    )


def network(text: str) -> Network:
    """A network such as `10.0.0.0/8`. Raises ValueError with a message for the user."""
    try:
        return parse_network(text)
    except ValueError:
        raise ValueError("not a network: expected an IP address and the length of its prefix, such as 10.0.0.0/8") from None


def chain_name(listener: Listener, index: int) -> str:
    """The name of a filter chain for logs and errors: its own, or its position."""
    return listener.filter_chains[index].name or f"filter_chains[{index}]"
