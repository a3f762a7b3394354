"""MOSN's `gzip`: compresses responses for clients that support it (section 13); also Brotli and Zstandard."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final, NamedTuple

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import is_grpc
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.headers import Headers
from pymosn.core.message import UNKNOWN_LENGTH, ResponseHead
from pymosn.filters.settings import Block, Unsigned, own, works
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.compressors import CODINGS, Compressor, best_coding, is_available
from pymosn.filters.stream.content import OF_BYTES, content_type, is_coded
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.vary import add_vary

SWITCH: Final = "proxy_gzip_switch"
NO_CONTENT: Final = 204
PARTIAL: Final = 206
NOT_MODIFIED: Final = 304
_WHOLE: Final = re.compile(r"bytes [0-9]+-[0-9]+/([0-9]{1,18})")
_ETAG: Final = re.compile(r'(?:W/)?"[^"]*"')


class Settings(Block, kw_only=True):
    """`gzip`."""

    gzip_level: Annotated[Unsigned, works("1 to 9; 0: 6")] = 0
    content_length: Annotated[
        Unsigned, works("minimum length of a body; bodies of unknown length are always compressed")
    ] = 0
    content_types: Annotated[list[str], works("an entry without parameters matches any parameters; empty: text/html")] = []
    encodings: Annotated[
        list[str], own("of gzip, br and zstd, the preferred one first; default: zstd, br (pymosn[compress]), gzip")
    ] = []


class _Body(NamedTuple):
    """A body that is being compressed, with its head. `flushes`: each chunk is sent immediately."""

    head: ResponseHead
    compressor: Compressor
    flushes: bool


class GzipFilter(StreamFilter):
    """Compresses responses of suitable type and length that are not compressed yet.

    Cost per request: up to three header lookups, and the compression of suitable bodies, chunk by chunk (gzip at level 6 and
    br about 5 us per KiB, zstd 4). Other bodies are not touched.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        problems = Problems()
        self._level = settings.gzip_level or 6
        problems.require(self._level <= 9, ".gzip_level", f"must be 1 to 9, not {self._level}")
        self._minimum = settings.content_length
        self._types = frozenset(_spaceless(name) for name in settings.content_types or ["text/html"])
        for i, coding in enumerate(settings.encodings):
            problems.one_of(f".encodings[{i}]", coding, CODINGS)
            if coding in CODINGS and not is_available(coding):
                problems.add(f".encodings[{i}]", f"{coding} needs the package {CODINGS[coding]}: pymosn[compress]")
        problems.end()
        # Unique per filter, because a listener may have two of them.
        self._key = f"gzip {id(self)}"
        self._offered = settings.encodings or [coding for coding in CODINGS if is_available(coding)]

    def on_response(self, exchange: Exchange) -> None:
        head = exchange.response
        assert head is not None
        coding = ""
        if exchange.variable(SWITCH) != "off":
            if head.status == NOT_MODIFIED:
                self._describe_unmodified(exchange, head)
            elif self._is_suitable(head):
                add_vary(head.headers, "Accept-Encoding")
                # Parts are those of the uncompressed bytes.
                coding = "" if head.status == PARTIAL else self._coding_for(exchange)
        if not coding:
            exchange.skip_body(self)
            return
        head.headers.set("Content-Encoding", coding)
        _weaken(head.headers)
        if not exchange.request.has_response_body(head):
            head.set_length(UNKNOWN_LENGTH)  # a HEAD: only compressing would tell the length of the compressed body
            exchange.skip_body(self)
            return
        # A body of unknown length may be a live stream.
        exchange.state[self._key] = _Body(head, Compressor(coding, self._level), head.content_length < 0)

    def _coding_for(self, exchange: Exchange) -> str:
        """The coding for the client; empty for none."""
        accepted = exchange.received_headers.get_all("accept-encoding")
        return best_coding(accepted, self._offered) if accepted else ""

    def _describe_unmodified(self, exchange: Exchange, head: ResponseHead) -> None:
        """Gives a 304 the fields of the 200, of the variant that the client has (RFC 9110 section 15.4.5).

        A 304 rarely has a type, by which the 200 was judged; then it may have been compressed.
        """
        headers = head.headers
        if ("content-type" in headers and not self._is_type_suitable(headers)) or _is_left_alone(headers):
            return
        etag = headers.get("etag") or ""
        known = _ETAG.findall(exchange.received_headers.joined("if-none-match") or "")
        has_plain = not etag.startswith("W/") and etag in known
        has_compressed = f"W/{etag}" in known
        coding = self._coding_for(exchange)
        if has_plain and not has_compressed and coding:
            return  # it was not compressed, although the client accepts that
        add_vary(headers, "Accept-Encoding")
        if has_compressed or (coding and not has_plain):
            _weaken(headers)
            head.set_length(UNKNOWN_LENGTH)

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        body = exchange.state.get(self._key)
        if not isinstance(body, _Body) or body.head is not exchange.response:
            return None  # another filter has replaced the response that was to be compressed
        out = body.compressor.add(data, body.flushes and not last) if data else b""
        return out + body.compressor.end() if last else out

    def _is_suitable(self, head: ResponseHead) -> bool:
        if head.status < 200 or head.status == NO_CONTENT:
            return False
        length = head.content_length if head.new_body is None else len(head.new_body)
        is_several_parts = False
        if head.status == PARTIAL:  # the same resource as that of the 200, which may be compressed
            length = _whole_length(head.headers)
            is_several_parts = content_type(head.headers) == "multipart/byteranges"
        if length == 0 or 0 <= length < self._minimum:
            return False
        return (is_several_parts or self._is_type_suitable(head.headers)) and not _is_left_alone(head.headers)

    def _is_type_suitable(self, headers: Headers) -> bool:
        kind = _spaceless(headers.joined("content-type") or "")
        if is_grpc(kind.encode()):
            return False  # gRPC compresses its messages itself, and its clients know no content codings
        return kind in self._types or kind.partition(";")[0] in self._types


def _whole_length(headers: Headers) -> int:
    """The length of the body that a part was taken from; -1 if it is unknown."""
    found = _WHOLE.fullmatch(headers.get("content-range") or "")
    return int(found[1]) if found is not None else -1


def _is_left_alone(headers: Headers) -> bool:
    """Whether the response is compressed already, or must not be changed."""
    return is_coded(headers) or any("no-transform" in value.lower() for value in headers.get_all("cache-control"))


def _spaceless(text: str) -> str:
    return text.replace(" ", "").lower()


def _weaken(headers: Headers) -> None:
    """Removes what describes the uncompressed bytes exactly (RFC 9110 section 8.8.3.3)."""
    etag = headers.get("etag")
    if etag is not None and not etag.startswith("W/"):
        headers.set("ETag", f"W/{etag}")
    headers.remove_named(OF_BYTES)


DIFFERENCES: Final = (
    ("Accept-Encoding", "six exact strings; `gzip, deflate, br` disables compression", "lists, weights, `*`, `identity`"),
    ("Vary, ETag, Accept-Ranges", "unchanged", "Vary is added, ETag weakened, Accept-Ranges removed"),
    ("`content_types`", "compared exactly, with parameters", "parameters are ignored unless they are in the list"),
    ("206, `no-transform`", "compressed", "never compressed"),
    ("304, HEAD", "the uncompressed variant's fields", "the fields of the 200"),
)
SPEC: Final = FilterSpec("gzip", Settings, GzipFilter, "also br and zstd", DIFFERENCES)
