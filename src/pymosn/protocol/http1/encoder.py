"""Encoding of requests and responses (RFC 9112). The encoder alone decides the framing."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from mypy_extensions import i64

from pymosn.api.http import HttpResponse
from pymosn.core.headers import Headers, wire_lines
from pymosn.core.message import CONNECT, RequestHead, ResponseHead

LAST_CHUNK: Final = b"0\r\n\r\n"
CRLF: Final = b"\r\n"

_STATUS_LINES: Final[dict[int, bytes]] = {
    int(status): b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}


def status_line(status: i64, reason: bytes) -> bytes:
    """The status line; keeps a non-standard reason phrase of the upstream."""
    known = _STATUS_LINES.get(int(status))
    if known is not None and (not reason or known[13:-2] == reason):
        return known
    return b"HTTP/1.1 %d %s\r\n" % (status, reason)


def _status_line_of(head: ResponseHead) -> bytes:
    return status_line(head.status, head.raw_reason if isinstance(head, HttpResponse) else b"")


def encode_request(head: RequestHead) -> list[bytes]:
    """The head of a request with its final empty line, in parts."""
    if len(head.raw_tunnel) > 0:
        return _encode_asking(head)
    parts = [head.raw_method, b" ", head.raw_path]
    if head.raw_query is not None:
        parts.append(b"?")
        parts.append(head.raw_query)
    parts.append(b" HTTP/1.1\r\n")
    parts.append(wire_lines(head.headers))
    if head.accepts_trailers:
        parts.append(b"connection: te\r\nte: trailers\r\n")
    if head.content_length < 0:
        parts.append(b"transfer-encoding: chunked\r\n")
    parts.append(CRLF)
    return parts


def _encode_asking(head: RequestHead) -> list[bytes]:
    """The head of a request for a tunnel, which has no content and accepts no trailers."""
    if head.raw_tunnel == CONNECT:
        return [b"CONNECT ", head.raw_host, b" HTTP/1.1\r\n", wire_lines(head.headers), CRLF]
    line = [head.raw_method, b" ", head.raw_target(), b" HTTP/1.1\r\n"]
    return [*line, wire_lines(head.headers), _switching(head.raw_tunnel), CRLF]


def encode_agreement(head: ResponseHead) -> list[bytes]:
    """The head of a response that opens a tunnel: a 101, or the 2xx to a CONNECT; it declares no body."""
    fields = _switching(head.raw_tunnel) if head.status == 101 else b""
    return [_status_line_of(head), wire_lines(head.headers), fields, CRLF]


def _switching(protocol: bytes) -> bytes:
    """The hop-by-hop fields that request or confirm a protocol switch (RFC 9110 section 7.8)."""
    return b"connection: upgrade\r\nupgrade: " + protocol + CRLF


def encode_chunk(data: bytes, end: bool) -> list[bytes]:
    """Encodes `data` (which may be empty) as a chunk, followed by the last chunk if `end`."""
    parts: list[bytes] = []
    if data:
        parts.append(b"%x\r\n" % len(data))
        parts.append(data)
        parts.append(b"\r\n0\r\n\r\n" if end else CRLF)
    elif end:
        parts.append(LAST_CHUNK)
    return parts


def encode_trailers(trailers: Headers) -> bytes:
    """The last chunk with trailers."""
    return b"0\r\n" + wire_lines(trailers) + CRLF


def encode_response(head: ResponseHead, options: bytes) -> list[bytes]:
    """The head of a response, including the empty line, in parts. `options`: field lines that the connection adds."""
    if len(options) > 0:
        return [_status_line_of(head), wire_lines(head.headers), options, CRLF]
    return [_status_line_of(head), wire_lines(head.headers), CRLF]
