"""Names of hosts: how often they are resolved, and by which servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.config.schema import Cluster
from pymosn.config.schema.cluster import DnsResolvers
from pymosn.control.xds.convert.endpoints import read_address
from pymosn.control.xds.convert.view import View
from pymosn.core.addresses import split_address

REFRESH_RATE: Final = 5.0
#: An extension with the settings of a DNS cluster.
DNS_CLUSTER: Final = "envoy.extensions.clusters.dns.v3.DnsCluster"
_CARES: Final = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
_SYSTEM: Final = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
#: `dns_lookup_family` -> ours, which has no lookups of both.
_FAMILIES: Final[Mapping[str, str]] = {
    "AUTO": "V4_ONLY",
    "UNSPECIFIED": "V4_ONLY",
    "V4_ONLY": "V4_ONLY",
    "V4_PREFERRED": "V4_ONLY",
    "V6_ONLY": "V6_ONLY",
    "ALL": "V4_ONLY",
}


def read_dns(cluster: Cluster, view: View) -> None:
    """Reads the fields of a cluster about DNS."""
    _read_rate(cluster, view)
    view.refuse("dns_resolvers", "deprecated, not supported: use typed_dns_resolver_config")
    view.refuse("dns_resolution_config", "deprecated, not supported: use typed_dns_resolver_config")
    if view.value("use_tcp_for_dns_lookups"):
        view.warn("use_tcp_for_dns_lookups", "has no effect: names are looked up by UDP first")


def read_dns_cluster(cluster: Cluster, view: View | None) -> None:
    """Reads a `DnsCluster`, the newer form of the types STRICT_DNS and LOGICAL_DNS."""
    if view is None:
        return
    with view:
        cluster.type = "LOGICAL_DNS" if view.value("all_addresses_in_single_endpoint") else "STRICT_DNS"
        _read_rate(cluster, view)


def _read_rate(cluster: Cluster, view: View) -> None:
    rate = view.seconds("dns_refresh_rate")
    if rate is not None and rate <= 0.0:
        view.fault("dns_refresh_rate", "must be above 0")
    if rate is not None:
        cluster.dns_refresh_rate = rate
    family = view.enum("dns_lookup_family")
    is_dns = cluster.type in ("STRICT_DNS", "LOGICAL_DNS")
    if family not in _FAMILIES:
        view.fault("dns_lookup_family", f"unknown value {family}")
    elif is_dns:
        cluster.dns_lookup_family = _FAMILIES[family]
        if family not in ("V4_ONLY", "V6_ONLY"):
            view.warn("dns_lookup_family", f"{family} is not supported: names are resolved to IPv4 addresses")
    respects_ttl = bool(view.value("respect_dns_ttl"))
    resolvers = _resolvers(view.inner("typed_dns_resolver_config"))
    if is_dns:
        cluster.respect_dns_ttl, cluster.dns_resolvers = respects_ttl, resolvers


def _resolvers(view: View | None) -> DnsResolvers | None:
    """The servers of a `TypedExtensionConfig`; None for those of the system."""
    if view is None:
        return None
    with view:
        view.value("name")
        inner = view.typed("typed_config")
        if inner is None:
            return None
        if inner.type_name not in (_CARES, _SYSTEM):
            inner.fault("", f"{inner.type_name} is not supported")
            return None
        with inner:
            return _cares(inner) if inner.type_name == _CARES else None


def _cares(view: View) -> DnsResolvers | None:
    """The settings of c-ares, as far as they decide what is asked; None without servers."""
    servers = [_server(item) for item in view.items("resolvers")]
    view.value("use_resolvers_as_fallback")
    timeout, tries = view.wrapped("query_timeout_seconds") or 0, view.wrapped("query_tries") or 0
    options = view.inner("dns_resolver_options")
    if options is not None:
        with options:
            options.value("use_tcp_for_dns_lookups")
            options.value("no_default_search_domain")
    pairs = [server for server in servers if server is not None]
    ports = {port for _, port in pairs}
    if len(ports) > 1:
        view.fault("resolvers", "servers with different ports are not supported")
    if not pairs:
        return None
    hosts = [host.strip("[]") for host, _ in pairs]
    return DnsResolvers(servers=hosts, port=str(ports.pop()), timeout=timeout, attempts=tries)


def _server(view: View) -> tuple[str, int] | None:
    """IP address and port of a name server; None with a fault."""
    address = read_address(view, has_names=False)
    if not address:
        return None
    try:
        return split_address(address)
    except ValueError as error:
        view.fault("", f"not the address of a name server: {error}")
        return None
