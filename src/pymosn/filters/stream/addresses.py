"""Parses addresses and networks, for filters that decide by them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from pymosn.core.addresses import split_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


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
