"""Checks the network filter `tcp_proxy`, alone or after a `proxy`."""

from collections.abc import Callable, Collection
from typing import Final

from pymosn.config.check.clusters import check_cluster_name
from pymosn.config.check.report import Report
from pymosn.config.schema.network_filters import CidrRange, StreamProxyConfig, StreamRoute
from pymosn.routing.by_address import address_range, port_ranges

_FATE: Final = "close the connection"


def check_tcp(config: StreamProxyConfig, path: str, report: Report, clusters: Collection[str]) -> None:
    """Check the settings of a `tcp_proxy`."""
    if config.cluster:
        check_cluster_name(config.cluster, f"{path}.cluster", report, clusters, _FATE)
        return  # MOSN's own sample has routes too
    if not config.routes:
        report.error(f"{path}.cluster", "a tcp_proxy needs a cluster or routes (MOSN would close every connection)")
    for i, route in enumerate(config.routes):
        inner = f"{path}.routes[{i}]"
        check_cluster_name(route.cluster, f"{inner}.cluster", report, clusters, _FATE)
        _check_route(route, inner, report)


def _check_route(route: StreamRoute, path: str, report: Report) -> None:
    missing = [
        key for key in ("sourceaddrs", "sourceport", "destinationaddrs", "destinationport") if not getattr(route, key)
    ]
    if missing:
        report.warning(path, f"never matches without {' and '.join(missing)}, as in MOSN")
    for key in ("sourceaddrs", "destinationaddrs"):
        for i, entry in enumerate(getattr(route, key)):
            _check_range(entry, f"{path}.{key}[{i}]", report)
    for key in ("sourceport", "destinationport"):
        _check_text(getattr(route, key), port_ranges, f"{path}.{key}", report)


def _check_range(entry: CidrRange, path: str, report: Report) -> None:
    _check_text(entry.address, lambda text: address_range(text, entry.length), f"{path}.address", report)


def _check_text(text: str, read: Callable[[str], object], path: str, report: Report) -> None:
    try:
        read(text)
    except ValueError as error:
        report.error(path, str(error), text)
