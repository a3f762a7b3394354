"""The whole MOSN configuration schema as typed blocks, one file per part of it.

top  servers, admin, ...            server      listeners, logs        router      routes and virtual hosts
cluster  clusters and hosts         tls         TLS contexts           network_filters  proxy, tcp_proxy, ...
stream_filters  filters by name     extensions  extends, wasm, codecs  observability    metrics, tracing
Blocks and the marks of keys (works, own, planned, ignored) are those of `filters/settings.py`.
"""

from pymosn.config.schema.cluster import CircuitBreaker, Cluster, ClusterManager, Host
from pymosn.config.schema.network_filters import (
    ConnectionManagerFilter,
    Http1Settings,
    NetworkFilter,
    ProxyConfig,
    ProxyFilter,
)
from pymosn.config.schema.router import (
    DirectResponse,
    Redirect,
    Route,
    RouteAction,
    RouteMatch,
    RouterConfiguration,
    VirtualHost,
    WeightedCluster,
    WeightedTarget,
)
from pymosn.config.schema.server import AccessLog, FilterChain, Listener, Overload, Server, StreamFilter, WorkerLimits
from pymosn.config.schema.tls import TlsContext
from pymosn.config.schema.top import Admin, MosnConfig
from pymosn.filters.settings import Block, HeaderMatch, State

__all__ = [
    "AccessLog",
    "Admin",
    "Block",
    "CircuitBreaker",
    "Cluster",
    "ClusterManager",
    "ConnectionManagerFilter",
    "DirectResponse",
    "FilterChain",
    "HeaderMatch",
    "Host",
    "Http1Settings",
    "Listener",
    "MosnConfig",
    "NetworkFilter",
    "Overload",
    "ProxyConfig",
    "ProxyFilter",
    "Redirect",
    "Route",
    "RouteAction",
    "RouteMatch",
    "RouterConfiguration",
    "Server",
    "State",
    "StreamFilter",
    "TlsContext",
    "VirtualHost",
    "WeightedCluster",
    "WeightedTarget",
    "WorkerLimits",
]
