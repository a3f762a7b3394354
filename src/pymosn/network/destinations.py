"""Which addresses may be dialed on the word of a client, or of a DNS server, instead of the operator's.

Theory of operation. The operator's own addresses, literals in the configuration, are dialed as they are. Any other peer has
a `DialRule`, and the dialer asks it about the very address that it is about to connect to, after a name was resolved. So
neither another spelling (`127.1`, `0x7f.1`, `[::ffff:127.0.0.1]`) nor a name whose answer changes leads past the rule.

`ClientDestinations` is the rule of ORIGINAL_DST clusters, `NamedHost` the one of hosts with a name.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from mypy_extensions import i64

from pymosn.api.network import DialRule
from pymosn.core.address_ranges import End, parse_network
from pymosn.core.addresses import unmapped
from pymosn.core.failure import DESTINATION_DENIED, LOOP, Failure

#: Hosts of sockets that listen on all addresses.
ANY: Final = ("", "0.0.0.0", "::")
#: The names of loopback (RFC 6761 section 6.3), which no DNS server answers for.
LOCALHOST: Final = ("localhost", "localhost.")

#: What clients cannot reach unless it is listed: this host and network, loopback, link-local, multicast, reserved and
#: broadcast addresses, and the metadata services of clouds, which are link-local or have the address in the last row.
SPECIAL: Final[list[IPv4Network | IPv6Network]] = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::/128", "::1/128", "fe80::/10", "ff00::/8"),
        "fd00:ec2::254/128",
    )
]
#: Networks whose addresses contain an IPv4 address that a gateway may connect to, and by how many bits it is shifted:
#: IPv4-compatible addresses (RFC 4291), IPv4-translated ones (RFC 2765), NAT64 (RFC 6052 and 8215), 6to4 (RFC 3056).
EMBEDDING: Final = (
    (IPv6Network("::/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (IPv6Network("64:ff9b:1::/48"), 0),
    (IPv6Network("2002::/16"), 80),
)


class OwnAddresses:
    """The addresses on which this process listens: of the listeners, and of its services such as the admin API."""

    def __init__(self) -> None:
        self._listeners: dict[int, set[str]] = {}
        self._services: dict[int, set[str]] = {}

    def replace(self, addresses: list[tuple[str, int]]) -> None:
        """Replaces the listeners; a host of "", `0.0.0.0` or `::` means all addresses of this machine."""
        self._listeners = _by_port(addresses)

    def set_services(self, addresses: list[tuple[str, int]]) -> None:
        """Replaces the services; the hosts are as for `replace`."""
        self._services = _by_port(addresses)

    def has(self, ip: str, port: i64) -> bool:
        """Whether a connection to this address would end at this process."""
        return _reaches(self._listeners, ip, port) or self.is_service(ip, port)

    def is_service(self, ip: str, port: i64) -> bool:
        """Whether a connection to this address would end at a service of this process."""
        return _reaches(self._services, ip, port)


def _by_port(addresses: list[tuple[str, int]]) -> dict[int, set[str]]:
    by_port: dict[int, set[str]] = {}
    for ip, port in addresses:
        by_port.setdefault(port, set()).add(_plain(ip))
    return by_port


def _plain(ip: str) -> str:
    """An IP address in one form: without a scope, and a mapped IPv4 address as IPv4."""
    address = _parsed(ip)
    return ip if address is None else str(address)


def _parsed(ip: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _reaches(listening: dict[int, set[str]], ip: str, port: i64) -> bool:
    hosts = listening.get(int(port))
    if hosts is None:
        return False
    plain = _plain(ip)
    # Connecting to the unspecified address leads to loopback.
    if plain in hosts or plain in ("0.0.0.0", "::"):
        return True
    return not hosts.isdisjoint(ANY) and is_local(ip)


def is_local(ip: str) -> bool:
    """Whether an IP address is one of this machine's: the kernel sends from such an address when it sends to it."""
    plain = _plain(ip)
    if plain.startswith("127.") or plain in ("::1", "::", "0.0.0.0"):
        return True
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((unmapped(ip), 9))  # sends nothing
            return _plain(str(probe.getsockname()[0])) == plain
        except OSError:
            return False  # there is no way to it


class AllowedRange:
    """A network and ports that the operator has opened for clients."""

    def __init__(self, network: str, ports: tuple[tuple[int, int], ...]) -> None:
        """`network`: an address, or a network such as `10.0.0.0/8`. `ports`: ranges, all ports if empty. ValueError."""
        found = parse_network(network, is_exact=True)
        self._end = End([found], list(ports) or [(1, 65535)])
        #: The special networks that it opens: only those that contain it, so that `0.0.0.0/0` opens none.
        self._special = [special for special in SPECIAL if _contains(special, found)]

    def allows(self, address: IPv4Address | IPv6Address, port: i64) -> bool:
        """Whether `address` is in this range, and not special unless the range was meant for that."""
        if not self._end.matches(str(address), int(port)):
            return False
        special = special_network(address)
        return special is None or special in self._special


def _contains(outer: IPv4Network | IPv6Network, inner: IPv4Network | IPv6Network) -> bool:
    return outer.version == inner.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def special_network(address: IPv4Address | IPv6Address) -> IPv4Network | IPv6Network | None:
    """The special network that an address is in, or that an IPv4 address within it is in."""
    for network in SPECIAL:
        if address in network:
            return network
    if isinstance(address, IPv6Address):
        for network, shift in EMBEDDING:
            if address in network:
                return special_network(IPv4Address(int(address) >> shift & 0xFFFFFFFF))
    return None


class ClientDestinations(DialRule):
    """The destinations that the clients of an ORIGINAL_DST cluster may choose; never this process itself."""

    def __init__(self, own: OwnAddresses, allowed: list[AllowedRange], refuses_special: bool) -> None:
        """`allowed`: all others are refused; if empty all, except for special ones with `refuses_special`."""
        self._own = own
        self._allowed = allowed
        self._refuses_special = refuses_special

    def fault(self, ip: str, port: i64) -> Failure | None:
        if self._own.has(ip, port):
            return LOOP
        address = _parsed(ip)
        if address is None:
            return DESTINATION_DENIED
        if self._allowed:
            for entry in self._allowed:
                if entry.allows(address, port):
                    return None
            return DESTINATION_DENIED
        is_refused = self._refuses_special and special_network(address) is not None
        return DESTINATION_DENIED if is_refused else None


class NamedHost(DialRule):
    """A host with a name, whose address DNS servers decide: not one of this process's services."""

    def __init__(self, own: OwnAddresses) -> None:
        self._own = own

    def fault(self, ip: str, port: i64) -> Failure | None:
        return LOOP if self._own.is_service(ip, port) else None
