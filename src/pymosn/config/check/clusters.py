"""Checks clusters and their hosts."""

from collections.abc import Collection
from functools import partial
from importlib.util import find_spec
from typing import Final

from pymosn.api.network import LONGEST_ATTEMPT_DELAY, SHORTEST_ATTEMPT_DELAY
from pymosn.config.check.addresses import host_fault, is_ip, is_port_only
from pymosn.config.check.connections import check_tcp_keepalive
from pymosn.config.check.protocols import check_protocol
from pymosn.config.check.spread import check_spread
from pymosn.config.check.tls import check_cluster_tls, check_manager_tls
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Cluster, ClusterManager
from pymosn.config.schema.cluster import HealthCheck
from pymosn.core.address_ranges import parse_network, port_ranges
from pymosn.core.addresses import UNIX, port_number
from pymosn.core.headers import is_token
from pymosn.upstream.balancers import balancers

MAX_WEIGHT: Final = 128
#: The largest window of HTTP/2 (RFC 9113 section 6.9.1).
MAX_WINDOW: Final = 2**31 - 1
#: SO_MARK has 32 bits.
MAX_MARK: Final = 2**32 - 1
TYPES: Final = frozenset({"SIMPLE", "STATIC", "DYNAMIC", "EDS", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST"})
DNS_TYPES: Final = ("STRICT_DNS", "LOGICAL_DNS")
ORIGINAL_BALANCER: Final = "LB_ORIGINAL_DST"
BALANCERS: Final = frozenset({*balancers().names(), ORIGINAL_BALANCER})
#: Known values of `health_check.protocol`, in lower case; only the first four do more than connect.
PROBES: Final = ("http1", "http", "http2", "grpc", "tcp", "bolt", "boltv2", "sofarpc", "dubbo", "tars", "x")
FAMILIES: Final = ("V4_ONLY", "V6_ONLY")


def check_clusters(manager: ClusterManager, report: Diagnostics, redirects: bool) -> None:
    """Check all clusters.

    `redirects`: whether a listener determines the original destination of redirected clients.
    """
    check_manager_tls(manager, report)
    seen: dict[str, str] = {}
    for i, cluster in enumerate(manager.clusters):
        path = f"cluster_manager.clusters[{i}]"
        if not cluster.name:
            report.error(f"{path}.name", "a cluster needs a name")
        elif (earlier := seen.setdefault(cluster.name, path)) != path:
            message = f"replaces the cluster of the same name in {report.line(earlier)}, as in MOSN"
            report.warning(f"{path}.name", message, cluster.name)
        _check_cluster(cluster, path, report, redirects)
        check_cluster_tls(cluster, manager, path, report)


def _check_cluster(cluster: Cluster, path: str, report: Diagnostics, redirects: bool) -> None:
    _check_names(cluster, path, report)
    _check_probe(cluster, path, report)
    _check_dns(cluster, path, report)
    _check_balancing(cluster, path, report)
    if cluster.upstream_protocol:
        check_protocol(cluster.upstream_protocol, f"{path}.upstream_protocol", report)
    if cluster.http2 is not None:
        for key, least in (("initial_stream_window_size", 1), ("initial_connection_window_size", 65535)):
            size = getattr(cluster.http2, key)
            if not least <= size <= MAX_WINDOW:
                report.error(f"{path}.http2.{key}", f"must be from {least} to {MAX_WINDOW}", size)
    check_tcp_keepalive(cluster.tcp_keepalive, f"{path}.tcp_keepalive", report)
    if not SHORTEST_ATTEMPT_DELAY <= cluster.connect_attempt_delay <= LONGEST_ATTEMPT_DELAY:
        report.error(f"{path}.connect_attempt_delay", "must be from 10ms to 2s", cluster.connect_attempt_delay)
    if cluster.mark > MAX_MARK:
        report.error(f"{path}.mark", f"must be at most {MAX_MARK}", cluster.mark)
    _check_breakers(cluster, path, report)
    check_spread(cluster, path, report)
    if is_original(cluster):
        _check_original(cluster, path, report, redirects)
    elif not cluster.hosts:
        report.warning(f"{path}.hosts", "no hosts: requests for this cluster are answered 502")
    seen: dict[str, str] = {}
    for i, host in enumerate(cluster.hosts):
        host_path = f"{path}.hosts[{i}].address"
        if is_port_only(host.address):
            report.odd(host_path, "the host is missing: that port of this machine, as in MOSN", host.address)
        elif (fault := host_fault(host.address)) and host.address.startswith(UNIX):
            report.error(host_path, fault, host.address)
        elif fault:
            report.odd(host_path, f"{fault}; left out: MOSN never gets a connection to it", host.address)
        elif (earlier := seen.setdefault(host.address, host_path)) != host_path:
            message = f"duplicate address, already used in {report.line(earlier)}"
            report.warning(host_path, message, host.address)


def _check_breakers(cluster: Cluster, path: str, report: Diagnostics) -> None:
    """Check that a single entry counts."""
    used = False
    for i, block in enumerate(cluster.circuit_breakers):
        if block.priority == "HIGH":
            report.warning(f"{path}.circuit_breakers[{i}].priority", "has no effect: requests have no priority", "HIGH")
        elif used:
            message = "has no effect: only the first entry of its priority counts, as in MOSN"
            report.warning(f"{path}.circuit_breakers[{i}]", message)
        else:
            used = True


def is_original(cluster: Cluster) -> bool:
    """Whether the cluster's hosts are the original destinations of its clients."""
    return cluster.type == "ORIGINAL_DST" or cluster.lb_type == ORIGINAL_BALANCER


def _check_original(cluster: Cluster, path: str, report: Diagnostics, redirects: bool) -> None:
    block = cluster.original_dst_lb_config
    if not redirects and (block is None or not block.use_header):
        message = "no listener has use_original_dst, and use_header is not set: requests for this cluster are answered 502"
        report.warning(f"{path}.type", message, cluster.type)
    if block is not None and block.use_header and not is_token((block.header_name or "host").encode(errors="replace")):
        report.error(f"{path}.original_dst_lb_config.header_name", "not a header name", block.header_name)
    for i, entry in enumerate(block.allowed_destinations if block is not None else ()):
        entry_path = f"{path}.original_dst_lb_config.allowed_destinations[{i}]"
        for key, parse, value in (
            ("network", partial(parse_network, is_exact=True), entry.network),
            ("ports", port_ranges, entry.ports),
        ):
            try:
                parse(value)
            except ValueError as error:
                report.error(f"{entry_path}.{key}", str(error) if value else "missing network", value)
    message = "has no effect in an ORIGINAL_DST cluster: the hosts are the clients' original destinations"
    for key in ("hosts", "health_check", "outlier_detection", "lb_subset_config", "slow_start"):
        if getattr(cluster, key):
            report.warning(f"{path}.{key}", message)


def _check_names(cluster: Cluster, path: str, report: Diagnostics) -> None:
    kind, balancer = cluster.type, cluster.lb_type
    if kind and kind not in TYPES:
        report.warning(f"{path}.type", "unknown cluster type; using SIMPLE, as MOSN does", kind, TYPES)
    path = f"{path}.lb_type"
    if balancer and balancer not in BALANCERS:
        report.warning(path, "unknown load balancer; using LB_ROUNDROBIN, as MOSN does", balancer, BALANCERS)
    elif kind == "ORIGINAL_DST" and balancer not in ("", "LB_ROUNDROBIN", ORIGINAL_BALANCER):
        report.warning(path, f"has no effect: ORIGINAL_DST uses {ORIGINAL_BALANCER}, as in MOSN", balancer)


def _check_probe(cluster: Cluster, path: str, report: Diagnostics) -> None:
    """Check which kind of probe the health check results in."""
    check = cluster.health_check
    if check is None:
        return
    _check_payloads(check, path, report)
    if not check.protocol:
        return
    name, inner = check.protocol.lower(), f"{path}.health_check.protocol"
    has_settings = check.check_config is not None and check.check_config.http_check_config is not None
    if name not in PROBES:
        report.warning(inner, "unknown; the check only opens a connection, as in MOSN", check.protocol, PROBES)
    elif name in ("http1", "http", "http2") and not has_settings:
        message = "the check only opens a connection: an HTTP check needs check_config.http_check_config"
        report.warning(inner, message, check.protocol)
    if name != "grpc" and check.check_config is not None and check.check_config.grpc_check_config is not None:
        message = "has no effect: the protocol of the check is not grpc"
        report.warning(f"{path}.health_check.check_config.grpc_check_config", message)


def _check_payloads(check: HealthCheck, path: str, report: Diagnostics) -> None:
    """Check what a check sends besides its request: bytes of TCP, and headers."""
    inner = f"{path}.health_check.check_config"
    config = check.check_config
    tcp = None if config is None else config.tcp_check_config
    http = None if config is None else config.http_check_config
    if tcp is not None:
        if check.protocol.lower() != "tcp":
            report.warning(f"{inner}.tcp_check_config", "has no effect: the protocol of the check is not tcp")
        texts = {"send": tcp.send, **{f"receive[{i}]": text for i, text in enumerate(tcp.receive)}}
        for key, text in texts.items():
            try:
                bytes.fromhex(text)
            except ValueError:
                report.error(f"{inner}.tcp_check_config.{key}", "not in hexadecimal", text)
            if key != "send" and not text:
                report.error(f"{inner}.tcp_check_config.{key}", "must not be empty")
    for name, value in http.headers.items() if http is not None else ():
        if not is_token(name.encode(errors="replace")) or not is_field_value(value):
            report.error(f"{inner}.http_check_config.headers", "not a valid header", name)


def is_field_value(value: str) -> bool:
    """Whether a text can be the value of a header."""
    return value.isprintable() and value.isascii()


def _check_dns(cluster: Cluster, path: str, report: Diagnostics) -> None:
    if cluster.dns_lookup_family not in ("", *FAMILIES):
        message = "unknown; using V4_ONLY, as MOSN does"
        report.warning(f"{path}.dns_lookup_family", message, cluster.dns_lookup_family, FAMILIES)
    block = cluster.dns_resolvers
    keys = cluster.server_keys()
    if keys and cluster.type not in DNS_TYPES:
        report.warning(f"{path}.{keys[0]}", "has no effect: only STRICT_DNS and LOGICAL_DNS clusters use it", cluster.type)
        return
    if keys and find_spec("dns") is None:
        report.error(
            f"{path}.{keys[0]}", "custom DNS servers require the optional dependency `dns`: pip install 'pymosn[dns]'"
        )
    for i, server in enumerate(block.servers if block is not None else ()):
        if not is_ip(server):
            report.error(f"{path}.dns_resolvers.servers[{i}]", "not an IP address", server)
    ports = {"dns_resolver_port": cluster.dns_resolver_port}
    if block is not None:
        ports["dns_resolvers.port"] = block.port
    for key, port in ports.items():
        if port and port_number(port) < 1:
            report.error(f"{path}.{key}", "not a port", port)


def _check_balancing(cluster: Cluster, path: str, report: Diagnostics) -> None:
    for i, host in enumerate(cluster.hosts):
        if not 1 <= host.weight <= MAX_WEIGHT:
            message = f"out of range; using {min(max(host.weight, 1), MAX_WEIGHT)}, as MOSN does"
            report.warning(f"{path}.hosts[{i}].weight", message, host.weight)
    subset = cluster.lb_subset_config
    if subset is not None and subset.fall_back_policy > 2:
        message = "invalid policy (expected 0 none, 1 any host, 2 default_subset); using 0, as MOSN does"
        report.warning(f"{path}.lb_subset_config.fall_back_policy", message, subset.fall_back_policy)
    slow = cluster.slow_start
    if slow is not None and slow.mode and slow.mode != "duration":
        report.add("warning", f"{path}.slow_start.mode", "unknown mode: no slow start", slow.mode, "duration")
    for key in ("aggression", "min_weight_percent") if slow is not None else ():
        if getattr(slow, key) <= 0:
            report.odd(f"{path}.slow_start.{key}", "not positive: the default is used, as in MOSN", getattr(slow, key))
    ejection = cluster.outlier_detection
    count = len({host.address for host in cluster.hosts})
    if ejection is not None and count and ejection.max_ejection_percent * count < 100:
        message = f"has no effect with {count} host{'s' if count > 1 else ''}: a single host already exceeds that percentage"
        report.warning(f"{path}.outlier_detection.max_ejection_percent", message, ejection.max_ejection_percent)


def check_cluster_name(name: str, path: str, report: Diagnostics, clusters: Collection[str], fate: str) -> None:
    """Check that a cluster exists; `fate`: what happens otherwise, here and in MOSN."""
    if not name:
        report.odd(path, f"missing cluster name: {fate}, as in MOSN")
    elif name not in clusters:
        report.odd(path, f"unknown cluster: {fate}, as in MOSN", name, clusters)
