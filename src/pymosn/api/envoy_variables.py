"""Variables that Envoy's formats have and MOSN's lack, under names of their own. Numbers are in milliseconds or bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pymosn.api.record import ExchangeRecord
from pymosn.core.addresses import address_host
from pymosn.core.failure import (
    FLAG_DOWNSTREAM_TERMINATE,
    FLAG_FAULT_INJECTED,
    FLAG_NO_HEALTHY_UPSTREAM,
    FLAG_NO_ROUTE,
    FLAG_RATE_LIMITED,
    FLAG_UPSTREAM_CONNECTION_FAILURE,
    FLAG_UPSTREAM_CONNECTION_TERMINATION,
    FLAG_UPSTREAM_OVERFLOW,
    FLAG_UPSTREAM_REMOTE_RESET,
    FLAG_UPSTREAM_TIMEOUT,
    Failure,
)
from pymosn.core.headers import to_text

#: Envoy's letters by reason words, where MOSN's flags are too coarse or have none.
_BY_REASON: Final[dict[str, str]] = {
    "no_filter_chain": "NR",
    "cluster_unknown": "NC",
    "stream_idle_timeout": "SI",
    "tunnel_idle_timeout": "SI",
    "access_denied": "UAEX",
    "authorization_failed": "UAEX",
    "draining": "LR",
    "overloaded": "OM",
    "bad_response": "UPE",
    "client_write_timeout": "DC",
    "bad_request": "DPE",
    "malformed": "DPE",
}
#: Envoy's letters by MOSN's flags.
_BY_FLAG: Final = (
    (FLAG_NO_HEALTHY_UPSTREAM, "UH"),
    (FLAG_UPSTREAM_TIMEOUT, "UT"),
    (FLAG_UPSTREAM_REMOTE_RESET, "UR"),
    (FLAG_UPSTREAM_CONNECTION_FAILURE, "UF"),
    (FLAG_UPSTREAM_CONNECTION_TERMINATION, "UC"),
    (FLAG_UPSTREAM_OVERFLOW, "UO"),
    (FLAG_NO_ROUTE, "NR"),
    (FLAG_FAULT_INJECTED, "FI"),
    (FLAG_RATE_LIMITED, "RL"),
    (FLAG_DOWNSTREAM_TERMINATE, "DC"),
)
#: All letters that `envoy_flags` returns.
LETTERS: Final = frozenset([*_BY_REASON.values(), *[letters for _, letters in _BY_FLAG]])
_PROTOCOLS: Final = {"Http1": "HTTP/1.1", "Http2": "HTTP/2"}


#: gRPC's names of its statuses, from 0 (github.com/grpc/grpc/blob/master/doc/statuscodes.md).
GRPC_NAMES: Final = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


def envoy_flags(failure: Failure | None) -> str:
    """Envoy's response flags for a failure, such as `UH`; empty for none."""
    if failure is None:
        return ""
    found = _BY_REASON.get(failure.reason)
    if found is not None:
        return found
    for flag, letters in _BY_FLAG:
        if failure.flag & flag:
            return letters
    return ""


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1000.0 + 0.5))


def _request_ms(exchange: ExchangeRecord) -> str | None:
    received = exchange.request_received
    return _milliseconds(received - exchange.started) if received > 0.0 else None


def _response_ms(exchange: ExchangeRecord) -> str | None:
    received = exchange.response_received
    return _milliseconds(received - exchange.started) if received > 0.0 else None


def _response_tx_ms(exchange: ExchangeRecord) -> str | None:
    received = exchange.response_received
    return _milliseconds(exchange.finished - received) if received > 0.0 and exchange.finished > 0.0 else None


def _service_ms(exchange: ExchangeRecord) -> str | None:
    """From the end of the request to the head of the response: what Envoy has in x-envoy-upstream-service-time."""
    if not exchange.upstream_address or exchange.response_received <= 0.0:
        return None
    begin = exchange.request_received if exchange.request_received > 0.0 else exchange.started
    return _milliseconds(max(0.0, exchange.response_received - begin))


def _details(exchange: ExchangeRecord) -> str | None:
    """The reason word; Envoy's `via_upstream` for responses of hosts."""
    if exchange.failure is not None:
        return exchange.failure.reason
    return "via_upstream" if exchange.response_received > 0.0 else None


def _grpc_status_name(exchange: ExchangeRecord) -> str | None:
    """The name of a gRPC call's status; its number if it has none."""
    if not exchange.request.has_call_status:
        return None
    status = exchange.call_status
    return None if status < 0 else GRPC_NAMES[status] if status < len(GRPC_NAMES) else str(status)


def _path(exchange: ExchangeRecord) -> str:
    """Path and query as they are now, after rewrites."""
    return to_text(exchange.request.raw_target())


def _ip(address: str) -> str:
    return address_host(address) or address


def start_time(wall: float) -> str:
    """Envoy's default form of START_TIME."""
    milliseconds = int(wall * 1000.0)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{text}.{milliseconds % 1000:03d}Z"


ENVOY: Final[dict[str, Callable[[ExchangeRecord], str | None]]] = {
    "percent": lambda exchange: "%",
    "backslash": lambda exchange: "\\",
    "duration_ms": lambda exchange: _milliseconds(exchange.finished - exchange.started),
    "request_duration_ms": _request_ms,
    "response_duration_ms": _response_ms,
    "response_tx_duration_ms": _response_tx_ms,
    "upstream_service_time_ms": _service_ms,
    "response_flags_envoy": lambda exchange: envoy_flags(exchange.failure) or None,
    "response_code_details": _details,
    "protocol_envoy": lambda exchange: _PROTOCOLS.get(exchange.protocol),
    "upstream_protocol_envoy": lambda exchange: (
        _PROTOCOLS.get(exchange.upstream_protocol()) if exchange.upstream_address else None
    ),
    "upstream_remote_ip": lambda exchange: _ip(exchange.upstream_address) or None,
    "downstream_direct_remote_ip": lambda exchange: exchange.connection.remote_ip or None,
    "downstream_local_ip": lambda exchange: exchange.connection.local_ip or None,
    "original_destination": lambda exchange: exchange.connection.original_destination or exchange.local_address,
    "path_now": _path,
    "grpc_status_name": _grpc_status_name,
}
#: Variables whose values are numbers, also of MOSN's.
NUMBERS: Final = frozenset(
    (
        *("duration_ms", "request_duration_ms", "response_duration_ms", "response_tx_duration_ms"),
        *("upstream_service_time_ms", "response_code", "bytes_sent", "bytes_received", "attempts", "connection_id"),
        *("listener_port", "grpc_status", "upstream_connection_id"),
    )
)
