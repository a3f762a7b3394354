"""The other end of an HTTP/2 connection of the proxy, which carries one request: of a test's client, or of a host.

It reads and writes with the proxy's own codec. What it sends need not be valid: that is for the proxy to judge.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from librt.strings import BytesWriter

from pymosn.api.protocol import NEED_MORE
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers, HttpHeaders
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import decoder as kinds
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.decoder import FrameDecoder
from pymosn.protocol.http2.hpack_decoder import HpackDecoder
from pymosn.protocol.http2.hpack_encoder import write_literal
from pymosn.protocol.http2.settings import PeerSettings
from pymosn.protocol.http2.writer import (
    settings_frame,
    window_update,
    write_data,
    write_head,
    write_ping,
    write_settings_ack,
)

Pairs = list[tuple[bytes, bytes]]

_STREAM: Final = 1
_LIMITS: Final = HttpLimits(head=1 << 30, fields=1 << 20, body=0)
_FRAME: Final = 16384
#: A literal field that is not added to the table (RFC 7541 section 6.2.2).
_LITERAL: Final = 0
#: Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
_OF_CONNECTION: Final = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")


def pairs_of(headers: Headers) -> Pairs:
    """The fields as HTTP/2 has them: with names in lower case."""
    return [(name.lower(), value) for name, value in headers.items_raw()]


def fields_of_response(headers: Headers) -> Pairs:
    """The same without those of a connection, which a host that speaks HTTP/2 does not send."""
    return [pair for pair in pairs_of(headers) if pair[0] not in _OF_CONNECTION]


class Http2End:
    """The events go to `on_head`, `on_data` and `on_reset`. The windows of what it receives are as large as they can be."""

    def __init__(self, is_client: bool, write: Callable[[bytes], object]) -> None:
        """`write`: delivers bytes to the proxy, later."""
        self.on_head: Callable[[Pairs, bool], None] = lambda fields, end: None
        self.on_data: Callable[[bytes, bool], None] = lambda data, end: None
        self.on_reset: Callable[[], None] = lambda: None
        #: Whether the proxy has reset the stream, or ended the connection with an error.
        self.is_reset = False
        self._is_client = is_client
        self._write = write
        self._decoder = FrameDecoder(_FRAME, 1 << 24, not is_client)
        self._hpack = HpackDecoder(_LIMITS, int(frames.DEFAULT_TABLE_SIZE))
        self._settings = PeerSettings()
        # What may be sent, of the connection's window and of the stream's.
        self._window = int(frames.DEFAULT_WINDOW)
        self._stream_window = int(frames.DEFAULT_WINDOW)
        self._may_send = asyncio.Event()
        # What was answered before this end has begun; None once it has.
        self._held: bytes | None = b""

    # ---- sending

    def opening(self) -> bytes:
        """What is sent first: the largest windows."""
        window = frames.LARGEST_WINDOW
        settings = settings_frame([(frames.INITIAL_WINDOW_SIZE, window)])
        update = window_update(0, window - frames.DEFAULT_WINDOW)
        held, self._held = self._held, None
        return (frames.PREFACE if self._is_client else b"") + settings + update + (held or b"")

    def _answer(self, out: FrameWriter) -> None:
        """Sends a frame of its own accord, but nothing before the preface."""
        frame = _bytes_of(out)
        if self._held is None:
            self._write(frame)
        else:
            self._held += frame

    def head(self, fields: Iterable[tuple[bytes, bytes]], end: bool) -> bytes:
        """The frames of a head or of trailers."""
        block = BytesWriter()
        for name, value in fields:
            write_literal(block, _LITERAL, 0, name, value)
        out = FrameWriter()
        write_head(out, _STREAM, block.getvalue(), end, _FRAME)
        return _bytes_of(out)

    async def data(self, data: bytes, end: bool) -> bytes:
        """The next frame of `data`, as large as the windows allow; waits until they allow something."""
        while data and not self.is_reset and min(self._window, self._stream_window) <= 0:
            self._may_send.clear()
            await self._may_send.wait()
        size = min(len(data), self._window, self._stream_window, _FRAME) if data else 0
        self._window -= size
        self._stream_window -= size
        out = FrameWriter()
        write_data(out, _STREAM, data[: max(size, 0)], end and size == len(data))
        return _bytes_of(out)

    def stop(self) -> None:
        """The connection is gone: ends the wait for its windows."""
        self.is_reset = True
        self._may_send.set()

    # ---- what the proxy sends

    def feed(self, data: bytes) -> None:
        """Reads what has come. Raises ProtocolError."""
        decoder = self._decoder
        decoder.feed(data)
        while (kind := decoder.decode()) != NEED_MORE:
            if kind == kinds.HEADERS:
                fields = self._hpack.decode(decoder.fragment, False)
                self.on_head([(field.name.text, field.value) for field in fields], decoder.end)
            elif kind == kinds.DATA:
                self.on_data(decoder.data, decoder.end)
            elif kind == kinds.SETTINGS and not decoder.is_ack:
                before = self._settings.window
                self._settings.apply(decoder.data, self._is_client)
                self._stream_window += int(self._settings.window - before)
                out = FrameWriter()
                write_settings_ack(out)
                self._answer(out)
                self._may_send.set()
            elif kind == kinds.PING and not decoder.is_ack:
                out = FrameWriter()
                write_ping(out, decoder.data, True)
                self._answer(out)
            elif kind == kinds.WINDOW_UPDATE:
                if decoder.stream_id == 0:
                    self._window += int(decoder.number)
                else:
                    self._stream_window += int(decoder.number)
                self._may_send.set()
            elif kind == kinds.RST_STREAM or (kind == kinds.GOAWAY and decoder.code != frames.NO_ERROR):
                self.stop()
                self.on_reset()


def headers_of(fields: Pairs) -> HttpHeaders:
    """Fields as the proxy's headers; crumbs of cookies stay apart."""
    return HttpHeaders(b"".join(b"%b: %b\r\n" % pair for pair in fields))


def _bytes_of(out: FrameWriter) -> bytes:
    return b"".join(out.take())
