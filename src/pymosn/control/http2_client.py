"""One request over HTTP/2 by the supervisor: for health checks. The data path has its own client, `stream/http2`."""

from __future__ import annotations

import asyncio
from typing import Final

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.protocol import ProtocolError
from pymosn.core.headers import Headers
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.encoder import HeadEncoder
from pymosn.protocol.http2.response import ResponseHeads

#: Limits of an answer, in bytes; a body is only read for gRPC, whose answers have a few bytes.
LONGEST_HEAD: Final = 16384
LONGEST_BODY: Final = 65535
_FIELDS: Final = 200
_STREAM: Final = 1


class Http2Error(ValueError):
    """The host does not answer, or not in valid HTTP/2."""


class Answer:
    """An answer: its head and, if asked for, its body and trailers."""

    def __init__(self) -> None:
        self.head: HttpResponse | None = None
        self.body = b""
        self.trailers: Headers | None = None


class Http2Client:
    """A connection for one request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, scheme: str) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = HeadEncoder()
        self._encoder.scheme = scheme
        self._heads = ResponseHeads(HttpLimits(LONGEST_HEAD, _FIELDS, 0), int(frames.DEFAULT_TABLE_SIZE))
        self._answer = Answer()
        self._block = b""
        self._ends = False
        self._interims = 0

    async def ask(self, head: HttpRequest, body: bytes, whole: bool) -> Answer:
        """Sends a request and returns its answer; not `whole`: as soon as the head is there. Raises Http2Error, OSError."""
        settings = int(frames.ENABLE_PUSH).to_bytes(2, "big") + bytes(4)
        end = 0 if body else int(frames.END_STREAM)
        parts = [frames.PREFACE, _frame(frames.SETTINGS, 0, 0, settings)]
        parts.append(_frame(frames.HEADERS, int(frames.END_HEADERS) | end, _STREAM, self._encoder.request(head)))
        if body:
            parts.append(_frame(frames.DATA, int(frames.END_STREAM), _STREAM, body))
        self._writer.write(b"".join(parts))
        while True:
            try:
                ended = await self._next_frame()
            except asyncio.IncompleteReadError:
                raise Http2Error("the host has closed the connection") from None
            except ProtocolError as error:
                raise Http2Error(f"not valid HTTP/2: {error}") from None
            if ended or (self._answer.head is not None and not whole):
                return self._answer

    async def _next_frame(self) -> bool:
        """Reads a frame; True if it ends the answer."""
        header = await self._reader.readexactly(int(frames.FRAME_HEADER))
        if header.startswith(b"HTTP/"):
            raise Http2Error("the host answers in HTTP/1")
        size, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        stream = int.from_bytes(header[5:], "big") & int(frames.LARGEST_STREAM_ID)
        if size > frames.DEFAULT_FRAME_SIZE:
            raise Http2Error("not HTTP/2: a frame is too long")
        payload = await self._reader.readexactly(size)
        if kind in (frames.SETTINGS, frames.PING) and not flags & frames.ACK:
            self._writer.write(_frame(kind, int(frames.ACK), 0, b"" if kind == frames.SETTINGS else payload))
        elif kind == frames.GOAWAY and int.from_bytes(payload[:4], "big") < _STREAM:
            raise Http2Error(f"the host has sent GOAWAY with code {int.from_bytes(payload[4:8], 'big')}")
        elif stream == _STREAM:
            return self._on_stream(kind, flags, payload)
        return False

    def _on_stream(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == frames.RST_STREAM:
            raise Http2Error(f"the host has reset the request with code {int.from_bytes(payload, 'big')}")
        if kind == frames.DATA:
            self._answer.body += _content(flags, payload, 0)
            if len(self._answer.body) > LONGEST_BODY:
                raise Http2Error("the answer is too long")
            return bool(flags & frames.END_STREAM)
        if kind == frames.HEADERS:
            self._block = _content(flags, payload, 5 if flags & frames.HAS_PRIORITY else 0)
            self._ends = bool(flags & frames.END_STREAM)
        elif kind == frames.CONTINUATION:
            self._block += payload
        else:
            return False
        if len(self._block) > LONGEST_HEAD:
            raise Http2Error("the head of the answer is too long")
        return bool(flags & frames.END_HEADERS) and self._on_block()

    def _on_block(self) -> bool:
        """A header block is complete; True if the answer is."""
        answer = self._answer
        if answer.head is not None:
            failure = self._heads.decode_trailers(self._block)
            answer.trailers = self._heads.trailers
        else:
            failure = self._heads.decode(self._block, self._ends, False, b"", self._interims)
            if failure is None and self._heads.head.status < 200:
                self._interims += 1
                return False
            answer.head = self._heads.head
        if failure is not None:
            raise Http2Error(f"not valid HTTP/2: {self._heads.detail}")
        return self._ends


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((int(kind), flags)) + stream.to_bytes(4, "big") + payload


def _content(flags: int, payload: bytes, skipped: int) -> bytes:
    """The content of a frame, without padding and the `skipped` bytes of a priority."""
    if not flags & frames.PADDED:
        return payload[skipped:]
    padding = payload[0] if payload else 0
    if len(payload) < 1 + skipped + padding:
        raise Http2Error("not valid HTTP/2: too much padding")
    return payload[1 + skipped : len(payload) - padding]
