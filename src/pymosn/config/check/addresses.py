"""Addresses as MOSN writes them: `127.0.0.1:80`, `[::1]:80`, `:80`, `name:80`."""

import ipaddress
import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


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


def listen_fault(address: str) -> str | None:
    """What is wrong with an address to listen on, None when it is good. An empty host means all addresses."""
    try:
        host, _ = split_address(address)
        if host and host != "localhost":
            ipaddress.ip_address(host)
    except ValueError as error:
        text = str(error)
        return "the host must be an IP address" if "does not appear" in text else text
    return None


def host_fault(address: str) -> str | None:
    """What is wrong with the address of an upstream host, None when it is good. Names are allowed."""
    try:
        host, port = split_address(address)
    except ValueError as error:
        return str(error)
    if port == 0:
        return "the port must not be 0"
    if not host:
        return "the host is missing"
    if re.fullmatch(r"[0-9.]+", host) or ":" in host:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return "not an IP address"
    elif not _NAME.fullmatch(host):
        return "not an IP address or a host name"
    return None
