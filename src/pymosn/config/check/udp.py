"""Checks UDP listeners: only `udp_proxy` handles them, and what needs connections is rejected."""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Cluster, Listener
from pymosn.config.schema.network_filters import StreamProxyConfig, UdpProxyFilter
from pymosn.core.addresses import UNIX

#: Keys that have no meaning without connections, and the reason.
_UNSUPPORTED: Final = (
    ("stream_filters", "stream filters need requests; datagrams have none"),
    ("listener_filters", "listener filters need connections"),
    ("use_original_dst", "not supported for udp"),
    ("inspector", "TLS is not supported for udp"),
    ("mode", "only a unix socket has a file"),
    ("user", "only a unix socket has a file"),
    ("group", "only a unix socket has a file"),
)

_DEFAULT: Final = Listener()

#: Checks the cluster and the routes of a layer-4 proxy at a path.
StreamCheck = Callable[[StreamProxyConfig, str], object]


def check_udp_listener(listener: Listener, path: str, report: Diagnostics, check_stream: StreamCheck) -> None:
    """Check everything of a UDP listener but its address, name and logs."""
    for key, problem in _UNSUPPORTED:
        if getattr(listener, key):
            report.error(f"{path}.{key}", problem)
    for key in ("write_timeout", "write_min_rate"):
        if getattr(listener, key) != getattr(_DEFAULT, key):
            report.warning(f"{path}.{key}", "has no effect on datagrams: what cannot be sent at once is dropped")
    if len(listener.filter_chains) != 1:
        place = f"{path}.filter_chains" + ("[1]" if listener.filter_chains else "")
        report.error(place, f"a udp listener needs exactly one filter chain; there are {len(listener.filter_chains)}")
    for i, chain in enumerate(listener.filter_chains):
        inner = f"{path}.filter_chains[{i}]"
        if not isinstance(chain.match, str):
            report.error(f"{inner}.match", "datagrams cannot be matched; the routes of udp_proxy can choose a cluster")
        if chain.tls_contexts():
            report.error(f"{inner}.tls_context", "TLS is not supported for udp")
        for j, entry in enumerate(chain.filters):
            place = f"{inner}.filters[{j}]"
            if report.is_bad(place):
                continue
            if not isinstance(entry, UdpProxyFilter):
                report.error(f"{place}.type", "a udp listener can only have udp_proxy", entry.__struct_config__.tag)
            elif j:
                report.warning(place, "has no effect: the udp_proxy before it takes all datagrams")
            else:
                check_stream(entry.config, f"{place}.config")
                _check_options(entry.config, f"{place}.config", report)
        if not chain.filters:
            report.error(f"{inner}.filters", "a udp listener needs a udp_proxy")
    _check_idle(listener, path, report)


def _check_options(udp: StreamProxyConfig, path: str, report: Diagnostics) -> None:
    if udp.connect_timeout:
        report.warning(f"{path}.connect_timeout", "has no effect on datagrams")
    for i, route in enumerate(udp.routes):
        if route.server_names and not (udp.cluster or udp.weighted_clusters):
            report.warning(f"{path}.routes[{i}].server_names", "never matches: datagrams have no TLS server name")


def _check_idle(listener: Listener, path: str, report: Diagnostics) -> None:
    udp = listener.udp_proxy()
    if listener.connection_idle_timeout == 0 and (udp is None or udp.idle_timeout <= 0):
        report.error(f"{path}.connection_idle_timeout", "must not be 0 for udp: nothing else ends a session")


def check_datagram_hosts(listeners: Iterable[Listener], clusters: Collection[Cluster], report: Diagnostics) -> None:
    """Check that clusters of `udp_proxy` have hosts that datagrams can be sent to."""
    names: set[str] = set()
    for listener in listeners:
        udp = listener.udp_proxy()
        if udp is not None:
            names |= udp.cluster_names()
    for i, cluster in enumerate(clusters):
        if cluster.name not in names:
            continue
        path = f"cluster_manager.clusters[{i}]"
        if cluster.type == "ORIGINAL_DST" or cluster.lb_type == "LB_ORIGINAL_DST":
            report.error(f"{path}.type", "udp_proxy has no original destinations", cluster.type)
        if cluster.cluster_manager_tls or (cluster.tls_context is not None and cluster.tls_context.status):
            report.error(f"{path}.tls_context", "udp_proxy cannot send datagrams over TLS")
        if cluster.proxy_protocol:
            report.error(f"{path}.proxy_protocol", "udp_proxy cannot send the PROXY protocol", cluster.proxy_protocol)
        for j, host in enumerate(cluster.hosts):
            if host.address.startswith(UNIX):
                report.error(f"{path}.hosts[{j}].address", "udp_proxy needs hosts with a port", host.address)
