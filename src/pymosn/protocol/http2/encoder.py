"""Header blocks of heads and trailers (RFC 9113 section 8, RFC 7541)."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead


class HeadEncoder:
    """Encodes the heads that one connection sends. Has the connection's HPACK encoder.

    Names become lower case. Fields that HTTP/2 does not have (`host`, connection fields) are left out.
    """

    def set_table_size(self, size: i64) -> None:
        """Applies the peer's SETTINGS_HEADER_TABLE_SIZE; the next block begins with the update."""
        raise NotImplementedError

    def request(self, head: RequestHead) -> bytes:
        """The header block of a request. A `raw_tunnel` other than CONNECT becomes `:protocol` (RFC 8441)."""
        raise NotImplementedError

    def response(self, head: ResponseHead) -> bytes:
        """The header block of a response; a 101 that opens a tunnel becomes a 200 (RFC 8441 section 5)."""
        raise NotImplementedError

    def trailers(self, trailers: Headers) -> bytes:
        """The header block of trailers."""
        raise NotImplementedError
