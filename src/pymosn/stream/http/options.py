"""The options that HTTP/1 and HTTP/2 have in common on a listener, from `extend_config.Http1` or `extend_config.Http2`.

Each function raises ValueError naming the key. The settings must be complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mypy_extensions import i64

from pymosn.api.stream import ListenerFacts
from pymosn.core.forwarding import (
    CERT_ALWAYS_FORWARD_ONLY,
    CERT_APPEND_FORWARD,
    CERT_BY_TRUST,
    CERT_FORWARD_ONLY,
    CERT_HAS_DNS,
    CERT_HAS_PEM,
    CERT_HAS_SUBJECT,
    CERT_HAS_URI,
    CERT_SANITIZE,
    CERT_SANITIZE_SET,
    ForwardingOptions,
)
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.core.overload import OverloadState
from pymosn.core.uri import DECODE_SLASHES, KEEP_SLASHES, REFUSE_SLASHES, STRICT_PATHS, PathPolicy
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import DROP_UNDERSCORES, PASS_UNDERSCORES, REFUSE_UNDERSCORES, HttpPolicy
from pymosn.stream.settings import choice, flag, number, seconds, text, texts

#: The largest number of bytes, fields, requests or hops that may be set.
MOST: Final = 2**63 - 1

#: Seconds for which a client that has closed its side waits for the beginning of a response, by default.
HALF_CLOSE: Final = 1.0

#: The words that settings accept, and their values.
_PROFILES: Final = {"compatible": False, "strict": True}
_SLASHES: Final = {"keep": KEEP_SLASHES, "decode": DECODE_SLASHES, "refuse": REFUSE_SLASHES}
_UNDERSCORES: Final = {"pass": PASS_UNDERSCORES, "drop": DROP_UNDERSCORES, "refuse": REFUSE_UNDERSCORES}
_CLIENT_CERT: Final = {
    "": CERT_BY_TRUST,
    "sanitize": CERT_SANITIZE,
    "sanitize_set": CERT_SANITIZE_SET,
    "append_forward": CERT_APPEND_FORWARD,
    "forward_only": CERT_FORWARD_ONLY,
    "always_forward_only": CERT_ALWAYS_FORWARD_ONLY,
}
_CERT_PAIRS: Final = {
    "subject": CERT_HAS_SUBJECT,
    "uri": CERT_HAS_URI,
    "dns": CERT_HAS_DNS,
    "cert": CERT_HAS_PEM,
}
#: Parts of Host that may be removed.
_HOST_PARTS: Final = {"own_port": "own_port", "any_port": "any_port", "trailing_dot": "trailing_dot"}
#: The tunnels that CONNECT opens, by the key `connect`.
CONNECT_MODES: Final = {"off": b"", "terminate": CONNECT_HERE, "forward": CONNECT}


class HttpOptions:
    """Limits and times of HTTP on a listener. Immutable, shared by its connections. Times in seconds; 0 disables them.

    `limits`: of requests. `policy`: what is tolerated. `idle_timeout`: without a request in progress. `header_timeout`: from
    the first byte of a head to its end. `body_timeout`: the longest silence while a request body is awaited.
    `body_min_rate`: bytes per second of a body, on average over each `body_timeout`; 0 means no limit. `max_requests`: of
    one connection; 0 means no limit. `half_close_timeout`: for the response to begin after the client has closed its side;
    it may still be reading, or be gone, and there is no way to tell. `overload`: the worker's. `upgrades`: protocols, in
    lower case, that a client may upgrade to, in HTTP/2 by an extended CONNECT (RFC 8441); a request of HTTP/1 for any other
    is served as an ordinary request. `connect`: the `raw_tunnel` of CONNECT requests, empty if they are rejected.
    """

    def __init__(
        self,
        *,
        limits: HttpLimits,
        policy: HttpPolicy,
        idle_timeout: float,
        header_timeout: float,
        body_timeout: float,
        body_min_rate: float,
        max_requests: i64,
        max_age: float,
        overload: OverloadState,
        upgrades: frozenset[bytes],
        connect: bytes,
        half_close_timeout: float = HALF_CLOSE,
    ) -> None:
        self.limits = limits
        self.policy = policy
        self.idle_timeout = idle_timeout
        self.header_timeout = header_timeout
        self.body_timeout = body_timeout
        self.body_min_rate = body_min_rate
        self.max_requests: i64 = max_requests
        self.max_age = max_age
        self.overload = overload
        self.upgrades = upgrades
        self.connect = connect
        self.half_close_timeout = half_close_timeout


def read_http_options(settings: Mapping[str, object], facts: ListenerFacts) -> HttpOptions:
    """The options of the protocol whose settings these are."""
    return HttpOptions(
        limits=HttpLimits(
            head=number(settings, "max_header_size", "bytes", 1, MOST),
            fields=number(settings, "max_header_count", "fields", 1, MOST),
            body=number(settings, "max_request_body_size", "bytes", 0, MOST),
        ),
        policy=http_policy(settings),
        idle_timeout=facts.idle_timeout,
        header_timeout=seconds(settings, "header_timeout"),
        body_timeout=seconds(settings, "body_timeout"),
        body_min_rate=float(number(settings, "body_min_rate", "bytes per second", 0, MOST)),
        max_requests=number(settings, "max_requests_per_connection", "requests", 0, MOST),
        max_age=seconds(settings, "max_connection_age"),
        overload=facts.overload,
        upgrades=frozenset([protocol.lower().encode() for protocol in texts(settings, "upgrades")]),
        connect=choice(settings, "connect", CONNECT_MODES),
        half_close_timeout=seconds(settings, "half_close_timeout"),
    )


def forwarding_options(settings: Mapping[str, object]) -> ForwardingOptions:
    """What a listener adds to requests about the client, and to responses about itself."""
    key = "simplify_host"
    removed = {choice({key: name}, key, _HOST_PARTS) for name in texts(settings, key)}
    return ForwardingOptions(
        x_forwarded=flag(settings, "x_forwarded"),
        x_request_id=flag(settings, "x_request_id"),
        trusts_peer=_trusts_peer(settings),
        trusted_hops=number(settings, "trusted_hops", "hops", 0, MOST),
        trusts_all=flag(settings, "trust_forwarded"),
        adds_proto=flag(settings, "x_forwarded_proto"),
        replaces_request_id=flag(settings, "replace_request_id"),
        server=text(settings, "server_header").encode(),
        keeps_server=flag(settings, "server_if_absent"),
        own_port="own_port" in removed,
        any_port="any_port" in removed,
        trailing_dot="trailing_dot" in removed,
        client_cert=choice(settings, "forward_client_cert", _CLIENT_CERT),
        cert_pairs=_pairs(settings),
    )


def _pairs(settings: Mapping[str, object]) -> int:
    """A sum of CERT_HAS_*."""
    key = "client_cert_details"
    return sum({choice({key: name}, key, _CERT_PAIRS) for name in texts(settings, key)})


def path_policy(settings: Mapping[str, object]) -> PathPolicy:
    """The policy for paths; STRICT_PATHS itself for the default one."""
    policy = http_policy(settings)
    is_default = policy.is_strict and policy.merges_slashes and policy.slashes == KEEP_SLASHES
    return STRICT_PATHS if is_default else policy


def http_policy(settings: Mapping[str, object]) -> HttpPolicy:
    """What is tolerated in requests."""
    return HttpPolicy(
        is_strict=choice(settings, "profile", _PROFILES),
        trusts_peer=_trusts_peer(settings),
        merges_slashes=flag(settings, "merge_slashes"),
        slashes=choice(settings, "encoded_slashes", _SLASHES),
        underscores=choice(settings, "underscores_in_headers", _UNDERSCORES),
    )


def _trusts_peer(settings: Mapping[str, object]) -> bool:
    """Whether every client is a trusted proxy: `trust_forwarded` or `trusted_hops` is set."""
    return flag(settings, "trust_forwarded") or number(settings, "trusted_hops", "hops", 0, MOST) > 0
