"""Heads and trailers of responses, decoded from header blocks (RFC 9113 section 8)."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.http import HttpResponse
from pymosn.core.failure import Failure
from pymosn.core.headers import NO_HEADERS, Headers
from pymosn.protocol.http2.limits import HeadLimits


class ResponseHeads:
    """Decodes the header blocks of the responses of one connection. Has the connection's HPACK decoder."""

    def __init__(self, limits: HeadLimits, table_size: i64) -> None:
        """`table_size`: the dynamic table's, in bytes, as announced in our SETTINGS."""
        #: After `decode`: the head. `content_length` is that of the DATA that follows: 0 without content, and for `end`.
        self.head: HttpResponse = HttpResponse(200, b"", NO_HEADERS)
        #: After `decode_trailers`: those that may be forwarded; None for none.
        self.trailers: Headers | None = None
        #: What is wrong with it, for the log.
        self.detail = ""

    def decode(self, fragment: bytes, end: bool, to_head: bool, tunnel: bytes) -> Failure | None:
        """Decodes a complete header block; None if the response is acceptable, else BAD_RESPONSE.

        `to_head`: it answers a HEAD. `tunnel`: the request's `raw_tunnel`; a 2xx that agrees gets it.
        Raises ProtocolError for a block that violates HPACK, which ends the connection.
        """
        raise NotImplementedError

    def decode_trailers(self, fragment: bytes) -> Failure | None:
        """Decodes the block after the content, like `decode`."""
        raise NotImplementedError
