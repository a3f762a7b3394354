"""What MOSN prints of a configuration although it was not given: Go prints every field that is a struct, and some others.

`config_dump` shows the same, for tools that expect it. `0s` means the default. Values that pymosn would read with another
meaning are not shown: `max_request_per_conn` 1024 and `conn_buffer_limit_bytes` 16384 of clusters, which MOSN prints without
enforcing them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pymosn.config.nodes import Node, plain
from pymosn.config.schema import Cluster, Host, Listener, MosnConfig
from pymosn.config.schema.cluster import ClusterManager, HealthCheck, Keepalive
from pymosn.config.schema.http_chain import StreamFilter
from pymosn.config.schema.network_filters import NetworkFilter
from pymosn.config.schema.observability import Metrics
from pymosn.config.schema.router import Redirect, RegexPattern, RegexRewrite, RetryPolicy, Route, RouteAction
from pymosn.config.schema.server import FilterChain, ListenerFilter, Server
from pymosn.config.schema.top import Plugin, Pprof

Json = dict[str, Any]

_ZERO: Final = "0s"
_CHECK: Final = {"timeout": _ZERO, "interval": _ZERO, "interval_jitter": _ZERO, "initial_delay_seconds": _ZERO}
_KEEPALIVE: Final = {"interval": _ZERO, "timeout": _ZERO}
_PPROF: Final = {"debug": False, "port_value": 0, "endpoint": ""}
_PATTERN: Final[Json] = {"google_re2": {}}
_METRICS: Final = {
    "sinks": None,
    "stats_matcher": {},
    "shm_zone": "",
    "shm_size": "0B",
    "flush_mosn": False,
    "lazy_flush": False,
    "sample": {"type": "", "size": 0, "exp_decay_alpha": 0},
}
_GO_PLUGIN: Final = {"go_plugin_config": None}
#: Keys of a block, with what is printed where they have their default value.
_PRINTED: Final[Mapping[type, Json]] = {
    MosnConfig: {
        "cluster_manager": {"tls_context": {}},
        "tracing": {},
        "metrics": _METRICS,
        "pprof": _PPROF,
        "plugin": {"log_base": ""},
        "third_part_codec": {"codecs": None},
    },
    Server: {"graceful_timeout": _ZERO},
    ClusterManager: {"tls_context": {}},
    Metrics: _METRICS,
    Pprof: _PPROF,
    Plugin: {"log_base": ""},
    Listener: {"network": "tcp"},
    ListenerFilter: _GO_PLUGIN,
    StreamFilter: _GO_PLUGIN,
    **dict.fromkeys(NetworkFilter.__args__, _GO_PLUGIN),
    Cluster: {
        "circuit_breakers": None,
        "health_check": _CHECK,
        "spec": {},
        "lb_subset_config": {},
        "original_dst_lb_config": {},
        "tls_context": {},
        "keepalive": _KEEPALIVE,
        "dns_resolvers": {},
        "slow_start": {},
    },
    HealthCheck: _CHECK,
    Keepalive: _KEEPALIVE,
    Host: {"weight": 1},
    Route: {"match": {}, "route": {"timeout": _ZERO}},
    RouteAction: {"timeout": _ZERO},
    RetryPolicy: {"retry_timeout": _ZERO},
    RegexRewrite: {"pattern": _PATTERN},
    RegexPattern: _PATTERN,
}
#: Keys that MOSN prints if they are given, and whose default here is a value that can be given: always printed.
_EFFECTIVE: Final[Mapping[type, tuple[str, ...]]] = {
    Cluster: ("lb_type", "connect_timeout"),
    Server: ("default_log_level",),
    HealthCheck: ("healthy_threshold", "unhealthy_threshold"),
    Redirect: ("response_code",),
}


def is_shown(cls: type, name: str) -> bool:
    """Whether a key is shown with its default value, because it may have been given."""
    return name in _EFFECTIVE.get(cls, ())


def is_not_given(cls: type, key: str, node: Node) -> bool:
    """Whether MOSN writes exactly this object for a key that was not given, as in the files that it writes itself."""
    printed = _PRINTED.get(cls, {}).get(key)
    if not isinstance(printed, dict) or node.kind != "object" or len(node.entries) != len(printed):
        return False
    return bool(plain(node) == printed)


def completed(cls: type, values: Json) -> Json:
    """The shown keys of a block of class `cls`, with those that MOSN prints in any case."""
    for key, value in _PRINTED.get(cls, {}).items():
        if key not in values:
            values[key] = copy.deepcopy(value)
    if cls is FilterChain:
        single = values.pop("tls_context", {})
        values.setdefault("tls_context_set", [single])
    return values


def without_parts(config: MosnConfig) -> MosnConfig:
    """The configuration without what MOSN shows separately: listeners, routers, clusters and extensions."""
    servers = [msgspec.structs.replace(server, listeners=[], routers=[]) for server in config.servers]
    manager = msgspec.structs.replace(config.cluster_manager, clusters=[])
    return msgspec.structs.replace(config, servers=servers, cluster_manager=manager, extends=[])


#: What is shown for a name that does not exist: MOSN's empty block.
NOTHING: Final[Mapping[str, Json]] = {"router": {}, "listener": {}, "cluster": _PRINTED[Cluster]}
