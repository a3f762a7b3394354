"""Protocols to the hosts of a cluster, and the lifetime of connections."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from pymosn.config.schema import Cluster
from pymosn.config.schema.cluster import ClusterHttp2, Keepalive
from pymosn.config.schema.connections import TcpKeepalive
from pymosn.control.xds.convert.view import View

#: The key, and type, of the options in `typed_extension_protocol_options`.
OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
#: Seconds after which an unused connection is closed, by default.
IDLE_TIMEOUT: Final = 3600.0
_HTTP_1: Final = "Http1"
_HTTP_2: Final = "Http2"
_WINDOWS: Final = (("initial_stream_window_size", 1), ("initial_connection_window_size", 65535))


def read_protocols(cluster: Cluster, view: View) -> None:
    """Reads the protocol options, the newer and the older ones. TLS must have been read before."""
    cluster.upstream_protocol = _HTTP_1
    cluster.idle_timeout = IDLE_TIMEOUT
    cluster.max_request_per_conn = view.wrapped("max_requests_per_connection") or 0
    _read_common(cluster, view.inner("common_http_protocol_options"))
    _read_upstream(cluster, view.inner("upstream_http_protocol_options"))
    _read_http1(view.inner("http_protocol_options"))
    http2 = view.inner("http2_protocol_options")
    if http2 is not None:
        cluster.upstream_protocol = _HTTP_2
        _read_http2(cluster, http2)
    if view.enum("protocol_selection") == "USE_DOWNSTREAM_PROTOCOL":
        cluster.upstream_protocol = ""
    options = view.table("typed_extension_protocol_options")
    for name in sorted(options):
        inner = view.unpacked(options[name], f"typed_extension_protocol_options[{name}]")
        if inner is None:
            continue
        if inner.type_name != OPTIONS:
            inner.fault("", f"{inner.type_name} is not supported")
        else:
            _read_options(cluster, inner)


def _read_options(cluster: Cluster, view: View) -> None:
    with view:
        _read_common(cluster, view.inner("common_http_protocol_options"))
        _read_upstream(cluster, view.inner("upstream_http_protocol_options"))
        kind = view.which("upstream_protocol_options")
        inner = view.inner(kind) if kind else None
        if inner is None:
            view.fault("", "needs explicit_http_config, use_downstream_protocol_config or auto_config")
        else:
            _read_choice(cluster, inner, kind)
        for item in view.items("http_filters"):
            with item:
                name = str(item.value("name"))
                item.value("typed_config")
                if name != "envoy.filters.http.upstream_codec":
                    item.fault("", f"upstream HTTP filter {name} is not supported")


def _read_choice(cluster: Cluster, view: View, kind: str) -> None:
    """Reads one of the three ways to choose the protocol."""
    with view:
        for name in ("http3_protocol_options", "alternate_protocols_cache_options"):
            if name in view.message.DESCRIPTOR.fields_by_name:
                view.refuse(name, "HTTP/3 is not supported")
        _read_http1(view.inner("http_protocol_options"))
        http2 = view.inner("http2_protocol_options")
        if kind == "explicit_http_config":
            cluster.upstream_protocol = _HTTP_1 if http2 is None else _HTTP_2
        else:
            cluster.upstream_protocol = ""
        if http2 is not None:
            _read_http2(cluster, http2)
        if kind == "auto_config":
            _offer_both(cluster, view)


def _offer_both(cluster: Cluster, view: View) -> None:
    """Makes the handshake select the protocol."""
    context = cluster.tls_context
    matched = [match for match in cluster.tls_matches if match.tls_context is not None]
    if context is None and not matched:
        view.fault("", "auto_config needs TLS, by whose handshake the protocol is selected")
    if context is not None and not context.alpn:
        cluster.tls_context = replace(context, alpn="h2,http/1.1")
    for match in matched:
        if match.tls_context is not None and not match.tls_context.alpn:
            match.tls_context = replace(match.tls_context, alpn="h2,http/1.1")


def _read_common(cluster: Cluster, view: View | None) -> None:
    if view is None:
        return
    with view:
        idle = view.seconds("idle_timeout")
        cluster.idle_timeout = IDLE_TIMEOUT if idle is None else idle
        cluster.max_connection_age = view.seconds("max_connection_duration") or 0.0
        requests = view.wrapped("max_requests_per_connection")
        if requests is not None:
            cluster.max_request_per_conn = requests
        if view.seconds("max_stream_duration"):
            view.warn("max_stream_duration", "has no effect in a cluster: the timeouts of routes limit requests")
        if view.wrapped("max_headers_count") is not None or view.wrapped("max_response_headers_kb") is not None:
            view.warn("max_headers_count", "has no effect: the limits of this proxy apply to responses")


def _read_upstream(cluster: Cluster, view: View | None) -> None:
    """Reads how the name in the handshake is chosen."""
    if view is None:
        return
    with view:
        auto, checks = view.value("auto_sni"), view.value("auto_san_validation")
        view.refuse("override_auto_sni_header", "the name is that of the endpoint, not one of a request's header")
        if auto or checks:
            message = "the name that is sent and verified is the endpoint's host name, not the Host of each request"
            view.warn("auto_sni", message)


def _read_http1(view: View | None) -> None:
    if view is None:
        return
    with view:
        if view.value("send_fully_qualified_url"):
            view.fault("send_fully_qualified_url", "not supported")
        if view.inner("header_key_format") is not None:
            view.warn("header_key_format", "has no effect: names of headers are forwarded as they were received")


def _read_http2(cluster: Cluster, view: View) -> None:
    with view:
        windows = ClusterHttp2()
        for key, least in _WINDOWS:
            size = view.wrapped(key)
            if size is not None and not least <= size <= 2**31 - 1:
                view.fault(key, f"must be from {least} to {2**31 - 1}")
            elif size is not None:
                setattr(windows, key, size)
        if windows != ClusterHttp2():
            cluster.http2 = windows
        view.refuse("custom_settings_parameters", "own SETTINGS are not supported")
        alive = view.inner("connection_keepalive")
        if alive is not None:
            with alive:
                interval, timeout = alive.seconds("interval"), alive.seconds("timeout")
                idle = alive.seconds("connection_idle_interval")
                interval = interval or idle
                if interval:
                    cluster.keepalive = Keepalive(interval=interval, timeout=timeout or 1.0)


def read_tcp_keepalive(cluster: Cluster, view: View | None) -> None:
    """Reads `UpstreamConnectionOptions`. Values that are not set are Linux's."""
    if view is None:
        return
    with view:
        alive = view.inner("tcp_keepalive")
        if alive is None:
            return
        with alive:
            found = [alive.wrapped(name) for name in ("keepalive_time", "keepalive_interval", "keepalive_probes")]
        idle, interval, probes = [
            default if value is None else value for value, default in zip(found, (7200, 75, 9), strict=True)
        ]
        if idle and interval and probes:
            cluster.tcp_keepalive = TcpKeepalive(idle=float(idle), interval=float(interval), probes=probes)
