"""What an access-log format may name, and where each value comes from (key reference sections 12.2 to 12.5).

A getter takes the finished exchange and returns text; what a client or a server chose passes `field`, so that it cannot
break out of its line. `-` stands for what is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus

from pymosn.api.proxy import Exchange
from pymosn.observe.text import field, go_duration

Getter = Callable[[Exchange], str]

NOTHING: Final = "-"


# ---- times, sizes, outcome


def duration(exchange: Exchange) -> str:
    """From the request's head to the end of the exchange."""
    return go_duration(exchange.finished - exchange.started)


def request_received_duration(exchange: Exchange) -> str:
    """Until the request had come whole; `0s` when it never had."""
    return go_duration(exchange.request_received - exchange.started)


def response_received_duration(exchange: Exchange) -> str:
    """Until the reply's head came; `0s` when none did."""
    return go_duration(exchange.response_received - exchange.started)


def process_time_duration(exchange: Exchange) -> str:
    """All but the wait for the upstream between the request's end and the reply's head."""
    waited = 0.0
    if exchange.request_received and exchange.response_received:
        waited = max(0.0, exchange.response_received - exchange.request_received)
    return go_duration(exchange.finished - exchange.started - waited)


def response_code(exchange: Exchange) -> str:
    """The status sent to the client; 0 when there was none."""
    return "0" if exchange.response is None else str(exchange.response.status)


def response_flag(exchange: Exchange) -> str:
    """Whether any of MOSN's response flags is set."""
    return "true" if exchange.failure is not None and exchange.failure.flag else "false"


def upstream_transport_failure_reason(exchange: Exchange) -> str:
    """MOSN's response flags as `0x<hex>`."""
    return "0x0" if exchange.failure is None else f"{exchange.failure.flag:#x}"


def reason(exchange: Exchange) -> str:
    """pymosn's own word for what went wrong (`pymosn.core.failure`)."""
    return NOTHING if exchange.failure is None else exchange.failure.reason


# ---- who and where


def connection_id(exchange: Exchange) -> str:
    """The downstream connection's number in its worker."""
    return str(exchange.connection_id)


def upstream_connection_id(exchange: Exchange) -> str:
    """The upstream connection's number in its worker."""
    return str(exchange.upstream_connection_id) if exchange.upstream_connection_id else NOTHING


def upstream_address(exchange: Exchange) -> str:
    """The address of the host that was tried last."""
    return exchange.upstream_address or NOTHING


def upstream_protocol(exchange: Exchange) -> str:
    """The protocol spoken to the upstream, when there was one."""
    return exchange.protocol if exchange.upstream_address else NOTHING


def route_name(exchange: Exchange) -> str:
    """Table, virtual host and place of the route."""
    return NOTHING if exchange.route is None else field(exchange.route.name)


# ---- the request's head


def request_method(exchange: Exchange) -> str:
    """The method."""
    return _field(exchange.request.raw_method)


def request_path(exchange: Exchange) -> str:
    """The path as it was routed on."""
    return _field(exchange.request.raw_path)


def request_query(exchange: Exchange) -> str:
    """The query without its question mark."""
    return _field(exchange.request.raw_query or b"")


def request_uri(exchange: Exchange) -> str:
    """Path and query."""
    request = exchange.request
    return _field(request.raw_path if request.raw_query is None else request.raw_path + b"?" + request.raw_query)


def request_host(exchange: Exchange) -> str:
    """The host asked for."""
    return _field(exchange.request.raw_host)


def request_length(exchange: Exchange) -> str:
    """Bytes of the head as it is sent on and of the body."""
    request = exchange.request
    target = len(request.raw_path) + (0 if request.raw_query is None else len(request.raw_query) + 1)
    line = len(request.raw_method) + target + len("  HTTP/1.1\r\n")
    return str(line + len(request.headers.block) + len("\r\n") + exchange.bytes_received)


def request_header(name: str) -> Getter:
    """The first value of that request header."""
    raw = name.lower().encode()
    return lambda exchange: _field(exchange.request.headers.get_raw(raw) or b"")


def response_header(name: str) -> Getter:
    """The first value of that response header."""
    raw = name.lower().encode()

    def get(exchange: Exchange) -> str:
        response = exchange.response
        return NOTHING if response is None else _field(response.headers.get_raw(raw) or b"")

    return get


def request_arg(name: str) -> Getter:
    """The first value of that query parameter, decoded."""

    def get(exchange: Exchange) -> str:
        for pair in (exchange.request.raw_query or b"").split(b"&"):
            key, _, value = pair.partition(b"=")
            if unquote_plus(_text(key)) == name:
                return field(unquote_plus(_text(value)))
        return NOTHING

    return get


def cookie(name: str) -> Getter:
    """The first value of that cookie."""
    raw = name.encode()

    def get(exchange: Exchange) -> str:
        for pair in (exchange.request.headers.get_raw(b"cookie") or b"").split(b";"):
            key, _, value = pair.partition(b"=")
            if key.strip() == raw:
                return _field(value.strip())
        return NOTHING

    return get


def only(protocol: str, get: Getter) -> Getter:
    """`get` for requests of that protocol, `-` for others."""
    return lambda exchange: get(exchange) if exchange.protocol == protocol else NOTHING


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _field(raw: bytes) -> str:
    return field(raw.decode("utf-8", "surrogateescape"))


_REQUEST: Final[dict[str, Getter]] = {
    "request_path": request_path,
    "request_uri": request_uri,
    "request_arg": request_query,
    "request_scheme": lambda exchange: field(exchange.request.scheme),
}

VARIABLES: Final[dict[str, Getter]] = {
    "duration": duration,
    "request_received_duration": request_received_duration,
    # The request is passed on as it comes: it has been sent when it has been received.
    "request_finished_duration": request_received_duration,
    "response_received_duration": response_received_duration,
    "process_time_duration": process_time_duration,
    "bytes_sent": lambda exchange: str(exchange.bytes_sent),
    "bytes_received": lambda exchange: str(exchange.bytes_received),
    "protocol": lambda exchange: exchange.protocol or NOTHING,
    "downstream_protocol": lambda exchange: exchange.protocol or NOTHING,
    "upstream_protocol": upstream_protocol,
    "response_code": response_code,
    "response_flag": response_flag,
    "response_flags": response_flag,
    "upstream_transport_failure_reason": upstream_transport_failure_reason,
    "upstream_local_address": upstream_address,
    "upstream_host": lambda exchange: field(exchange.upstream_hostname),
    "upstream_cluster": lambda exchange: field(exchange.cluster_name),
    "downstream_local_address": lambda exchange: exchange.local_address,
    "downstream_remote_address": lambda exchange: exchange.remote_address,
    "connection_id": connection_id,
    "upstream_connection_id": upstream_connection_id,
    "listener_port": lambda exchange: str(exchange.connection.local_port),
    # pymosn's own
    "reason": reason,
    "upstream_address": upstream_address,
    "route_name": route_name,
    "attempts": lambda exchange: str(exchange.attempts),
    # control variables that MOSN's HTTP streams set
    "x-mosn-method": request_method,
    "x-mosn-path": request_path,
    "x-mosn-querystring": request_query,
    "x-mosn-scheme": _REQUEST["request_scheme"],
    "x-mosn-host": request_host,
    "authority": request_host,
    "x-mosn-status": response_code,
    **_REQUEST,
    **{f"Http1_{name}": only("Http1", get) for name, get in _REQUEST.items()},
    "Http1_request_method": only("Http1", request_method),
    "Http1_request_length": only("Http1", request_length),
    "Http2_request_scheme": only("Http2", _REQUEST["request_scheme"]),
}

PREFIXES: Final[dict[str, Callable[[str], Getter]]] = {
    "request_header_": request_header,
    "response_header_": response_header,
    "request_arg_": request_arg,
    "cookie_": cookie,
    "Http1_request_header_": lambda name: only("Http1", request_header(name)),
    "Http1_request_arg_": lambda name: only("Http1", request_arg(name)),
    "Http1_cookie_": lambda name: only("Http1", cookie(name)),
    "Http2_request_header_": lambda name: only("Http2", request_header(name)),
    "Http2_cookie_": lambda name: only("Http2", cookie(name)),
}

#: Known when the log is built: the clock's and the listener's.
BOUND: Final = frozenset(("start_time", "listener_name", "listener_type"))

#: `-` until tracing is built, as in MOSN with tracing switched off; MOSN's default format names it.
TRACE: Final = frozenset(("trace_id",))

#: MOSN's, but always `-` here.
UNAVAILABLE: Final = frozenset(
    (
        *("stream_id", "requested_server_name", "connection", "connection_pool_index", "conn_default_read_buffer_size"),
        *("network_filterchain_factories", "access_logs", "accept_chan", "accept_buffer", "connection_fd", "span_key"),
        *("trace_span", "proxy_general_config", "protocol_config", "connection_event_listeners", "ori_remote_addr"),
        *("downstream_req_headers", "downstream_resp_headers", "x-mosn-path-original", "Http1_request_path_original"),
        *("proxy_try_timeout", "proxy_global_timeout", "proxy_hijack_status", "proxy_gzip_switch", "proxy_direct_response"),
        *("proxy_disable_retry", "x-mosn-direction", "x-mosn-rpc-service", "x-mosn-rpc-method", "x-mosn-router-meta"),
        *("upstream_index", "listener_match_fallback_ip", "x-mosn-req-raw-data", "x-mosn-resp-raw-data"),
        *("Http2_request_use_stream", "Http2_response_use_stream", "gRPC_serviceName", "requestResult"),
        *("Dubbo_service", "Dubbo_method", "x_seata_xid", "x_seata_branch_id"),
    )
)


def getter(name: str) -> Getter | None:
    """What gives the value of a variable; None for a name that has none or is BOUND."""
    found = VARIABLES.get(name)
    if found is not None:
        return found
    for prefix, make in PREFIXES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return make(name[len(prefix) :])
    return None
