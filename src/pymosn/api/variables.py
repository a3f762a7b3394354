"""Variables: values of an exchange by name, for routes, header values, access logs and filters.

The names are MOSN's (key reference sections 12.2 to 12.5). A getter returns text, or None while the value is not known. A
value set with `Exchange.set_variable` takes precedence over the getter.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus

from mypy_extensions import i64

from pymosn.api.envoy_variables import ENVOY
from pymosn.api.http import HttpRequest
from pymosn.api.record import ExchangeRecord
from pymosn.api.tls import ClientCertificate, TlsInfo
from pymosn.core.certificate_text import listed, safe_dn, safe_name, safe_uri
from pymosn.core.durations import go_duration
from pymosn.core.headers import Headers, joined, to_text
from pymosn.core.plain import plain_text
from pymosn.core.uri import target_of

#: RFC 3986 section 3.1.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

#: Characters of a text that a client has chosen in its handshake or certificate.
LONGEST: Final[i64] = 2048

Getter = Callable[[ExchangeRecord], str | None]
#: Every value of a field that may be repeated, in order.
Values = Callable[[ExchangeRecord], list[str]]


# ---- times, sizes, outcome


def request_received_duration(exchange: ExchangeRecord) -> str:
    """Until the whole request had been sent to an upstream; `0s` if it never was, as for a local reply."""
    return go_duration(exchange.request_sent - exchange.started)


def request_finished_duration(exchange: ExchangeRecord) -> str:
    """The whole exchange; `0s` before its end."""
    return go_duration(exchange.finished - exchange.started)


def stream_id(exchange: ExchangeRecord) -> str | None:
    """The protocol's number of the request, or one that is unique among all workers."""
    if exchange.stream_number >= 0:
        return str(exchange.stream_number)
    return _made_once(exchange, "stream_id")


def trace_id(exchange: ExchangeRecord) -> str | None:
    """The id of the trace; without tracing one in MOSN's form, made when it is first asked for."""
    trace = exchange.trace
    return _made_once(exchange, "trace_id") if trace is None else trace.shown_id()


def span_id(exchange: ExchangeRecord) -> str | None:
    """The id of the exchange's span; None unless its trace is recorded."""
    trace = exchange.trace
    return None if trace is None else trace.recorded_id() or None


def _made_once(exchange: ExchangeRecord, name: str) -> str | None:
    """An id that the worker makes; None where no worker serves the exchange."""
    stamps = exchange.stamps
    if stamps is None:
        return None
    if exchange.made_ids is None:
        exchange.made_ids = {}
    found = exchange.made_ids.get(name)
    if found is None:
        found = stamps.trace_id() if name == "trace_id" else stamps.stream_id()
        exchange.made_ids[name] = found
    return found


def response_code(exchange: ExchangeRecord) -> str:
    """The status sent to the client; 0 if there was none."""
    return "0" if exchange.response is None else str(exchange.response.status)


def response_flag(exchange: ExchangeRecord) -> str:
    """Whether any of MOSN's response flags is set."""
    return "true" if exchange.failure is not None and exchange.failure.flag else "false"


def grpc_status(exchange: ExchangeRecord) -> str | None:
    """The number of a gRPC call's status."""
    status = exchange.call_status
    return None if status < 0 else str(status)


def request_result(exchange: ExchangeRecord) -> str | None:
    """Whether a gRPC call succeeded: MOSN's variable."""
    status = exchange.call_status
    return None if status < 0 else "true" if status == 0 else "false"


# ---- the request's head


def request_path(exchange: ExchangeRecord) -> str | None:
    """The path that was routed on."""
    return to_text(exchange.original_path or exchange.request.raw_path)


def request_query(exchange: ExchangeRecord) -> str | None:
    """The query without its question mark."""
    query = exchange.request.raw_query
    return None if query is None else to_text(query)


def request_uri(exchange: ExchangeRecord) -> str:
    """Path and query as received."""
    request = exchange.request
    return to_text(target_of(exchange.original_path or request.raw_path, request.raw_query))


def request_host(exchange: ExchangeRecord) -> str | None:
    """The requested host."""
    return to_text(exchange.original_host or exchange.request.raw_host) or None


def request_length(exchange: ExchangeRecord) -> str | None:
    """Bytes of the head as received, and of the content, without the framing of its chunks."""
    request = exchange.request
    if not isinstance(request, HttpRequest) or request.head_size == 0:
        return None
    return str(request.head_size + exchange.bytes_received)


# ---- the client's TLS connection


def _of_tls(get: Callable[[TlsInfo], str]) -> Getter:
    """A fact of the handshake; None on connections without TLS, and where it is empty."""

    def value(exchange: ExchangeRecord) -> str | None:
        tls = exchange.connection.tls
        return None if tls is None else get(tls) or None

    return value


def _of_certificate(get: Callable[[ClientCertificate], str], verified_only: bool = True) -> Getter:
    """A fact of the client's certificate. Whoever presents one that is not verified has chosen its text: None."""

    def value(exchange: ExchangeRecord) -> str | None:
        tls = exchange.connection.tls
        certificate = None if tls is None else tls.certificate
        if certificate is None or (verified_only and not certificate.is_verified):
            return None
        return get(certificate) or None

    return value


def _bounded(text: str) -> str:
    """A safe text, or nothing if it is too long: a name that was cut could be another one's."""
    return text if len(text) <= LONGEST else ""


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


#: Envoy's names (DOWNSTREAM_*), in lower case; texts are encoded as in `core.certificate_text`.
TLS: Final[dict[str, Getter]] = {
    "requested_server_name": _of_tls(lambda tls: _bounded(safe_name(tls.server_name))),
    "downstream_tls_version": _of_tls(lambda tls: tls.version),
    "downstream_tls_cipher": _of_tls(lambda tls: tls.cipher),
    "downstream_tls_resumed": _of_tls(lambda tls: "" if not tls.version else "true" if tls.is_resumed else "false"),
    "downstream_alpn": lambda exchange: safe_uri(exchange.connection.alpn) or None,
    "downstream_alpn_offered": _of_tls(lambda tls: listed([safe_uri(name) for name in tls.offered_protocols], LONGEST)),
    "tls_ja3_fingerprint": _of_tls(lambda tls: tls.ja3),
    "tls_ja4_fingerprint": _of_tls(lambda tls: tls.ja4),
    "downstream_peer_verified": _of_certificate(lambda found: "true" if found.is_verified else "false", False),
    "downstream_peer_fingerprint_256": _of_certificate(lambda found: found.fingerprint, False),
    "downstream_peer_subject": _of_certificate(lambda found: _bounded(safe_dn(found.subject))),
    "downstream_peer_issuer": _of_certificate(lambda found: _bounded(safe_dn(found.issuer))),
    "downstream_peer_serial": _of_certificate(lambda found: found.serial),
    "downstream_peer_dns_san": _of_certificate(lambda found: listed([safe_name(name) for name in found.dns_names], LONGEST)),
    "downstream_peer_uri_san": _of_certificate(lambda found: listed([safe_uri(uri) for uri in found.uris], LONGEST)),
    "downstream_peer_spiffe_id": _of_certificate(lambda found: _bounded(safe_uri(found.spiffe_id))),
    "downstream_peer_cert_v_end": _of_certificate(lambda found: _date(found.not_after)),
}


def request_header(name: str) -> Values:
    """The values of that request header."""
    return lambda exchange: exchange.request.headers.get_all(name)


def response_header(name: str) -> Values:
    """The values of that response header."""
    return lambda exchange: [] if exchange.response is None else exchange.response.headers.get_all(name)


def request_arg(name: str) -> Values:
    """The values of that query parameter, decoded."""
    return lambda exchange: query_values(exchange.request.raw_query, name)


def cookie(name: str) -> Values:
    """The values of that cookie."""
    return lambda exchange: cookie_values(exchange.request.headers, name)


def query_pairs(query: bytes | None) -> list[tuple[str, str]]:
    """The parameters of a query in order, decoded; the value is empty for a parameter without `=`."""
    found: list[tuple[str, str]] = []
    for pair in query.split(b"&") if query else []:
        name, equals, value = pair.partition(b"=")
        if name or equals:
            found.append((unquote_plus(to_text(name)), unquote_plus(to_text(value))))
    return found


def query_values(query: bytes | None, name: str) -> list[str]:
    """Every value of the parameter `name` in a query, decoded, in order."""
    return [value for key, value in query_pairs(query) if key == name]


def cookie_values(headers: Headers, name: str) -> list[str]:
    """Every value of a cookie, in all Cookie fields (RFC 6265 section 4.2), in order."""
    found: list[str] = []
    for line in headers.get_all("cookie"):
        for pair in line.split(";"):
            key, equals, value = pair.partition("=")
            if equals and key.strip(" \t") == name:
                found.append(value.strip(" \t"))
    return found


def only(protocol: str, get: Getter) -> Getter:
    """`get` for requests of that protocol, None for others."""
    return lambda exchange: get(exchange) if exchange.protocol == protocol else None


def _only_values(protocol: str, values: Values) -> Values:
    return lambda exchange: values(exchange) if exchange.protocol == protocol else []


#: Values that the proxy determines: numbers, durations, addresses. Always plain ASCII.
OWN: Final[dict[str, Getter]] = {
    "duration": lambda exchange: go_duration(exchange.elapsed()),
    "request_received_duration": request_received_duration,
    "request_finished_duration": request_finished_duration,
    # Until the response's head; `0s` if there was none.
    "response_received_duration": lambda exchange: go_duration(exchange.response_received - exchange.started),
    "process_time_duration": lambda exchange: go_duration(exchange.processing_time()),
    "bytes_sent": lambda exchange: str(exchange.bytes_sent),
    "bytes_received": lambda exchange: str(exchange.bytes_received),
    "protocol": lambda exchange: exchange.protocol or None,
    "downstream_protocol": lambda exchange: exchange.protocol or None,
    "upstream_protocol": lambda exchange: exchange.upstream_protocol() if exchange.upstream_address else None,
    "response_code": response_code,
    "response_flag": response_flag,
    "response_flags": response_flag,
    # MOSN's response flags as `0x<hex>`.
    "upstream_transport_failure_reason": lambda exchange: (
        "0x0" if exchange.failure is None else f"{exchange.failure.flag:#x}"
    ),
    "upstream_local_address": lambda exchange: exchange.upstream_address or None,
    "downstream_local_address": lambda exchange: exchange.local_address,
    "downstream_remote_address": lambda exchange: exchange.remote_address,
    "connection_id": lambda exchange: str(exchange.connection_id),
    "stream_id": stream_id,
    "trace_id": trace_id,
    "span_id": span_id,
    "upstream_connection_id": lambda exchange: str(exchange.upstream_connection_id or "") or None,
    "listener_port": lambda exchange: str(exchange.connection.local_port),
    "x-mosn-status": response_code,
    "proxy_direct_response": lambda exchange: "true" if exchange.is_local else None,
    "Http1_request_length": only("Http1", request_length),
    # pymosn's own; the reason is a word of `pymosn.core.failure`
    "reason": lambda exchange: None if exchange.failure is None else exchange.failure.reason,
    "upstream_address": lambda exchange: exchange.upstream_address or None,
    "grpc_status": grpc_status,
    "requestResult": request_result,
    "attempts": lambda exchange: str(exchange.attempts),
    "downstream_remote_ip": lambda exchange: exchange.remote_ip,
    "downstream_direct_remote_address": lambda exchange: exchange.direct_remote_address,
}

_REQUEST: Final[dict[str, Getter]] = {
    "request_path": request_path,
    "request_uri": request_uri,
    "request_arg": request_query,
    "request_scheme": lambda exchange: exchange.request.scheme,
}


def request_method(exchange: ExchangeRecord) -> str | None:
    """The method."""
    return exchange.request.method_name() or None


#: What a client, a server or the configuration chose: any text that a head may hold, and decoded query parameters.
FOREIGN: Final[dict[str, Getter]] = {
    **TLS,
    **ENVOY,
    "upstream_host": lambda exchange: exchange.upstream_hostname or None,
    "upstream_cluster": lambda exchange: exchange.cluster_name or None,
    "route_name": lambda exchange: None if exchange.route is None else exchange.route.name,
    "route_label": lambda exchange: None if exchange.route is None else exchange.route.label or None,
    "x-mosn-method": request_method,
    "x-mosn-path": lambda exchange: to_text(exchange.request.raw_path),
    "x-mosn-path-original": request_path,
    "x-mosn-querystring": request_query,
    "x-mosn-scheme": _REQUEST["request_scheme"],
    "x-mosn-host": request_host,
    "authority": lambda exchange: to_text(exchange.request.raw_host) or None,
    **_REQUEST,
    **{f"Http1_{name}": only("Http1", get) for name, get in _REQUEST.items()},
    "Http1_request_path_original": only("Http1", request_path),
    "Http1_request_method": only("Http1", request_method),
    "Http2_request_scheme": only("Http2", _REQUEST["request_scheme"]),
    "request_method": request_method,
    "request_host": request_host,
    "x-mosn-rpc-service": lambda exchange: exchange.request.service() or None,
    "x-mosn-rpc-method": lambda exchange: exchange.request.rpc_method() or None,
    "gRPC_serviceName": lambda exchange: exchange.request.service() or None if exchange.request.has_call_status else None,
}

#: Variables that are named after a field, parameter or cookie. The values of a repeated one are joined with commas.
PREFIXES: Final[dict[str, Callable[[str], Values]]] = {
    "request_header_": request_header,
    "response_header_": response_header,
    "request_arg_": request_arg,
    "cookie_": cookie,
    "Http1_request_header_": lambda name: _only_values("Http1", request_header(name)),
    "Http1_request_arg_": lambda name: _only_values("Http1", request_arg(name)),
    "Http1_cookie_": lambda name: _only_values("Http1", cookie(name)),
    "Http2_request_header_": lambda name: _only_values("Http2", request_header(name)),
    "Http2_cookie_": lambda name: _only_values("Http2", cookie(name)),
}

#: Names without a getter that filters set and others read: MOSN's control variables and those of its filters.
SETTABLE: Final = frozenset(
    (
        *("proxy_try_timeout", "proxy_global_timeout", "proxy_hijack_status", "proxy_gzip_switch"),
        *("proxy_direct_response", "proxy_disable_retry", "x-mosn-direction", "x-mosn-rpc-service", "x-mosn-rpc-method"),
        *("x-mosn-router-meta", "upstream_index", "listener_match_fallback_ip", "gRPC_serviceName", "requestResult"),
        *("Dubbo_service", "Dubbo_method", "x_seata_xid", "x_seata_branch_id"),
        # pymosn's own
        *("mirror_amplification", "mirror_broadcast", "local_reply_body"),
    )
)


def getter(name: str) -> Getter | None:
    """The getter of a variable; None for a name whose value only filters set."""
    found = OWN.get(name) or FOREIGN.get(name)
    if found is not None:
        return found
    if "|" in name or ":" in name:
        composed = _composed(name)
        if composed is not None:
            return composed
    values = values_getter(name)
    return None if values is None else lambda exchange: joined(values(exchange))


def _composed(name: str) -> Getter | None:
    """`a|b`: the first one that has a value; `a:10`, `a|b:10`: at most ten characters of it. None for anything else."""
    text, colon, digits = name.rpartition(":")
    if not colon or not digits.isdecimal() or not digits.isascii():
        text, digits = name, ""
    if not digits and "|" not in text:
        return None
    getters = [getter(part) for part in text.split("|")]
    known = [get for get in getters if get is not None]
    if len(known) < len(getters):
        return None
    longest = int(digits) if digits else -1

    def value(exchange: ExchangeRecord) -> str | None:
        for get in known:
            found = get(exchange)
            if found:
                return found if longest < 0 else found[:longest]
        return None

    return value


def values_getter(name: str) -> Values | None:
    """All values of a variable that is named after a field, parameter or cookie; None for any other name."""
    for prefix, make in PREFIXES.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return make(name[len(prefix) :])
    return None


def is_known(name: str) -> bool:
    """Whether a name has a getter or is one of MOSN's that filters set."""
    return name in SETTABLE or getter(name) is not None


class Variable:
    """One variable, looked up once and read per request."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._get: Getter | None = getter(name)
        self._values: Values | None = values_getter(name)

    def value(self, exchange: ExchangeRecord) -> str | None:
        """Its value in an exchange, or None."""
        own = exchange.own_variables
        if own is not None:
            value = own.get(self.name)
            if value is not None:
                return value
        get = self._get
        return None if get is None else get(exchange)

    def is_repeated(self, exchange: ExchangeRecord) -> bool:
        """Whether its value is that of a field, parameter or cookie that is given more than once."""
        values = self._values
        own = exchange.own_variables
        if values is None or (own is not None and self.name in own):
            return False
        return len(values(exchange)) > 1


def set_variable(exchange: ExchangeRecord, name: str, value: str) -> None:
    """Sets a variable; see `Exchange.set_variable`."""
    request = exchange.request
    name, value = plain_text(name), plain_text(value)
    if name == "x-mosn-path":
        request.path = value
    elif name == "x-mosn-querystring":
        request.query = value
    elif name == "x-mosn-method":
        request.method = value
    elif name == "x-mosn-host":
        request.host = value
    elif name == "x-mosn-scheme":
        if not _SCHEME.fullmatch(value):
            raise ValueError(f"not a URL scheme: {value!r}")
        request.scheme = value
    elif name != "authority" and name not in SETTABLE and getter(name) is not None:
        raise ValueError(f"the variable {name} cannot be set")
    else:
        if exchange.own_variables is None:
            exchange.own_variables = {}
        exchange.own_variables[name] = value
