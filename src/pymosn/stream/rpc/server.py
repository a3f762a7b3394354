"""The server half of an RPC connection: many requests at once, responses in any order.

`RpcServer` makes an `RpcServerStream` for each request frame. A frame is a whole message, so a stream either waits for its
response or `_is_done`: the response was sent, the client is gone, or the request was one-way. It stays in `_streams` until
the exchange releases it, since the client must not use its id for another request before that.

No stream waits for another one, so back-pressure cannot be applied per stream. Instead the connection as a whole is bounded:

    too many requests in flight, or too many of their bytes       the client is not read (`_is_paused`) until some are done
    the client does not read its responses                        no further request is decoded (`_is_full`), responses in
                                                                  flight are buffered up to MAX_UNSENT, then it is aborted

`_is_broken` means that a frame was invalid or incomplete: nothing more is decoded, and the connection closes. After a
half-close (`_has_eof`), requests in flight have `half_close_timeout`. While draining, the connection closes once nothing is
in flight and DRAIN_GRACE has passed. `_pulling` keeps an exchange that answers at once from entering `_pull` again.

A connection that is to move to another process (docs/upgrade.md) is paused and offered when nothing is in
flight. One that never is idle is paused for a while by `hold`, so that its requests in flight end.
"""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import DRAIN_GRACE, MAX_CARRIED, NO_CONNECTION, STOP, Connection, Passage, elapsed
from pymosn.api.protocol import (
    HEARTBEAT,
    LARGE_REQUEST,
    LARGE_RESPONSE,
    NEED_MORE,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    ProtocolError,
)
from pymosn.api.rpc import RpcHeaders, RpcRequest, RpcResponse, RpcSpec
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams, StreamHandler
from pymosn.core.errors import is_a
from pymosn.core.failure import (
    BAD_FRAME,
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    FRAME_TOO_LARGE,
    IDLE_TIMEOUT,
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
    TLS_TRUNCATED,
    TRUNCATED_FRAME,
    UNASKED_REPLY,
    Failure,
)
from pymosn.core.foreign import report
from pymosn.core.headers import HeaderError, Headers, headers_from
from pymosn.core.message import ResponseHead
from pymosn.stream.rpc.options import MAX_STREAM_BYTES, MAX_STREAMS, MAX_UNSENT, YIELD_SIZE, RpcOptions


class RpcServer(ServerStreams):
    """One downstream connection. The module's docstring describes its states."""

    def __init__(self, spec: RpcSpec, handler: StreamHandler, options: RpcOptions) -> None:
        self._spec = spec
        self._handler = handler
        self._options = options
        self._decoder = spec.decoder(options.max_frame)
        self._connection: Connection = NO_CONNECTION
        # By a number of their own: the client may use an id twice, and gets both responses. One-way requests are only
        # counted.
        self._streams: dict[int, RpcServerStream] = {}
        self._last: i64 = 0
        self._active: i64 = 0
        self._active_bytes: i64 = 0
        self._unsent: i64 = 0
        self._pulling = False
        self._is_paused = False
        self._is_full = False
        self._is_broken = False
        self._has_eof = False
        self._is_draining = False
        self._is_held = False
        # Whether something happens when nothing is in flight: it closes, or moves.
        self._is_ending = False

    # ---- called by the connection

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_idle(self._options.idle_timeout)

    def on_data(self, data: bytes) -> bool:
        self._decoder.feed(data)
        self._pull()
        self._set_idle()
        if len(data) >= YIELD_SIZE:
            self._connection.yield_reading()
        return STOP

    def on_eof(self) -> None:
        self._has_eof = True
        self._is_ending = True
        self._check_truncation()
        if self._active == 0:
            self._connection.close(CLOSED_LOCALLY)
        else:
            self._connection.set_idle(self._options.half_close_timeout)

    def on_writable(self, writable: bool) -> None:
        self._is_full = not writable
        if writable:
            self._unsent = 0
            self._resume()

    def on_idle(self) -> None:
        if self._has_eof:
            self._connection.abort(CLIENT_GONE)
        elif self._is_inside_frame() and not self._is_paused:
            self._reject(REQUEST_TIMEOUT)
        elif self._active == 0:
            self._connection.close(CLOSED_LOCALLY if self._is_draining else IDLE_TIMEOUT)
        else:
            self._set_idle()

    def on_drain(self) -> None:
        if self._is_draining:
            return
        self._is_draining = True
        self._is_ending = True
        if self._options.goaway:
            frame = goaway_of(self._spec)
            if frame:
                self._connection.batch_writer().write(frame)
        # Not at once: a request that is already on its way would be lost.
        self._set_idle()

    def on_close(self, failure: Failure) -> None:
        reason = failure if failure is CLIENT_WRITE_TIMEOUT or failure is TLS_TRUNCATED else CLIENT_GONE
        is_lost = failure is CLOSED_BY_PEER or failure is TLS_TRUNCATED
        is_cut = is_lost and not self._is_broken and self._decoder.has_buffered()
        if not self._streams and (is_cut or failure is CLIENT_WRITE_TIMEOUT):
            self._record(reason)  # no exchange is left to log it
        for stream in list(self._streams.values()):
            stream.lose(reason)

    def _set_idle(self) -> None:
        if self._has_eof:
            return
        if self._is_inside_frame() and not self._is_paused:
            self._connection.set_idle(self._options.frame_timeout)
        elif self._is_draining:
            self._connection.set_idle(DRAIN_GRACE)
        else:
            self._connection.set_idle(self._options.idle_timeout)

    def _is_inside_frame(self) -> bool:
        return self._decoder.has_buffered() or self._decoder.is_skipping()

    # ---- frames

    def _pull(self) -> None:
        """Takes frames from the decoder while the client may have more requests in flight."""
        if self._pulling:
            return
        self._pulling = True
        decoder = self._decoder
        try:
            while not self._connection.is_closed and not self._is_broken:
                if self._is_at_limit():
                    if not self._is_paused:
                        self._is_paused = True
                        self._connection.pause_reading()
                    break
                found: i64 = decoder.decode()
                if found == NEED_MORE:
                    break
                if found in (REQUEST, ONE_WAY, LARGE_REQUEST):
                    self._start_request(found == LARGE_REQUEST)
                elif found == HEARTBEAT:
                    self._connection.batch_writer().write(decoder.answer)
                elif found in (RESPONSE, LARGE_RESPONSE):
                    self._handler.on_unexpected_message(UNASKED_REPLY)
        except ProtocolError as error:
            self._reject(error.failure if type(error) is ProtocolError else BAD_FRAME)
        except BaseException as foreign:  # of the codec of an installed package
            report("a frame cannot be decoded", foreign)
            self._reject(BAD_FRAME)
        finally:
            self._pulling = False

    def _is_at_limit(self) -> bool:
        return self._is_full or self._active >= MAX_STREAMS or self._active_bytes >= MAX_STREAM_BYTES

    def _resume(self) -> None:
        """Resumes reading after a pause, unless a limit is still reached."""
        if self._is_paused and not self._is_at_limit() and not self._connection.is_closed:
            self._is_paused = False
            self._connection.resume_reading()
            self._pull()
            self._check_truncation()

    def _start_request(self, is_too_large: bool) -> None:
        request = self._decoder.request
        assert request is not None
        stream = RpcServerStream(self, self._connection, request)
        if not request.is_one_way:
            self._last += 1
            stream.number = self._last
            self._streams[int(self._last)] = stream
        self._active += 1
        self._active_bytes += request.size
        receiver = self._handler.new_stream(stream)
        stream.receiver = receiver
        if is_too_large:
            receiver.on_refused(request, FRAME_TOO_LARGE)
        else:
            receiver.on_request(request, request.payload, True)

    def _check_truncation(self) -> None:
        """Records a frame that the client's half-close truncated. The requests before it are still answered."""
        if self._has_eof and not self._is_paused and not self._is_broken and self._decoder.has_buffered():
            self._record(TRUNCATED_FRAME)

    def _reject(self, failure: Failure) -> None:
        """Records an invalid or incomplete frame, and closes the connection."""
        self._record(failure)
        self._connection.close(failure)

    def _record(self, failure: Failure) -> None:
        """Makes an exchange for an invalid frame, so that it is counted and logged. Nothing more is decoded."""
        self._is_broken = True
        self._active += 1
        head = _Rejected()
        stream = RpcServerStream(self, self._connection, head)
        receiver = self._handler.new_stream(stream)
        stream.receiver = receiver
        receiver.on_refused(head, failure)

    # ---- called by the streams

    def send(self, request: RpcRequest, response: RpcResponse, payload: bytes) -> None:
        """Sends the response to `request`. Raises HeaderError, and sends nothing, if its headers cannot be encoded."""
        out = self._connection.batch_writer()
        before: i64 = out.size()
        try:
            response.encode(request.request_id, payload, out)
        except BaseException:
            out.truncate(before)  # half a frame would garble the frames of others
            raise
        if self._is_full:
            size: i64 = out.size() - before
            self._unsent += size
            if self._unsent > max(MAX_UNSENT, 2 * size):
                self._connection.abort(CLIENT_WRITE_TIMEOUT)

    def on_release(self, stream: RpcServerStream) -> None:
        """The exchange of `stream` is over."""
        request = stream.request
        if not request.is_one_way:
            del self._streams[int(stream.number)]
        self._active -= 1
        self._active_bytes -= request.size
        if self._is_paused:
            self._resume()
        if self._active == 0 and self._is_ending and not self._connection.is_closed:
            if self._has_eof:
                self._connection.close(CLOSED_LOCALLY)
            elif self._is_draining:
                self._connection.set_idle(DRAIN_GRACE)
            elif self.hold(True):
                self._connection.may_depart()

    # ---- a move to another process

    def departs(self) -> bool:
        return not (self._is_broken or self._has_eof or self._is_draining)

    def on_depart(self, moves: bool) -> None:
        if moves:
            self._is_ending = True
        else:
            self.hold(False)
            self.on_drain()

    def departure(self) -> Passage | None:
        if self._active > 0 or self._is_full or self._pulling or self._decoder.is_skipping() or not self.departs():
            return None
        passage = Passage(self._spec.name, self._decoder.peek())
        options = self._options
        passage.idle = elapsed(self._connection, options.frame_timeout if passage.data else options.idle_timeout)
        return passage

    def hold(self, is_held: bool) -> bool:
        # A frame that is too long to go along, or that is being skipped, has to be complete first, and so must be read.
        is_held = is_held and self._decoder.buffered_size() <= MAX_CARRIED and not self._decoder.is_skipping()
        if is_held != self._is_held:
            self._is_held = is_held
            if is_held:
                self._connection.pause_reading()
            else:
                self._connection.resume_reading()
        return is_held

    def kind(self) -> str:
        return self._spec.name

    def is_idle(self) -> bool:
        return self._active == 0

    def ends_clearly(self) -> bool:
        return True  # frames have lengths


@mypyc_attr(free_list_len=1)
class RpcServerStream(ResponseSender):
    """One request, which has arrived whole, and its response, which is sent as one frame."""

    def __init__(self, server: RpcServer, connection: Connection, request: RpcRequest) -> None:
        self.request = request
        #: The number among those of the connection; 0 for a one-way request.
        self.number: i64 = 0
        self.receiver: RequestReceiver | None = None
        self._server = server
        self._connection = connection
        self._is_done = request.is_one_way
        # For a response that arrives in parts: one from another protocol.
        self._head: ResponseHead | None = None
        self._parts: list[bytes] | None = None

    def lose(self, failure: Failure) -> None:
        """The client is gone, or does not read."""
        self._is_done = True
        receiver = self.receiver
        if receiver is not None:
            receiver.on_reset(failure)

    def connection(self) -> Connection:
        return self._connection

    def stream_number(self) -> i64:
        return self.request.request_id

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        if self._is_done or self._head is not None:
            return
        if end:
            self._send(head, data)
        else:
            self._head = head
            self._parts = [data]

    def send_data(self, data: bytes, end: bool) -> None:
        head = self._head
        parts = self._parts
        if self._is_done or head is None or parts is None:
            return
        parts.append(data)
        if end:
            self._send(head, b"".join(parts))

    def _send(self, head: ResponseHead, data: bytes) -> None:
        self._is_done = True
        request = self.request
        try:
            if isinstance(head, RpcResponse):
                self._server.send(request, head, data)
            else:
                head.headers.remove_raw(b"content-length")
                response = request.local_reply(head.status, head.headers, data)
                self._server.send(request, response, response.payload)
        except BaseException as error:
            if not is_a(error, HeaderError):  # of the codec of an installed package
                report("a response cannot be encoded", error)
            self._is_done = False
            receiver = self.receiver
            if receiver is not None:
                receiver.on_reset(INTERNAL_ERROR)  # the exchange resets this stream and logs the failure

    def reset(self, failure: Failure) -> None:
        """Sends an error response: other requests share the connection, so it cannot be aborted."""
        if not self._is_done:
            self._is_done = True
            try:
                request = self.request
                response = request.failure_reply(failure, headers_from(None), request.failure_body(failure))
                self._server.send(self.request, response, response.payload)
            except BaseException as error:  # of the codec of an installed package
                report("an error response cannot be encoded", error)
                self._connection.abort(failure)

    def release(self) -> None:
        self.receiver = None
        self._server.on_release(self)


def goaway_of(spec: RpcSpec) -> bytes:
    """The frame that asks a client to send no further requests; empty if the protocol has none, or fails to make it."""
    try:
        return spec.goaway(0)
    except BaseException as error:  # of an installed package
        report("a GOAWAY frame cannot be made", error)
        return b""


class _Rejected(RpcRequest):
    """Represents bytes that are not a request. It is never answered."""

    def __init__(self) -> None:
        super().__init__(RpcHeaders(), 0, b"", b"", True)

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        return RpcResponse(headers, status, b"", body)
