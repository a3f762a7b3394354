"""Frames from bytes (RFC 9113 sections 4 to 6): their sizes, flags, stream ids, padding, and the order that they must have.

A decoder has one buffer. The caller feeds bytes and pulls frames; each `decode` returns a kind, and leaves the frame in
attributes. DATA is passed on as it arrives, in pieces, so that a frame is never collected; every other frame is decoded when
it is complete. A HEADERS frame and its CONTINUATION frames are one result, the whole fragment.

ProtocolError ends the connection. An error that concerns one stream is the kind STREAM_ERROR.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.core.chunks import append_chunk
from pymosn.core.failure import CONTINUATION_FLOOD, HTTP2_ERROR, HTTP2_FRAME_SIZE
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER,
    HAS_PRIORITY,
    PADDED,
    PREFACE,
)

#: Results of `decode`, besides NEED_MORE: the frame types, one higher, and two more.
DATA: Final[i64] = frames.DATA + 1
HEADERS: Final[i64] = frames.HEADERS + 1
PRIORITY: Final[i64] = frames.PRIORITY + 1
RST_STREAM: Final[i64] = frames.RST_STREAM + 1
SETTINGS: Final[i64] = frames.SETTINGS + 1
PING: Final[i64] = frames.PING + 1
GOAWAY: Final[i64] = frames.GOAWAY + 1
WINDOW_UPDATE: Final[i64] = frames.WINDOW_UPDATE + 1
#: A frame of an unknown type, which is ignored, or one with hints about priorities (RFC 9218).
IGNORED: Final[i64] = 32
#: One stream is at fault: `stream_id`, and `code` for its RST_STREAM. The frame is not to be processed further.
STREAM_ERROR: Final[i64] = 33

#: CONTINUATION frames of one block: those that a block of the largest size needs, and this many more.
SPARE_CONTINUATIONS: Final[i64] = 16
#: Decoded bytes that may be kept together with an incomplete frame.
TRIMMED: Final[i64] = 2048


class FrameDecoder:
    """Decodes what one peer sends. The attributes describe the last frame."""

    def __init__(self, max_frame: i64, max_fragment: i64, expects_preface: bool) -> None:
        """`max_frame`: the largest payload, as in our SETTINGS. `max_fragment`: the largest header block, in bytes.

        `expects_preface`: the peer is a client.
        """
        self.stream_id: i64 = 0
        #: Whether it ends the peer's side of the stream, for DATA and HEADERS.
        self.end = False
        #: Whether it is an acknowledgement, for SETTINGS and PING.
        self.is_ack = False
        #: The payload of SETTINGS or PING, the next piece of DATA, or the debug data of GOAWAY.
        self.data: bytes = b""
        #: For DATA: whether this piece is the frame's first; what the frame takes from the windows, 0 for a further piece;
        #: and the bytes of it, padding included, that this piece completes.
        self.is_first = False
        self.flow: i64 = 0
        self.size: i64 = 0
        #: For HEADERS: the complete header block, and whether the stream depends on itself, which is a stream error.
        self.fragment: bytes = b""
        self.is_self_dependent = False
        #: The error code of RST_STREAM, GOAWAY and STREAM_ERROR.
        self.code: i64 = 0
        #: The increment of WINDOW_UPDATE, the last stream id of GOAWAY.
        self.number: i64 = 0
        #: What is wrong, for STREAM_ERROR.
        self.detail = ""
        self._max_frame: i64 = max_frame
        self._max_fragment: i64 = max_fragment
        self._expects_preface = expects_preface
        self._expects_settings = True
        self._in_data = False
        self._data_end = False
        self._block_end = False
        # Bytes from `_at` on have not been decoded. While `_missing` more are needed, further bytes are in `_more`:
        # `_collected` of them.
        self._buffer: bytes = b""
        self._at: i64 = 0
        self._missing: i64 = 0
        self._more: list[bytes] | None = None
        self._collected: i64 = 0
        # A DATA frame that has begun: content and padding that are still to come, the payload's size, and how much of that
        # is padding and its length.
        self._left: i64 = 0
        self._padding: i64 = 0
        self._flow: i64 = 0
        self._overhead: i64 = 0
        self._is_new = False
        self._data_id: i64 = 0
        # A header block that has begun: its stream (0 for none), its parts, their size and how many CONTINUATION frames.
        self._block_id: i64 = 0
        self._parts: list[bytes] | None = None
        self._block_size: i64 = 0
        self._continuations: i64 = 0

    def feed(self, data: bytes) -> None:
        """Appends received bytes."""
        if self._missing > len(data):
            # Collected, so that a frame that arrives in small pieces is not copied for each of them.
            self._missing -= len(data)
            if self._more is None:
                self._more = [data]
            else:
                append_chunk(self._more, data)
            self._collected += len(data)
            return
        self._missing = 0
        more = self._more
        if more is not None:
            self._more = None
            self._collected = 0
            self._buffer = b"".join([self._buffer[self._at :], *more, data])
        elif self._at >= len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def has_begun(self) -> bool:
        """Whether part of the preface, a frame or a header block is waiting for the rest."""
        return self._block_id > 0 or self._in_data or self._at < len(self._buffer) or self._missing > 0

    def awaits_head(self) -> bool:
        """Whether a part of a header block, or of what a connection begins with, is waiting for the rest."""
        if self._block_id > 0:
            return True
        at = self._at
        buffer = self._buffer
        there: i64 = len(buffer) - at
        if self._expects_settings:
            return there > 0 or not self._expects_preface
        return not self._in_data and there > 3 and buffer[at + 3] == frames.HEADERS

    def head_size(self) -> i64:
        """The bytes of an incomplete header block that are held, those of an incomplete frame included."""
        if not self.awaits_head():
            return 0
        size: i64 = len(self._buffer) - self._at + self._collected
        return size + self._block_size if self._block_id > 0 else size

    def decode(self) -> i64:
        """Returns NEED_MORE, or the kind of the next frame. Raises ProtocolError; nothing can be decoded afterwards."""
        if self._missing > 0:
            return NEED_MORE
        if self._in_data:
            return self._next_piece()
        if self._expects_preface and not self._take_preface():
            return NEED_MORE
        while True:
            buffer = self._buffer
            at = self._at
            left: i64 = len(buffer) - at
            if left < FRAME_HEADER:
                return self._need(FRAME_HEADER - left)
            size: i64 = (i64(buffer[at]) << 16) | (i64(buffer[at + 1]) << 8) | buffer[at + 2]
            kind: i64 = buffer[at + 3]
            flags: i64 = buffer[at + 4]
            stream_id: i64 = (
                (i64(buffer[at + 5] & 0x7F) << 24)
                | (i64(buffer[at + 6]) << 16)
                | (i64(buffer[at + 7]) << 8)
                | buffer[at + 8]
            )
            self.stream_id = stream_id
            self._check_order(kind, flags, size, stream_id)
            if kind == frames.DATA:
                if not self._begin_data(size, flags, stream_id, left):
                    return self._need(FRAME_HEADER + 1 - left)
                return self._next_piece()
            if left < FRAME_HEADER + size:
                return self._need(FRAME_HEADER + size - left)
            start = at + FRAME_HEADER
            stop = start + size
            self._at = stop
            if kind == frames.HEADERS or kind == frames.CONTINUATION:
                found: i64 = self._take_block(kind, flags, start, stop)
                if found != NEED_MORE:
                    return found
                continue
            return self._take_frame(kind, flags, start, size)

    def _need(self, missing: i64) -> i64:
        if self._at >= len(self._buffer):
            self._buffer = b""
            self._at = 0
            return NEED_MORE
        if self._at > TRIMMED:
            self._buffer = self._buffer[self._at :]
            self._at = 0
        self._missing = missing
        return NEED_MORE

    def _take_preface(self) -> bool:
        buffer = self._buffer
        if not PREFACE.startswith(buffer[: len(PREFACE)]):
            raise ProtocolError(HTTP2_ERROR, "not the connection preface of HTTP/2")
        if len(buffer) < len(PREFACE):
            return False
        self._at = len(PREFACE)
        self._expects_preface = False
        return True

    def _check_order(self, kind: i64, flags: i64, size: i64, stream_id: i64) -> None:
        """Checks what does not need the payload. Raises ProtocolError."""
        if self._expects_settings and (kind != frames.SETTINGS or flags & ACK != 0):
            raise ProtocolError(HTTP2_ERROR, "the first frame is not SETTINGS")
        if size > self._max_frame:
            raise ProtocolError(HTTP2_FRAME_SIZE, f"a frame of {size} bytes")
        if self._block_id > 0:
            if kind != frames.CONTINUATION or stream_id != self._block_id:
                raise ProtocolError(HTTP2_ERROR, f"frame type {kind} inside a header block")
        elif kind == frames.CONTINUATION:
            raise ProtocolError(HTTP2_ERROR, "CONTINUATION without HEADERS")
        if kind == frames.SETTINGS or kind == frames.PING or kind == frames.GOAWAY:
            if stream_id != 0:
                raise ProtocolError(HTTP2_ERROR, f"frame type {kind} on stream {stream_id}")
        elif stream_id == 0 and kind < frames.WINDOW_UPDATE:
            raise ProtocolError(HTTP2_ERROR, f"frame type {kind} on stream 0")
        if kind == frames.PUSH_PROMISE:
            raise ProtocolError(HTTP2_ERROR, "PUSH_PROMISE, which is not enabled")
        wanted: i64 = -1
        if kind == frames.RST_STREAM or kind == frames.WINDOW_UPDATE:
            wanted = 4
        elif kind == frames.PING:
            wanted = 8
        if 0 <= wanted != size or (kind == frames.GOAWAY and size < 8):
            raise ProtocolError(HTTP2_FRAME_SIZE, f"frame type {kind} with {size} bytes")
        if kind == frames.SETTINGS:
            self._expects_settings = False
            if size % 6 != 0 or (size > 0 and flags & ACK != 0):
                raise ProtocolError(HTTP2_FRAME_SIZE, f"SETTINGS with {size} bytes")

    # ---- DATA

    def _begin_data(self, size: i64, flags: i64, stream_id: i64, left: i64) -> bool:
        """Begins a frame; False if its padding length has not arrived yet."""
        padding: i64 = 0
        content = size
        at = self._at + FRAME_HEADER
        if flags & PADDED != 0:
            if size == 0:
                raise ProtocolError(HTTP2_FRAME_SIZE, "padded DATA without a padding length")
            if left <= FRAME_HEADER:
                return False
            padding = self._buffer[at]
            at += 1
            content -= 1
            if padding > content:
                raise ProtocolError(HTTP2_ERROR, "DATA with more padding than payload")
            content -= padding
        self._at = at
        self._in_data = True
        self._is_new = True
        self._data_id = stream_id
        self._left = content
        self._padding = padding
        self._flow = size
        self._overhead = size - content
        self._data_end = flags & END_STREAM != 0
        return True

    def _next_piece(self) -> i64:
        """The next piece of the DATA frame that has begun."""
        at = self._at
        there: i64 = len(self._buffer) - at
        if there >= self._left + self._padding:
            size = self._left
            self._in_data = False
            self._at = at + size + self._padding
            self.end = self._data_end
            self.size = size + self._overhead
        else:
            size = min(there, self._left)
            if size == 0:
                return self._need(self._padding - there if self._left == 0 else 1)
            self.end = False
            self._at = at + size
            self.size = size
        self.stream_id = self._data_id
        self.data = self._buffer[at : at + size]
        self.is_first = self._is_new
        self.flow = self._flow if self._is_new else 0
        self._is_new = False
        self._left -= size
        return DATA

    # ---- HEADERS and CONTINUATION

    def _take_block(self, kind: i64, flags: i64, start: i64, stop: i64) -> i64:
        """Takes a part of a header block. Returns NEED_MORE unless it is the last one."""
        if kind == frames.HEADERS:
            self._block_end = flags & END_STREAM != 0
            self.is_self_dependent = False
            padding: i64 = 0
            if flags & PADDED != 0:
                if stop == start:
                    raise ProtocolError(HTTP2_FRAME_SIZE, "padded HEADERS without a padding length")
                padding = self._buffer[start]
                start += 1
            if flags & HAS_PRIORITY != 0:
                if stop - start < 5:
                    raise ProtocolError(HTTP2_FRAME_SIZE, "HEADERS without their priority")
                self.is_self_dependent = self._number_at(start) & 0x7FFFFFFF == self.stream_id
                start += 5
            if padding > stop - start:
                raise ProtocolError(HTTP2_ERROR, "HEADERS with more padding than payload")
            stop -= padding
            self._continuations = 0
            self._block_size = 0
        else:
            self._continuations += 1
            if self._continuations > SPARE_CONTINUATIONS + self._max_fragment // frames.DEFAULT_FRAME_SIZE:
                raise ProtocolError(CONTINUATION_FLOOD, "too many CONTINUATION frames")
        self._block_size += stop - start
        if self._block_size > self._max_fragment:
            raise ProtocolError(CONTINUATION_FLOOD, "a header block is too large")
        part = self._buffer[start:stop]
        is_last = flags & END_HEADERS != 0
        if self._block_id == 0 and is_last:
            self.fragment = part
        else:
            parts = self._parts
            if parts is None:
                parts = self._parts = []
            parts.append(part)
            self._block_id = self.stream_id
            if not is_last:
                return NEED_MORE
            self.fragment = b"".join(parts)
            self._parts = None
            self._block_id = 0
        self.end = self._block_end
        return HEADERS

    # ---- the other frames

    def _take_frame(self, kind: i64, flags: i64, start: i64, size: i64) -> i64:
        buffer = self._buffer
        if kind == frames.WINDOW_UPDATE:
            self.number = self._number_at(start) & 0x7FFFFFFF
            if self.number > 0:
                return WINDOW_UPDATE
            if self.stream_id == 0:
                raise ProtocolError(HTTP2_ERROR, "WINDOW_UPDATE of 0")
            return self._stream_error(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
        if kind == frames.RST_STREAM:
            self.code = self._number_at(start)
            return RST_STREAM
        if kind == frames.PRIORITY:
            if size != 5:
                return self._stream_error(frames.FRAME_SIZE_ERROR, f"PRIORITY with {size} bytes")
            if self._number_at(start) & 0x7FFFFFFF == self.stream_id:
                return self._stream_error(frames.PROTOCOL_ERROR, "a stream depends on itself")
            return PRIORITY
        if kind == frames.SETTINGS or kind == frames.PING:
            self.is_ack = flags & ACK != 0
            self.data = buffer[start : start + size]
            return SETTINGS if kind == frames.SETTINGS else PING
        if kind == frames.GOAWAY:
            self.number = self._number_at(start) & 0x7FFFFFFF
            self.code = self._number_at(start + 4)
            self.data = buffer[start + 8 : start + size]
            return GOAWAY
        return IGNORED

    def _number_at(self, at: i64) -> i64:
        buffer = self._buffer
        return (i64(buffer[at]) << 24) | (i64(buffer[at + 1]) << 16) | (i64(buffer[at + 2]) << 8) | buffer[at + 3]

    def _stream_error(self, code: i64, detail: str) -> i64:
        self.code = code
        self.detail = detail
        return STREAM_ERROR
