"""One HTTP/2 stream of either role: its state, its two windows, and what waits to be sent.

    remote_ended   the peer's END_STREAM has arrived
    local_ended    our end has been handed over; it may still wait for unsent content
    is_sent        our END_STREAM has been written
    is_closed      both sides have ended, or either side has reset it: no frame of it is sent any more

A stream that its owner has released while content is unsent stays in the connection's table until that is sent.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i16, i32, i64, mypyc_attr

from pymosn.api.stream import ResponseSender, StreamReceiver
from pymosn.core.chunks import append_chunk
from pymosn.core.headers import Headers
from pymosn.core.message import UNKNOWN_LENGTH

#: The receiver before there is one and after the stream was released; it ignores all events.
NO_RECEIVER: Final = StreamReceiver()
#: Used-up chunks after which a list is shortened: seldom, because that moves all others.
SHIFTED: Final[i64] = 256


@mypyc_attr(acyclic=True)
class Unsent:
    """Content that waits to be sent: chunks from index `first` on, of the first one the bytes from `at` on."""

    def __init__(self, chunk: bytes) -> None:
        self.chunks: list[bytes] = [chunk]
        self.first: i64 = 0
        self.at: i64 = 0

    def next_chunk(self) -> None:
        """Continues with the next chunk."""
        self.at = 0
        self.first += 1
        if self.first >= SHIFTED:
            del self.chunks[: self.first]
            self.first = 0


class Rarities:
    """What few streams need, so that the others take less memory."""

    def __init__(self) -> None:
        #: The trailers that follow the content which waits to be sent.
        self.trailers: Headers | None = None
        #: For servers: content that has arrived before the response that opens its tunnel; None if none is awaited.
        self.early: list[bytes] | None = None
        #: For clients: the tunnel that the request asks for.
        self.tunnel: bytes = b""
        #: For clients: the Sec-WebSocket-Accept that the client of the proxy expects, if any.
        self.accept: bytes = b""
        #: By this time `slice_goal` bytes must have arrived, or the content is too slow. When the exchange is over: by this
        #: time no more than `slice_goal` may be unsent.
        self.slice_end: float = 0.0
        self.slice_goal: i64 = 0


@mypyc_attr(free_list_len=1)
class Http2Stream(ResponseSender):
    """The state of a stream, kept by its connection (`Http2Connection`), whose methods change it.

    A server's stream is also the sender of its response (`Http2ServerStream`): open streams are many, and may last.
    """

    def __init__(self, send_window: i64, receive_window: i64) -> None:
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
        #: The stream is a tunnel, or asks for one.
        self.is_tunnel = False
        #: The request is a HEAD.
        self.is_to_head = False
        #: For servers: the response has begun; the content is awaited in time; the request is malformed, so that it gets a
        #: reset instead of a response (RFC 9113 section 8.1.1).
        self.is_answered = False
        self.is_timed = False
        self.is_malformed = False
        #: For clients: the host demands HTTP/1.1; and interim responses so far.
        self.needs_http1 = False
        self.interims: i16 = 0
        #: Counted: the peer may not send more than its window.
        self.pauses: i16 = 0
        #: Bytes that may be sent, negative after the peer has reduced its initial window; and bytes that the peer may send.
        self.send_window: i32 = i32(send_window)
        self.receive_window: i32 = i32(receive_window)
        #: 0 before it is opened.
        self.id: i32 = 0
        #: Bytes that were received and passed on, but not yet returned to the peer by a WINDOW_UPDATE.
        self.credit: i32 = 0
        self.receiver: StreamReceiver = NO_RECEIVER
        #: The announced length of the content that arrives, and how much has.
        self.content_length: i64 = UNKNOWN_LENGTH
        self.received: i64 = 0
        #: Bytes that wait to be sent.
        self.unsent: i64 = 0
        self._waiting: Unsent | None = None
        #: When content last went in or out, by `Clock.now`; for the role's timeouts.
        self.active_at: float = 0.0
        self.next_queued: Http2Stream | None = None
        self.rarities: Rarities | None = None

    def rare(self) -> Rarities:
        """Its `rarities`, made when they are first needed."""
        rarities = self.rarities
        if rarities is None:
            rarities = self.rarities = Rarities()
        return rarities

    def is_ending(self) -> bool:
        """Whether END_STREAM may be written with or after what `take` returned last."""
        return self.unsent == 0 and self.local_ended

    def tunnel(self) -> bytes:
        """The tunnel that the request of a client asks for; empty for none."""
        rarities = self.rarities
        return b"" if rarities is None else rarities.tunnel

    def early(self) -> list[bytes] | None:
        """What a server keeps until the response opens the tunnel; None if none is awaited."""
        rarities = self.rarities
        return None if rarities is None else rarities.early

    # ---- what waits to be sent

    def add(self, data: bytes) -> None:
        """Appends content that cannot be sent yet."""
        waiting = self._waiting
        if waiting is None:
            self._waiting = Unsent(data)
        else:
            append_chunk(waiting.chunks, data)
        self.unsent += len(data)

    def take(self, size: i64) -> bytes:
        """Removes the next `size` bytes, no more than `unsent`."""
        waiting = self._waiting
        assert waiting is not None
        self.unsent -= size
        chunk = waiting.chunks[waiting.first]
        stop = waiting.at + size
        if stop <= len(chunk):
            data = chunk if size == len(chunk) else chunk[waiting.at : stop]
            waiting.at = stop
            if stop == len(chunk):
                waiting.next_chunk()
        else:
            parts: list[bytes] = []
            while size > 0:
                chunk = waiting.chunks[waiting.first]
                stop = min(waiting.at + size, len(chunk))
                parts.append(chunk[waiting.at : stop])
                size -= stop - waiting.at
                waiting.at = stop
                if stop == len(chunk):
                    waiting.next_chunk()
            data = b"".join(parts)
        if self.unsent == 0:
            self._waiting = None
        return data

    def take_trailers(self) -> Headers | None:
        """Removes the trailers that follow what waits; None if there are none."""
        rarities = self.rarities
        if rarities is None:
            return None
        trailers = rarities.trailers
        rarities.trailers = None
        return trailers

    def has_trailers(self) -> bool:
        """Whether trailers follow what waits."""
        rarities = self.rarities
        return rarities is not None and rarities.trailers is not None

    def drop(self) -> None:
        """Drops everything that waits to be sent."""
        self._waiting = None
        self.unsent = 0
        rarities = self.rarities
        if rarities is not None:
            rarities.trailers = None
