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

#: Pairs of an element of that header besides `By` and `Hash`, as bits.
CERT_HAS_SUBJECT: Final[i64] = 1
CERT_HAS_URI: Final[i64] = 2
CERT_HAS_DNS: Final[i64] = 4
CERT_HAS_PEM: Final[i64] = 8


class ForwardingOptions:
    """What a listener adds to requests about the client. Immutable; shared by all connections.

    `x_forwarded`: X-Forwarded-For and -Proto. `x_request_id`: X-Request-Id. `trusts_peer`: believe and forward what the
    client says about itself, and the timeouts that it set. `trusted_hops`: how many proxies before this one are trusted.
    `trusts_all`: also what clients say that have not come through that many. `adds_proto`: X-Forwarded-Proto is added to
    requests without it, even without `x_forwarded`. `replaces_request_id`: X-Request-Id of the client is not kept.

    `server`: Server of responses, empty for that of the host; `keeps_server`: only of responses without it. `own_port`: a
    port of Host that is the listener's is removed; `any_port`: every port; `trailing_dot`: a dot at the end of its name.
    `client_cert`: a constant CERT_* above, for X-Forwarded-Client-Cert. `cert_pairs`: a sum of CERT_HAS_*.
    """

    def __init__(
        self,
        *,
        x_forwarded: bool,
        x_request_id: bool,
        trusts_peer: bool,
        trusted_hops: i64,
        trusts_all: bool = False,
        adds_proto: bool = False,
        replaces_request_id: bool = False,
        server: bytes = b"",
        keeps_server: bool = False,
        own_port: bool = False,
        any_port: bool = False,
        trailing_dot: bool = False,
        client_cert: i64 = CERT_BY_TRUST,
        cert_pairs: i64 = CERT_HAS_SUBJECT + CERT_HAS_URI + CERT_HAS_DNS,
    ) -> None:
        self.x_forwarded = x_forwarded
        self.x_request_id = x_request_id
        self.trusts_peer = trusts_peer or trusted_hops > 0
        self.trusted_hops: i64 = trusted_hops
        self.trusts_all = trusts_all
        self.adds_proto = adds_proto or x_forwarded
        self.replaces_request_id = replaces_request_id
        self.server = server
        self.keeps_server = keeps_server
        self.own_port = own_port
        self.any_port = any_port
        self.trailing_dot = trailing_dot
        self.changes_host = own_port or any_port or trailing_dot
        self.client_cert: i64 = client_cert
        self.cert_pairs: i64 = cert_pairs
