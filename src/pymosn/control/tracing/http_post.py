"""A POST to a collector: one request on a connection of its own, with bounded memory for the response."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pymosn.api.http import HttpRequest
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.control.tracing.exporter import ExportError
from pymosn.core.headers import HttpHeaders
from pymosn.core.uri import parse_target
from pymosn.protocol.http.limits import RESPONSE_LIMITS
from pymosn.protocol.http.policy import COMPATIBLE
from pymosn.protocol.http1.encoder import encode_request
from pymosn.protocol.http1.response import ResponseDecoder

#: Bytes that are read at once.
PIECE: Final = 8192
_PORTS: Final = {"http": 80, "https": 443}


class Target(NamedTuple):
    """Where to send requests."""

    scheme: str
    host: str
    port: int
    authority: str
    target: str


def parse_url(url: str) -> Target:
    """The parts of a URL of a collector. Raises ValueError for what is not one."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"expected http://HOST:PORT/PATH or https://HOST:PORT/PATH, got {url!r}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parse_target(target.encode()) is None or parts.username is not None:
        raise ValueError(f"not a valid URL of a collector: {url!r}")
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    return Target(parts.scheme, parts.hostname, port, parts.netloc, target)


async def post(target: Target, body: bytes, headers: Mapping[str, str], tls: ssl.SSLContext | None = None) -> int:
    """Sends a request; returns the status of the final response. `tls`: for `https`.

    Raises OSError if the collector cannot be reached, and ExportError if it does not answer by HTTP. The caller limits the
    time.
    """
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=tls if target.scheme == "https" else None, limit=PIECE
    )
    try:
        writer.write(_head(target, len(body), headers) + body)
        await writer.drain()
        return await _status(reader)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _head(target: Target, length: int, headers: Mapping[str, str]) -> bytes:
    head = HttpRequest(HttpHeaders())
    path, mark, query = target.target.encode().partition(b"?")
    head.raw_method, head.raw_path, head.raw_query = b"POST", path, query if mark else None
    head.content_length = length
    fields = {"host": target.authority, "connection": "close", "user-agent": "pymosn", "content-length": str(length)}
    for name, value in {**fields, **headers}.items():
        head.headers.add_raw(name.encode(), value.encode())
    return b"".join(encode_request(head))


async def _status(reader: asyncio.StreamReader) -> int:
    decoder = ResponseDecoder(RESPONSE_LIMITS, COMPATIBLE)
    decoder.expect(b"POST")
    try:
        while True:
            if decoder.decode() == NEED_MORE:
                data = await reader.read(PIECE)
                if not data:
                    raise ExportError("the collector has closed the connection without a response")
                decoder.feed(data)
            elif decoder.head.status >= 200:
                return int(decoder.head.status)
    except ProtocolError as error:
        raise ExportError(f"the collector does not speak HTTP/1: {error.detail}") from None
