"""Addresses in MOSN's form: `127.0.0.1:80`, `[::1]:80`, `:80`, `name:80`; for hosts also `unix:/path`."""

from __future__ import annotations

import socket
from typing import Final

#: Prefix of IPv4 addresses on dual-stack sockets (RFC 4291 section 2.5.5.2).
MAPPED: Final = "::ffff:"

HIGHEST_PORT: Final = 65535

#: Prefix of the address of a host on a unix socket; its path follows.
UNIX: Final = "unix:"


def split_address(address: str) -> tuple[str, int]:
    """Splits an address into host (without brackets) and port. Raises ValueError with a message for the user."""
    host, colon, port_text = address.rpartition(":")
    if not colon:
        raise ValueError("missing port; expected host:port")
    if host.startswith("["):
        if not host.endswith("]"):
            raise ValueError("missing ] after an IPv6 address")
        host = host[1:-1]
        if ":" not in host:
            raise ValueError("square brackets are only allowed around IPv6 addresses")
    elif ":" in host:
        raise ValueError("an IPv6 address requires brackets, such as [::1]:80")
    port = port_number(port_text)
    if port < 0:
        raise ValueError(f"the port must be a number from 0 to {HIGHEST_PORT}")
    return host, port


def port_number(text: str) -> int:
    """Parses a port in plain digits; -1 for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return -1
    port = int(text)
    return port if port <= HIGHEST_PORT else -1


def normal_ip(text: str) -> str:
    """The normal form of an IP address, with mapped IPv4 addresses as IPv4; empty for anything else."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        normal = socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        return ""
    return unmapped(normal)


def packed_ip(text: str) -> bytes:
    """The bytes of an IP address; empty for anything else."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return b""


def ip_text(packed: bytes) -> str:
    """The normal form of the IP address in 4 or 16 bytes, with mapped IPv4 addresses as IPv4."""
    return unmapped(socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed))


def unmapped(ip: str) -> str:
    """An IP address in its normal form, a mapped IPv4 address as IPv4; `::ffff:0:102:304` is none."""
    return ip.removeprefix(MAPPED) if "." in ip else ip


def host_field(address: str) -> str:
    """The Host field for a request that names no host: the dialed address without its zone; localhost for a unix socket."""
    if address.startswith(UNIX):
        return "localhost"
    host, percent, zone = address.partition("%")
    return host + "]" + zone.partition("]")[2] if percent and host.startswith("[") else address


def write_address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 address in brackets; `:port` for an empty host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_host(address: str) -> str:
    """The host of an address without brackets; the whole text if there is no port."""
    host, colon, port = address.rpartition(":")
    if not colon or "]" in port:
        host = address
    return host.removeprefix("[").removesuffix("]")


def address_port(address: str) -> int:
    """The port of an address; 0 if it has none, as that of a unix socket."""
    return max(0, port_number(address.rpartition(":")[2])) if not address.startswith(UNIX) else 0


def entry_ip(text: str) -> str:
    """The normal form of an IP address in X-Forwarded-For, where some proxies add a port; empty for anything else.

    Accepted are `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and (not rest.startswith(":") or port_number(rest[1:]) < 0)):
            return ""
        return normal_ip(host)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return normal_ip(host) if port_number(port) >= 0 else ""
    return normal_ip(text)
