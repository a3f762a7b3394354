"""One HTTP/2 stream of either role: its state, its two windows, and what waits to be sent.

    remote_ended   the peer's END_STREAM has arrived
    local_ended    our end has been handed over; it may still wait for unsent content
    is_sent        our END_STREAM has been written
    is_closed      both sides have ended, or either side has reset it: no frame of it is sent any more

A stream that its owner has released while content is unsent stays in the connection's table until that is sent.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.stream import StreamReceiver
from pymosn.core.chunks import append_chunk
from pymosn.core.headers import Headers
from pymosn.core.message import UNKNOWN_LENGTH

#: The receiver before there is one and after the stream was released; it ignores all events.
NO_RECEIVER: Final = StreamReceiver()


@mypyc_attr(free_list_len=1)
class Http2Stream:
    """The state of a stream, kept by its connection (`Http2Connection`), whose methods change it."""

    def __init__(self, send_window: i64, receive_window: i64) -> None:
        #: 0 before it is opened.
        self.id: i64 = 0
        self.receiver: StreamReceiver = NO_RECEIVER
        self.remote_ended = False
        self.local_ended = False
        self.is_sent = False
        self.is_closed = False
        self.is_released = False
        #: The message is broken, and the receiver knows; it gets nothing more.
        self.is_cut = False
        #: Whether `receiver` was asked to stop sending.
        self.is_source_paused = False
        #: Whether the stream is in the connection's queue of those that may send.
        self.is_queued = False
        #: For the role: what begins this message has not arrived yet, such as the final head of a response.
        self.awaits_head = False
        #: For servers: the response has begun; the stream is a tunnel, or asks for one; and its content is awaited in time.
        self.is_answered = False
        self.is_tunnel = False
        self.is_timed = False
        #: Content that has arrived before the response that opens its tunnel; None for streams that do not wait for one.
        self.early: list[bytes] | None = None
        #: For clients: the request is a HEAD; its host demands HTTP/1.1; the tunnel that it asks for; interim responses.
        self.is_to_head = False
        self.needs_http1 = False
        self.tunnel: bytes = b""
        #: For clients: the Sec-WebSocket-Accept that the client of the proxy expects, if any.
        self.accept: bytes = b""
        self.interims: i64 = 0
        #: Bytes that may be sent; negative after the peer has reduced its initial window. And that the peer may send.
        self.send_window: i64 = send_window
        self.receive_window: i64 = receive_window
        #: Bytes that were received and passed on, but not yet returned to the peer by a WINDOW_UPDATE.
        self.credit: i64 = 0
        self.pauses: i64 = 0
        #: The announced length of the content that arrives, and how much has.
        self.content_length: i64 = UNKNOWN_LENGTH
        self.received: i64 = 0
        #: Bytes that wait to be sent, and the trailers that follow them.
        self.unsent: i64 = 0
        self.trailers: Headers | None = None
        #: When the peer has opened it, and when content last went in or out, by `Clock.now`; for the role's timeouts.
        self.opened_at: float = 0.0
        self.active_at: float = 0.0
        #: By this time `slice_goal` bytes must have arrived, or the content is too slow. When the exchange is over: by this
        #: time no more than `slice_goal` may be unsent.
        self.slice_end: float = 0.0
        self.slice_goal: i64 = 0
        self.next_queued: Http2Stream | None = None
        # What waits: chunks from index `_first` on, of the first one the bytes from `_at` on.
        self._chunks: list[bytes] | None = None
        self._first: i64 = 0
        self._at: i64 = 0

    def is_ending(self) -> bool:
        """Whether END_STREAM may be written with or after what `take` returned last."""
        return self.unsent == 0 and self.local_ended

    def add(self, data: bytes) -> None:
        """Appends content that cannot be sent yet."""
        chunks = self._chunks
        if chunks is None:
            self._chunks = [data]
        else:
            append_chunk(chunks, data)
        self.unsent += len(data)

    def take(self, size: i64) -> bytes:
        """Removes the next `size` bytes, no more than `unsent`."""
        chunks = self._chunks
        assert chunks is not None
        chunk = chunks[self._first]
        stop = self._at + size
        if stop <= len(chunk):
            self.unsent -= size
            data = chunk if size == len(chunk) else chunk[self._at : stop]
            self._at = stop
            if stop == len(chunk):
                self._next_chunk(chunks)
            return data
        parts: list[bytes] = []
        while size > 0:
            chunk = chunks[self._first]
            stop = min(self._at + size, len(chunk))
            parts.append(chunk[self._at : stop])
            taken: i64 = stop - self._at
            size -= taken
            self.unsent -= taken  # not all at once: `_next_chunk` drops the list when nothing is left
            self._at = stop
            if stop == len(chunk):
                self._next_chunk(chunks)
        return b"".join(parts)

    def _next_chunk(self, chunks: list[bytes]) -> None:
        self._at = 0
        self._first += 1
        if self._first == len(chunks):
            self._chunks = None
            self._first = 0
        elif self._first >= SHIFTED:
            del chunks[: self._first]
            self._first = 0

    def drop(self) -> None:
        """Drops everything that waits to be sent."""
        self._chunks = None
        self._first = 0
        self._at = 0
        self.unsent = 0
        self.trailers = None


#: Used-up chunks after which a list is shortened: seldom, because that moves all others.
SHIFTED: Final[i64] = 256
