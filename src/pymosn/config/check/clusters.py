"""Clusters and their hosts."""

from typing import Final

from pymosn.config.check.addresses import host_fault
from pymosn.config.check.report import Report, Seen
from pymosn.config.guess import closest
from pymosn.config.schema import Cluster, ClusterManager, TlsContext
from pymosn.upstream.balancers import balancers

MAX_WEIGHT: Final = 128
BUILT_TYPES: Final = frozenset({"SIMPLE", "STATIC", "DYNAMIC", "EDS", "STRICT_DNS"})
PLANNED_TYPES: Final = {
    "ORIGINAL_DST": "is not built yet: the cluster has no hosts of its own, requests for it are answered 502",
}
BUILT_BALANCERS: Final = frozenset(balancers().names())
PLANNED_BALANCERS: Final = frozenset({"LB_ORIGINAL_DST"})


def check_clusters(manager: ClusterManager, report: Report) -> None:
    """Check all clusters and how they stand to each other."""
    refuse_tls(manager.tls_context, "cluster_manager.tls_context", report)
    seen = Seen()
    for i, cluster in enumerate(manager.clusters):
        path = f"cluster_manager.clusters[{i}]"
        if not cluster.name:
            report.error(f"{path}.name", "a cluster needs a name")
        elif earlier := seen.first(cluster.name, path):
            message = f"replaces the cluster of the same name in {report.line(earlier)}, as in MOSN"
            report.warning(f"{path}.name", message, cluster.name)
        _check_cluster(cluster, path, report)


def refuse_tls(context: TlsContext | None, path: str, report: Report) -> None:
    """TLS that is asked for is refused: serving plain text instead would be dangerous."""
    if context is not None and context.status:
        report.error(f"{path}.status", "TLS is not built yet: refusing to pass plain text instead", True)


def _check_cluster(cluster: Cluster, path: str, report: Report) -> None:
    refuse_tls(cluster.tls_context, f"{path}.tls_context", report)
    if cluster.cluster_manager_tls:
        report.error(f"{path}.cluster_manager_tls", "TLS is not built yet: refusing to pass plain text instead", True)
    _check_type(cluster, path, report)
    _check_balancer(cluster, path, report)
    _check_balancing(cluster, path, report)
    if len(cluster.circuit_breakers) > 1:
        report.warning(f"{path}.circuit_breakers[1]", "has no effect: only the first entry counts, as in MOSN")
    if not cluster.hosts and cluster.type != "ORIGINAL_DST":
        report.warning(f"{path}.hosts", "no hosts: requests for this cluster are answered 502")
    seen = Seen()
    for i, host in enumerate(cluster.hosts):
        host_path = f"{path}.hosts[{i}].address"
        if host.address.startswith("unix:"):
            report.error(host_path, "upstream unix sockets are not built yet", host.address)
        elif fault := host_fault(host.address):
            report.error(host_path, fault, host.address)
        elif earlier := seen.first(host.address, host_path):
            message = f"has no effect: the same address stands in {report.line(earlier)}"
            report.warning(host_path, message, host.address)


def _check_type(cluster: Cluster, path: str, report: Report) -> None:
    kind = cluster.type
    if kind in PLANNED_TYPES:
        report.warning(f"{path}.type", PLANNED_TYPES[kind], kind)
    elif kind and kind not in BUILT_TYPES:
        hint = closest(kind, BUILT_TYPES | PLANNED_TYPES.keys())
        report.warning(f"{path}.type", "unknown cluster type, taken as SIMPLE as in MOSN", kind, hint)


def _check_balancer(cluster: Cluster, path: str, report: Report) -> None:
    name = cluster.lb_type
    if name in PLANNED_BALANCERS:
        report.warning(f"{path}.lb_type", "is not built yet, LB_ROUNDROBIN is used", name)
    elif name and name not in BUILT_BALANCERS:
        hint = closest(name, BUILT_BALANCERS | PLANNED_BALANCERS)
        report.warning(f"{path}.lb_type", "unknown load balancer, LB_ROUNDROBIN is used", name, hint)


def _check_balancing(cluster: Cluster, path: str, report: Report) -> None:
    for i, host in enumerate(cluster.hosts):
        if not 1 <= host.weight <= MAX_WEIGHT:
            message = f"is taken as {min(max(host.weight, 1), MAX_WEIGHT)}, as in MOSN"
            report.warning(f"{path}.hosts[{i}].weight", message, host.weight)
    subset = cluster.lb_subset_config
    if subset is not None and subset.fall_back_policy > 2:
        message = "is no policy (0 none, 1 any host, 2 default_subset); taken as 0, as in MOSN"
        report.warning(f"{path}.lb_subset_config.fall_back_policy", message, subset.fall_back_policy)
    slow = cluster.slow_start
    if slow is not None and slow.mode and slow.mode != "duration":
        report.warning(f"{path}.slow_start.mode", "is not known: no slow start", slow.mode, "duration")
    ejection = cluster.outlier_detection
    count = len({host.address for host in cluster.hosts})
    if ejection is not None and count and ejection.max_ejection_percent * count < 100:
        message = f"has no effect with {count} host{'s' if count > 1 else ''}: one of them is more than that share"
        report.warning(f"{path}.outlier_detection.max_ejection_percent", message, ejection.max_ejection_percent)
