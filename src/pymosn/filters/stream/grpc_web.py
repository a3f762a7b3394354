"""`grpc_web`, pymosn's own: calls of gRPC-Web, which browsers make, as calls of gRPC (gRPC's PROTOCOL-WEB)."""

from __future__ import annotations

import base64
import binascii
from typing import ClassVar, Final

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import (
    CONTENT_TYPE,
    MESSAGE,
    STATUS,
    UNKNOWN,
    GrpcRequest,
    framed,
    is_grpc,
    of_http_status,
    percent_encoded,
    status_of,
)
from pymosn.api.stream_filter import StreamFilter
from pymosn.core.errors import reason
from pymosn.core.failure import UNTRANSLATABLE_REQUEST, Failure, Refused
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import ResponseHead
from pymosn.filters.settings import Block
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.content import OF_CONTENT
from pymosn.filters.stream.grpc_messages import begin_call

WEB: Final = b"application/grpc-web"
TEXT: Final = b"application/grpc-web-text"
#: The flag of the frame with the trailers.
TRAILERS: Final = 0x80


class Settings(Block, kw_only=True):
    """`grpc_web`: calls of gRPC-Web; it has no settings."""


class TextDecoder:
    """Decodes base64 that arrives in chunks, and in which padding may also end a part in the middle."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes, last: bool) -> bytes:
        """The bytes of all complete groups of four characters. Raises ValueError for invalid ones."""
        data = self._rest + data
        size = len(data) - len(data) % 4
        self._rest = data[size:]
        if last and self._rest:
            raise ValueError("base64 ends within a group of four characters")
        parts: list[bytes] = []
        at = 0
        while at < size:
            padding = data.find(b"=", at, size)
            end = size if padding < 0 else padding // 4 * 4 + 4
            parts.append(binascii.a2b_base64(data[at:end], strict_mode=True))
            at = end
        return b"".join(parts)


class _Body:
    """The bodies of one call."""

    def __init__(self, is_text: bool, content_type: bytes, answers_text: bool) -> None:
        """`is_text`: of the request. `content_type`, `answers_text`: of the response."""
        self.decoder = TextDecoder() if is_text else None
        self.content_type = content_type
        self.answers_text = answers_text
        #: The head of the response that is converted.
        self.head: ResponseHead | None = None


class _WebCall(GrpcRequest):
    """The call that a gRPC-Web request is mapped to."""

    #: The content type of its responses.
    web_type = WEB

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> ResponseHead:
        """With the content type of gRPC-Web, because filters do not see the reply about a filter's own failure."""
        head = super().failure_reply(failure, headers, body)
        head.headers.remove_raw(b"content-type")
        head.headers.add_raw(b"content-type", self.web_type)
        return head


class GrpcWebFilter(StreamFilter):
    """Makes a gRPC call of a gRPC-Web request, and puts the trailers of its response into the body.

    Bodies are converted as they arrive. Cost per request: one header lookup; per chunk of a call, base64 where it is text.
    """

    protocols: ClassVar[tuple[str, ...]] = ("Http1", "Http2")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Unique per filter, because a listener may have two of them.
        self._key = f"grpc_web {id(self)}"

    def on_request(self, exchange: Exchange) -> None:
        request = exchange.request
        content_type = (request.headers.get_raw(b"content-type") or b"").lower()
        if request.raw_method != b"POST" or not _is_web(content_type):
            exchange.skip_body(self)
            return
        is_text = content_type.startswith(TEXT)
        suffix = content_type[len(TEXT if is_text else WEB) :]
        accepted = (request.headers.joined("accept") or "").lower()
        answers_text = TEXT.decode() in accepted or (is_text and WEB.decode() not in accepted)
        body = _Body(is_text, (TEXT if answers_text else WEB) + (suffix or b"+proto"), answers_text)
        exchange.state[self._key] = body
        call = _WebCall(request.headers)
        call.web_type = body.content_type
        call.headers.remove_raw(b"content-type")
        call.headers.add_raw(b"content-type", CONTENT_TYPE + suffix)
        begin_call(exchange, call)

    def on_request_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        body = exchange.state.get(self._key)
        if not isinstance(body, _Body) or body.decoder is None:
            return None
        try:
            return body.decoder.feed(data, last)
        except ValueError as error:
            raise Refused(UNTRANSLATABLE_REQUEST, f"gRPC-Web text: {reason(error)}") from None

    def on_response(self, exchange: Exchange) -> None:
        body = exchange.state.get(self._key)
        if not isinstance(body, _Body):
            return
        head = exchange.response_head
        content_type = (head.headers.get_raw(b"content-type") or b"").lower()
        if not _is_web(content_type):
            if not is_grpc(content_type):
                _make_status(head)
            head.headers.remove_raw(b"content-type")
            head.headers.add_raw(b"content-type", body.content_type)
            body.head = head

    def on_response_body(self, exchange: Exchange, data: bytes, last: bool) -> bytes | None:
        body = exchange.state.get(self._key)
        head = exchange.response_head
        if not isinstance(body, _Body) or body.head is not head:
            return None
        if last:
            trailers = head.trailers
            head.trailers = None
            if trailers is None and status_of(head.headers) < 0:
                trailers = headers_from({"grpc-status": str(UNKNOWN), "grpc-message": "the response has no status"})
            if trailers is not None:
                data += trailer_frame(trailers)
        return base64.b64encode(data) if body.answers_text else data


def _is_web(content_type: bytes) -> bool:
    """Whether a content type in lower case is one of gRPC-Web."""
    if not content_type.startswith(WEB):
        return False
    rest = content_type[len(TEXT if content_type.startswith(TEXT) else WEB) :]
    return rest[:1] in (b"", b"+", b";", b" ")


def trailer_frame(trailers: Headers) -> bytes:
    """The last frame of a body: the trailers as lines."""
    lines = [name.lower() + b": " + value + b"\r\n" for name, value in trailers.items_raw()]
    return framed(b"".join(lines), TRAILERS)


def _make_status(head: ResponseHead) -> None:
    """Replaces a response of another kind by one without messages, whose status follows from that of HTTP.

    The body of an upstream that does not speak gRPC is dropped, with the fields about it.
    """
    headers = head.headers
    headers.remove_named(OF_CONTENT | {STATUS, MESSAGE})
    status = UNKNOWN if head.status == 200 else of_http_status(head.status)
    headers.add_raw(STATUS, b"%d" % status)
    headers.add_raw(MESSAGE, percent_encoded(f"the upstream's response is not gRPC: HTTP status {head.status}"))
    head.status = 200
    head.set_body(b"")


_NOTE: Final = "pymosn's own: gRPC-Web, binary and base64 (docs/grpc-web.md)"
SPEC: Final = FilterSpec("grpc_web", Settings, GrpcWebFilter, _NOTE, guards=True)
