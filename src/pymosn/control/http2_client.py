"""One request over HTTP/2 by the supervisor: for health checks. The data path has its own client, `stream/http2`."""

from __future__ import annotations

import asyncio
from typing import Final

from pymosn.api.http import HttpRequest, HttpResponse
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import decoder as kinds
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.decoder import FrameDecoder
from pymosn.protocol.http2.encoder import HeadEncoder
from pymosn.protocol.http2.response import ResponseHeads
from pymosn.protocol.http2.writer import settings_frame, write_data, write_head, write_ping, write_settings_ack

#: Limits of an answer, in bytes; a body is only read for gRPC, whose answers have a few bytes.
LONGEST_HEAD: Final = 16384
LONGEST_BODY: Final = 65535
_FIELDS: Final = 200
_STREAM: Final = 1
_CLOSED: Final = "the host has closed the connection"


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
        self._decoder = FrameDecoder(frames.DEFAULT_FRAME_SIZE, LONGEST_HEAD, False)
        self._answer = Answer()
        self._interims = 0
        self._is_to_head = False

    async def ask(self, head: HttpRequest, body: bytes, whole: bool) -> Answer:
        """Sends a request and returns its answer; not `whole`: as soon as the head is there. Raises Http2Error, OSError."""
        self._is_to_head = head.raw_method == b"HEAD"
        out = FrameWriter()
        out.write(frames.PREFACE)
        out.write(settings_frame([(frames.ENABLE_PUSH, 0)]))
        write_head(out, _STREAM, self._encoder.request(head), not body, frames.DEFAULT_FRAME_SIZE)
        if body:
            write_data(out, _STREAM, body, True)
        self._write(out)
        try:
            start = await self._reader.readexactly(int(frames.FRAME_HEADER))
        except asyncio.IncompleteReadError:
            raise Http2Error(_CLOSED) from None
        if start.startswith(b"HTTP/"):
            raise Http2Error("the host answers in HTTP/1")
        try:
            self._decoder.feed(start)
            while not await self._next_frame() and (whole or self._answer.head is None):
                pass
        except ProtocolError as error:
            raise Http2Error(f"not valid HTTP/2: {error.detail}") from None
        return self._answer

    def _write(self, out: FrameWriter) -> None:
        self._writer.write(b"".join(out.take()))

    async def _next_frame(self) -> bool:
        """Reads a frame; True if it ends the answer."""
        decoder = self._decoder
        while (kind := decoder.decode()) == NEED_MORE:
            data = await self._reader.read(65536)
            if not data:
                raise Http2Error(_CLOSED)
            decoder.feed(data)
        if kind in (kinds.SETTINGS, kinds.PING) and not decoder.is_ack:
            out = FrameWriter()
            if kind == kinds.SETTINGS:
                write_settings_ack(out)
            else:
                write_ping(out, decoder.data, True)
            self._write(out)
        elif kind == kinds.GOAWAY and decoder.number < _STREAM:
            raise Http2Error(f"the host has sent GOAWAY with code {decoder.code}")
        elif kind == kinds.STREAM_ERROR:
            raise Http2Error(f"not valid HTTP/2: {decoder.detail}")
        elif decoder.stream_id == _STREAM:
            return self._on_stream(kind)
        return False

    def _on_stream(self, kind: int) -> bool:
        decoder = self._decoder
        if kind == kinds.RST_STREAM:
            raise Http2Error(f"the host has reset the request with code {decoder.code}")
        if kind == kinds.DATA:
            self._answer.body += decoder.data
            if len(self._answer.body) > LONGEST_BODY:
                raise Http2Error("the answer is too long")
            return decoder.end
        return kind == kinds.HEADERS and self._on_block(decoder.fragment, decoder.end)

    def _on_block(self, block: bytes, end: bool) -> bool:
        """A header block is complete; True if the answer is."""
        answer = self._answer
        if answer.head is not None:
            failure = self._heads.decode_trailers(block)
            answer.trailers = self._heads.trailers
        else:
            failure = self._heads.decode(block, end, self._is_to_head, b"", self._interims)
            if failure is None and self._heads.head.status < 200:
                self._interims += 1
                return False
            answer.head = self._heads.head
        if failure is not None:
            raise Http2Error(f"not valid HTTP/2: {self._heads.detail}")
        return end
