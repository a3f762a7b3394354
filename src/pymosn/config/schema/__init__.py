"""The MOSN configuration schema as typed blocks, one file per part.

top  servers, admin, ...            server      listeners, logs        router      routes and virtual hosts
cluster  clusters and hosts         tls         TLS contexts           network_filters  proxy, tcp_proxy, ...
stream_filters  filters by name     extensions  extends, wasm, codecs  observability    metrics, tracing
connections  of TCP                http_chain  stream filters and access logs
Blocks and the marks of keys (works, own, planned, ignored) are those of `filters/settings.py`.
"""

from pymosn.config.schema.cluster import Cluster, ClusterManager, Host
from pymosn.config.schema.http_chain import AccessLog, StreamFilter
from pymosn.config.schema.network_filters import ConnectionManagerFilter, Http1Settings, ProxyConfig, ProxyFilter
from pymosn.config.schema.router import Redirect, Route, RouteAction, RouteMatch, RouterConfiguration, VirtualHost
from pymosn.config.schema.server import FilterChain, Listener, Overload, RecentExchanges, Server, WorkerLimits
from pymosn.config.schema.tls import TlsContext
from pymosn.config.schema.top import MosnConfig
from pymosn.filters.settings import HeaderMatch

__all__ = [
    "AccessLog",
    "Cluster",
    "ClusterManager",
    "ConnectionManagerFilter",
    "FilterChain",
    "HeaderMatch",
    "Host",
    "Http1Settings",
    "Listener",
    "MosnConfig",
    "Overload",
    "ProxyConfig",
    "ProxyFilter",
    "RecentExchanges",
    "Redirect",
    "Route",
    "RouteAction",
    "RouteMatch",
    "RouterConfiguration",
    "Server",
    "StreamFilter",
    "TlsContext",
    "VirtualHost",
    "WorkerLimits",
]
