"""Cross-field validation: references, duplicates, addresses, and features that are not implemented in this version.

listeners  listeners and access logs            filters    network, stream and listener filters, and their settings
routes     router tables, rewrites, headers     clusters   clusters and hosts
addresses  addresses of listeners and hosts        admin      the admin API
names      names that xDS may add
udp        UDP listeners
accounts   users, groups, modes of files            paths      names of files, and which of them changes may name
tls        TLS contexts                            protocols  protocols, and which are spoken to hosts
connections  TCP connections                   extensions  extensions of the process
metrics  sinks of metrics                          tracing, trace_drivers
absent  what MOSN has and pymosn has not
"""

from collections.abc import Collection

from pymosn.config.check.absent import check_absent
from pymosn.config.check.accounts import check_identity
from pymosn.config.check.admin import check_admin, check_pprof
from pymosn.config.check.clusters import check_clusters
from pymosn.config.check.extensions import check_extensions
from pymosn.config.check.filters import check_filter_clusters
from pymosn.config.check.listeners import ORIGINAL_DST, check_server
from pymosn.config.check.metrics import check_metrics
from pymosn.config.check.names import OpenNames
from pymosn.config.check.paths import check_path_names
from pymosn.config.check.protocols import ways_out
from pymosn.config.check.proxy_protocol import check_proxied_clusters
from pymosn.config.check.routes import check_tables
from pymosn.config.check.trace_drivers import check_trace_driver
from pymosn.config.check.tracing import check_tracing
from pymosn.config.check.udp import check_datagram_hosts
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import MosnConfig


def check(config: MosnConfig, report: Diagnostics, stream_filters: Collection[str] = ()) -> None:
    """Adds all errors of `config` to `report`. `stream_filters`: the names of filters of installed packages."""
    _check_server_count(config, report)
    if config.admin is not None:
        check_admin(config.admin, report)
    if config.pprof is not None:
        check_pprof(config.pprof, config.admin, report)
    if config.metrics is not None:
        check_metrics(config.metrics, report)
    check_absent(config, report)
    check_trace_driver(config, report)
    check_identity(config, report)
    check_extensions(config, report)
    check_path_names(config, report)
    listeners = [listener for server in config.servers for listener in server.listeners]
    redirects = any(listener.use_original_dst in ORIGINAL_DST for listener in listeners)
    if config.tracing is not None:
        names: Collection[str] = {listener.known_name() for listener in listeners}
        check_tracing(config.tracing, report, OpenNames(names) if config.uses_xds() else names)
    check_clusters(config.cluster_manager, report, redirects)
    check_datagram_hosts(listeners, config.cluster_manager.clusters, report)
    ways = ways_out(config)
    check_proxied_clusters(config, report, ways)
    cluster_names: Collection[str] = {cluster.name for cluster in config.cluster_manager.clusters}
    if config.uses_xds():
        cluster_names = OpenNames(cluster_names)
    for i, server in enumerate(config.servers):
        check_server(server, f"servers[{i}]", report, stream_filters, cluster_names)
        check_tables(server, f"servers[{i}]", report, cluster_names, ways)
        for j, listener in enumerate(server.listeners):
            check_filter_clusters(listener, f"servers[{i}].listeners[{j}]", report, cluster_names)


def _check_server_count(config: MosnConfig, report: Diagnostics) -> None:
    if not config.uses_xds() and (config.dynamic_resources is not None or config.static_resources is not None):
        there, missing = "static_resources", "dynamic_resources"
        if config.static_resources is None:
            there, missing = missing, there
        report.error(missing, f"missing: {there} needs it, because xDS needs both")
    if len(config.servers) > 1:
        report.error("servers[1]", "only one server is supported, as in MOSN")
    elif not config.servers:
        report.error("servers", "exactly one server is required")
