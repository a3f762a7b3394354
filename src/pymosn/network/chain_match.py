"""Finds the filter chain of a connection, in the order of precedence of Envoy's FilterChainMatch.

The conditions are compared in a fixed order: destination port, server name, transport protocol, application protocol, source
address. At each step only the chains with the most specific matching value remain, and there is no way back: a connection
whose name has a chain of its own never gets a chain without names, even if that chain does not match in a later step.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple

from pymosn.core.server_names import wildcards_for

#: Values of `ChainConditions.transport`; empty for both.
TLS: Final = "tls"
PLAIN_TEXT: Final = "raw_buffer"

Network = IPv4Network | IPv6Network
#: Port, server name, transport, application protocol and network of one way to reach a chain.
Key = tuple[int, str, str, str, Network | None]


class ChainConditions(NamedTuple):
    """The connections that a chain gets; empty values match all.

    `server_names`: in lower case; `*.example.com` matches every name below it. `port`: 0 for all.
    """

    server_names: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    transport: str = ""
    port: int = 0
    networks: tuple[Network, ...] = ()

    def combinations(self) -> list[Key]:
        """All combinations of its values."""
        networks: tuple[Network | None, ...] = self.networks or (None,)
        return [
            (self.port, name, self.transport, protocol, network)
            for name in self.server_names or ("",)
            for protocol in self.protocols or ("",)
            for network in networks
        ]

    def reads_hello(self) -> bool:
        """Whether it needs the first bytes of a connection."""
        return bool(self.server_names or self.protocols or self.transport)


class _Sources:
    """The last step: chains by the network of the client, the longest prefix first."""

    def __init__(self) -> None:
        self._networks: list[tuple[Network, int]] = []
        self._others = -1

    def add(self, network: Network | None, chain: int) -> None:
        if network is None:
            self._others = chain
            return
        self._networks.append((network, chain))
        self._networks.sort(key=_by_prefix)

    def find(self, ip: str) -> int:
        if self._networks and ip:
            address: IPv4Address | IPv6Address = ip_address(ip)
            for network, chain in self._networks:
                if address in network:
                    return chain
        return self._others


def _by_prefix(entry: tuple[Network, int]) -> int:
    return -entry[0].prefixlen


_Protocols = dict[str, _Sources]
_Transports = dict[str, _Protocols]
_Names = dict[str, _Transports]


class ChainTable:
    """The chains of one listener by their conditions. Immutable."""

    def __init__(self, chains: list[ChainConditions]) -> None:
        """Of chains with the same key the last one is found; the check of the configuration rejects them."""
        self._ports: dict[int, _Names] = {}
        for index, conditions in enumerate(chains):
            for port, name, transport, protocol, network in conditions.combinations():
                names = self._ports.setdefault(port, {})
                protocols = names.setdefault(name, {}).setdefault(transport, {})
                protocols.setdefault(protocol, _Sources()).add(network, index)

    def has_name(self, port: int, server_name: str) -> bool:
        """Whether a chain has a server name, by itself or with a wildcard. `port`: the one that the client connected to."""
        names = self._ports.get(port) or self._ports.get(0)
        found = None if names is None or not server_name else _by_name(names, server_name)
        return names is not None and found is not None and found is not names.get("")

    def find(self, port: int, server_name: str, transport: str, protocols: tuple[str, ...], ip: str) -> int:
        """The index of the chain for a connection; -1 if there is none.

        `port`: the one that the client connected to. `protocols`: offered by ALPN; the first that a chain names decides.
        """
        names = self._ports.get(port) or self._ports.get(0)
        transports = None if names is None else _by_name(names, server_name)
        if transports is None:
            return -1
        found = transports.get(transport) or transports.get("")
        if found is None:
            return -1
        for protocol in protocols:
            sources = found.get(protocol) if protocol else None
            if sources is not None:
                return sources.find(ip)
        rest = found.get("")
        return -1 if rest is None else rest.find(ip)


def _by_name(names: _Names, server_name: str) -> _Transports | None:
    """The most specific entry: the name itself, then its longest wildcard, then the entry without names."""
    if server_name:
        exact = names.get(server_name)
        if exact is not None:
            return exact
        for wildcard in wildcards_for(server_name):
            found = names.get(wildcard)
            if found is not None:
                return found
    return names.get("")


def same_key(chains: list[ChainConditions]) -> tuple[int, int, Key] | None:
    """The first two chains that match the same connections equally well, with what they have in common; None without any."""
    seen: dict[Key, int] = {}
    for index, conditions in enumerate(chains):
        for key in conditions.combinations():
            earlier = seen.setdefault(key, index)
            if earlier != index:
                return earlier, index, key
    return None
