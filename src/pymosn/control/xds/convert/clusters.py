"""`envoy.config.cluster.v3.Cluster` -> a cluster of our schema. A cluster of type EDS has no hosts yet.

cluster_balancing  load balancing, subsets      cluster_health  health checks, outliers, circuit breakers
cluster_http       protocols and connections    cluster_dns     names and resolvers

Defaults are Envoy's: a panic threshold of 50 %, 5 seconds to connect, 1024 connections, HTTP/1.1, ...
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pymosn.config.schema import Cluster, TlsContext
from pymosn.config.schema.cluster import OriginalDstConfig, TlsMatch
from pymosn.control.xds.convert.cluster_balancing import read_balancing
from pymosn.control.xds.convert.cluster_dns import DNS_CLUSTER, read_dns, read_dns_cluster
from pymosn.control.xds.convert.cluster_health import read_breakers, read_health_check, read_outliers
from pymosn.control.xds.convert.cluster_http import read_protocols, read_tcp_keepalive
from pymosn.control.xds.convert.endpoints import ConvertedEndpoints, convert_endpoints, with_endpoints
from pymosn.control.xds.convert.filter_alpn import keeps_alpn
from pymosn.control.xds.convert.labels import read_istio, struct_texts
from pymosn.control.xds.convert.messages import type_of
from pymosn.control.xds.convert.sources import Source, read_source
from pymosn.control.xds.convert.tls import upstream_tls
from pymosn.control.xds.convert.view import View

CONNECT_TIMEOUT: Final = 5.0
_RAW_BUFFER: Final = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
#: Filters of clusters that may be left out, by name.
_HARMLESS_FILTERS: Final = ("istio.metadata_exchange",)


class EdsSource(NamedTuple):
    """The assignment with the hosts of a cluster: its name, and where it comes from."""

    name: str
    source: Source


class ConvertedCluster(NamedTuple):
    """A cluster, without hosts if `eds` names their source.

    `weighs_localities`: the weights of localities in its endpoints have an effect. `waits`: false if the start need not wait
    for its endpoints and secrets.
    """

    cluster: Cluster
    eds: EdsSource | None = None
    weighs_localities: bool = False
    waits: bool = True

    def with_endpoints(self, endpoints: ConvertedEndpoints) -> Cluster:
        """The cluster with the hosts of its assignment."""
        return with_endpoints(self.cluster, endpoints, self.weighs_localities)


def convert_cluster(view: View) -> ConvertedCluster:
    """A cluster; faults and warnings are in the view's report."""
    with view:
        cluster = Cluster(name=str(view.value("name")))
        if not cluster.name:
            view.fault("name", "missing")
        connect_timeout = view.seconds("connect_timeout")
        if connect_timeout is not None and connect_timeout <= 0.0:
            view.fault("connect_timeout", "must be above 0")
        cluster.connect_timeout = CONNECT_TIMEOUT if connect_timeout is None else connect_timeout
        cluster.conn_buffer_limit_bytes = view.wrapped("per_connection_buffer_limit_bytes") or 0
        wait = view.wrapped("wait_for_warm_on_init")
        eds = _read_type(cluster, view)
        read_dns(cluster, view)
        weighs = read_balancing(cluster, view)
        cluster.circuit_breakers = read_breakers(view.inner("circuit_breakers"))
        cluster.health_check = read_health_check(view)
        cluster.outlier_detection = read_outliers(view.inner("outlier_detection"))
        _read_security(cluster, view)
        read_protocols(cluster, view)
        cluster.keep_alpn = keeps_alpn(view.inner("metadata"))
        read_tcp_keepalive(cluster, view.inner("upstream_connection_options"))
        _read_bind(cluster, view.inner("upstream_bind_config"))
        _read_filters(view)
        cluster.istio = read_istio(view.inner("metadata"))
        _read_original(cluster, view.inner("original_dst_lb_config"))
        _refuse_others(view)
        converted = ConvertedCluster(cluster, eds, weighs, wait is not False)
        return _with_assignment(converted, view)


def _read_type(cluster: Cluster, view: View) -> EdsSource | None:
    """Reads how the hosts are found."""
    custom = view.inner("cluster_type")
    if custom is not None:
        with custom:
            name = custom.value("name")
            if type_of(custom.message.typed_config.type_url) == DNS_CLUSTER:
                read_dns_cluster(cluster, custom.typed("typed_config"))
            else:
                custom.value("typed_config")
                custom.fault("", f"clusters of type {name} are not supported")
        return None
    kind = cluster.type = view.enum("type")
    if kind not in ("STATIC", "STRICT_DNS", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"):
        view.fault("type", f"unknown type {kind}")
    if kind != "EDS":
        view.refuse("eds_cluster_config", f"is only for clusters of type EDS, not {kind}")
        return None
    block = view.inner("eds_cluster_config")
    if block is None:
        view.fault("eds_cluster_config", "missing: the type is EDS")
        return None
    with block:
        inner = block.inner("eds_config")
        source = Source() if inner is None else read_source(inner)
        return None if source is None else EdsSource(str(block.value("service_name")) or cluster.name, source)


def _with_assignment(converted: ConvertedCluster, view: View) -> ConvertedCluster:
    """Adds the hosts of an assignment inside the cluster."""
    kind = converted.cluster.type
    inner = view.inner("load_assignment")
    if inner is None:
        return converted
    if kind in ("EDS", "ORIGINAL_DST"):
        inner.fault("", f"is not for clusters of type {kind}")
        return converted
    endpoints = convert_endpoints(inner, has_names=kind in ("STRICT_DNS", "LOGICAL_DNS"))
    if kind == "LOGICAL_DNS" and len(endpoints.hosts) != 1:
        inner.fault("", f"a cluster of type LOGICAL_DNS needs one endpoint, not {len(endpoints.hosts)}")
    return converted._replace(cluster=converted.with_endpoints(endpoints))


# ---- security


def _read_security(cluster: Cluster, view: View) -> None:
    """Reads TLS: of the cluster, and of hosts with labels."""
    view.refuse("transport_socket_matcher", "not supported: TLS of hosts is selected by their metadata only")
    cluster.tls_context = _socket(view.inner("transport_socket"))
    for match in view.items("transport_socket_matches"):
        with match:
            context = _socket(match.inner("transport_socket"))
            struct = match.value("match")
            labels = struct_texts(struct, match, "match")
            name = str(match.value("name"))
            cluster.tls_matches.append(TlsMatch(name=name, labels=labels, tls_context=context))


def _socket(view: View | None) -> TlsContext | None:
    """The TLS context of a `TransportSocket`; None for plain connections."""
    if view is None:
        return None
    with view:
        name = str(view.value("name"))
        inner = view.typed("typed_config")
        if inner is None:
            if not view.has("typed_config") and name != "envoy.transport_sockets.raw_buffer":
                view.fault("typed_config", f"missing for {name}")
            return None
        if inner.type_name == _RAW_BUFFER:
            inner.close()
            return None
        if inner.type_name == _TLS:
            return upstream_tls(inner)
        inner.fault("", f"{inner.type_name} is not supported")
        return None


# ---- the rest


def _read_bind(cluster: Cluster, view: View | None) -> None:
    """Reads the local address of connections."""
    if view is None:
        return
    with view:
        source = view.inner("source_address")
        if source is not None:
            with source:
                address, port = str(source.value("address")), int(source.value("port_value"))
                source.enum("protocol")
                if port:
                    source.fault("port_value", "a fixed local port is not supported")
                if address not in ("0.0.0.0", "::"):
                    cluster.bind_address = address
        if view.wrapped("freebind"):
            view.fault("freebind", "not supported")
        view.refuse("socket_options", "socket options are not supported")
        for name in ("extra_source_addresses", "additional_source_addresses", "local_address_selector"):
            view.refuse(name, "a single local address is supported")


def _read_filters(view: View) -> None:
    """Reads the network filters of upstream connections, of which none can be run."""
    for item in view.items("filters"):
        with item:
            name = str(item.value("name"))
            item.value("typed_config")
            if name not in _HARMLESS_FILTERS:
                item.fault("", f"upstream filter {name} is not supported")
            else:
                item.report.ignored[f"upstream filter {name}"] += 1


def _read_original(cluster: Cluster, view: View | None) -> None:
    """Reads how a cluster of type ORIGINAL_DST finds the destination."""
    block = None
    if view is not None:
        with view:
            uses_header = bool(view.value("use_http_header"))
            header = str(view.value("http_header_name")) or "x-envoy-original-dst-host"
            block = OriginalDstConfig(use_header=uses_header, header_name=header)
            view.refuse("upstream_port_override", "a port other than the destination's is not supported")
            view.refuse("metadata_key", "destinations in metadata are not supported")
    if cluster.type != "ORIGINAL_DST":
        return
    cluster.original_dst_lb_config = block
    cluster.lb_type = "LB_ORIGINAL_DST"


def _refuse_others(view: View) -> None:
    """Refuses what has a meaning that cannot be kept."""
    view.refuse("upstream_config", "other kinds of upstreams are not supported")
    if view.value("connection_pool_per_downstream_connection"):
        view.fault("connection_pool_per_downstream_connection", "not supported: connections are shared by clients")
    if view.value("close_connections_on_host_health_failure"):
        message = "has no effect: requests in flight at a host that has become unhealthy may finish"
        view.warn("close_connections_on_host_health_failure", message)
