"""Checks the addresses of a configuration."""

import ipaddress
import os
import re
from typing import Final

from pymosn.core.addresses import UNIX, port_number, split_address

#: Bytes of `sun_path` without its closing NUL (unix(7)).
LONGEST_PATH: Final = 107

_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


def is_ip(text: str) -> bool:
    """Whether a text is an IP address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(text: str) -> bool:
    """Whether a text is an IP address that only this machine reaches."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_host_name(text: str) -> bool:
    """Whether a text is a host name, without a port."""
    return _NAME.fullmatch(text) is not None


def listen_fault(address: str) -> str | None:
    """The error of an address to listen on, None if it is valid. An empty host means all addresses."""
    try:
        host, _ = split_address(address)
    except ValueError as error:
        return str(error)
    return None if host in ("", "localhost") or is_ip(host) else "the host must be an IP address"


def path_fault(path: str) -> str | None:
    """The error of the path of a unix socket, None if it is valid."""
    if not path:
        return "the path of the unix socket is missing"
    if "\0" in path or path.startswith("@"):
        return "abstract unix sockets are not supported; write a path"
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        return f"the path of a unix socket can have at most {LONGEST_PATH} bytes; this one has {size}"
    return None


def is_port_only(address: str) -> bool:
    """Whether the address of a host is a port without a host, such as `:80`."""
    return address.startswith(":") and port_number(address[1:]) > 0


def host_fault(address: str) -> str | None:
    """The error of the address of an upstream host, None if it is valid. Names are allowed."""
    if address.startswith(UNIX):
        return path_fault(address.removeprefix(UNIX))
    try:
        host, port = split_address(address)
    except ValueError as error:
        return str(error)
    if port == 0:
        return "the port must not be 0"
    if not host:
        return "the host is missing"
    if re.fullmatch(r"[0-9.]+", host) or ":" in host:
        return None if is_ip(host) else "not an IP address"
    if not is_host_name(host):
        return "not an IP address or a host name"
    return None
