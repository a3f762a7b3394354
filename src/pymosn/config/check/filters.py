"""Checks network, stream and listener filters. Unknown and unsupported ones are rejected: traffic must not bypass them."""

from collections.abc import Collection
from typing import Any, Final

from pymosn.api.stream_filter import FAIL, SKIP
from pymosn.config.check.clusters import check_cluster_name
from pymosn.config.check.protocols import check_protocol
from pymosn.config.check.tls import check_upstream_alpn
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import (
    ConnectionManagerFilter,
    FilterChain,
    Http1Settings,
    Listener,
    ProxyConfig,
    ProxyFilter,
    StreamFilter,
    absent,
)
from pymosn.config.schema.network_filters import (
    GrpcFilter,
    Http2Settings,
    PythonConfig,
    PythonFilter,
    StreamProxyConfig,
    StreamRoute,
    TcpProxyFilter,
    UdpProxyFilter,
    may_follow,
)
from pymosn.config.schema.stream_filters import LISTENER_FILTERS, NO_OP_STREAM_FILTERS, PLANNED, STREAM_FILTERS
from pymosn.config.typed import typed
from pymosn.core.address_ranges import address_range, port_ranges
from pymosn.core.headers import is_token
from pymosn.core.server_names import server_name_pattern
from pymosn.filters.errors import FilterConfigError, problems_of
from pymosn.filters.loading import class_fault, connection_filters
from pymosn.filters.spec import RouteSpec
from pymosn.filters.stream.shipped import FROM_FILES, SHIPPED, is_from_file, route_spec, spec_of, switch_of

CONNECT_MODES: Final = ("off", "terminate", "forward")
ON_ERROR: Final = (FAIL, SKIP)
#: MOSN runs a gRPC server in itself that was compiled into it.
_GO_SERVER: Final = (
    "a gRPC server in Go cannot run in pymosn: start it as a program of its own, and forward to it with a `proxy` filter "
    "whose downstream_protocol is Http2; see docs/grpc.md"
)
_TCP_FATE: Final = "connections are closed"
_TAKES_ALL: Final = "the filter before it takes all bytes"
_NOT_BUILT: Final = "MOSN filter that is not built; rejected, because traffic must not pass without it"


def check_chain(
    chain: FilterChain, path: str, report: Diagnostics, tables: Collection[str], clusters: Collection[str]
) -> None:
    """Check the network filters of a chain."""
    before: list[ProxyFilter | TcpProxyFilter] = []
    has_bad = has_python = False
    for i, filter in enumerate(chain.filters):
        inner = f"{path}.filters[{i}]"
        if report.is_bad(inner):
            has_bad = True
        elif isinstance(filter, ProxyFilter | TcpProxyFilter):
            if isinstance(filter, ProxyFilter):
                _check_proxy(filter.config, f"{inner}.config", report, tables)
            else:
                check_stream_proxy(filter.config, f"{inner}.config", report, clusters)
                _check_sessions(filter.config, f"{inner}.config", report)
            if before and not may_follow(before, filter):
                report.warning(inner, _why_idle(before))
            before.append(filter)
        elif isinstance(filter, PythonFilter):
            has_python = True
            _check_python(filter.config, f"{inner}.config", report)
            if before:
                report.error(inner, f"never reached: {_TAKES_ALL}; a filter in Python must be before it")
        elif isinstance(filter, UdpProxyFilter):
            has_bad = True
            report.error(f"{inner}.type", "udp_proxy needs a listener with `network` udp", "udp_proxy")
        elif not isinstance(filter, ConnectionManagerFilter):
            has_bad = True
            name = str(filter.__struct_config__.tag)
            message = _GO_SERVER if isinstance(filter, GrpcFilter) else f"{_NOT_BUILT}: {absent.NETWORK_FILTERS[name]}"
            report.error(f"{inner}.type", message, name)
    if not before and not has_bad and not has_python:
        report.warning(path, "no network filter: connections are closed immediately")
    if before and isinstance(before[0], ProxyFilter) and before[0].config.fallback_for_unknown_protocol:
        inner = f"{path}.filters[{chain.filters.index(before[0])}].config.fallback_for_unknown_protocol"
        _check_fallback(before[0].config, before[1:], inner, report)


def _check_python(config: PythonConfig, path: str, report: Diagnostics) -> None:
    """Check a filter in Python: a file and a class in it, or the name of an installed one."""
    if config.name:
        if config.path or config.class_:
            report.error(f"{path}.name", "an installed filter has neither `path` nor `class`", config.name)
        elif config.name not in (known := connection_filters()):
            report.error(f"{path}.name", "no installed package offers a network filter of that name", config.name, known)
        return
    if not config.path:
        report.error(f"{path}.path", "a python filter needs the path of a Python file, or the `name` of an installed one")
    if not config.class_:
        report.error(f"{path}.class", "a python filter needs the name of a class in its file")
    elif not config.class_.isidentifier():
        report.error(f"{path}.class", "not a class name", config.class_)


def _check_fallback(proxy: ProxyConfig, after: list[ProxyFilter | TcpProxyFilter], path: str, report: Diagnostics) -> None:
    names = proxy.protocols()
    if not any(isinstance(filter, TcpProxyFilter) for filter in after):
        report.warning(path, "has no effect: no tcp_proxy follows the proxy filter to fall back to")
    elif len(names) == 1 and names != ["Auto"]:
        report.warning(path, f"has no effect: with {names[0]} alone there is no detection, as in MOSN")


def _why_idle(before: list[ProxyFilter | TcpProxyFilter]) -> str:
    if isinstance(before[0], TcpProxyFilter):
        return "has no effect: the tcp_proxy before it takes all bytes"
    if len(before) > 1:
        return "has no effect: only the first tcp_proxy after the proxy is used"
    return "has no effect: the proxy before it takes all bytes"


def _check_proxy(proxy: ProxyConfig, path: str, report: Diagnostics, tables: Collection[str]) -> None:
    _check_protocols(proxy, path, report)
    _check_tunnels(proxy.extend_config.Http1, f"{path}.extend_config.Http1", report)
    _check_http2(proxy, f"{path}.extend_config.Http2", report)
    if proxy.upstream_alpn is not None:
        check_upstream_alpn(proxy.upstream_alpn, f"{path}.upstream_alpn", report)
    name = proxy.router_config_name
    if not name:
        report.odd(f"{path}.router_config_name", "missing router table: requests are answered 404, as in MOSN")
    elif name not in tables:
        message = "unknown router table: requests are answered 404, as in MOSN"
        report.odd(f"{path}.router_config_name", message, name, tables)


def _check_http2(proxy: ProxyConfig, path: str, report: Diagnostics) -> None:
    http2 = proxy.extend_config.Http2
    _check_tunnels(http2, path, report)
    names = proxy.protocols()
    if http2 != Http2Settings() and "Http2" not in names and names != ["Auto"]:
        report.warning(path, "has no effect: this proxy does not speak Http2")
    if http2.max_connection_age_grace and not http2.max_connection_age:
        report.warning(f"{path}.max_connection_age_grace", "has no effect without max_connection_age")
    if http2.keepalive_timeout != Http2Settings().keepalive_timeout and not http2.keepalive_interval:
        report.warning(f"{path}.keepalive_timeout", "has no effect without keepalive_interval: no PING is sent")


def _check_tunnels(http: Http1Settings | Http2Settings, path: str, report: Diagnostics) -> None:
    for i, name in enumerate(http.upgrades or ()):
        protocol, slash, version = name.encode().partition(b"/")
        if name.lower() in ("h2c", "h2", "http") or name.lower().startswith("http/"):
            message = "HTTP in a tunnel would bypass routes and filters"
            report.error(f"{path}.upgrades[{i}]", message, name)
        elif not is_token(protocol) or (slash and not is_token(version)):
            report.error(f"{path}.upgrades[{i}]", "not a protocol name, such as websocket", name)
    if http.connect not in (None, *CONNECT_MODES):
        report.error(f"{path}.connect", f"must be one of {', '.join(CONNECT_MODES)}", http.connect, CONNECT_MODES)


def _check_protocols(proxy: ProxyConfig, path: str, report: Diagnostics) -> None:
    is_old = proxy.downstream_protocol.strip() == "X"
    key = f"{path}.extend_config.sub_protocol" if is_old else f"{path}.downstream_protocol"
    names = proxy.protocols()
    if not names:
        needed = "its names in extend_config.sub_protocol" if is_old else "its downstream_protocol, such as Http1"
        report.error(f"{path}.downstream_protocol", f"a proxy needs {needed}")
    for name in names:
        check_protocol(name, key, report)


def check_stream_proxy(config: StreamProxyConfig, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    """Check the settings of a `tcp_proxy` or `udp_proxy`."""
    if config.cluster or config.weighted_clusters:
        _check_target(config, path, report, clusters)
        return  # MOSN's own sample has routes too
    if not config.routes:
        report.odd(f"{path}.cluster", "neither a cluster nor routes: connections are closed, as in MOSN")
    for i, route in enumerate(config.routes):
        inner = f"{path}.routes[{i}]"
        _check_target(route, inner, report, clusters)
        _check_stream_route(route, inner, report)


def _check_sessions(tcp: StreamProxyConfig, path: str, report: Diagnostics) -> None:
    for key in ("max_sessions", "max_sessions_per_client", "max_reply_ratio"):
        if getattr(tcp, key):
            report.warning(f"{path}.{key}", "has no effect: only udp_proxy has sessions", getattr(tcp, key))


def _check_target(
    target: StreamProxyConfig | StreamRoute, path: str, report: Diagnostics, clusters: Collection[str]
) -> None:
    """Check the cluster or the weighted clusters of a `tcp_proxy` or of one of its routes."""
    if target.cluster or not target.weighted_clusters:
        check_cluster_name(target.cluster, f"{path}.cluster", report, clusters, _TCP_FATE)
    if target.cluster and target.weighted_clusters:
        report.warning(f"{path}.weighted_clusters", "has no effect: `cluster` takes precedence")
        return
    for i, entry in enumerate(target.weighted_clusters):
        check_cluster_name(entry.name, f"{path}.weighted_clusters[{i}].name", report, clusters, _TCP_FATE)


def _check_stream_route(route: StreamRoute, path: str, report: Diagnostics) -> None:
    keys = ("sourceaddrs", "sourceport", "destinationaddrs", "destinationport")
    missing = [key for key in keys if not getattr(route, key)]
    if missing and not route.server_names:
        report.warning(path, f"never matches without {' and '.join(missing)}, as in MOSN")
    for i, name in enumerate(route.server_names):
        report.attempt(f"{path}.server_names[{i}]", server_name_pattern, name, value=name)
    for key in ("sourceaddrs", "destinationaddrs"):
        for i, entry in enumerate(getattr(route, key)):
            inner = f"{path}.{key}[{i}].address"
            report.attempt(inner, address_range, entry.address, entry.length, value=entry.address)
    for key in ("sourceport", "destinationport"):
        ports = getattr(route, key)
        report.attempt(f"{path}.{key}", port_ranges, ports, value=ports)


def check_stream_filters(listener: Listener, path: str, report: Diagnostics, extra: Collection[str]) -> None:
    """Check the stream filters of a listener. `extra`: the names of filters of installed packages."""
    for key, filters in listener.filter_lists():
        _check_stream_filters(filters, f"{path}.{key}", report, extra)


def _check_stream_filters(filters: list[StreamFilter], path: str, report: Diagnostics, extra: Collection[str]) -> None:
    known = {*STREAM_FILTERS, *NO_OP_STREAM_FILTERS, *extra}
    for i, filter in enumerate(filters):
        inner = f"{path}[{i}]"
        name = filter.type
        if filter.on_error not in ("", *ON_ERROR):
            report.error(f"{inner}.on_error", "must be fail or skip", filter.on_error, ON_ERROR)
        if filter.go_plugin_config is not None:
            report.error(f"{inner}.go_plugin_config", absent.GO_FILTER)
        elif is_from_file(name, filter.config):
            _check_file(filter, inner, report)
        elif name in SHIPPED:
            if filter.on_error == SKIP and spec_of(name).guards:
                report.error(
                    f"{inner}.on_error", f"must be fail: an error in {name} would let requests pass that it has to stop"
                )
        elif name in extra:
            continue
        elif ":" in name:
            if fault := class_fault(name):
                report.error(f"{inner}.type", fault, name)
        elif name in NO_OP_STREAM_FILTERS:
            report.warning(inner, "MOSN has no such filter either; skipped", name)
        elif not name:
            report.error(f"{inner}.type", 'a stream filter needs a "type"')
        elif name in PLANNED:
            message = f"{_NOT_BUILT}: {absent.STREAM_FILTERS[name]}" if name in absent.STREAM_FILTERS else _NOT_BUILT
            report.error(f"{inner}.type", message, name)
        else:
            message = f"unknown stream filter; rejected, because traffic must not pass without it; {absent.GO_FILTERS}"
            report.error(f"{inner}.type", message, name, known)


def _check_file(filter: StreamFilter, path: str, report: Diagnostics) -> None:
    for key, meaning in (("path", "path of a Python file"), ("class", "name of a class in it")):
        value = filter.config.get(key)
        if value is None or value == "":
            report.error(f"{path}.config.{key}", f"a {filter.type} filter needs the {meaning}")
    name = filter.config.get("class")
    if isinstance(name, str) and name and not name.isidentifier():
        report.error(f"{path}.config.class", "not a class name", name)


def check_listener_filters(listener: Listener, path: str, report: Diagnostics) -> None:
    """Check the listener filters: MOSN's only one acts only with use_original_dst."""
    for i, filter in enumerate(listener.listener_filters):
        inner = f"{path}.listener_filters[{i}]"
        if filter.type not in LISTENER_FILTERS:
            report.error(f"{inner}.type", "unknown listener filter", filter.type, LISTENER_FILTERS)
            continue
        kind = filter.config.get("type", "redirect")
        if kind not in ("", "redirect", "tproxy"):
            report.error(f"{inner}.config.type", "must be redirect or tproxy", kind, ("redirect", "tproxy"))
        if not listener.use_original_dst:
            report.warning(inner, "has no effect without use_original_dst, as in MOSN", filter.type)


def check_route_settings(config: dict[str, object], path: str, report: Diagnostics) -> None:
    """Check a `per_filter_config`; settings of other filters are not known here."""
    for name, value in config.items():
        if name.startswith("/"):
            report.attempt(f"{path}.{name}", switch_of, name, value)
        kind = name.partition("/")[0]
        if kind in SHIPPED:
            route = route_spec(name, value)
            if route is not None:
                _check_settings(route, value, f"{path}.{name}", report)
            elif kind not in FROM_FILES:
                report.warning(f"{path}.{name}", "has no effect: this filter has no settings per route")


def _check_settings(route: RouteSpec[Any], value: object, path: str, report: Diagnostics) -> None:
    faults = Diagnostics()
    settings = typed(value, route.settings, faults)
    for fault in faults.items:
        inner = f"{path}.{fault.path}" if fault.path else path
        report.add(fault.severity, inner, fault.message, suggestion=fault.suggestion)
    if faults.has_errors:
        return
    try:
        route.make(settings)
    except FilterConfigError as error:
        for inner, text in problems_of(error):
            report.error(f"{path}{inner}", text)


def check_filter_clusters(listener: Listener, path: str, report: Diagnostics, clusters: Collection[str]) -> None:
    """Check that the clusters exist that stream filters refer to."""
    for where, entries in listener.filter_lists():
        for i, entry in enumerate(entries):
            spec = spec_of(entry.type) if entry.type in SHIPPED else None
            if spec is None or spec.clusters is None:
                continue
            for key, cluster in spec.clusters(typed(entry.config, spec.settings)):
                if cluster and cluster not in clusters:
                    report.error(f"{path}.{where}[{i}].config.{key}", "unknown cluster", cluster, clusters)
