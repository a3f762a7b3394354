"""MOSN's `gzip`: replies are compressed for clients that understand it (section 13); also Brotli and Zstandard."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pymosn.api.exchange import Exchange
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.headers import Headers
from pymosn.core.message import ResponseHead
from pymosn.filters.stream.compressors import CODINGS, Compressor, best_coding, is_available, make_compressor
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.vary import add_vary

SWITCH: Final = "proxy_gzip_switch"
#: Fields about the bytes of a body that is not sent as it was.
_OF_OTHER_BYTES: Final = ("accept-ranges", "content-md5", "digest", "content-digest", "repr-digest")


class _Body:
    """A body that is being compressed, and the head that says so."""

    def __init__(self, head: ResponseHead, compressor: Compressor) -> None:
        self.head = head
        self.compressor = compressor
        #: A body that nobody has the length of may be a live one: each piece is sent at once.
        self.flushes = head.content_length < 0


class GzipFilter(StreamFilter):
    """Compresses replies of the right type and length that are not compressed yet.

    Per request: a look-up or three in the headers; for what is compressed the compression, piece by piece (gzip at level 6:
    about 5 us for each KiB, br as much, zstd 4). Others' bodies are not looked at.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        problems = Problems()
        self._level: int = config.gzip_level or 6
        if self._level > 9:
            problems.add(".gzip_level", f"must be 1 to 9, not {self._level}")
        self._minimum: int = config.content_length
        self._types = frozenset(_spaceless(name) for name in config.content_types or ["text/html"])
        for place, coding in enumerate(config.encodings):
            if coding not in CODINGS:
                problems.add(f".encodings[{place}]", f"must be one of {', '.join(CODINGS)}, not {coding!r}")
            elif not is_available(coding):
                problems.add(f".encodings[{place}]", f"{coding} needs the package {CODINGS[coding]}: pymosn[compress]")
        problems.end()
        # Of this filter's own: there may be two of them.
        self._key = f"gzip {id(self)}"
        self._offered: list[str] = config.encodings or [coding for coding in CODINGS if is_available(coding)]

    def on_response(self, exchange: Exchange) -> None:
        head = exchange.response
        assert head is not None
        if not self._is_suitable(head) or exchange.variable(SWITCH) == "off":
            exchange.skip_body(self)
            return
        add_vary(head.headers, "Accept-Encoding")
        request = exchange.request
        accepted = request.headers.get_all("accept-encoding")
        coding = best_coding(accepted, self._offered) if accepted and request.raw_method != b"HEAD" else ""
        if not coding:
            exchange.skip_body(self)
            return
        _declare(head.headers, coding)
        exchange.state[self._key] = _Body(head, make_compressor(coding, self._level))

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        body = exchange.state.get(self._key)
        if not isinstance(body, _Body) or body.head is not exchange.response:
            return None  # another filter has put its own reply in the place of the one that was to be compressed
        out = body.compressor.add(data, body.flushes and not last) if data else b""
        return out + body.compressor.end() if last else out

    def _is_suitable(self, head: ResponseHead) -> bool:
        if head.status < 200 or head.status in (204, 206, 304):
            return False
        length = head.content_length if head.new_body is None else len(head.new_body)
        if length == 0 or 0 <= length < self._minimum:
            return False
        headers = head.headers
        kind = _spaceless(headers.get("content-type") or "")
        if kind not in self._types and kind.partition(";")[0] not in self._types:
            return False
        if headers.get("content-encoding", "identity").lower() != "identity":
            return False
        return not any("no-transform" in value.lower() for value in headers.get_all("cache-control"))


def _spaceless(text: str) -> str:
    return text.replace(" ", "").lower()


def _declare(headers: Headers, coding: str) -> None:
    """What the head says when the body is sent in a coding (RFC 9110 sections 8.4 and 8.8.3.3)."""
    headers.set("Content-Encoding", coding)
    etag = headers.get("etag")
    if etag is not None and not etag.startswith("W/"):
        headers.set("ETag", f"W/{etag}")
    for name in _OF_OTHER_BYTES:
        headers.remove(name)
