"""Resources of xDS by number: many clusters of EDS with their endpoints, tables of many routes, and listeners."""

from __future__ import annotations

from typing import Final

from envoy.config.cluster.v3.cluster_pb2 import Cluster as ClusterMessage
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener as ListenerMessage
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as managers

#: Routes of one table.
ROUTES_PER_TABLE: Final = 1000


def cluster(i: int, timeout: float = 1.0) -> ClusterMessage:
    """A cluster of EDS. `timeout`: of connecting, in seconds."""
    made = ClusterMessage(name=f"c{i}", type=ClusterMessage.EDS)
    made.eds_cluster_config.eds_config.ads.SetInParent()
    made.connect_timeout.FromMilliseconds(int(timeout * 1e3))
    return made


def endpoints(i: int, hosts: int, more: int = 0) -> ClusterLoadAssignment:
    """The endpoints of a cluster. `more`: the number of one more, if any."""
    made = ClusterLoadAssignment(cluster_name=f"c{i}")
    group = made.endpoints.add()
    for j in range(1, hosts + 1):
        socket = group.lb_endpoints.add().endpoint.address.socket_address
        socket.address, socket.port_value = f"10.{i >> 8 & 255}.{i & 255}.{j}", 80
    if more:
        socket = group.lb_endpoints.add().endpoint.address.socket_address
        socket.address, socket.port_value = f"10.255.{more >> 8}.{more & 255}", 80
    return made


def table(k: int, clusters: int, prefix: str = "") -> RouteConfiguration:
    """A table of ROUTES_PER_TABLE routes in virtual hosts of ten, which name clusters in turn."""
    made = RouteConfiguration(name=f"t{k}")
    for j in range(ROUTES_PER_TABLE // 10):
        host = made.virtual_hosts.add(name=f"h{j}", domains=[f"h{j}.t{k}.example"])
        for n in range(10):
            route = host.routes.add()
            route.match.prefix = f"/{prefix}{n}"
            route.route.cluster = f"c{(k * ROUTES_PER_TABLE + j * 10 + n) % clusters}"
    return made


def listener(k: int) -> ListenerMessage:
    """A listener of a table, which binds no port."""
    made = ListenerMessage(name=f"l{k}")
    made.bind_to_port.value = False
    made.address.socket_address.address, made.address.socket_address.port_value = "127.0.0.1", 20000 + k
    manager = managers.HttpConnectionManager(stat_prefix="x")
    manager.rds.route_config_name = f"t{k}"
    manager.rds.config_source.ads.SetInParent()
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.Pack(Router())
    chain = made.filter_chains.add()
    chain.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.Pack(manager)
    return made
