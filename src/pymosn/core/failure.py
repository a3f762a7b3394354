"""The one table of everything that can go wrong with an exchange, and of its consequences.

A failure is a value, used for the response to the client (`status`), the access log and counters (`reason`), MOSN's
response flags (`flag`), the retry policy (`may_retry`: the host cannot have processed any of the request) and the health of
hosts (`by_host`: it counts against the host, unless the client has contributed to it).
"""

from __future__ import annotations

from typing import Final

from pymosn.core.log import ALERT_CLUSTER, ALERT_CODEC, ALERT_PANIC, ALERT_ROUTE, ALERT_UPSTREAM

# MOSN's response flags (key reference section 7.2).
FLAG_NO_HEALTHY_UPSTREAM: Final = 0x2
FLAG_UPSTREAM_TIMEOUT: Final = 0x4
FLAG_UPSTREAM_REMOTE_RESET: Final = 0x10
FLAG_UPSTREAM_CONNECTION_FAILURE: Final = 0x20
FLAG_UPSTREAM_CONNECTION_TERMINATION: Final = 0x40
FLAG_UPSTREAM_OVERFLOW: Final = 0x80
FLAG_NO_ROUTE: Final = 0x100
FLAG_FAULT_INJECTED: Final = 0x400
FLAG_RATE_LIMITED: Final = 0x800
FLAG_TOO_LARGE: Final = 0x1000
FLAG_DOWNSTREAM_TERMINATE: Final = 0x2000


class Failure:
    """One kind of failure.

    `reason`: the word in logs, counters and the reason header. `status`: the HTTP status for the client; RPC protocols map
    it to their own. `flag`: MOSN's response flag bits. `may_retry`: whether another host may be tried by default.
    `retry_after`: seconds for the Retry-After header, 0 for none. Failures with it are frequent, and are therefore
    not in the process log, only in the access log and the counters. `by_host`: whether the upstream's host caused it.
    `is_attack`: the operator should know of it, whatever the status. `alert`: MOSN's key for its line in the process log.
    """

    def __init__(
        self,
        reason: str,
        status: int,
        flag: int = 0,
        may_retry: bool = False,
        retry_after: int = 0,
        by_host: bool = False,
        is_attack: bool = False,
        alert: str = "",
    ) -> None:
        self.reason = reason
        self.status = status
        self.flag = flag
        self.may_retry = may_retry
        self.retry_after = retry_after
        self.by_host = by_host
        self.is_attack = is_attack
        self.alert = alert

    def __repr__(self) -> str:
        return f"<Failure {self.reason} {self.status}>"


class Refused(Exception):
    """Raised by a filter to reject a message; the client gets `failure`, and it does not count as a filter error."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class RefusedValue(ValueError):
    """Like `Refused`, for values that cannot be read. A separate class because a compiled one has a single base."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


_ATTRIBUTE: Final = "failure"


def failure_of(error: BaseException) -> Failure | None:
    """What the client gets for an error that refuses a message; None for any other error. Never raises.

    The error may be of a foreign subclass.
    """
    if not issubclass(type(error), (Refused, RefusedValue)):
        return None
    try:
        # By name, because compiled code would not see a property of a subclass.
        failure: object = getattr(error, _ATTRIBUTE)
        if type(failure) is Failure and type(failure.reason) is str and type(failure.status) is int:
            return failure if 200 <= failure.status <= 599 else None
    except BaseException:  # a property of its class
        return None
    return None


# ---- malformed or oversized requests
BAD_REQUEST: Final = Failure("bad_request", 400)
BAD_FRAMING: Final = Failure("bad_framing", 400)
BAD_HOST: Final = Failure("bad_host", 400)
BAD_TARGET: Final = Failure("bad_target", 400)
# What a route or a filter has made of the path climbs out of it: a `..` that the request did not have.
BAD_REWRITE: Final = Failure("bad_rewrite", 400)
BAD_BODY: Final = Failure("bad_body", 400)
REPEATED_FIELD: Final = Failure("repeated_field", 400)
TRUNCATED_HEAD: Final = Failure("truncated_head", 400, FLAG_DOWNSTREAM_TERMINATE)
TRUNCATED_BODY: Final = Failure("truncated_body", 400, FLAG_DOWNSTREAM_TERMINATE)
REQUEST_TIMEOUT: Final = Failure("request_timeout", 408)
BODY_TOO_SLOW: Final = Failure("body_too_slow", 408)
BODY_TOO_LARGE: Final = Failure("body_too_large", 413, FLAG_TOO_LARGE)
TARGET_TOO_LONG: Final = Failure("target_too_long", 414)
BAD_EXPECTATION: Final = Failure("bad_expectation", 417)
HEADERS_TOO_LARGE: Final = Failure("headers_too_large", 431)
CONNECT_NOT_ALLOWED: Final = Failure("connect_not_allowed", 405)
UNKNOWN_TRANSFER_CODING: Final = Failure("unknown_transfer_coding", 501)
#: The `:protocol` of an extended CONNECT (RFC 8441) is not one of the `upgrades` of the listener.
UNKNOWN_PROTOCOL: Final = Failure("unknown_protocol", 501)
BAD_VERSION: Final = Failure("bad_version", 505)
BAD_FRAME: Final = Failure("bad_frame", 400, alert=ALERT_CODEC)
FRAME_TOO_LARGE: Final = Failure("frame_too_large", 413, FLAG_TOO_LARGE, alert=ALERT_CODEC)
#: The same for the response of a host.
FRAME_TOO_LARGE_502: Final = Failure("frame_too_large", 502, FLAG_TOO_LARGE)
TRUNCATED_FRAME: Final = Failure("truncated_frame", 400, FLAG_DOWNSTREAM_TERMINATE)
UNASKED_REPLY: Final = Failure("unasked_reply", 400)
# A rule must judge or change RPC headers that cannot be read, or that contain one name with different values.
UNREADABLE_HEADERS: Final = Failure("unreadable_headers", 400)
# A filter reads the body as JSON.
INVALID_JSON: Final = Failure("invalid_json", 400)
# An HTTP/2 request that is malformed (RFC 9113 section 8.1.1): its stream is reset, so the status is never sent.
MALFORMED: Final = Failure("malformed", 400)
# The host belongs to a TLS context or chain with other demands on client certificates (RFC 9110 section 15.5.20).
MISDIRECTED: Final = Failure("misdirected", 421)

# ---- no upstream
NO_ROUTER: Final = Failure("no_router", 404, FLAG_NO_ROUTE, alert=ALERT_ROUTE)
NO_VIRTUAL_HOST: Final = Failure("no_virtual_host", 404, FLAG_NO_ROUTE)
NO_ROUTE: Final = Failure("no_route", 404, FLAG_NO_ROUTE)
CLUSTER_UNKNOWN: Final = Failure("cluster_unknown", 404, FLAG_NO_ROUTE, alert=ALERT_CLUSTER)
#: The same for routes that choose another status.
CLUSTER_UNKNOWN_500: Final = Failure("cluster_unknown", 500, FLAG_NO_ROUTE, alert=ALERT_CLUSTER)
CLUSTER_UNKNOWN_503: Final = Failure("cluster_unknown", 503, FLAG_NO_ROUTE, alert=ALERT_CLUSTER)
NO_HOSTS: Final = Failure("no_hosts", 502, FLAG_NO_HEALTHY_UPSTREAM, alert=ALERT_UPSTREAM)
ALL_UNHEALTHY: Final = Failure("all_unhealthy", 502, FLAG_NO_HEALTHY_UPSTREAM, alert=ALERT_UPSTREAM)

# ---- upstream failures
# A share of the requests that is refused to protect the hosts.
DROP_OVERLOAD: Final = Failure("drop_overload", 503, FLAG_UPSTREAM_OVERFLOW)
OVERFLOW: Final = Failure("overflow", 503, FLAG_UPSTREAM_OVERFLOW)
CONNECT_REFUSED: Final = Failure("connect_refused", 502, FLAG_UPSTREAM_CONNECTION_FAILURE, may_retry=True, by_host=True)
CONNECT_TIMEOUT: Final = Failure("connect_timeout", 502, FLAG_UPSTREAM_CONNECTION_FAILURE, may_retry=True, by_host=True)
CONNECT_FAILED: Final = Failure("connect_failed", 502, FLAG_UPSTREAM_CONNECTION_FAILURE, may_retry=True, by_host=True)
NO_DESCRIPTORS: Final = Failure("no_descriptors", 503, FLAG_UPSTREAM_CONNECTION_FAILURE)
RESET_BEFORE_RESPONSE: Final = Failure("reset_before_response", 502, FLAG_UPSTREAM_REMOTE_RESET, by_host=True)
RESET_AFTER_RESPONSE: Final = Failure("reset_after_response", 502, FLAG_UPSTREAM_CONNECTION_TERMINATION, by_host=True)
BAD_RESPONSE: Final = Failure("bad_response", 502, FLAG_UPSTREAM_REMOTE_RESET, by_host=True, alert=ALERT_CODEC)
UPSTREAM_TIMEOUT: Final = Failure("timeout", 504, FLAG_UPSTREAM_TIMEOUT, by_host=True)
# The time that the request itself allows, a gRPC deadline, is over.
DEADLINE_EXCEEDED: Final = Failure("deadline_exceeded", 504, FLAG_UPSTREAM_TIMEOUT)
# A host refused a stream (HTTP/2 REFUSED_STREAM), or closed its connection with a GOAWAY that excludes it: not processed.
REFUSED_STREAM: Final = Failure("refused_stream", 502, FLAG_UPSTREAM_REMOTE_RESET, may_retry=True)
GOAWAY_UNPROCESSED: Final = Failure("goaway_unprocessed", 502, FLAG_UPSTREAM_REMOTE_RESET, may_retry=True)
# A host answers HTTP/2 in HTTP/1; its requests use HTTP/1 from then on.
HTTP1_HOST: Final = Failure("http1_host", 502, FLAG_UPSTREAM_CONNECTION_FAILURE, may_retry=True)
# A peer did not answer a PING in time.
KEEPALIVE_TIMEOUT: Final = Failure("keepalive_timeout", 502, FLAG_UPSTREAM_REMOTE_RESET, by_host=True)
STREAM_IDLE: Final = Failure("stream_idle_timeout", 504, FLAG_UPSTREAM_TIMEOUT)
TUNNEL_IDLE: Final = Failure("tunnel_idle_timeout", 504, FLAG_UPSTREAM_TIMEOUT)
# A TLS handshake with a host failed; RFC 8446 section 6.2 has the alerts.
_TLS: Final = FLAG_UPSTREAM_CONNECTION_FAILURE
UPSTREAM_TLS_FAILED: Final = Failure("tls_handshake_failed", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_TLS_TIMEOUT: Final = Failure("tls_handshake_timeout", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_TLS_CLOSED: Final = Failure("tls_closed_in_handshake", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_NOT_TLS: Final = Failure("tls_not_spoken", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_TLS_ALERT: Final = Failure("tls_alert", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_TLS_VERSION: Final = Failure("tls_version", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_UNKNOWN_CA: Final = Failure("tls_unknown_ca", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_SELF_SIGNED: Final = Failure("tls_self_signed", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_CERTIFICATE_EXPIRED: Final = Failure("tls_certificate_expired", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_CERTIFICATE_NOT_YET_VALID: Final = Failure("tls_certificate_not_yet_valid", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_CERTIFICATE_REVOKED: Final = Failure("tls_certificate_revoked", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_NAME_MISMATCH: Final = Failure("tls_name_mismatch", 502, _TLS, may_retry=True, by_host=True)
UPSTREAM_BAD_CERTIFICATE: Final = Failure("tls_bad_certificate", 502, _TLS, may_retry=True, by_host=True)
# The client chose a destination that leads back to this process, or that it may not choose.
LOOP: Final = Failure("loop", 502, FLAG_UPSTREAM_CONNECTION_FAILURE)
DESTINATION_DENIED: Final = Failure("destination_denied", 403, FLAG_UPSTREAM_CONNECTION_FAILURE)

# ---- failures of the proxy
FILTER_ERROR: Final = Failure("filter_error", 500)
FILTER_TIMEOUT: Final = Failure("filter_timeout", 504)
RESPONSE_TOO_LARGE: Final = Failure("response_too_large", 502, FLAG_TOO_LARGE)
# The headers that filters and routes have made of an RPC request do not fit its protocol.
UNENCODABLE_REQUEST: Final = Failure("unencodable_request", 500)
INTERNAL_ERROR: Final = Failure("internal_error", 500, alert=ALERT_PANIC)
PROTOCOL_MISMATCH: Final = Failure("protocol_mismatch", 502)
UNTRANSLATABLE_REQUEST: Final = Failure("untranslatable_request", 400)
UNTRANSLATABLE_REPLY: Final = Failure("untranslatable_reply", 502)
UNREADABLE_RESPONSE_HEADERS: Final = Failure("unreadable_response_headers", 502)
INVALID_RESPONSE_JSON: Final = Failure("invalid_response_json", 502)
DRAINING: Final = Failure("draining", 503)
OVERLOADED: Final = Failure("overloaded", 503, retry_after=5)
HEADS_FULL: Final = Failure("heads_full", 503, retry_after=5)

# ---- connections that are rejected before a request, so that no status can be sent
PROTOCOL_UNKNOWN: Final = Failure("protocol_unknown", 0)
DETECTION_TIMEOUT: Final = Failure("detection_timeout", 0)
LISTENER_FULL: Final = Failure("listener_full", 0)
WORKER_FULL: Final = Failure("worker_full", 0)
NO_FILTER_CHAIN: Final = Failure("no_filter_chain", 0)
# Before or in the TLS handshake of a client.
BAD_CLIENT_HELLO: Final = Failure("bad_client_hello", 0)
NOT_TLS: Final = Failure("not_tls", 0)
TLS_HANDSHAKE_TIMEOUT: Final = Failure("client_tls_handshake_timeout", 0)
TLS_HANDSHAKE_FAILED: Final = Failure("client_tls_handshake_failed", 0)
TLS_CLOSED_IN_HANDSHAKE: Final = Failure("client_tls_closed_in_handshake", 0)
TLS_ALERT: Final = Failure("client_tls_alert", 0)
NO_COMMON_TLS_VERSION: Final = Failure("client_tls_version", 0)
NO_COMMON_CIPHER: Final = Failure("client_tls_cipher", 0)
NO_COMMON_ALPN: Final = Failure("client_tls_alpn", 0)
NO_CLIENT_CERTIFICATE: Final = Failure("no_client_certificate", 0)
CLIENT_CERTIFICATE_INVALID: Final = Failure("client_certificate_invalid", 0)
CLIENT_CERTIFICATE_UNKNOWN_CA: Final = Failure("client_certificate_unknown_ca", 0)
CLIENT_CERTIFICATE_EXPIRED: Final = Failure("client_certificate_expired", 0)
CLIENT_CERTIFICATE_REVOKED: Final = Failure("client_certificate_revoked", 0)
TOO_MANY_HANDSHAKES: Final = Failure("too_many_handshakes", 0)
BAD_PROXY_HEADER: Final = Failure("bad_proxy_header", 0)
PROXY_HEADER_TIMEOUT: Final = Failure("proxy_header_timeout", 0)
NO_PROXY_HEADER: Final = Failure("no_proxy_header", 0)

# ---- a client's HTTP/2 connection ends with a GOAWAY, so the status is never sent: violations of RFC 9113, and floods
HTTP2_ERROR: Final = Failure("http2_protocol_error", 400)
HTTP2_FLOW_ERROR: Final = Failure("http2_flow_control_error", 400)
HTTP2_FRAME_SIZE: Final = Failure("http2_frame_size_error", 400)
HTTP2_COMPRESSION: Final = Failure("http2_compression_error", 400)
HTTP2_STREAM_CLOSED: Final = Failure("http2_stream_closed", 400)
HTTP2_SETTINGS_TIMEOUT: Final = Failure("http2_settings_timeout", 400)
RESET_FLOOD: Final = Failure("reset_flood", 429, is_attack=True)
CONTINUATION_FLOOD: Final = Failure("continuation_flood", 429, is_attack=True)
HEADER_BOMB: Final = Failure("header_bomb", 429, is_attack=True)
SETTINGS_FLOOD: Final = Failure("settings_flood", 429, is_attack=True)
PING_FLOOD: Final = Failure("ping_flood", 429, is_attack=True)
PRIORITY_FLOOD: Final = Failure("priority_flood", 429, is_attack=True)
WINDOW_UPDATE_FLOOD: Final = Failure("window_update_flood", 429, is_attack=True)
EMPTY_DATA_FLOOD: Final = Failure("empty_data_flood", 429, is_attack=True)
UNREAD_REPLIES: Final = Failure("unread_control_frames", 429, is_attack=True)
# More streams than SETTINGS_MAX_CONCURRENT_STREAMS: reset with REFUSED_STREAM, and only counted.
TOO_MANY_STREAMS: Final = Failure("too_many_streams", 503, retry_after=1)
MAX_AGE: Final = Failure("max_connection_age", 0)

# ---- rejected by a shipped filter; its configuration may set another status
ACCESS_DENIED: Final = Failure("access_denied", 403)
UNAUTHORIZED: Final = Failure("unauthorized", 401)
AUTHORIZATION_FAILED: Final = Failure("authorization_failed", 403)
RATE_LIMITED: Final = Failure("rate_limited", 429, FLAG_RATE_LIMITED)
RATE_LIMIT_UNAVAILABLE: Final = Failure("rate_limit_unavailable", 503)
FAULT_INJECTED: Final = Failure("fault_injected", 503, FLAG_FAULT_INJECTED)

# ---- the client has disconnected; no response is possible
CLIENT_GONE: Final = Failure("client_gone", 499, FLAG_DOWNSTREAM_TERMINATE)
CLIENT_WRITE_TIMEOUT: Final = Failure("client_write_timeout", 499, FLAG_DOWNSTREAM_TERMINATE)

# ---- a TLS connection broke off: FIN without close_notify, or a record that cannot be decrypted
TLS_TRUNCATED: Final = Failure("tls_truncated", 499, FLAG_DOWNSTREAM_TERMINATE)
TLS_BROKEN: Final = Failure("tls_broken", 499, FLAG_DOWNSTREAM_TERMINATE)

# ---- normal ends of a connection
IDLE_TIMEOUT: Final = Failure("idle_timeout", 0)
CLOSED_BY_PEER: Final = Failure("closed_by_peer", 0)
CLOSED_LOCALLY: Final = Failure("closed_locally", 0)


def is_remote_end(failure: Failure) -> bool:
    """Whether a connection that ends with `failure` was ended by the peer, and not by this process."""
    return failure is not CLOSED_LOCALLY and failure is not IDLE_TIMEOUT and failure is not CLIENT_WRITE_TIMEOUT


#: Flags of failures of a request that a host has got.
_AFTER_SENDING: Final = FLAG_UPSTREAM_REMOTE_RESET | FLAG_UPSTREAM_CONNECTION_TERMINATION


def is_lost(failure: Failure) -> bool:
    """Whether the request was sent, and its connection broke, or brought no valid response: it may have been processed."""
    return failure.flag & _AFTER_SENDING != 0


def reset_of(failure: Failure, response_began: bool) -> Failure:
    """What a request has failed with when the connection to its host was lost because of `failure`."""
    if response_began:
        return RESET_AFTER_RESPONSE
    # In TLS 1.3 a host reports only after the handshake that it does not accept the client's certificate.
    return failure if failure is UPSTREAM_TLS_ALERT else RESET_BEFORE_RESPONSE


# ---- Envoy's statuses

_UNREACHED: Final = (
    FLAG_NO_HEALTHY_UPSTREAM
    | FLAG_UPSTREAM_CONNECTION_FAILURE
    | FLAG_UPSTREAM_REMOTE_RESET
    | FLAG_UPSTREAM_CONNECTION_TERMINATION
)
_ENVOYS_STATUS: Final = 503


def as_envoy(failure: Failure) -> Failure:
    """The failure with the status that Envoy gives it: 503 instead of MOSN's 502 if no host has answered.

    A response that is not valid remains 502, as in Envoy, and so do loops, which Envoy does not know.
    """
    is_other = failure.status != 502 or failure.flag & _UNREACHED == 0
    if is_other or failure is BAD_RESPONSE or failure is LOOP:
        return failure
    return Failure(
        failure.reason,
        _ENVOYS_STATUS,
        failure.flag,
        failure.may_retry,
        failure.retry_after,
        failure.by_host,
        alert=failure.alert,
    )
