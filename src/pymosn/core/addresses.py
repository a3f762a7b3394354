"""Addresses as MOSN writes them: `127.0.0.1:80`, `[::1]:80`, `:80`, `name:80`; of hosts also `unix:/path`."""

from __future__ import annotations

import socket
from typing import Final

#: How a socket of both families shows an IPv4 address (RFC 4291 section 2.5.5.2).
MAPPED: Final = "::ffff:"


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets) and port. ValueError with a message fit for the user."""
    host, colon, port_text = address.rpartition(":")
    if not colon:
        raise ValueError("a port is missing; write host:port")
    if host.startswith("["):
        if not host.endswith("]"):
            raise ValueError("the closing ] of an IPv6 address is missing")
        host = host[1:-1]
        if ":" not in host:
            raise ValueError("[ ] stand around IPv6 addresses only")
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, such as [::1]:80")
    if not (port_text.isascii() and port_text.isdigit() and int(port_text[:6]) <= 65535 and len(port_text) <= 5):
        raise ValueError("the port must be a number from 0 to 65535")
    return host, int(port_text)


def normal_ip(text: str) -> str:
    """An IP address in its one normal form, a mapped IPv4 address as IPv4; empty for anything else."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        normal = socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        return ""
    return normal.removeprefix(MAPPED) if "." in normal else normal
