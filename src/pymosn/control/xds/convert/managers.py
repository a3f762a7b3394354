"""The HTTP connection manager and tcp_proxy -> `proxy` and `tcp_proxy` filters of a chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pymosn.config.schema import ProxyConfig, ProxyFilter, RouterConfiguration, StreamFilter
from pymosn.config.schema.network_filters import (
    ProtocolSettings,
    StreamProxyConfig,
    TcpProxyFilter,
    WeightedStreamCluster,
)
from pymosn.control.xds.convert.access_logs import read_access_logs
from pymosn.control.xds.convert.extensions import Discovery, FilterSlot, fallback, read_discovery
from pymosn.control.xds.convert.filter_alpn import ALPN, read_upstream_alpn
from pymosn.control.xds.convert.filters import LEFT_OUT, READERS, acts_before_routes, convert_http_filter, guards
from pymosn.control.xds.convert.http_settings import read_settings
from pymosn.control.xds.convert.local_replies import read_local_replies
from pymosn.control.xds.convert.messages import UnknownTypeError, packed_type
from pymosn.control.xds.convert.sources import Source, read_source
from pymosn.control.xds.convert.view import View

MANAGER: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP_PROXY: Final = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
#: Names of the router filter, which need no settings, as in MOSN's sample of a control plane.
_ROUTERS: Final = ("envoy.filters.http.router", "envoy.router")
_UUID: Final = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
_PROTOCOLS: Final = {"AUTO": "Http1,Http2", "HTTP1": "Http1", "HTTP2": "Http2"}
#: Makes the router table of a RouteConfiguration: of `routes.py`.
RoutesConverter = Callable[[View, str], RouterConfiguration]


class Routes(NamedTuple):
    """What the managers of a listener route by. `tables`: inline ones; `waits`: names of tables with their sources.

    `slots`: of filters that are resources of their own.
    """

    tables: list[RouterConfiguration]
    waits: dict[str, Source]
    convert: RoutesConverter
    slots: list[FilterSlot]


class Manager(NamedTuple):
    """A manager. `discoveries`: index among its filters -> a filter that is a resource of its own."""

    filter: ProxyFilter
    discoveries: dict[int, Discovery]


def read_manager(view: View, name: str, routes: Routes) -> Manager:
    """An HTTP connection manager. `name`: for an inline table, unique among all listeners."""
    with view:
        proxy = ProxyConfig(name=name)
        codec = view.enum("codec_type")
        proxy.downstream_protocol = _PROTOCOLS.get(codec, "Http1")
        if codec not in _PROTOCOLS:
            view.fault("codec_type", f"{codec} is not supported")
        _refuse(view)
        settings = ProtocolSettings()
        proxy.connection_idle_timeout = read_settings(view, settings)
        proxy.extend_config = settings
        proxy.max_stream_duration = _longest(view)
        proxy.access_logs = read_access_logs(view)
        proxy.local_replies = read_local_replies(view)
        proxy.router_config_name = _read_routes(view, name, routes)
        discoveries: dict[int, Discovery] = {}
        proxy.stream_filters = _read_filters(view, proxy, discoveries)
        _read_request_id(view)
        if view.has("tracing"):
            view.value("tracing")
            view.warn("tracing", "no effect: tracing is configured by `tracing` in the file (docs/tracing.md)")
        for field in ("via", "add_user_agent", "append_x_forwarded_port", "always_set_request_id_in_response"):
            if view.has(field):
                view.value(field)
                view.warn(field, "no such header is added")
    return Manager(ProxyFilter(config=proxy), discoveries)


def _longest(view: View) -> float:
    """The limit of exchanges in seconds; 0 for none. `read_settings` reports an invalid one."""
    found = view.message.common_http_protocol_options.max_stream_duration
    return max(0.0, float(found.seconds + found.nanos / 1e9))


def _refuse(view: View) -> None:
    """What would change who a client is, what a request means, or where it goes."""
    for name in (
        *("original_ip_detection_extensions", "early_header_mutation_extensions", "scheme_header_transformation"),
        *("forward_client_cert_matcher", "path_normalization_options", "http3_protocol_options"),
    ):
        view.refuse(name, "not supported")


def _read_routes(view: View, name: str, routes: Routes) -> str:
    """The name of the router table."""
    view.refuse("scoped_routes", "scoped routes (SRDS) are not supported")
    inline, rds = view.inner("route_config"), view.inner("rds")
    if inline is not None:
        routes.tables.append(routes.convert(inline, name))
        return name
    if rds is None:
        if not view.has("scoped_routes"):
            view.fault("", "expected rds or route_config")
        return name
    with rds:
        table: str = rds.value("route_config_name")
        if not table:
            rds.fault("route_config_name", "missing")
        config = rds.inner("config_source")
        # A source that only has a version and a timeout is the one of the listener: Istio and Envoy Gateway leave it out.
        source = Source() if config is None else _source(config)
        if source is not None and table:
            routes.waits[table] = source
    return table or name


def _source(view: View) -> Source | None:
    if view.which("config_source_specifier"):
        return read_source(view)
    with view:
        view.value("resource_api_version")
        timeout = view.seconds("initial_fetch_timeout")
    return Source() if timeout is None else Source(fetch_timeout=timeout)


def _read_filters(view: View, proxy: ProxyConfig, discoveries: dict[int, Discovery]) -> list[StreamFilter]:
    """The stream filters; what is a key of the proxy here is set in `proxy`."""
    found: list[StreamFilter] = []
    for item in view.items("http_filters"):
        with item:
            name, is_optional, is_disabled = item.value("name"), item.value("is_optional"), item.value("disabled")
            inner = item.inner("config_discovery")
            if inner is not None:
                discovery = read_discovery(inner, name, is_disabled)
                if discovery is not None:
                    discoveries[len(found)] = discovery
                    found.append(fallback(discovery))
                continue
            if not item.has("typed_config"):
                if name not in _ROUTERS:
                    item.fault("typed_config", f"missing: the filter {name!r} has none")
                continue
            kind = _type_in(item)
            if (
                is_optional
                and kind not in READERS
                and kind not in LEFT_OUT
                and kind != ALPN
                and not guards(f"{kind} {name}")
            ):
                item.value("typed_config")
                item.warn("typed_config", f"{kind} is not supported; the filter is optional, and left out")
                continue
            inner = item.typed("typed_config")
            if inner is not None and inner.type_name == ALPN:
                if proxy.upstream_alpn is not None:
                    item.fault("", f"only one filter {ALPN} is supported")
                if is_disabled:
                    item.fault("disabled", "no route can enable this filter")
                proxy.upstream_alpn = read_upstream_alpn(inner)
                continue
            made = None if inner is None else convert_http_filter(inner)
            if made is not None:
                made.name, made.disabled = name, is_disabled
                if is_disabled and acts_before_routes(made):
                    item.fault("disabled", "no route can enable this filter, because it acts before the route is selected")
                found.append(made)
    return found


def _type_in(view: View) -> str:
    """The type of the filter; empty if it cannot be read, which unpacking it then reports."""
    try:
        return packed_type(view.message.typed_config)
    except UnknownTypeError:
        return ""


def _read_request_id(view: View) -> None:
    inner = view.inner("request_id_extension")
    if inner is None:
        return
    with inner:
        config = inner.typed("typed_config")
        if config is not None:
            with config:
                if config.type_name != _UUID:
                    config.fault("", f"{config.type_name} is not supported")


def read_tcp_proxy(view: View) -> TcpProxyFilter:
    """A tcp_proxy."""
    with view:
        tcp = StreamProxyConfig(access_logs=read_access_logs(view))
        kind = view.which("cluster_specifier")
        if kind == "cluster":
            tcp.cluster = view.value(kind)
        elif kind == "weighted_clusters":
            inner = view.inner(kind)
            assert inner is not None
            with inner:
                tcp.weighted_clusters = [made for item in inner.items("clusters") if (made := _weighted(item)) is not None]
        else:
            view.fault("cluster", "expected cluster or weighted_clusters")
        for name in ("on_demand", "metadata_match", "tunneling_config", "proxy_protocol_tlvs"):
            view.refuse(name, "not supported")
        _read_hash_policy(view)
        for name in ("downstream_idle_timeout", "upstream_idle_timeout"):
            if view.seconds(name):
                view.warn(name, "not enforced; idle_timeout is")
        tcp.max_connection_duration = view.seconds("max_downstream_connection_duration") or 0.0
        idle = view.seconds("idle_timeout")
        tcp.idle_timeout = int((3600.0 if idle is None else idle) * 1e9)
        tcp.max_connect_attempts = view.wrapped("max_connect_attempts") or 1
    return TcpProxyFilter(config=tcp)


def _read_hash_policy(view: View) -> None:
    """Balancers that hash do so by the client's IP address."""
    for item in view.items("hash_policy"):
        with item:
            source = item.inner("source_ip")
            if source is not None:
                source.close()
            elif item.has("filter_state"):
                item.value("filter_state")
                item.warn("filter_state", "has no effect: connections are hashed by the client's IP address")


def _weighted(view: View) -> WeightedStreamCluster | None:
    with view:
        view.refuse("metadata_match", "not supported")
        name, weight = view.value("name"), view.value("weight")
        return WeightedStreamCluster(name=name, weight=weight) if weight else None
