"""The client half of an HTTP/2 connection: the requests of many exchanges, each on a stream of its own.

A stream is counted against the host's limit from `open` on, and gets its id when its request is sent: ids must be used in
order. Until the host's SETTINGS arrive it may have INITIAL_STREAMS, or fewer if the host has allowed fewer before.

Requests that the host has not processed fail with a failure of `proxy.attempts.UNPROCESSED`, and are sent again: streams
above the last one that a GOAWAY names, streams that are refused, and requests that were given to a connection which is gone.

When the response has ended before the request, the rest of the request is not sent; the stream is reset with NO_ERROR.

A request that is cancelled is reset at once, while its host may still be working on it. Such streams are counted as open
until the host has answered a PING that followed the reset, so that a client who cancels rapidly cannot make us exceed the
host's limit. gRPC servers count PINGs that no response has followed, so there is no second one before the next response.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i32, i64, mypyc_attr

from pymosn.api.grpc import GrpcRequest
from pymosn.api.http import HttpResponse
from pymosn.api.network import Connection
from pymosn.api.protocol import ProtocolError
from pymosn.api.stream import RequestSender, ResponseReceiver
from pymosn.core.failure import (
    BAD_RESPONSE,
    GOAWAY_UNPROCESSED,
    HTTP1_HOST,
    HTTP2_ERROR,
    KEEPALIVE_TIMEOUT,
    PROTOCOL_MISMATCH,
    RESET_AFTER_RESPONSE,
    Failure,
    reset_of,
)
from pymosn.core.headers import Headers
from pymosn.core.message import CONNECT, CONNECT_HERE, UNKNOWN_LENGTH, RequestHead
from pymosn.core.timers import NEVER
from pymosn.protocol.http2 import frames
from pymosn.protocol.http2.frames import ENABLE_PUSH, LARGEST_STREAM_ID, PREFACE
from pymosn.protocol.http2.response import ResponseHeads
from pymosn.protocol.http2.writer import write_goaway, write_ping
from pymosn.stream.http.websocket import accept_for, add_accept, without_key
from pymosn.stream.http2.budget import CANCEL_RATE, CANCELS, RESET_COST, Allowance
from pymosn.stream.http2.client_owner import NO_OWNER, ClientOwner
from pymosn.stream.http2.codes import failure_of
from pymosn.stream.http2.connection import Http2Connection
from pymosn.stream.http2.options import ConnectionOptions
from pymosn.stream.http2.sending import BY_US
from pymosn.stream.http2.stream import NO_RECEIVER, Http2Stream

PROTOCOL: Final = "Http2"
#: The protocol for hosts that do not speak HTTP/2.
FALL_BACK: Final = "Http1"
#: Streams before the host has announced how many it allows (RFC 9113 section 6.5.2 recommends that it allows as many).
INITIAL_STREAMS: Final[i64] = 100
#: The payload of a PING that follows a reset.
RESET_PING: Final = b"is reset"


class ClientConnection(Http2Connection):
    """One upstream connection. The module's docstring describes it."""

    def __init__(self, owner: ClientOwner, options: ConnectionOptions, idle_timeout: float) -> None:
        """`idle_timeout`: seconds without a stream, 0 for no limit."""
        super().__init__(options, True)
        self._owner = owner
        self._idle_timeout = idle_timeout
        self._heads = ResponseHeads(options.limits, options.header_table_size)
        #: Streams that are open or about to be.
        self.active: i64 = 0
        #: Whether the host accepts no more streams; and whether its SETTINGS have arrived.
        self.has_goaway = False
        self.has_settings = False
        #: Whether the connection is gone.
        self.is_lost = False
        #: Streams that the host is expected to allow, until its SETTINGS arrive.
        self.expected_streams: i64 = INITIAL_STREAMS
        #: Whether the host may not have got the last bytes of a tunnel yet.
        self.has_tail = False
        self._next_id: i64 = 1
        # Streams that were reset but may still be open for the host, until a PING is answered; whether none may be sent.
        self._pending_resets: i64 = 0
        self._is_ping_spent = False
        self._cancels = Allowance(CANCELS, CANCEL_RATE)
        # A response that has not been passed on yet: some of its content may be in the same read.
        self._response: HttpResponse | None = None
        self._response_stream: Http2Stream | None = None
        # Requests for tunnels that wait for the host's SETTINGS.
        self._held_tunnels: dict[Http2Stream, RequestHead] = {}

    # ---- called by the pool

    def open(self, connection: Connection) -> None:
        """The connection is open."""
        self.encoder.scheme = connection.scheme
        self.begin(connection, PREFACE + self.options.preface([(ENABLE_PUSH, 0)]))
        self._note_idle()

    def last_peer_id(self) -> i64:
        return 0  # hosts open no streams

    def limit(self) -> i64:
        """How many streams the host allows at once."""
        return self.peer.max_streams if self.has_settings else self.expected_streams

    def has_free_stream(self) -> bool:
        """Whether another stream may be opened, as far as the host's limit is concerned."""
        if self.has_goaway or self.is_broken or self.is_used_up():
            return False
        return self.active + self._pending_resets < self.limit() and not self._is_suspect()

    def is_used_up(self) -> bool:
        """Whether no ids are left for further streams."""
        return self._next_id > LARGEST_STREAM_ID - 2 * self.active

    def _is_suspect(self) -> bool:
        """Whether a PING has been unanswered for half of its time, so that the connection may be dead."""
        pinged = self._pinged_at
        if pinged >= NEVER or self.read_at >= pinged:
            return False
        return self.connection.now() - pinged > self.options.keepalive_timeout / 2.0

    def open_stream(self, receiver: ResponseReceiver, is_reused: bool) -> Http2ClientStream:
        """A stream for one request. `is_reused`: the host may have been closing the connection."""
        stream = Http2Stream(0, self.options.stream_window)
        stream.receiver = receiver
        stream.awaits_head = True
        self.active += 1
        self.idle_at = NEVER
        return Http2ClientStream(self, stream, is_reused)

    def send_goaway(self) -> None:
        """The last stream has ended, and the connection will be closed."""
        write_goaway(self.connection.batch_writer(), 0, frames.NO_ERROR, b"")

    def on_lost(self, failure: Failure) -> None:
        """The connection is gone."""
        self.is_lost = True
        self.has_goaway = True
        held = self._held_tunnels
        self._held_tunnels = {}
        for stream in held:
            self._fail_unsent(stream, reset_of(failure, False))
        self.on_close(failure)
        self.active = 0
        # It refers to this object: without this only the garbage collector would free the two.
        self._owner = NO_OWNER

    # ---- called by streams

    def send_request(self, stream: Http2Stream, head: RequestHead, data: bytes, end: bool) -> None:
        """Opens `stream` with a request."""
        if stream.is_closed or stream.id > 0:
            return
        tunnel = head.raw_tunnel
        if self.has_goaway or self.is_broken or self.connection.is_closed:
            self._fail_unsent(stream, GOAWAY_UNPROCESSED)
            return
        if len(tunnel) > 0:
            stream.rare().tunnel = tunnel
            if tunnel == CONNECT_HERE:
                self._fail_unsent(stream, PROTOCOL_MISMATCH)
                return
            if tunnel != CONNECT and not self.has_settings:
                self._held_tunnels[stream] = head
                return
            if tunnel != CONNECT and not self.peer.has_connect:
                stream.needs_http1 = True
                self._fail_unsent(stream, HTTP1_HOST)
                return
            stream.rare().accept = accept_for(head)
        stream.id = i32(self._next_id)
        self._next_id += 2
        self.last_id = i64(stream.id)
        stream.send_window = i32(self.peer.window)
        stream.is_to_head = head.raw_method == b"HEAD"
        stream.active_at = self.read_at
        self.streams[int(stream.id)] = stream
        self.budget.on_stream()
        # The end of a gRPC request without messages is an empty DATA frame: servers may wait for it ("Requests" in gRPC's
        # "gRPC over HTTP2").
        ends = end and len(data) == 0 and len(tunnel) == 0 and not isinstance(head, GrpcRequest)
        self.send_head(stream, self.encoder.request(without_key(head) if len(tunnel) > 0 else head), ends)
        if not ends and len(tunnel) == 0 and (end or len(data) > 0):
            self.send_data(stream, data, end)

    def _fail_unsent(self, stream: Http2Stream, failure: Failure) -> None:
        """`stream` will not be opened."""
        if not stream.is_closed:
            self._drop_unsent(stream)
            self.tell_reset(stream, failure)

    def _drop_unsent(self, stream: Http2Stream) -> None:
        """Closes a stream that was never opened."""
        stream.is_closed = True
        stream.local_ended = True
        self.active -= 1
        if self.active == 0 and not self.connection.is_closed:
            self.on_quiet()
        self._on_fewer()

    def cancel(self, stream: Http2Stream) -> None:
        """The response is not needed any more, or the tunnel has ended."""
        stream.receiver = NO_RECEIVER
        if stream.is_closed:
            return
        if stream.is_tunnel and stream.local_ended and stream.remote_ended:
            self.has_tail = True
            self.release(stream)  # its last bytes wait for the host
            return
        if stream.id > 0:
            is_spent = stream.awaits_head and not self._cancels.take(self.connection.now(), RESET_COST)
            self.reset_stream(stream, frames.CANCEL)
            self._note_reset()
            if is_spent:
                self._owner.on_worn()
            return
        self._held_tunnels.pop(stream, None)
        self._drop_unsent(stream)

    def _note_reset(self) -> None:
        """A stream was reset that the host may be working on."""
        if self._is_ping_spent or self.connection.is_closed:
            return
        if self._pending_resets == 0:
            write_ping(self.writer(), RESET_PING, False)
        self._pending_resets += 1

    def on_pong(self, data: bytes) -> None:
        if data == RESET_PING:
            self._pending_resets = 0
            self._is_ping_spent = True
            self._owner.on_free_stream()

    # ---- times

    def _note_idle(self) -> None:
        if self._idle_timeout > 0.0:
            self.idle_at = self.connection.now() + self._idle_timeout
            self.wake_at(self.idle_at)

    def watch(self, now: float) -> None:
        super().watch(now)
        if now >= self.idle_at:
            self.idle_at = NEVER
            if self.active == 0:
                self._owner.on_idle_too_long()

    # ---- frames

    def on_settings(self) -> None:
        self.has_settings = True
        held = self._held_tunnels
        if held:
            self._held_tunnels = {}
            for stream, head in held.items():
                self.send_request(stream, head, b"", True)
        self._owner.on_free_stream()

    def on_goaway(self, last_id: i64, code: i64, debug: bytes) -> None:
        self.has_goaway = True
        if code == frames.HTTP_1_1_REQUIRED:
            self._owner.on_http1()
        self._owner.on_end()
        for stream in list(self.streams.values()):
            if i64(stream.id) > last_id:
                stream.remote_ended = True
                self.close_stream(stream)
                self.tell_reset(stream, RESET_AFTER_RESPONSE if not stream.awaits_head else GOAWAY_UNPROCESSED)

    def on_block(self, stream: Http2Stream | None, stream_id: i64, fragment: bytes, end: bool) -> None:
        self._is_ping_spent = False
        heads = self._heads
        if stream is None:
            heads.decode_trailers(fragment)  # its table must follow the host's
            if self.is_idle(stream_id):
                raise ProtocolError(HTTP2_ERROR, f"HEADERS on stream {stream_id}, which is idle")
            if self.reset_by(stream_id) != BY_US:
                self.reset_late(stream_id)
            return
        if not stream.awaits_head:
            self._on_trailers(stream, fragment, end)
            return
        fault = heads.decode(fragment, end, stream.is_to_head, stream.tunnel(), i64(stream.interims))
        if fault is not None:
            self.fail_stream(stream, frames.PROTOCOL_ERROR, heads.detail)
            return
        head = heads.head
        if head.status < 200 and len(head.raw_tunnel) == 0:
            stream.interims += 1
            receiver = stream.receiver
            if isinstance(receiver, ResponseReceiver):
                receiver.on_informational(head)
            return
        stream.awaits_head = False
        if len(head.raw_tunnel) > 0:
            stream.is_tunnel = True
            add_accept(head, stream.rare().accept)
        else:
            has_content = not stream.is_to_head and head.status != 204 and head.status != 304
            stream.content_length = head.content_length if has_content else 0
            if len(stream.tunnel()) > 0 and not end:
                self.send_data(stream, b"", True)  # no tunnel, and the request has no content
        self._response = head
        self._response_stream = stream
        self.hold_head(stream)
        if end:
            stream.remote_ended = True
            self.flush_held()

    def deliver(self, stream: Http2Stream, data: bytes, end: bool) -> None:
        head = self._response
        if head is not None and self._response_stream is stream:
            self._response = None
            self._response_stream = None
            receiver = stream.receiver
            if isinstance(receiver, ResponseReceiver):
                receiver.on_response(head, data, end and not stream.is_tunnel)
                if end and stream.is_tunnel:
                    stream.receiver.on_data(b"", True)
        else:
            self._is_ping_spent = False
            super().deliver(stream, data, end)

    def _on_trailers(self, stream: Http2Stream, fragment: bytes, end: bool) -> None:
        fault = self._heads.decode_trailers(fragment)
        if stream.remote_ended:
            self.fail_stream(stream, frames.STREAM_CLOSED, "HEADERS after the end of the stream")
            return
        is_short = stream.content_length != UNKNOWN_LENGTH and stream.received != stream.content_length
        if fault is not None or not end or stream.is_tunnel or is_short:
            detail = "content does not have the length of content-length" if is_short else "trailers that are malformed"
            self.fail_stream(stream, frames.PROTOCOL_ERROR, detail)
            return
        trailers = self._heads.trailers
        stream.remote_ended = True
        try:
            if trailers is None:
                stream.receiver.on_data(b"", True)
            else:
                stream.receiver.on_trailers(trailers)
        except BaseException as error:
            self.break_stream(stream, error)
        self.end_remote(stream)

    # ---- the end of streams

    def end_remote(self, stream: Http2Stream) -> None:
        stream.remote_ended = True
        if not stream.is_tunnel:
            # The receiver refers to its stream: without this only the garbage collector would free the two.
            stream.receiver = NO_RECEIVER
            if not stream.is_sent:
                self.reset_stream(stream, frames.NO_ERROR)
        super().end_remote(stream)

    def on_stream_end(self, stream: Http2Stream) -> None:
        self.active -= 1
        if not stream.awaits_head:
            self._cancels.earn(1)
        super().on_stream_end(stream)
        self._on_fewer()

    def on_quiet(self) -> None:
        self._note_idle()

    def _on_fewer(self) -> None:
        if not self.is_broken:
            self._owner.on_free_stream()

    def reset_failure(self, stream: Http2Stream, code: i64) -> Failure | None:
        if stream.remote_ended and not stream.is_tunnel:
            return None  # the response is complete
        if code == frames.HTTP_1_1_REQUIRED and stream.awaits_head:
            stream.needs_http1 = True
        return failure_of(code, not stream.awaits_head)

    def loss_of(self, stream: Http2Stream, failure: Failure) -> Failure:
        if not stream.awaits_head:
            return RESET_AFTER_RESPONSE
        if failure is KEEPALIVE_TIMEOUT or failure is HTTP1_HOST:
            return failure
        return BAD_RESPONSE if self.is_broken else reset_of(failure, False)

    def tell_reset(self, stream: Http2Stream, failure: Failure) -> None:
        super().tell_reset(stream, failure)
        stream.receiver = NO_RECEIVER

    def on_broken(self, failure: Failure, detail: str) -> None:
        self.broken_rule = detail
        self._owner.on_lost()
        self.on_lost(failure)


@mypyc_attr(free_list_len=1)
class Http2ClientStream(RequestSender):
    """Sends one request."""

    def __init__(self, client: ClientConnection, stream: Http2Stream, is_reused: bool) -> None:
        self._client = client
        self._stream = stream
        self._is_reused = is_reused

    def connection(self) -> Connection:
        return self._client.connection

    def protocol(self) -> str:
        return PROTOCOL

    def is_reused(self) -> bool:
        return self._is_reused and self._stream.awaits_head and self._stream.interims == 0

    def may_be_refused(self) -> bool:
        return True

    def outlives_reset(self) -> bool:
        return not self._client.is_lost

    def instead(self) -> str:
        return FALL_BACK if self._stream.needs_http1 else ""

    def fault(self) -> str:
        return self._client.broken_rule

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self._client.send_request(self._stream, head, data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        stream = self._stream
        if stream.rarities is None or len(stream.tunnel()) == 0 or stream.is_tunnel:
            self._client.send_data(stream, data, end)

    def send_trailers(self, trailers: Headers) -> None:
        self._client.send_trailers(self._stream, trailers)

    def pause(self) -> None:
        self._client.pause(self._stream)

    def resume(self) -> None:
        self._client.resume(self._stream)

    def cancel(self) -> None:
        self._client.cancel(self._stream)
