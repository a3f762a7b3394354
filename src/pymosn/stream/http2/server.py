"""The server half of an HTTP/2 connection: requests become exchanges, which answer through their streams.

A request is passed on with the next frame that belongs to something else, or at the end of what was read: with the content
that has arrived by then, and not at all if it was reset in the same read, so that a rapid reset costs no host anything. A
refused request is an exchange too: it is answered, or reset if it is malformed. So is an error of the whole connection, so
that it is counted and logged.

The content of a request is awaited for `body_timeout`, unless its response has begun or it is gRPC: clients of
bidirectional streams may be silent. The exchange has a time limit of its own.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i32, i64

from pymosn.api.grpc import GrpcRequest
from pymosn.api.http import HttpRequest
from pymosn.api.network import DRAIN_GRACE, Connection
from pymosn.api.protocol import ProtocolError
from pymosn.api.stream import StreamHandler
from pymosn.core.chunks import append_chunk
from pymosn.core.failure import (
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    DRAINING,
    HEADERS_TOO_LARGE,
    HEADS_FULL,
    HTTP2_ERROR,
    HTTP2_STREAM_CLOSED,
    IDLE_TIMEOUT,
    KEEPALIVE_TIMEOUT,
    MALFORMED,
    MAX_AGE,
    REQUEST_TIMEOUT,
    TARGET_TOO_LONG,
    TLS_BROKEN,
    TLS_TRUNCATED,
    TOO_MANY_STREAMS,
    TRUNCATED_BODY,
    TRUNCATED_HEAD,
    UNKNOWN_PROTOCOL,
    Failure,
)
from pymosn.core.message import UNKNOWN_LENGTH
from pymosn.core.timers import NEVER
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.frames import DEFAULT_WINDOW, LARGEST_STREAM_ID
from pymosn.protocol.http2.request import RequestHeads
from pymosn.protocol.http2.writer import write_reset
from pymosn.stream.http.websocket import add_key
from pymosn.stream.http2.budget import LASTING
from pymosn.stream.http2.connection import Http2Connection
from pymosn.stream.http2.options import Http2Options
from pymosn.stream.http2.sending import BY_PEER, BY_US
from pymosn.stream.http2.server_stream import Http2ServerStream, NoRequest, NoStream
from pymosn.stream.http2.stream import Http2Stream

#: Stream ids that are left when the client is asked to open another connection.
SPARE_IDS: Final[i64] = 1 << 16
#: Streams beyond the maximum that a client may open before it has acknowledged our settings.
UNKNOWN_LIMIT: Final[i64] = 1000


class ServerConnection(Http2Connection):
    """One downstream connection. The module's docstring describes it."""

    def __init__(self, handler: StreamHandler, options: Http2Options) -> None:
        super().__init__(options, False)
        self._handler = handler
        self._preface = options.server_preface
        self._http = http = options.http
        self._heads = RequestHeads(http.limits, http.policy, http.connect, options.header_table_size)
        self._requests: i64 = 0
        # A request that has not been passed on yet: more of it may be in the same read.
        self._starting: Http2ServerStream | None = None
        self._starting_head: HttpRequest | None = None
        # The last gap in the ids of the client's streams.
        self._gap_start: i64 = 0
        self._gap_end: i64 = 0
        self._refused: i64 = 0
        # Bytes of an incomplete head that are counted in the worker's overload state.
        self._head_size: i64 = 0
        self._head_at: float = NEVER
        self._eof_at: float = NEVER
        self._body_at: float = NEVER
        # When a new client is asked to leave at the latest, because the listener drains.
        self._leaves_at: float = NEVER

    # ---- called by the filter

    def open(self, connection: Connection) -> None:
        """The connection is open."""
        self._heads.scheme = connection.scheme
        self.begin(connection, self._preface)
        self.on_quiet()

    def drain(self) -> None:
        """The listener drains. A new client is asked to leave when it has sent its first request.

        On a GOAWAY before that, clients of gRPC connect again, and so on for as long as the listener drains.
        """
        if self.last_id > 0 or self.is_settled():
            self.shut_down()
        else:
            self._leaves_at = self.connection.now() + DRAIN_GRACE
            self.wake_at(self._leaves_at)

    def on_bytes(self, data: bytes) -> None:
        """Bytes have arrived."""
        self.receive(data)
        if self.is_broken:
            self._drop_requests()
        if self.is_broken or self.connection.is_closed:
            return
        self._count_head(self.decoder.head_size())
        if not self.decoder.awaits_head():
            self._head_at = NEVER
        elif 0 < self._http.overload.max_head_bytes < self._http.overload.head_bytes:
            self.break_off(HEADS_FULL, "")
        elif self._head_at == NEVER and self._http.header_timeout > 0.0:
            self._head_at = self.read_at + self._http.header_timeout
            self.wake_at(self._head_at)

    def _count_head(self, size: i64) -> None:
        if size != self._head_size:
            self._http.overload.head_bytes += size - self._head_size
            self._head_size = size

    def _drop_requests(self) -> None:
        """The connection is broken: ends its requests now, not when the client has left."""
        self._starting = None
        self._starting_head = None
        self.on_close(CLIENT_GONE)

    def on_alarm(self) -> None:
        super().on_alarm()
        if self.is_broken:
            self._drop_requests()

    def on_eof(self) -> None:
        """The client has closed its side."""
        self.has_eof = True
        if self.decoder.awaits_head():
            self._record(TRUNCATED_HEAD, "")
        for stream in list(self.streams.values()):
            if not stream.remote_ended:
                stream.remote_ended = True
                if stream.is_tunnel and stream.early() is None:
                    stream.receiver.on_data(b"", True)
                    self.end_remote(stream)
                else:
                    self.tell_reset(stream, TRUNCATED_BODY)
        if not self.streams:
            self.connection.close(CLOSED_LOCALLY)
        else:
            self._await_responses(self.connection.now())

    def on_lost(self, failure: Failure) -> None:
        """The connection is gone."""
        self._count_head(0)
        if failure is KEEPALIVE_TIMEOUT or failure is MAX_AGE:
            self._handler.on_unexpected_message(failure)
        is_cut = failure is CLOSED_BY_PEER or failure is TLS_TRUNCATED
        if is_cut and not self.has_eof and not self.is_broken and self.decoder.awaits_head():
            self._record(CLIENT_GONE, "")
        self._starting = None
        self._starting_head = None
        is_told = failure is CLIENT_WRITE_TIMEOUT or failure is TLS_TRUNCATED or failure is TLS_BROKEN
        self.on_close(failure if is_told or failure is DRAINING else CLIENT_GONE)

    def loss_of(self, stream: Http2Stream, failure: Failure) -> Failure:
        return CLIENT_GONE if failure is DRAINING and not stream.is_answered else failure

    # ---- heads

    def on_block(self, stream: Http2Stream | None, stream_id: i64, fragment: bytes, end: bool) -> None:
        if stream is not None:
            self._on_trailers(stream, fragment, end)
            return
        if stream_id & 1 == 0:
            raise ProtocolError(HTTP2_ERROR, f"a client cannot open stream {stream_id}")
        if stream_id <= self.last_id:
            self._on_late_block(stream_id, fragment)
            return
        if stream_id > self.last_id + 2:
            self._gap_start = self.last_id + 1
            self._gap_end = stream_id - 1
        self.last_id = stream_id
        failure = self._heads.decode(fragment, end)
        if self.is_ending:
            self.remember(stream_id, BY_US)  # the second GOAWAY excludes it
            self.spend_ignored()
        elif len(self.streams) >= self.options.max_concurrent_streams:
            self._refuse_stream(stream_id)
        else:
            self._open_stream(stream_id, end, failure)

    def _refuse_stream(self, stream_id: i64) -> None:
        receiver = self._handler.new_stream(NoStream(self.connection))
        receiver.on_refused(self._heads.head, TOO_MANY_STREAMS)
        self.remember(stream_id, BY_US)
        write_reset(self.writer(), stream_id, frames.REFUSED_STREAM)
        self._refused += 1
        # Before it has acknowledged our settings, a client may not know the limit; but it may not delay that for ever.
        if self._refused > UNKNOWN_LIMIT or self.is_settled():
            self.spend_reset()

    def _on_late_block(self, stream_id: i64, fragment: bytes) -> None:
        """A header block for a stream that is closed."""
        self._heads.decode_trailers(fragment)
        by = self.reset_by(stream_id)
        if by == BY_US:
            self.spend_ignored()
        elif by == BY_PEER:
            self.reset_late(stream_id)
        elif self._gap_start <= stream_id <= self._gap_end:
            raise ProtocolError(HTTP2_ERROR, f"stream {stream_id} is opened after a later one")
        else:
            raise ProtocolError(HTTP2_STREAM_CLOSED, f"HEADERS on stream {stream_id}, which is closed")

    def _open_stream(self, stream_id: i64, end: bool, failure: Failure | None) -> None:
        head = self._heads.head
        http = self._http
        window = self.options.stream_window
        if window < DEFAULT_WINDOW and not self.is_settled():
            window = DEFAULT_WINDOW  # the client may not know ours yet
        stream = Http2ServerStream(self, self.peer.window, window)
        stream.id = i32(stream_id)
        stream.remote_ended = end
        stream.opened_at = self.read_at
        stream.active_at = self.read_at
        self.streams[int(stream_id)] = stream
        self.idle_at = NEVER
        self.budget.on_stream()
        stream.is_to_head = head.raw_method == b"HEAD"
        self._starting = stream
        self._starting_head = head
        self._requests += 1
        is_last = self._requests == http.max_requests or stream_id > LARGEST_STREAM_ID - SPARE_IDS
        if is_last or self._leaves_at < NEVER:
            self.shut_down()
        if self.decoder.is_self_dependent:
            self.fail_stream(stream, frames.PROTOCOL_ERROR, "a stream that depends on itself")
            return
        if failure is None and len(head.raw_tunnel) > 0:
            failure = self._check_tunnel(stream, head)
        elif failure is None and end and head.content_length > 0:
            failure = MALFORMED
            self._heads.is_malformed = True
        if failure is not None:
            stream.is_malformed = self._heads.is_malformed
            self._refuse(failure)
            if stream.is_malformed or failure is HEADERS_TOO_LARGE or failure is TARGET_TOO_LONG:
                self.spend_reset()  # its fields have cost more than those of many requests
            return
        if not stream.is_tunnel:
            stream.content_length = head.content_length
        self.hold_head(stream)
        if stream.is_tunnel:
            self.flush_held()
        elif not end and http.body_timeout > 0.0:
            stream.is_timed = not isinstance(head, GrpcRequest)
            if stream.is_timed:
                self._await_body(self.read_at + http.body_timeout)

    def _check_tunnel(self, stream: Http2Stream, head: HttpRequest) -> Failure | None:
        """Prepares a stream for its tunnel, or returns why there will be none."""
        http = self._http
        if head.raw_tunnel != http.connect and head.raw_tunnel not in http.upgrades:
            self._heads.is_malformed = not http.upgrades  # then we have not announced extended CONNECT
            return MALFORMED if self._heads.is_malformed else UNKNOWN_PROTOCOL
        add_key(head)
        stream.is_tunnel = True
        stream.rare().early = []
        stream.pauses = 1
        stream.content_length = UNKNOWN_LENGTH
        return None

    def _refuse(self, failure: Failure) -> None:
        """Makes an exchange of the request that is starting, which answers, counts and logs the refusal."""
        stream = self._starting
        head = self._starting_head
        assert stream is not None
        assert head is not None
        self._starting = None
        self._starting_head = None
        stream.is_cut = True
        receiver = self._handler.new_stream(stream)
        stream.receiver = receiver
        receiver.on_refused(head, failure)

    def deliver(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        if stream.is_cut:
            return
        if 0 < self._http.limits.body < stream.received and not stream.is_tunnel:
            self.tell_reset(stream, BODY_TOO_LARGE)
            return
        head = self._starting_head
        if head is not None:
            starting = self._starting
            assert starting is not None
            self._starting = None
            self._starting_head = None
            receiver = self._handler.new_stream(starting)
            stream.receiver = receiver
            receiver.on_request(head, data, end or stream.is_tunnel)
        elif end or len(data) > 0:
            early = stream.early()
            if early is None:
                stream.receiver.on_data(data, end)
            elif len(data) > 0:
                append_chunk(early, data)

    def is_unstarted(self, stream: Http2Stream) -> bool:
        return self._starting is stream

    def tell_reset(self, stream: Http2Stream, failure: Failure) -> None:
        if self._starting is stream:
            self._refuse(failure)
        else:
            super().tell_reset(stream, failure)

    def _on_trailers(self, stream: Http2Stream, fragment: bytes, end: bool) -> None:
        heads = self._heads
        failure = heads.decode_trailers(fragment)
        length = stream.content_length
        if stream.remote_ended:
            self.fail_stream(stream, frames.STREAM_CLOSED, "HEADERS after the end of the stream")
        elif not end or stream.is_tunnel or 0 <= length != stream.received or (failure is not None and heads.is_malformed):
            self.fail_stream(stream, frames.PROTOCOL_ERROR, "trailers that are malformed, or too little content")
        elif failure is not None:
            stream.remote_ended = True
            self.tell_reset(stream, failure)
            self.end_remote(stream)
            self.spend_reset()
        else:
            stream.remote_ended = True
            try:
                trailers = heads.trailers
                if trailers is None:
                    self.deliver(stream, b"", True)
                elif not stream.is_cut:
                    stream.receiver.on_trailers(trailers)
            except BaseException as error:
                self.break_stream(stream, error)
            self.end_remote(stream)

    def reset_failure(self, stream: Http2Stream, code: i64) -> Failure | None:
        assert isinstance(stream, Http2ServerStream)
        if not (stream.is_answered or self.read_at >= stream.opened_at + LASTING):
            self.spend_reset()
        return CLIENT_GONE

    # ---- times

    def on_quiet(self) -> None:
        timeout = self._http.idle_timeout
        if timeout > 0.0:
            self.idle_at = self.connection.now() + timeout
            self.wake_at(self.idle_at)

    def next_time(self) -> float:
        return min(min(self._head_at, self._leaves_at), min(self._eof_at, self._body_at))

    def watch(self, now: float) -> None:
        super().watch(now)
        if now >= self._head_at:
            self._head_at = NEVER
            self.break_off(REQUEST_TIMEOUT, "a head is incomplete")
        if now >= self.idle_at:
            self.idle_at = NEVER
            self._end_idle()
        if now >= self._eof_at:
            self._eof_at = NEVER
            self._end_unread(now)
        if now >= self._body_at:
            self._body_at = NEVER
            self._check_bodies(now)
        if now >= self._leaves_at:
            self._leaves_at = NEVER
            self.shut_down()

    def _end_unread(self, now: float) -> None:
        """The client has closed its side some time ago: ends what has not begun, and what waits for windows in vain."""
        for stream in list(self.streams.values()):
            is_blocked = stream.unsent > 0 and (stream.send_window <= 0 or self.send_window <= 0)
            if stream.is_released:
                if is_blocked:
                    self.reset_stream(stream, frames.CANCEL)
            elif is_blocked or not stream.is_answered:
                self.tell_reset(stream, CLIENT_GONE)
        if self.streams:
            self._await_responses(now)

    def _await_responses(self, now: float) -> None:
        """The client has closed its side: limits the time until responses begin.

        From then on it is checked at the same interval whether they still leave: the client opens no more windows.
        """
        self._eof_at = now + self._http.half_close_timeout if self._http.half_close_timeout > 0.0 else NEVER
        if self._eof_at < NEVER:
            self.wake_at(self._eof_at)

    def _end_idle(self) -> None:
        """The connection was idle for too long."""
        self.end_reason = IDLE_TIMEOUT
        if self.is_settled():
            self.shut_down()
        else:
            self.connection.close(IDLE_TIMEOUT)  # a client that has sent nothing at all

    def _await_body(self, moment: float) -> None:
        if moment < self._body_at:
            self._body_at = moment
            self.wake_at(moment)

    def _check_bodies(self, now: float) -> None:
        """Ends streams whose content is late."""
        timeout = self._http.body_timeout
        for stream in list(self.streams.values()):
            if stream.is_timed and not (stream.remote_ended or stream.is_answered or stream.is_cut or stream.is_released):
                if stream.pauses > 0:
                    stream.active_at = now  # the silence is due to our own pause
                    stream.rare().slice_end = 0.0
                if now >= stream.active_at + timeout:
                    self.tell_reset(stream, REQUEST_TIMEOUT)
                elif self._is_too_slow(stream, now):
                    self.tell_reset(stream, BODY_TOO_SLOW)
                else:
                    self._await_body(stream.active_at + timeout)

    def _is_too_slow(self, stream: Http2Stream, now: float) -> bool:
        """Whether less of the content arrived in the last `body_timeout` than `body_min_rate` requires."""
        rate = self._http.body_min_rate
        timeout = self._http.body_timeout
        if rate == 0.0 or stream.pauses > 0:
            return False
        rarities = stream.rare()
        if now >= rarities.slice_end:
            if rarities.slice_end > 0.0 and stream.received < rarities.slice_goal:
                return True
            rarities.slice_end = now + timeout
            rarities.slice_goal = stream.received + i64(rate * timeout)
        self._await_body(rarities.slice_end)
        return False

    # ---- errors of the connection

    def on_broken(self, failure: Failure, detail: str) -> None:
        self._count_head(0)
        self._record(failure, detail)

    def _record(self, failure: Failure, detail: str) -> None:
        """Makes an exchange for something that is not a request, so that it is counted and logged."""
        receiver = self._handler.new_stream(NoStream(self.connection))
        receiver.on_refused(NoRequest(detail), failure)
