"""Ranges of IP addresses and ports, as configurations write them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pymosn.core.addresses import HIGHEST_PORT, port_number


def address_range(address: str, length: int) -> IPv4Network | IPv6Network:
    """The network with a prefix of `length` bits that contains `address`. Raises ValueError with a message for the user."""
    return parse_network(f"{address}/{length}")


def parse_network(text: str, *, is_exact: bool = False) -> IPv4Network | IPv6Network:
    """An address or a network such as `10.0.0.0/8`; mapped IPv4 addresses as IPv4, which is how connections have them.

    `is_exact`: bits after the prefix are an error, otherwise they are ignored. Raises ValueError.
    """
    network = ip_network(text, strict=is_exact)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((int(mapped), network.prefixlen - 96))
    return network


def port_ranges(text: str) -> list[tuple[int, int]]:
    """Parses ranges such as `80,100-200`; empty for an empty text. Raises ValueError with a message for the user."""
    ranges: list[tuple[int, int]] = []
    for part in text.split(",") if text.strip() else []:
        first, _, last = part.partition("-")
        low = _port(first)
        high = _port(last) if "-" in part else low
        if low > high:
            raise ValueError(f"{part.strip()!r} ends before it begins")
        ranges.append((low, high))
    return ranges


def _port(text: str) -> int:
    word = text.strip()
    port = port_number(word)
    if port < 0:
        raise ValueError(f"{word!r} is not a port: expected 0 to {HIGHEST_PORT}, as in 80,100-200")
    return port


class End:
    """Condition on one end of a connection: in one of the networks, and on one of the ports. Empty lists match nothing."""

    def __init__(self, networks: list[IPv4Network | IPv6Network], ports: list[tuple[int, int]]) -> None:
        self._networks = networks
        self._ports = ports

    def matches(self, ip: str, port: int) -> bool:
        """Whether the end matches; never for a unix socket, which has no address."""
        try:
            address: IPv4Address | IPv6Address = ip_address(ip)
        except ValueError:
            return False
        if not any(address in network for network in self._networks):
            return False
        return any(low <= port <= high for low, high in self._ports)
