"""The server half of a multiplexed connection: many requests at once, replies in any order."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.api.network import DRAIN_GRACE, STOP, Connection
from pymosn.api.protocol import HEARTBEAT, NEED_MORE, ONE_WAY, REQUEST, RESPONSE, ProtocolError
from pymosn.api.rpc import RpcHeaders, RpcRequest, RpcResponse, RpcSpec
from pymosn.api.stream import RequestReceiver, ResponseSender, ServerStreams, StreamHandler
from pymosn.core.failure import (
    CLIENT_GONE,
    CLIENT_WRITE_TIMEOUT,
    CLOSED_BY_PEER,
    CLOSED_LOCALLY,
    ID_REUSED,
    IDLE_TIMEOUT,
    INTERNAL_ERROR,
    REQUEST_TIMEOUT,
    TRUNCATED_FRAME,
    UNASKED_REPLY,
    Failure,
)
from pymosn.core.headers import HeaderError, Headers, headers_from
from pymosn.core.message import ResponseHead
from pymosn.stream.rpc.options import (
    EOF_GRACE,
    MAX_STREAM_BYTES,
    MAX_STREAMS,
    MAX_UNSENT,
    MUCH,
    RpcOptions,
)


class RpcServer(ServerStreams):
    """Makes a stream of each request on a downstream connection.

    No stream holds up another: what bounds a client is the number and size of its requests at work, and of the replies
    that it does not take.
    """

    def __init__(self, spec: RpcSpec, listener: StreamHandler, options: RpcOptions) -> None:
        self._spec = spec
        self._listener = listener
        self._options = options
        self._decoder = spec.decoder(options.max_frame)
        self._connection: Connection = Connection()
        # Those that wait for a reply, by the client's id. One-way requests are only counted.
        self._streams: dict[int, RpcServerStream] = {}
        self._active: i64 = 0
        self._active_bytes: i64 = 0
        self._unsent: i64 = 0
        self._pulling = False
        self._held = False
        self._is_full = False
        self._is_broken = False
        self._has_eof = False
        self._is_draining = False

    # ---- from the connection

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_idle(self._options.idle_timeout)

    def on_data(self, data: bytes) -> bool:
        self._decoder.feed(data)
        self._pull()
        self._set_idle()
        if len(data) >= MUCH:
            self._connection.yield_reading()
        return STOP

    def on_eof(self) -> None:
        self._has_eof = True
        self._end_frames()
        if self._active == 0:
            self._connection.close(CLOSED_LOCALLY)
        else:
            self._connection.set_idle(EOF_GRACE)

    def on_writable(self, writable: bool) -> None:
        self._is_full = not writable
        if writable:
            self._unsent = 0
            self._go_on()

    def on_idle(self) -> None:
        if self._has_eof:
            self._connection.abort(CLIENT_GONE)
        elif self._decoder.has_buffered() and not self._held:
            self._refuse(REQUEST_TIMEOUT)
        elif self._active == 0:
            self._connection.close(CLOSED_LOCALLY if self._is_draining else IDLE_TIMEOUT)
        else:
            self._set_idle()

    def on_drain(self) -> None:
        if self._is_draining:
            return
        self._is_draining = True
        if self._options.goaway:
            frame = self._spec.goaway(0)
            if frame:
                self._connection.batch_writer().write(frame)
        # Not at once: a request may be on its way, and it would be lost.
        self._set_idle()

    def on_close(self, failure: Failure) -> None:
        reason = failure if failure is CLIENT_WRITE_TIMEOUT else CLIENT_GONE
        is_cut = failure is CLOSED_BY_PEER and not self._is_broken and self._decoder.has_buffered()
        if not self._streams and (is_cut or reason is failure):
            self._record(reason)  # no exchange is left that could tell it
        for stream in list(self._streams.values()):
            stream.lose(reason)

    def _set_idle(self) -> None:
        if self._has_eof:
            return
        if self._decoder.has_buffered() and not self._held:
            self._connection.set_idle(self._options.frame_timeout)
        elif self._is_draining:
            self._connection.set_idle(DRAIN_GRACE)
        else:
            self._connection.set_idle(self._options.idle_timeout)

    # ---- frames

    def _pull(self) -> None:
        """Takes frames as long as the client may have more requests at work."""
        if self._pulling:
            return
        self._pulling = True
        decoder = self._decoder
        try:
            while not self._connection.is_closed and not self._is_broken:
                if self._is_loaded():
                    if not self._held:
                        self._held = True
                        self._connection.pause_reading()
                    break
                found: i64 = decoder.decode()
                if found == NEED_MORE:
                    break
                if found in (REQUEST, ONE_WAY):
                    self._begin()
                elif found == HEARTBEAT:
                    self._connection.batch_writer().write(decoder.answer)
                elif found == RESPONSE:
                    self._listener.on_unexpected_message(UNASKED_REPLY)
        except ProtocolError as error:
            self._refuse(error.failure)
        finally:
            self._pulling = False

    def _is_loaded(self) -> bool:
        return self._is_full or self._active >= MAX_STREAMS or self._active_bytes >= MAX_STREAM_BYTES

    def _go_on(self) -> None:
        """Takes up what was held, if the time has come."""
        if self._held and not self._is_loaded() and not self._connection.is_closed:
            self._held = False
            self._connection.resume_reading()
            self._pull()
            self._end_frames()

    def _begin(self) -> None:
        request = self._decoder.request
        assert request is not None
        stream = RpcServerStream(self, self._connection, request)
        if not request.is_one_way:
            number = int(request.request_id)
            if number in self._streams:
                # Two replies with one id: nobody could tell whose is whose.
                raise ProtocolError(ID_REUSED, f"request {number} is still at work")
            self._streams[number] = stream
        self._active += 1
        self._active_bytes += request.size
        receiver = self._listener.new_stream(stream)
        stream.receiver = receiver
        receiver.on_request(request, request.payload, True)

    def _end_frames(self) -> None:
        """After the client's last byte: what is left begins a frame that has no end. What came before is still answered."""
        if self._has_eof and not self._held and not self._is_broken and self._decoder.has_buffered():
            self._record(TRUNCATED_FRAME)

    def _refuse(self, failure: Failure) -> None:
        """Ends the connection for bytes that are no frames."""
        self._record(failure)
        self._connection.close(failure)

    def _record(self, failure: Failure) -> None:
        """Bytes that are no frames still become an exchange, which counts and logs them. No further ones are read."""
        self._is_broken = True
        self._active += 1
        head = _Refused()
        stream = RpcServerStream(self, self._connection, head)
        receiver = self._listener.new_stream(stream)
        stream.receiver = receiver
        receiver.on_refused(head, failure)

    # ---- from the streams

    def send(self, request: RpcRequest, reply: RpcResponse, payload: bytes) -> None:
        """Sends the reply to `request`. HeaderError: it has headers that cannot be sent, and nothing is."""
        out = self._connection.batch_writer()
        before: i64 = out.size()
        try:
            reply.encode(request.request_id, payload, out)
        except Exception:
            out.truncate(before)  # half a frame would garble those of others
            raise
        if self._is_full:
            self._unsent += out.size() - before
            if self._unsent > MAX_UNSENT:
                self._connection.abort(CLIENT_WRITE_TIMEOUT)

    def send_failure(self, request: RpcRequest, failure: Failure) -> None:
        """Sends an error in place of a reply."""
        reply = request.local_reply(failure.status, headers_from(None), b"")
        self.send(request, reply, reply.payload)

    def on_release(self, stream: RpcServerStream) -> None:
        """The exchange of `stream` is over."""
        request = stream.request
        if not request.is_one_way:
            del self._streams[int(request.request_id)]
        self._active -= 1
        self._active_bytes -= request.size
        if self._held:
            self._go_on()
        if self._active == 0 and (self._has_eof or self._is_draining) and not self._connection.is_closed:
            if self._has_eof:
                self._connection.close(CLOSED_LOCALLY)
            else:
                self._connection.set_idle(DRAIN_GRACE)


class RpcServerStream(ResponseSender):
    """One request's place for its reply, which is sent in one piece."""

    def __init__(self, server: RpcServer, connection: Connection, request: RpcRequest) -> None:
        self.request = request
        self.receiver: RequestReceiver | None = None
        self._server = server
        self._connection = connection
        self._is_done = request.is_one_way
        # A reply that does not come in one piece: from another protocol.
        self._head: ResponseHead | None = None
        self._parts: list[bytes] | None = None

    def lose(self, failure: Failure) -> None:
        """The client is gone, or takes nothing."""
        self._is_done = True
        receiver = self.receiver
        if receiver is not None:
            receiver.on_reset(failure)

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        """RPC knows no such thing."""

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

    def send_trailers(self, trailers: Headers) -> None:
        self.send_data(b"", True)

    def _send(self, head: ResponseHead, data: bytes) -> None:
        self._is_done = True
        request = self.request
        try:
            if isinstance(head, RpcResponse):
                self._server.send(request, head, data)
            else:
                head.headers.remove_raw(b"content-length")
                reply = request.local_reply(head.status, head.headers, data)
                self._server.send(request, reply, reply.payload)
        except HeaderError:
            self._is_done = False
            receiver = self.receiver
            if receiver is not None:
                receiver.on_reset(INTERNAL_ERROR)  # it resets this stream, and says so in the log

    def reset(self, failure: Failure) -> None:
        """A connection that others share is not broken off: the caller gets an error instead of half a reply."""
        if not self._is_done:
            self._is_done = True
            self._server.send_failure(self.request, failure)

    def release(self) -> None:
        self.receiver = None
        self._server.on_release(self)

    def pause(self) -> None:
        """The request is here already, and the requests behind it are not to wait for it."""

    def resume(self) -> None:
        """Nothing was paused."""


class _Refused(RpcRequest):
    """Stands for bytes that are no request. Nobody is answered."""

    def __init__(self) -> None:
        super().__init__(RpcHeaders(), 0, b"", b"", True)

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> RpcResponse:
        return RpcResponse(headers, status, b"", body)
