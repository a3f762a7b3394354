"""What a proxy says about its client to the next one: the settings of a listener."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

#: What happens to X-Forwarded-Client-Cert; the names are Envoy's. "With" means: for clients with a verified certificate.
#: With: appended to what trusted proxies sent. Without: that is forwarded. What untrusted clients send is always removed.
CERT_BY_TRUST: Final[i64] = 0
#: Removed.
CERT_SANITIZE: Final[i64] = 1
#: With: replaced. Without: removed.
CERT_SANITIZE_SET: Final[i64] = 2
#: With: appended. Without: removed.
CERT_APPEND_FORWARD: Final[i64] = 3
#: With: forwarded unchanged. Without: removed.
CERT_FORWARD_ONLY: Final[i64] = 4
#: Forwarded unchanged.
CERT_ALWAYS_FORWARD_ONLY: Final[i64] = 5


class ForwardingOptions:
    """What a listener adds to requests about the client. Immutable; shared by all connections.

    `x_forwarded`: X-Forwarded-For and -Proto. `x_request_id`: X-Request-Id. `trusts_peer`: believe and forward what the
    client says about itself, and the timeouts that it set. `trusted_hops`: how many proxies before this one are trusted.
    `client_cert`: a constant CERT_* above, for X-Forwarded-Client-Cert.
    """

    def __init__(
        self,
        *,
        x_forwarded: bool,
        x_request_id: bool,
        trusts_peer: bool,
        trusted_hops: i64,
        client_cert: i64 = CERT_BY_TRUST,
    ) -> None:
        self.x_forwarded = x_forwarded
        self.x_request_id = x_request_id
        self.trusts_peer = trusts_peer or trusted_hops > 0
        self.trusted_hops: i64 = trusted_hops
        self.client_cert: i64 = client_cert
