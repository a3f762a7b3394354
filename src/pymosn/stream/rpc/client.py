"""The client half of a multiplexed connection: requests of many exchanges at once, with ids of the connection's own."""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import STOP, Connection, NetworkFilter
from pymosn.api.protocol import GOAWAY, HEARTBEAT, NEED_MORE, ONE_WAY, REQUEST, RESPONSE, ProtocolError
from pymosn.api.rpc import RpcHeaders, RpcRequest, RpcResponse, RpcSpec
from pymosn.api.stream import ConnectionPool, RequestSender, ResponseReceiver
from pymosn.core.failure import (
    BAD_RESPONSE,
    BAD_REWRITE,
    CLOSED_LOCALLY,
    NO_ROUTE,
    PROTOCOL_MISMATCH,
    RESET_BEFORE_RESPONSE,
    Failure,
)
from pymosn.core.headers import HeaderError, Headers, headers_from
from pymosn.core.message import RequestHead
from pymosn.stream.rpc.options import MUCH


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientOwner(ConnectionPool):
    """What a pool hears of its connections."""

    def on_unexpected_message(self) -> None:
        """A message was dropped that answers nothing."""
        raise NotImplementedError

    def on_quiet(self, client: RpcClient) -> None:
        """Nothing came for as long as `watch` asked for."""
        raise NotImplementedError

    def on_room(self, client: RpcClient) -> None:
        """The connection takes bytes again."""
        raise NotImplementedError

    def forget(self, client: RpcClient) -> None:
        """The connection must not get another request."""
        raise NotImplementedError


class RpcClient(NetworkFilter):
    """One upstream connection."""

    def __init__(self, owner: ClientOwner, spec: RpcSpec, max_frame: i64) -> None:
        self._owner = owner
        self._spec = spec
        self._decoder = spec.decoder(max_frame)
        self._decoder.is_client = True
        self.connection: Connection = Connection()
        #: Whether it is counted among the connections of its host.
        self.is_counted = False
        #: It holds more unsent bytes than it should.
        self.is_full = False
        #: It gets no further request and is closed when the last one is answered.
        self.is_retired = False
        #: Requests that it was given.
        self.served: i64 = 0
        #: When it was given the last one, by `Clock.now`.
        self.last_used = 0.0
        #: Whether a heartbeat waits for its answer, and how many in a row got none.
        self.is_asked = False
        self.unanswered: i64 = 0
        self._streams: dict[int, RpcClientStream] = {}
        self._last: i64 = 0
        self._max_request_id: i64 = spec.max_request_id
        self._has_wrapped = False
        self._watch = 0.0

    @property
    def load(self) -> i64:
        """Requests that wait for their reply."""
        return len(self._streams)

    def watch(self, seconds: float) -> None:
        """Asks for `on_quiet` after so many seconds in which nothing comes, now and whenever something came; 0 is never."""
        self._watch = seconds
        self.connection.set_idle(seconds)

    def open_stream(self, receiver: ResponseReceiver) -> RpcClientStream:
        """A stream for one request."""
        self.served += 1
        return RpcClientStream(self, receiver, self.served > 1 and not self._streams)

    def next_request_id(self) -> i64:
        """An id that no request at work has."""
        while True:
            if self._last < self._max_request_id:
                self._last += 1
            else:
                self._last = 1
                self._has_wrapped = True
            if not self._has_wrapped or int(self._last) not in self._streams:
                return self._last

    def send(self, stream: RpcClientStream, request: RpcRequest, data: bytes) -> None:
        """Sends the whole request of `stream`."""
        number: i64 = self.next_request_id()
        out = self.connection.batch_writer()
        before: i64 = out.size()
        try:
            request.encode(number, data, out)
        except Exception as error:
            out.truncate(before)  # half a frame would garble those of others
            if not isinstance(error, HeaderError):
                raise
            stream.break_off(BAD_REWRITE)
            return
        if not request.is_one_way:
            stream.request_id = number
            self._streams[int(number)] = stream
        if request.is_one_way:
            # There is nothing to wait for: sent is done.
            stream.complete(RpcResponse(RpcHeaders(), 200, b"", b""))
            self.close_if_done()

    def send_heartbeat(self) -> None:
        """Asks the peer whether it lives."""
        self.is_asked = True
        self.connection.batch_writer().write(self._spec.heartbeat(self.next_request_id()))

    def retire(self) -> None:
        """The connection gets no further request."""
        self.is_retired = True
        self._owner.forget(self)
        self.close_if_done()

    def close_if_done(self) -> None:
        """Closes a retired connection that nobody waits for."""
        if self.is_retired and not self._streams:
            self.connection.close(CLOSED_LOCALLY)

    def on_cancel(self, stream: RpcClientStream) -> None:
        """Nobody waits for the reply of `stream` any more; when it comes it is a stray."""
        number = int(stream.request_id)
        if self._streams.get(number) is stream:
            del self._streams[number]
            self.close_if_done()

    # ---- from the connection

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection

    def on_data(self, data: bytes) -> bool:
        self.is_asked = False
        self.unanswered = 0
        self._decoder.feed(data)
        try:
            self._pull()
        except ProtocolError:
            self.break_off(BAD_RESPONSE)
        self.connection.set_idle(self._watch)
        self.close_if_done()
        if len(data) >= MUCH:
            self.connection.yield_reading()
        return STOP

    def _pull(self) -> None:
        decoder = self._decoder
        while not self.connection.is_closed:
            found: i64 = decoder.decode()
            if found == NEED_MORE:
                break
            if found == RESPONSE:
                reply = decoder.response
                number = int(decoder.request_id)
                stream = self._streams.get(number)
                if stream is None or reply is None:
                    self._owner.on_unexpected_message()
                else:
                    del self._streams[number]
                    stream.complete(reply)
            elif found == HEARTBEAT:
                if self._may_answer():
                    self.connection.batch_writer().write(decoder.answer)
            elif found == GOAWAY:
                self.retire()
            elif found in (REQUEST, ONE_WAY):
                self._turn_down(found == ONE_WAY)

    def _turn_down(self, is_one_way: bool) -> None:
        """A server that calls its client: there is none behind us that could answer."""
        self._owner.on_unexpected_message()
        request = self._decoder.request
        if request is not None and not is_one_way and self._may_answer():
            reply = request.local_reply(NO_ROUTE.status, headers_from(None), b"")
            reply.encode(request.request_id, reply.payload, self.connection.batch_writer())

    def _may_answer(self) -> bool:
        """Whether to answer what the peer asks of us; one that does not read gets no answers: they would have no end."""
        return not self.is_full

    def on_eof(self) -> None:
        self._lose(RESET_BEFORE_RESPONSE)
        self.connection.close(CLOSED_LOCALLY)

    def on_close(self, failure: Failure) -> None:
        self._lose(RESET_BEFORE_RESPONSE)

    def on_idle(self) -> None:
        self._owner.on_quiet(self)

    def on_writable(self, writable: bool) -> None:
        self.is_full = not writable
        if writable:
            self._owner.on_room(self)

    def break_off(self, failure: Failure) -> None:
        """The connection is of no use any more, nor to those who wait for a reply."""
        self._owner.forget(self)
        self.connection.abort(failure)
        self._lose(failure)

    def _lose(self, failure: Failure) -> None:
        self._owner.forget(self)
        lost = self._streams
        self._streams = {}
        for stream in lost.values():
            stream.break_off(failure)


class RpcClientStream(RequestSender):
    """One request's use of a shared upstream connection."""

    def __init__(self, client: RpcClient, receiver: ResponseReceiver, is_reused: bool) -> None:
        self.request_id: i64 = 0
        self._client = client
        self._receiver: ResponseReceiver | None = receiver
        self._is_reused = is_reused
        # A request that does not come in one piece: from another protocol.
        self._head: RequestHead | None = None
        self._parts: list[bytes] | None = None

    def complete(self, reply: RpcResponse) -> None:
        """The reply is here."""
        receiver = self._receiver
        self._receiver = None
        if receiver is not None:
            receiver.on_response(reply, reply.payload, True)

    def break_off(self, failure: Failure) -> None:
        """There will be no reply."""
        receiver = self._receiver
        self._receiver = None
        if receiver is not None:
            receiver.on_reset(failure)

    def connection(self) -> Connection:
        return self._client.connection

    def is_reused(self) -> bool:
        """Whether the connection was idle before: the peer may have been closing it."""
        return self._is_reused

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self._head = head
        if end:
            self._send(data)
        else:
            self._parts = [data]

    def send_data(self, data: bytes, end: bool) -> None:
        parts = self._parts
        if parts is not None:
            parts.append(data)
            if end:
                self._parts = None
                self._send(b"".join(parts))

    def send_trailers(self, trailers: Headers) -> None:
        self.send_data(b"", True)

    def _send(self, data: bytes) -> None:
        head = self._head
        self._head = None
        if self._receiver is None or head is None:
            return
        if isinstance(head, RpcRequest):
            self._client.send(self, head, data)
        else:
            self.break_off(PROTOCOL_MISMATCH)

    def pause(self) -> None:
        """The reply comes whole, and those behind it are not to wait for it."""

    def resume(self) -> None:
        """Nothing was paused."""

    def cancel(self) -> None:
        if self._receiver is not None:
            self._receiver = None
            self._client.on_cancel(self)
