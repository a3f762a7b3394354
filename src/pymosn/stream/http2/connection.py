"""The receiving half of an HTTP/2 connection, of either role: frames become events of streams.

`Http2Connection` knows no role. A subclass decodes heads (`on_block`), makes streams, and passes on their content
(`deliver`). It has `ServerConnection` and `ClientConnection` as subclasses; thin network filters pass the events of the
socket on to them.

Content is passed on once per read: `_held` keeps the DATA of one stream until a frame of another stream, a frame of another
type, or the end of what was read, and at most HELD bytes. So small frames cost one call together, and a request whose
content has already arrived begins with all of it.

A stream's window is opened again when its content was passed on, unless the receiver has paused the stream. The
connection's window is opened as soon as content arrives: one stream that does not read never stalls the others. Windows are
opened in steps of half their size.

An exception of a receiver resets its stream. ProtocolError ends the connection.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i32, i64, mypyc_attr

from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.core.failure import (
    BAD_RESPONSE,
    CLIENT_GONE,
    EMPTY_DATA_FLOOD,
    HTTP2_ERROR,
    HTTP2_FLOW_ERROR,
    HTTP2_FRAME_SIZE,
    INTERNAL_ERROR,
    MALFORMED,
    PING_FLOOD,
    PRIORITY_FLOOD,
    RESET_FLOOD,
    SETTINGS_FLOOD,
    WINDOW_UPDATE_FLOOD,
    Failure,
)
from pymosn.core.foreign import report
from pymosn.protocol.http2 import decoder as kinds
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.decoder import FrameDecoder
from pymosn.protocol.http2.encoder import HeadEncoder
from pymosn.protocol.http2.frames import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW
from pymosn.protocol.http2.writer import write_ping, write_reset, write_settings_ack, write_window_update
from pymosn.stream.http2.budget import Budget
from pymosn.stream.http2.lifetime import LivingConnection
from pymosn.stream.http2.options import ConnectionOptions
from pymosn.stream.http2.sending import BY_PEER, BY_US
from pymosn.stream.http2.stream import Http2Stream

#: The largest configured head, in bytes, whose header block is limited.
LARGEST_HEAD: Final[i64] = 1 << 32
#: Bytes of small DATA frames that are passed on together.
HELD: Final[i64] = 16 * 1024
#: Bytes of one read after which other connections get their turn.
YIELD_SIZE: Final[i64] = 128 * 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class Http2Connection(LivingConnection):
    """The receiving half. The module's docstring describes it."""

    def __init__(self, options: ConnectionOptions, is_client: bool) -> None:
        super().__init__(options, HeadEncoder())
        self.is_client = is_client
        #: The rule that the peer has broken last, in words.
        self.broken_rule = ""
        # A head that is too large is answered if its block is not much larger than the limit.
        largest = 2 * min(options.limits.head, LARGEST_HEAD) + DEFAULT_FRAME_SIZE
        self.decoder = FrameDecoder(options.max_frame_size, largest, not is_client)
        self.budget = Budget()
        #: Bytes that the peer may still send on all streams together, and those that a WINDOW_UPDATE will return.
        self.receive_window: i64 = max(options.connection_window, DEFAULT_WINDOW)
        self._credit: i64 = 0
        #: DATA frames received.
        self.data_received: i64 = 0
        self._is_pulling = False
        # Content that is passed on with what follows it in the same read.
        self._held: Http2Stream | None = None
        self._held_data: bytes = b""
        self._held_more: list[bytes] | None = None
        self._held_size: i64 = 0

    # ---- supplied by subclasses

    def on_block(self, stream: Http2Stream | None, stream_id: i64, fragment: bytes, end: bool) -> None:
        """A header block has arrived; `stream` is None if it is not open. It must be decoded, even if it is not used.

        Raises ProtocolError, which ends the connection.
        """
        raise NotImplementedError

    def deliver(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        """Passes on content, which may be empty. `stream.remote_ended` is already set if it is the end."""
        if (end or len(data) > 0) and not stream.is_cut:
            stream.receiver.on_data(data, end)

    def is_unstarted(self, stream: Http2Stream) -> bool:
        """Whether the stream's request has not been passed on yet."""
        return False

    def reset_failure(self, stream: Http2Stream, code: i64) -> Failure | None:
        """The failure of a stream that the peer has reset; None if it is none. Raises ProtocolError for one too many."""
        raise NotImplementedError

    def loss_of(self, stream: Http2Stream, failure: Failure) -> Failure:
        """The failure of a stream whose connection is gone because of `failure`."""
        return failure

    def on_goaway(self, last_id: i64, code: i64, debug: bytes) -> None:
        """The peer will process no stream of ours after `last_id`."""

    def on_settings(self) -> None:
        """The peer's settings may have changed."""

    # ---- called by the other halves

    def on_stream_end(self, stream: Http2Stream) -> None:
        if stream.is_sent:
            self.budget.on_completed()
        super().on_stream_end(stream)

    # ---- called by the filter

    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""
        self.read_at = self.connection.now()
        self.decoder.feed(data)
        self._pull()
        if len(data) >= YIELD_SIZE:
            self.connection.yield_reading()

    def on_close(self, failure: Failure) -> None:
        """The connection is gone: resets all streams with `failure`."""
        self._held = None
        self.empty_queue()
        self.unsent = 0
        streams = self.streams
        self.streams = {}
        for stream in streams.values():
            stream.is_closed = True
            stream.local_ended = True
            stream.remote_ended = True
            stream.drop()
        for stream in streams.values():
            self.tell_reset(stream, self.loss_of(stream, failure))

    # ---- frames

    def _pull(self) -> None:
        """Processes the frames that have arrived."""
        if self._is_pulling:
            return
        self._is_pulling = True
        try:
            while not self.is_broken and not self.connection.is_closed:
                kind: i64 = self.decoder.decode()
                if kind == kinds.DATA:
                    self._on_data()
                    continue
                held = self._held
                if held is not None and not (self.is_unstarted(held) and self._may_end(held, kind)):
                    self.flush_held()
                if kind == NEED_MORE:
                    break
                if kind == kinds.HEADERS:
                    self._on_headers()
                elif kind == kinds.WINDOW_UPDATE:
                    self._on_window_update()
                else:
                    self._on_other(kind)
        except ProtocolError as error:
            held = self._held
            if held is not None and error.failure is RESET_FLOOD and self.is_unstarted(held):
                self.tell_reset(held, CLIENT_GONE)
            elif held is not None:
                self.flush_held()
            self.break_off(error.failure, error.detail)
        finally:
            self._is_pulling = False

    def _may_end(self, held: Http2Stream, kind: i64) -> bool:
        """Whether the present frame may reset the stream whose request is held: then it never reaches a host."""
        if self.decoder.stream_id != held.id:
            return False
        if kind == kinds.RST_STREAM or kind == kinds.STREAM_ERROR or kind == kinds.WINDOW_UPDATE:
            return True
        return kind == kinds.HEADERS and held.remote_ended

    def _on_other(self, kind: i64) -> None:
        decoder = self.decoder
        stream_id = decoder.stream_id
        if kind == kinds.RST_STREAM:
            self._on_reset(stream_id, decoder.code)
        elif kind == kinds.SETTINGS:
            self._on_settings()
        elif kind == kinds.PING:
            self._on_ping()
        elif kind == kinds.GOAWAY:
            self.on_goaway(decoder.number, decoder.code, decoder.data)
        elif kind == kinds.STREAM_ERROR:
            self._on_stream_error(stream_id, decoder.code, decoder.detail)
        else:
            self.spend_ignored()

    def spend_ignored(self) -> None:
        """A frame was ignored. Raises ProtocolError if it was one too many."""
        if not self.budget.priorities.take(self.read_at):
            raise ProtocolError(PRIORITY_FLOOD, "too many frames that are ignored")

    def is_idle(self, stream_id: i64) -> bool:
        """Whether no stream with this id was ever opened: only clients open streams, with odd ids, since push is off."""
        return stream_id & 1 == 0 or stream_id > self.last_id

    # ---- DATA

    def _on_data(self) -> None:
        decoder = self.decoder
        stream = self.streams.get(int(decoder.stream_id))
        if decoder.is_first:
            self.data_received += 1
            self.receive_window -= decoder.flow
            if self.receive_window < 0:
                raise ProtocolError(HTTP2_FLOW_ERROR, "DATA beyond the connection's window")
            is_empty = len(decoder.data) == 0 and not decoder.end and decoder.size == decoder.flow
            if is_empty and not self.budget.empty_data.take(self.read_at):
                raise ProtocolError(EMPTY_DATA_FLOOD, "too many DATA frames without content")
        self._credit += decoder.size
        if 2 * self._credit >= self.options.connection_window:
            self.receive_window += self._credit
            write_window_update(self.writer(), 0, self._credit)
            self._credit = 0
        if stream is None:
            if decoder.is_first:
                self._on_late_data(decoder.stream_id)
            return
        if stream is not self._held and self._held is not None:
            self.flush_held()
            if stream.is_closed:
                return
        if stream.remote_ended:
            self.fail_stream(stream, frames.STREAM_CLOSED, "DATA after the end of the stream")
            return
        if stream.awaits_head:
            self.fail_stream(stream, frames.PROTOCOL_ERROR, "DATA before HEADERS")
            return
        stream.receive_window -= i32(decoder.flow)
        if stream.receive_window < 0:
            self.fail_stream(stream, frames.FLOW_CONTROL_ERROR, "more DATA than the window of the stream")
            return
        data = decoder.data
        stream.received += len(data)
        length = stream.content_length
        if length >= 0 and (stream.received > length or (decoder.end and stream.received < length)):
            self.fail_stream(stream, frames.PROTOCOL_ERROR, "content does not have the length of content-length")
            return
        stream.credit += i32(decoder.size)
        stream.active_at = self.read_at
        self._hold(stream, data)
        if decoder.end:
            stream.remote_ended = True
            self.flush_held()

    def _on_late_data(self, stream_id: i64) -> None:
        """DATA for a stream that is not open."""
        if self.is_idle(stream_id):
            raise ProtocolError(HTTP2_ERROR, f"DATA on stream {stream_id}, which is idle")
        if self.reset_by(stream_id) != BY_US:  # otherwise the peer may not have known
            self.reset_late(stream_id)

    def reset_late(self, stream_id: i64) -> None:
        """A stream that is closed gets a frame that it must not get (RFC 9113 section 5.1)."""
        self.spend_reset()
        self.remember(stream_id, BY_US)
        write_reset(self.writer(), stream_id, frames.STREAM_CLOSED)

    def _hold(self, stream: Http2Stream, data: bytes) -> None:
        """Keeps content for `flush_held`."""
        if self._held is stream and self._held_size + len(data) > HELD and self._held_size > 0:
            self.flush_held()
            if stream.is_closed:
                return
        if self._held is not stream or self._held_size == 0:
            self._held = stream
            self._held_data = data
        elif self._held_more is None:
            self._held_more = [self._held_data, data]
        else:
            self._held_more.append(data)
        self._held_size += len(data)

    def flush_held(self) -> None:
        """Passes on the content that is held."""
        stream = self._held
        if stream is None:
            return
        data = self._held_data
        if self._held_more is not None:
            data = b"".join(self._held_more)
            self._held_more = None
        self._held = None
        self._held_data = b""
        self._held_size = 0
        if stream.is_closed:
            return
        try:
            self.deliver(stream, data, stream.remote_ended)
        except BaseException as error:
            self.break_stream(stream, error)
        if stream.remote_ended:
            self.end_remote(stream)
        elif not stream.is_closed:
            self.return_credit(stream)

    def hold_head(self, stream: Http2Stream) -> None:
        """The content of `stream` may follow in the same read: `deliver` is called once that is known."""
        self._held = stream

    def end_remote(self, stream: Http2Stream) -> None:
        """The peer's side has ended, and the receiver knows."""
        stream.remote_ended = True
        if stream.is_sent and not stream.is_closed:
            self.close_stream(stream)

    def return_credit(self, stream: Http2Stream) -> None:
        """Opens the stream's window again, once half of it is used up, unless it is paused."""
        credit = i64(stream.credit)
        if stream.pauses == 0 and 2 * credit >= self.options.stream_window and not stream.remote_ended:
            stream.credit = 0
            stream.receive_window += i32(credit)
            write_window_update(self.writer(), i64(stream.id), credit)

    def pause(self, stream: Http2Stream) -> None:
        """Lets the peer send no more on this stream than its window. Counted."""
        if not stream.is_released:
            stream.pauses += 1

    def resume(self, stream: Http2Stream) -> None:
        """Reverts one pause."""
        if stream.pauses > 0:
            stream.pauses -= 1
            if stream.pauses == 0 and not stream.is_closed:
                self.return_credit(stream)

    # ---- the other frames

    def _on_headers(self) -> None:
        decoder = self.decoder
        stream = self.streams.get(int(decoder.stream_id))
        self.on_block(stream, decoder.stream_id, decoder.fragment, decoder.end)

    def _on_window_update(self) -> None:
        decoder = self.decoder
        stream_id = decoder.stream_id
        if not self.budget.take_update(self.read_at, self.data_sent):
            raise ProtocolError(WINDOW_UPDATE_FLOOD, "too many WINDOW_UPDATE frames")
        if stream_id == 0:
            if not self.widen_all(decoder.number):
                raise ProtocolError(HTTP2_FLOW_ERROR, "the connection's window is too large")
            return
        stream = self.streams.get(int(stream_id))
        if stream is None:
            if self.is_idle(stream_id):
                raise ProtocolError(HTTP2_ERROR, f"WINDOW_UPDATE on stream {stream_id}, which is idle")
        elif not self.widen(stream, decoder.number):
            self.fail_stream(stream, frames.FLOW_CONTROL_ERROR, "WINDOW_UPDATE makes a window too large")

    def _on_reset(self, stream_id: i64, code: i64) -> None:
        stream = self.streams.get(int(stream_id))
        if stream is None:
            if self.is_idle(stream_id):
                raise ProtocolError(HTTP2_ERROR, f"RST_STREAM on stream {stream_id}, which is idle")
            return
        if not stream.remote_ended:
            self.remember(stream_id, BY_PEER)
        failure = self.reset_failure(stream, code)
        stream.remote_ended = True
        self.close_stream(stream)
        if failure is not None:
            self.tell_reset(stream, failure)

    def _on_settings(self) -> None:
        decoder = self.decoder
        if decoder.is_ack:
            self.on_settings_ack()
            return
        if not self.budget.settings.take(self.read_at):
            raise ProtocolError(SETTINGS_FLOOD, "too many SETTINGS frames")
        peer = self.peer
        window = peer.window
        table_size = peer.table_size
        peer.apply(decoder.data, self.is_client)
        write_settings_ack(self.writer())
        if peer.least_table_size < min(table_size, peer.table_size):
            self.encoder.set_table_size(peer.least_table_size)
        if peer.table_size != table_size or peer.least_table_size != table_size:
            self.encoder.set_table_size(peer.table_size)
        if peer.window != window and not self.change_windows(peer.window - window):
            raise ProtocolError(HTTP2_FLOW_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large")
        self.on_settings()

    def _on_ping(self) -> None:
        decoder = self.decoder
        if decoder.is_ack:
            self.on_pong(decoder.data)
            return
        if not self.budget.take_ping(self.read_at, self.data_sent + self.data_received):
            raise ProtocolError(PING_FLOOD, "too many PING frames")
        write_ping(self.writer(), decoder.data, True)

    def _on_stream_error(self, stream_id: i64, code: i64, detail: str) -> None:
        stream = self.streams.get(int(stream_id))
        if stream is not None:
            self.fail_stream(stream, code, detail)
        elif self.is_idle(stream_id):  # which cannot be reset
            raise ProtocolError(HTTP2_FRAME_SIZE if code == frames.FRAME_SIZE_ERROR else HTTP2_ERROR, detail)
        else:
            self.spend_reset()

    # ---- streams that fail

    def spend_reset(self) -> None:
        """A stream was reset by the peer, or because of it. Raises ProtocolError if that was once too often.

        Not of a host: clients choose what it is asked, and one of them could end the requests of all others.
        """
        if not self.is_client and not self.budget.take_reset(self.read_at):
            raise ProtocolError(RESET_FLOOD, "too many streams were reset")

    def fail_stream(self, stream: Http2Stream, code: i64, detail: str) -> None:
        """The peer has violated the protocol on one stream: resets it. Raises ProtocolError if that was once too often.

        `detail`: the rule that it has broken.
        """
        self.broken_rule = detail
        self.reset_stream(stream, code)
        stream.remote_ended = True
        self.tell_reset(stream, BAD_RESPONSE if self.is_client else MALFORMED)
        self.spend_reset()

    def break_stream(self, stream: Http2Stream, error: BaseException) -> None:
        """A receiver has raised an exception: only its stream is reset."""
        report("a stream failed", error)
        self.reset_stream(stream, frames.INTERNAL_ERROR)
        self.tell_reset(stream, INTERNAL_ERROR)

    def tell_reset(self, stream: Http2Stream, failure: Failure) -> None:
        """Reports to the receiver that its message is broken."""
        stream.is_cut = True
        try:
            stream.receiver.on_reset(failure)
        except BaseException as error:
            report("a stream failed", error)
