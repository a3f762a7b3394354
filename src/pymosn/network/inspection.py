"""What a listener reads of the first bytes of its connections, by the port that the client connected to."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import MORE, NO
from pymosn.protocol.http1.spec import match_registered
from pymosn.protocol.http2.spec import Http2Spec

#: Protocols of plain text, with the names that Envoy's HTTP inspector gives them.
HTTP_1_0: Final = ("http/1.0",)
HTTP_1_1: Final = ("http/1.1",)
H2C: Final = ("h2c",)
NONE: Final[tuple[str, ...]] = ()
#: Bytes of a request line that are waited for; a longer one is HTTP/1.1.
LONGEST_LINE: Final[i64] = 8192

_HTTP2: Final = Http2Spec()


class Inspection:
    """`finds_http`: the protocol of plain text decides about the chain. Ports, as ranges with both ends, are excepted.

    `tls_skipped`, `http_skipped`: on these ports neither TLS nor HTTP is looked for, so that a server may speak first.
    """

    def __init__(
        self,
        finds_http: bool = False,
        tls_skipped: tuple[tuple[int, int], ...] = (),
        http_skipped: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.finds_http = finds_http
        self._tls_skipped = tls_skipped
        self._http_skipped = http_skipped

    def finds_tls_on(self, port: i64) -> bool:
        """Whether TLS is looked for in connections to this port."""
        return not _has(self._tls_skipped, port)

    def finds_http_on(self, port: i64) -> bool:
        """Whether HTTP is looked for in connections to this port."""
        return self.finds_http and not _has(self._http_skipped, port)


def _has(ranges: tuple[tuple[int, int], ...], port: i64) -> bool:
    return any(first <= port <= last for first, last in ranges)


def http_protocols(data: bytes) -> tuple[str, ...] | None:
    """The protocol of plain text that begins like this, NONE if it is not HTTP; None if more bytes are needed."""
    is_h2 = _HTTP2.match(data)
    if is_h2 != NO:
        return None if is_h2 == MORE else H2C
    if match_registered(data) == NO:
        return NONE
    end = data.find(b"\n")
    if end < 0:
        return None if len(data) < LONGEST_LINE else HTTP_1_1
    version = data[:end].rstrip(b"\r").rpartition(b" ")[2]
    if version == b"HTTP/1.0":
        return HTTP_1_0
    return HTTP_1_1 if version == b"HTTP/1.1" else NONE
