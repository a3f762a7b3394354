"""Parses addresses and networks, for filters that decide by them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pymosn.core.addresses import split_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_network(text: str) -> Network:
    """An address or a network (`10.0.0.0/8`); bits after the prefix are ignored. Raises ValueError."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def parse_ip(text: str) -> Address | None:
    """An address, with or without a port or brackets, mapped IPv4 addresses as IPv4; None if invalid."""
    text = text.strip()
    try:
        if text.startswith("[") and text.endswith("]"):
            text = text[1:-1]
        elif text.startswith("[") or text.count(":") == 1:
            text = split_address(text)[0]
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
