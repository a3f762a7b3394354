"""The sending half of an HTTP/2 connection: frames of its streams, within the windows of the peer.

A frame is written at once if the windows and the socket take it. Otherwise the content waits in its stream, and the stream
is in a queue while its own window is open. `_pump` takes the streams of the queue in turn, one frame each, so that each
gets the same share of the connection's window and of the socket. A stream whose window is closed is not in the queue; a
WINDOW_UPDATE puts it there again.

The source of a stream's content is paused when more than STREAM_MARK bytes of it wait, or any while the socket is full or
CONNECTION_MARK bytes of all streams wait. It is resumed when less than half of STREAM_MARK is left, and under these
conditions none. So what a peer makes us hold is limited, and no stream waits for what another one has left unsent.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i32, i64, mypyc_attr

from pymosn.api.network import NO_CONNECTION, Connection
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers
from pymosn.protocol.http2.encoder import HeadEncoder
from pymosn.protocol.http2.frames import CANCEL, DATA, END_STREAM, LARGEST_WINDOW, NO_ERROR
from pymosn.protocol.http2.settings import PeerSettings
from pymosn.protocol.http2.writer import write_data, write_head, write_header, write_reset
from pymosn.stream.http2.stream import NO_RECEIVER, Http2Stream

#: Bytes of a stream that may wait before its source is paused.
STREAM_MARK: Final[i64] = 64 * 1024
#: Bytes of all streams of a connection that may wait before each source is paused by the first byte that waits.
CONNECTION_MARK: Final[i64] = 1024 * 1024
#: Frames that may be written while the peer does not read: each of them answers one of its own. A header block counts as one
#: more for each LARGE bytes of it.
MAX_UNREAD: Final[i64] = 1000
LARGE: Final[i64] = 1024
#: Streams that were reset before the peer ended them, and which are remembered: frames may still be on their way.
REMEMBERED: Final[i64] = 256
#: Who has reset such a stream.
BY_US: Final = 1
BY_PEER: Final = 2
#: The largest DATA frame that is sent, even if the peer accepts larger ones: streams get their turn after each.
MAX_DATA: Final[i64] = 64 * 1024
#: Bytes of a frame that the peer's window has cut short, from which on it is still worth the frames that answer it.
LEAST_CUT: Final[i64] = 256


@mypyc_attr(allow_interpreted_subclasses=True)
class SendingConnection:
    """The sending half. Its methods do nothing for a stream that is closed."""

    def __init__(self, encoder: HeadEncoder) -> None:
        self.connection: Connection = NO_CONNECTION
        #: The socket takes no more for now.
        self.is_full = False
        self._is_pumping = False
        #: The open streams by their ids.
        self.streams: dict[int, Http2Stream] = {}
        self.encoder = encoder
        #: What the peer has announced.
        self.peer = PeerSettings()
        #: Bytes that may be sent on all streams together.
        self.send_window: i64 = 65535
        #: Bytes that wait on all streams together.
        self.unsent: i64 = 0
        #: DATA frames sent whole, or large enough, for the budget of the frames that answer them.
        self.data_sent: i64 = 0
        # Frames written while the socket is full.
        self._unread: i64 = 0
        # Streams that were reset before the peer ended them, BY_US or BY_PEER; the latest last. None: there was none.
        self._resets: dict[int, int] | None = None
        self._has_forgotten = False
        # The queue of streams that may send.
        self._next: Http2Stream | None = None
        self._last: Http2Stream | None = None

    # ---- supplied by subclasses

    def on_stream_end(self, stream: Http2Stream) -> None:
        """`stream` is closed and no longer in `streams`."""

    def on_unread(self) -> None:
        """The peer does not read, and makes us write more and more."""

    # ---- called by streams

    def writer(self) -> FrameWriter:
        """Where the next frame is written. Counts frames while the peer does not read."""
        if self.is_full:
            self._unread += 1
            if self._unread > MAX_UNREAD:
                self.on_unread()
        return self.connection.batch_writer()

    def send_head(self, stream: Http2Stream, block: bytes, end: bool) -> None:
        """Sends a header block that `encoder` has just made: only for an open stream, as none may be left out."""
        if stream.is_closed or stream.local_ended:
            return
        if self.is_full:
            self._unread += len(block) // LARGE
        write_head(self.writer(), i64(stream.id), block, end, self.peer.frame_size)
        if end:
            stream.local_ended = True
            self._end_sent(stream)

    def send_data(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        """Sends content, or queues it."""
        if stream.is_closed or stream.local_ended:
            return
        stream.local_ended = end
        size: i64 = len(data)
        if stream.unsent == 0 and size <= self._room(stream):
            if size > 0 or end:
                write_data(self.writer(), i64(stream.id), data, end)
                self.send_window -= size
                stream.send_window -= i32(size)
                self.data_sent += 1
                if end:
                    self._end_sent(stream)
            return
        if size > 0:
            stream.add(data)
            self.unsent += size
        self._enqueue(stream)
        self._pump()
        if stream.unsent > (0 if self._is_short() else STREAM_MARK) and not stream.is_source_paused:
            stream.is_source_paused = True
            stream.receiver.on_writable(False)

    def send_trailers(self, stream: Http2Stream, trailers: Headers) -> None:
        """Sends trailers after the content, which they end."""
        if stream.is_closed or stream.local_ended:
            return
        stream.local_ended = True
        if stream.unsent == 0:
            self._write_trailers(stream, trailers)
        else:
            stream.rare().trailers = trailers

    def reset_stream(self, stream: Http2Stream, code: i64) -> None:
        """Sends RST_STREAM, and closes the stream."""
        if not stream.is_closed:
            write_reset(self.writer(), i64(stream.id), code)
            if not stream.remote_ended:
                self.remember(i64(stream.id), BY_US)
            self.close_stream(stream)

    def remember(self, stream_id: i64, by: int) -> None:
        """Remembers who has reset a stream that the peer had not ended."""
        resets = self._resets
        if resets is None:
            resets = self._resets = {}
        elif len(resets) >= REMEMBERED:
            del resets[next(iter(resets))]
            self._has_forgotten = True
        resets[int(stream_id)] = by

    def reset_by(self, stream_id: i64) -> int:
        """Who has reset a stream that is not open any more; 0 if both sides have ended it.

        BY_US if it may have been forgotten: what arrives for it is ignored then, as it must be if we have reset it.
        """
        resets = self._resets
        return 0 if resets is None else resets.get(int(stream_id), BY_US if self._has_forgotten else 0)

    def release(self, stream: Http2Stream, code: i64 = CANCEL) -> None:
        """The owner no longer needs the stream: it is reset with `code` unless our side has ended it.

        If only the peer's side is unfinished, it is reset with NO_ERROR once ours is sent (RFC 9113 section 8.1).
        """
        stream.receiver = NO_RECEIVER
        stream.is_released = True
        stream.pauses = 0
        if stream.is_closed:
            return
        if not stream.local_ended:
            self.reset_stream(stream, code)
        elif stream.is_sent:
            self.reset_stream(stream, NO_ERROR)

    def close_stream(self, stream: Http2Stream) -> None:
        """Removes a stream on which nothing more is sent; what waits is dropped."""
        stream.is_closed = True
        stream.local_ended = True
        self.unsent -= stream.unsent
        stream.drop()
        self.streams.pop(int(stream.id), None)
        self.on_stream_end(stream)

    # ---- windows

    def widen(self, stream: Http2Stream, size: i64) -> bool:
        """Adds to a stream's window; False, and nothing, if that makes it too large."""
        window = i64(stream.send_window) + size
        if window > LARGEST_WINDOW:
            return False
        stream.send_window = i32(window)
        if stream.unsent > 0 and window > 0:
            self._enqueue(stream)
            self._pump()
        return True

    def widen_all(self, size: i64) -> bool:
        """Adds to the connection's window; False, and nothing, if that makes it too large."""
        if self.send_window + size > LARGEST_WINDOW:
            return False
        self.send_window += size
        self._pump()
        return True

    def change_windows(self, change: i64) -> bool:
        """The peer's initial window has changed: changes that of each stream. False if one becomes too large."""
        fits = True
        for stream in list(self.streams.values()):
            fits = self.widen(stream, change) and fits
        return fits

    def set_full(self, is_full: bool) -> None:
        """The socket is full, or takes more again."""
        self.is_full = is_full
        if is_full:
            for stream in list(self.streams.values()):
                if stream.unsent > 0 and not stream.is_source_paused:
                    stream.is_source_paused = True
                    stream.receiver.on_writable(False)
        else:
            self._unread = 0
            self._pump()
            for stream in list(self.streams.values()):
                self._tell_drained(stream)  # also one whose last bytes have filled the socket

    def _is_short(self) -> bool:
        """Whether nothing should wait to be sent."""
        return self.is_full or self.unsent > CONNECTION_MARK

    def _room(self, stream: Http2Stream) -> i64:
        """The size of the DATA frame that may be written now; 0 if others wait."""
        if self.is_full or self._next is not None:
            return 0
        room = self._limit()
        window = i64(stream.send_window)
        if window < room:
            room = window
        return room if room > 0 else 0

    def _limit(self) -> i64:
        """The size of the largest DATA frame that the connection's window and the peer allow."""
        limit = self.send_window if self.send_window < MAX_DATA else MAX_DATA
        return limit if limit < self.peer.frame_size else self.peer.frame_size

    # ---- the queue

    def _enqueue(self, stream: Http2Stream) -> None:
        if stream.is_queued:
            return
        stream.is_queued = True
        last = self._last
        if last is None:
            self._next = stream
        else:
            last.next_queued = stream
        self._last = stream

    def _dequeue(self) -> Http2Stream | None:
        stream = self._next
        if stream is not None:
            self._next = stream.next_queued
            stream.next_queued = None
            stream.is_queued = False
            if self._next is None:
                self._last = None
        return stream

    def empty_queue(self) -> None:
        """Nothing more is sent. A queued stream of a server refers to this connection, which would keep both alive."""
        self._next = None
        self._last = None

    def _pump(self) -> None:
        """Sends what the windows and the socket allow, one frame of each stream in turn."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self.send_window > 0 and not self.is_full and not self.connection.is_closed:
                stream = self._dequeue()
                if stream is None:
                    break
                if not stream.is_closed:
                    self._send_next(stream)
        finally:
            self._is_pumping = False

    def _send_next(self, stream: Http2Stream) -> None:
        """Sends one DATA frame of a stream."""
        unsent = stream.unsent
        limit = self._limit()
        size = limit if limit < unsent else unsent
        window = i64(stream.send_window)
        if window < size:
            size = window
        if size <= 0 < unsent:
            return
        if unsent > 0:
            data = stream.take(size)
            self.unsent -= size
            is_last = stream.is_ending() and not stream.has_trailers()
            out = self.writer()
            write_header(out, size, DATA, END_STREAM if is_last else 0, i64(stream.id))
            out.write(data)
            self.send_window -= size
            stream.send_window -= i32(size)
            stream.active_at = self.connection.now()
            if size >= LEAST_CUT or size in (unsent, limit):
                self.data_sent += 1
            if is_last:
                self._end_sent(stream)
            elif stream.unsent > 0 and stream.send_window > 0:
                self._enqueue(stream)
        if stream.unsent == 0:
            trailers = stream.take_trailers()
            if trailers is not None:
                self._write_trailers(stream, trailers)
        self._tell_drained(stream)

    def _tell_drained(self, stream: Http2Stream) -> None:
        """Resumes the stream's source if it is paused and little waits."""
        if not stream.is_source_paused or self.is_full:
            return
        if stream.unsent <= (0 if self._is_short() else STREAM_MARK // 2):
            stream.is_source_paused = False
            stream.receiver.on_writable(True)

    def _write_trailers(self, stream: Http2Stream, trailers: Headers) -> None:
        block = self.encoder.trailers(trailers)
        if len(block) > 0:
            write_head(self.writer(), i64(stream.id), block, True, self.peer.frame_size)
        else:
            write_data(self.writer(), i64(stream.id), b"", True)
        self._end_sent(stream)

    def _end_sent(self, stream: Http2Stream) -> None:
        """Our END_STREAM has been written."""
        stream.is_sent = True
        if stream.remote_ended:
            self.close_stream(stream)
        elif stream.is_released:
            self.reset_stream(stream, NO_ERROR)
