"""Heads and trailers of requests, decoded from header blocks (RFC 9113 section 8)."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.http import HttpRequest
from pymosn.core.failure import Failure
from pymosn.core.headers import NO_HEADERS, Headers
from pymosn.protocol.http.policy import HttpPolicy
from pymosn.protocol.http2.limits import HeadLimits


class RequestHeads:
    """Decodes the header blocks of the requests of one connection. Has the connection's HPACK decoder."""

    def __init__(self, limits: HeadLimits, policy: HttpPolicy, connect: bytes, table_size: i64) -> None:
        """`connect`: the `raw_tunnel` of CONNECT requests; empty if CONNECT is not allowed.

        `table_size`: the dynamic table's, in bytes, as announced in our SETTINGS.
        """
        #: The connection's scheme, `http` or `https`.
        self.scheme: str = "http"
        #: After `decode`: the head, complete or, for a refused one, what was understood.
        self.head: HttpRequest = HttpRequest(NO_HEADERS)
        #: After `decode_trailers`: those that may be forwarded; None for none.
        self.trailers: Headers | None = None
        #: Whether the refused head is malformed (RFC 9113 section 8.1.1): the stream is reset instead of answered.
        self.is_malformed = False
        #: What is wrong with it, for the log.
        self.detail = ""

    def decode(self, fragment: bytes, end: bool) -> Failure | None:
        """Decodes a complete header block; None if the request is acceptable, else why it is not.

        `end`: whether it ends the stream. Raises ProtocolError for a block that violates HPACK, which ends the connection.
        """
        raise NotImplementedError

    def decode_trailers(self, fragment: bytes) -> Failure | None:
        """Decodes the block after the content, like `decode`."""
        raise NotImplementedError
