"""The options that HTTP/1 and HTTP/2 have in common on a listener, from `extend_config.Http1` or `extend_config.Http2`.

Each function raises ValueError naming the key. The settings must be complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pymosn.core.message import (
    CERT_ALWAYS_FORWARD_ONLY,
    CERT_APPEND_FORWARD,
    CERT_BY_TRUST,
    CERT_FORWARD_ONLY,
    CERT_SANITIZE,
    CERT_SANITIZE_SET,
    CONNECT,
    CONNECT_HERE,
    ForwardingOptions,
)
from pymosn.core.uri import DECODE_SLASHES, KEEP_SLASHES, REFUSE_SLASHES, STRICT_PATHS, PathPolicy
from pymosn.protocol.http.policy import DROP_UNDERSCORES, PASS_UNDERSCORES, REFUSE_UNDERSCORES, HttpPolicy
from pymosn.stream.settings import choice, flag, number, texts

#: The largest number of bytes, fields, requests or hops that may be set.
MOST: Final = 2**63 - 1

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
_CONNECT: Final = {"off": b"", "terminate": CONNECT_HERE, "forward": CONNECT}


def forwarding_options(settings: Mapping[str, object]) -> ForwardingOptions:
    """What a listener adds to requests about the client."""
    return ForwardingOptions(
        x_forwarded=flag(settings, "x_forwarded"),
        x_request_id=flag(settings, "x_request_id"),
        trusts_peer=_trusts_peer(settings),
        trusted_hops=number(settings, "trusted_hops", "hops", 0, MOST),
        client_cert=choice(settings, "forward_client_cert", _CLIENT_CERT),
    )


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


def allowed_upgrades(settings: Mapping[str, object]) -> frozenset[bytes]:
    """The protocols, in lower case, that a client may upgrade to."""
    return frozenset([protocol.lower().encode() for protocol in texts(settings, "upgrades")])


def connect_tunnel(settings: Mapping[str, object]) -> bytes:
    """The `raw_tunnel` of CONNECT requests; empty if they are rejected."""
    return choice(settings, "connect", _CONNECT)


def _trusts_peer(settings: Mapping[str, object]) -> bool:
    """Whether every client is a trusted proxy: `trust_forwarded` or `trusted_hops` is set."""
    return flag(settings, "trust_forwarded") or number(settings, "trusted_hops", "hops", 0, MOST) > 0
