"""Finds the filter chain of a connection, in the order of precedence of Envoy's FilterChainMatch.

The conditions are compared in a fixed order: destination port and address, server name, transport protocol, application
protocol, then the source: its direct address, its kind, its address and its port. At each step only the chains with the most
specific matching value remain, and there is no way back: a connection whose name has a chain of its own never gets a chain
without names, even if that chain does not match in a later step. The default chain gets the connections without a chain.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, NamedTuple

from mypy_extensions import i64

from pymosn.core.server_names import wildcards_for

#: Values of `ChainConditions.transport`; empty for both.
TLS: Final = "tls"
PLAIN_TEXT: Final = "raw_buffer"
#: Values of `ChainConditions.source_type`; empty for both. A local client is on this machine: its address is a loopback
#: address, or the one that it has connected to.
LOCAL: Final = "local"
EXTERNAL: Final = "external"

Network = IPv4Network | IPv6Network


class Key(NamedTuple):
    """One way to reach a chain; empty values match all."""

    port: int = 0
    destination: Network | None = None
    name: str = ""
    transport: str = ""
    protocol: str = ""
    direct: Network | None = None
    source_type: str = ""
    network: Network | None = None
    source_port: int = 0


class ChainConditions(NamedTuple):
    """The connections that a chain gets; empty values match all.

    `server_names`: in lower case; `*.example.com` matches every name below it. `port`: 0 for all. `networks`: of clients;
    `direct`: of the other ends of connections, which are proxies if the PROXY protocol is used. `is_default`: it gets what
    no other chain matches, and the other values have no meaning.
    """

    server_names: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    transport: str = ""
    port: int = 0
    networks: tuple[Network, ...] = ()
    destinations: tuple[Network, ...] = ()
    direct: tuple[Network, ...] = ()
    source_type: str = ""
    source_ports: tuple[int, ...] = ()
    is_default: bool = False

    def combinations(self) -> list[Key]:
        """All combinations of its values."""
        return [
            Key(self.port, destination, name, self.transport, protocol, direct, self.source_type, network, source_port)
            for destination in self.destinations or (None,)
            for name in self.server_names or ("",)
            for protocol in self.protocols or ("",)
            for direct in self.direct or (None,)
            for network in self.networks or (None,)
            for source_port in self.source_ports or (0,)
        ]

    def reads_hello(self) -> bool:
        """Whether it needs the first bytes of a connection."""
        return bool(self.server_names or self.protocols or self.transport)


class Ends:
    """The addresses of a connection. `ip`, `port`: of the client; `direct_ip`: of the connection's other end.

    `destination`, `destination_port`: what the client connected to, before any redirect. Addresses may be empty.
    """

    def __init__(self, destination_port: i64, ip: str, destination: str = "", direct_ip: str = "", port: i64 = 0) -> None:
        self.destination_port = destination_port
        self.ip = ip
        self.destination = destination
        self.direct_ip = direct_ip or ip
        self.port = port

    def source_type(self) -> str:
        """LOCAL or EXTERNAL."""
        address = _parsed(self.ip)
        is_local = address is None or address.is_loopback or self.ip == self.destination
        return LOCAL if is_local else EXTERNAL


class _Networks:
    """A step by network: the longest prefix first, then the entry for all addresses."""

    def __init__(self) -> None:
        self._networks: list[tuple[Network, dict[Any, Any]]] = []
        self._others: dict[Any, Any] | None = None

    def get(self, network: Network | None) -> dict[Any, Any]:
        """The entry of a network, made if there is none."""
        if network is None:
            if self._others is None:
                self._others = {}
            return self._others
        for known, entry in self._networks:
            if known == network:
                return entry
        made: dict[Any, Any] = {}
        self._networks.append((network, made))
        self._networks.sort(key=_by_prefix)
        return made

    def find(self, ip: str) -> dict[Any, Any] | None:
        """The entry for an address; None if there is none."""
        address = _parsed(ip) if self._networks else None
        if address is not None:
            for network, entry in self._networks:
                if address in network:
                    return entry
        return self._others


def _by_prefix(entry: tuple[Network, dict[Any, Any]]) -> int:
    return -entry[0].prefixlen


def _parsed(ip: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(ip.partition("%")[0]) if ip else None
    except ValueError:
        return None  # the end of a unix socket


_NETWORKS: Final = "networks"


def _networks(step: dict[Any, Any]) -> _Networks:
    """The networks of a step, made if there are none."""
    found = step.get(_NETWORKS)
    if found is None:
        found = step[_NETWORKS] = _Networks()
    networks: _Networks = found
    return networks


def _inner(step: dict[Any, Any], key: object) -> dict[Any, Any]:
    found: dict[Any, Any] = step.setdefault(key, {})
    return found


class ChainTable:
    """The chains of one listener by their conditions. Immutable."""

    def __init__(self, chains: list[ChainConditions]) -> None:
        """Of chains with the same key the last one is found; the check of the configuration rejects them."""
        self._ports: dict[Any, Any] = {}
        self._default = -1
        for index, conditions in enumerate(chains):
            if conditions.is_default:
                self._default = index
                continue
            for key in conditions.combinations():
                step = _networks(_inner(self._ports, key.port)).get(key.destination)
                step = _inner(_inner(_inner(step, key.name), key.transport), key.protocol)
                step = _inner(_networks(step).get(key.direct), key.source_type)
                _networks(step).get(key.network)[key.source_port] = index

    def has_name(self, port: int, server_name: str, destination: str = "") -> bool:
        """Whether a chain has a server name, by itself or with a wildcard. `port`: the one that the client connected to."""
        names = self._names(port, destination)
        found = None if names is None or not server_name else _by_name(names, server_name)
        return names is not None and found is not None and found is not names.get("")

    def find(self, port: int, server_name: str, transport: str, protocols: tuple[str, ...], ip: str) -> int:
        """Like `find_for`, of a connection of which only the port and the client's address are known."""
        return int(self.find_for(Ends(port, ip), server_name, transport, protocols))

    def find_for(self, ends: Ends, server_name: str, transport: str, protocols: tuple[str, ...]) -> i64:
        """The index of the chain for a connection; -1 if there is none.

        `protocols`: offered by ALPN, or found in plain text; the first that a chain names decides.
        """
        step = self._names(int(ends.destination_port), ends.destination)
        if step is not None:
            step = _by_name(step, server_name)
        if step is not None:
            step = step.get(transport) or step.get("")
        if step is not None:
            step = _by_protocol(step, protocols)
        found = -1 if step is None else _by_source(step, ends)
        return self._default if found < 0 else found

    def _names(self, port: int, destination: str) -> dict[Any, Any] | None:
        step = self._ports.get(port) or self._ports.get(0)
        return None if step is None else _networks(step).find(destination)


def _by_name(names: dict[Any, Any], server_name: str) -> dict[Any, Any] | None:
    """The most specific entry: the name itself, then its longest wildcard, then the entry without names."""
    if server_name:
        exact: dict[Any, Any] | None = names.get(server_name)
        if exact is not None:
            return exact
        for wildcard in wildcards_for(server_name):
            found: dict[Any, Any] | None = names.get(wildcard)
            if found is not None:
                return found
    rest: dict[Any, Any] | None = names.get("")
    return rest


def _by_protocol(step: dict[Any, Any], protocols: tuple[str, ...]) -> dict[Any, Any] | None:
    for protocol in protocols:
        found: dict[Any, Any] | None = step.get(protocol) if protocol else None
        if found is not None:
            return found
    rest: dict[Any, Any] | None = step.get("")
    return rest


def _by_source(step: dict[Any, Any], ends: Ends) -> int:
    types = _networks(step).find(ends.direct_ip)
    if types is None:
        return -1
    only_any = len(types) == 1 and "" in types
    found = types.get("") if only_any else types.get(ends.source_type()) or types.get("")
    ports = None if found is None else _networks(found).find(ends.ip)
    if ports is None:
        return -1
    index: int = ports.get(int(ends.port), ports.get(0, -1))
    return index


def same_key(chains: list[ChainConditions]) -> tuple[int, int, Key] | None:
    """The first two chains that match the same connections equally well, with what they have in common; None without any."""
    seen: dict[Key, int] = {}
    for index, conditions in enumerate(chains):
        for key in () if conditions.is_default else conditions.combinations():
            earlier = seen.setdefault(key, index)
            if earlier != index:
                return earlier, index, key
    return None
