"""Checks the `Host` of requests against DNS rebinding.

A web page can give its own host name the address of this machine, and then read the admin API as if it were its own site.
The browser still sends the page's name in `Host`. IP addresses and `localhost` cannot be redefined like that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from pymosn.config.check.addresses import is_ip

#: A name or IPv4 address, or an IPv6 address in brackets; then perhaps a port (RFC 9110, section 7.2).
_HOST: Final = re.compile(r"(?:\[(?P<ip>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+))(?::[0-9]{0,5})?")


class HostError(ValueError):
    """`Host` is missing, repeated or malformed."""


def is_allowed_host(values: Sequence[str], names: Collection[str]) -> bool:
    """Whether the values of `Host` are one IP address, `localhost` or one of `names`, with any port; else HostError."""
    if len(values) != 1:
        raise HostError("the request has no Host" if not values else "the request has several Host fields")
    match = _HOST.fullmatch(values[0].strip(" \t"))
    if match is None or not _is_possible(match["ip"]):
        raise HostError("the Host of the request is malformed")
    if match["ip"] is not None:
        return True
    name = match["name"].lower().removesuffix(".")
    return name == "localhost" or name in names or is_ip(name)


def _is_possible(address: str | None) -> bool:
    """Whether what was in brackets is an IPv6 address, if there was any."""
    return address is None or (":" in address and is_ip(address))
