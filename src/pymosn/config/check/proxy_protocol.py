"""Checks of the PROXY protocol, in and out."""

from __future__ import annotations

from ipaddress import ip_network

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Listener


def check_proxy_protocol(listener: Listener, path: str, report: Diagnostics) -> None:
    """Finds errors in the `proxy_protocol` of a listener; `path`: the listener's."""
    block = listener.proxy_protocol
    if block is None:
        return
    path = f"{path}.proxy_protocol"
    network = listener.network.lower()
    if network == "udp":
        report.error(path, "UDP listeners do not support the PROXY protocol")
    elif network == "unix":
        if block.trusted_prefixes:
            problem = "have no effect: peers on a unix socket have no address, and all are trusted; see `mode`"
            report.warning(f"{path}.trusted_prefixes", problem)
    elif not block.trusted_prefixes:
        problem = "must name the networks of the load balancers: anybody else could claim any address"
        report.error(f"{path}.trusted_prefixes", problem)
    for i, prefix in enumerate(block.trusted_prefixes):
        try:
            ip_network(prefix, strict=False)
        except ValueError as error:
            report.error(f"{path}.trusted_prefixes[{i}]", str(error), prefix)
