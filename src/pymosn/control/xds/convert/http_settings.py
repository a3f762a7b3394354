"""Settings of the HTTP connection manager -> those of Http1 and Http2, with Envoy's defaults."""

from __future__ import annotations

from typing import Final

from pymosn.config.schema.network_filters import Http1Settings, ProtocolSettings
from pymosn.control.xds.convert.view import View

_CLIENT_CERT: Final = {
    "SANITIZE": "sanitize",
    "FORWARD_ONLY": "forward_only",
    "APPEND_FORWARD": "append_forward",
    "SANITIZE_SET": "sanitize_set",
    "ALWAYS_FORWARD_ONLY": "always_forward_only",
}
_SLASHES: Final = {
    "IMPLEMENTATION_SPECIFIC_DEFAULT": "keep",
    "KEEP_UNCHANGED": "keep",
    "REJECT_REQUEST": "refuse",
    "UNESCAPE_AND_REDIRECT": "decode",
    "UNESCAPE_AND_FORWARD": "decode",
}
_UNDERSCORES: Final = {"ALLOW": "pass", "REJECT_REQUEST": "refuse", "DROP_HEADER": "drop"}


def read_settings(view: View, settings: ProtocolSettings) -> float:
    """Reads them into `settings`; returns the idle timeout of connections in seconds, 0 for none."""
    http = settings.Http1
    http.envoy_statuses = True
    http.max_header_size = (view.wrapped("max_request_headers_kb") or 60) * 1024
    idle = view.seconds("stream_idle_timeout")
    http.stream_idle_timeout = 300.0 if idle is None else idle
    headers = view.seconds("request_headers_timeout")
    if headers:
        http.header_timeout = headers
    if view.seconds("request_timeout"):
        view.warn("request_timeout", "not enforced: a request body may take as long as it makes progress")
    _read_addresses(view, http)
    _read_paths(view, http)
    _read_certificates(view, http)
    request_id = view.wrapped("generate_request_id")
    http.x_request_id = True if request_id is None else request_id
    # Clients of the edge have no say about ids, unless that is asked for.
    http.replace_request_id = bool(view.wrapped("use_remote_address")) and not view.value("preserve_external_request_id")
    _read_server(view, http)
    if view.value("strip_any_host_port"):
        http.simplify_host.append("any_port")
    if view.value("strip_matching_host_port"):
        http.simplify_host.append("own_port")
    if view.value("strip_trailing_host_dot"):
        http.simplify_host.append("trailing_dot")
    _read_upgrades(view, http)
    idle_timeout = _read_common(view, settings)
    _read_http2(view, settings)
    http1 = view.inner("http_protocol_options")
    if http1 is not None:
        _read_http1(http1)
    return idle_timeout


def _read_addresses(view: View, http: Http1Settings) -> None:
    """Who the client is: by the entries of proxies in X-Forwarded-For that are trusted, or the other end of the connection.

    With `use_remote_address` the connection's address is the last of those entries, and is appended for the next proxy;
    clients that have not come through all of the trusted proxies are not believed. Without it the header is believed, and
    forwarded unchanged.
    """
    hops = view.value("xff_num_trusted_hops")
    is_edge = bool(view.wrapped("use_remote_address"))
    http.trusted_hops = hops if is_edge else hops + 1
    http.trust_forwarded = not is_edge
    http.x_forwarded = is_edge and not view.value("skip_xff_append")
    http.x_forwarded_proto = True


def _read_paths(view: View, http: Http1Settings) -> None:
    http.merge_slashes = view.value("merge_slashes")
    action = view.enum("path_with_escaped_slashes_action")
    if action == "UNESCAPE_AND_REDIRECT":
        view.warn("path_with_escaped_slashes_action", "requests are forwarded with unescaped slashes, without a redirect")
    http.encoded_slashes = _SLASHES.get(action, "refuse")  # type: ignore[assignment]
    if view.has("normalize_path") and not view.wrapped("normalize_path"):
        view.warn("normalize_path", "paths are always normalized, for routes and access rules")


def _read_certificates(view: View, http: Http1Settings) -> None:
    http.forward_client_cert = _CLIENT_CERT.get(view.enum("forward_client_cert_details"), "sanitize")  # type: ignore[assignment]
    details = view.inner("set_current_client_cert_details")
    http.client_cert_details = []
    if details is not None:
        with details:
            chosen = {"subject": bool(details.wrapped("subject"))}
            chosen |= {name: bool(details.value(name)) for name in ("cert", "dns", "uri")}
            http.client_cert_details = [name for name, is_chosen in chosen.items() if is_chosen]  # type: ignore[misc]
            if details.value("chain"):
                details.warn("chain", "not forwarded; `cert` is, the client's own certificate")


def _read_server(view: View, http: Http1Settings) -> None:
    """Server of responses; Envoy's default name would be its own."""
    name = view.value("server_name") or "pymosn"
    how = view.enum("server_header_transformation")
    if how != "PASS_THROUGH":
        http.server_header, http.server_if_absent = name, how == "APPEND_IF_ABSENT"


def _read_upgrades(view: View, http: Http1Settings) -> None:
    http.upgrades = []
    for item in view.items("upgrade_configs"):
        with item:
            kind = item.value("upgrade_type")
            item.refuse("filters", "filters of upgrades alone are not supported")
            enabled = item.wrapped("enabled")
            if enabled is False:
                continue
            if kind.upper() == "CONNECT":
                http.connect = "terminate"
            elif kind.lower().startswith(("http", "h2")) or not kind:
                item.fault("upgrade_type", f"not supported: {kind!r}; HTTP in a tunnel would bypass routes and filters")
            else:
                http.upgrades.append(kind.lower())


def _read_common(view: View, settings: ProtocolSettings) -> float:
    inner = view.inner("common_http_protocol_options")
    http = settings.Http1
    http.underscores_in_headers = "pass"
    if inner is None:
        return 3600.0
    with inner:
        idle = inner.seconds("idle_timeout")
        age = inner.seconds("max_connection_duration")
        if age:
            settings.Http2.max_connection_age = http.max_connection_age = age
        count = inner.wrapped("max_headers_count")
        if count:
            http.max_header_count = count
        inner.seconds("max_stream_duration")  # of exchanges; `read_manager` uses it
        action = inner.enum("headers_with_underscores_action")
        http.underscores_in_headers = _UNDERSCORES.get(action, "refuse")  # type: ignore[assignment]
        http.max_requests_per_connection = inner.wrapped("max_requests_per_connection") or 0
    return 3600.0 if idle is None else idle


def _read_http2(view: View, settings: ProtocolSettings) -> None:
    inner = view.inner("http2_protocol_options")
    if inner is None:
        return
    http2 = settings.Http2
    with inner:
        streams = inner.wrapped("max_concurrent_streams")
        if streams:
            http2.max_concurrent_streams = min(streams, 0x7FFFFFFF)
        window = inner.wrapped("initial_stream_window_size")
        if window:
            http2.initial_stream_window_size = window
        window = inner.wrapped("initial_connection_window_size")
        if window:
            http2.initial_connection_window_size = max(window, 65535)
        table = inner.wrapped("hpack_table_size")
        if table is not None:
            http2.header_table_size = min(table, 0x100000)
        if inner.value("allow_connect"):
            inner.warn("allow_connect", "upgrade_configs decide which protocols extended CONNECT may have")
        keepalive = inner.inner("connection_keepalive")
        if keepalive is not None:
            with keepalive:
                http2.keepalive_interval = keepalive.seconds("interval") or 0.0
                http2.keepalive_timeout = keepalive.seconds("timeout") or 20.0


def _read_http1(view: View) -> None:
    with view:
        if view.has("allow_absolute_url") and not view.wrapped("allow_absolute_url"):
            view.warn("allow_absolute_url", "targets in absolute form are always served")
        view.refuse("send_fully_qualified_url", "of upstreams only")
        if view.value("default_host_for_http_10"):
            view.warn("default_host_for_http_10", "requests of HTTP/1.0 without a host have none; domains with * match them")
