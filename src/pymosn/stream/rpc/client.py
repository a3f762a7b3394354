"""The client half of an RPC connection: the requests of many exchanges at once.

Two clients may use the same id, so `RpcClient` gives each request one that is unique on this connection and keeps the stream
in `_streams` until the response with that id arrives; the server half restores the client's id. A stream is not in
`_streams` before its request is sent; it has ended once it has no receiver. A response without a stream is late (its request
was cancelled) or a mistake of the peer; it is counted and discarded.
"""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import STOP, Connection, Dialer
from pymosn.api.protocol import (
    GOAWAY,
    HEARTBEAT,
    LARGE_REQUEST,
    LARGE_RESPONSE,
    NEED_MORE,
    ONE_WAY,
    REQUEST,
    RESPONSE,
    ProtocolError,
)
from pymosn.api.rpc import MAX_FRAME, RpcHeaders, RpcRequest, RpcResponse, RpcSpec
from pymosn.api.stream import PoolTarget, RequestSender, ResponseReceiver
from pymosn.core.clock import Clock
from pymosn.core.errors import is_a
from pymosn.core.failure import (
    BAD_RESPONSE,
    CLOSED_LOCALLY,
    FRAME_TOO_LARGE_502,
    INTERNAL_ERROR,
    NO_ROUTE,
    PROTOCOL_MISMATCH,
    RESET_BEFORE_RESPONSE,
    UNENCODABLE_REQUEST,
    Failure,
    is_remote_end,
    reset_of,
)
from pymosn.core.foreign import report
from pymosn.core.headers import HeaderError, headers_from
from pymosn.core.message import RequestHead
from pymosn.stream.rpc.options import YIELD_SIZE
from pymosn.stream.shared import SharedConnection, SharedPool


class RpcPool(SharedPool):
    """The connections to one host for one RPC protocol."""

    def __init__(self, spec: RpcSpec, target: PoolTarget, dialer: Dialer, clock: Clock) -> None:
        super().__init__(target, dialer, clock, bool(spec.heartbeat(1)))
        self._spec = spec

    def new_connection(self) -> SharedConnection:
        return RpcClient(self, self._spec, self._target.max_frame_size or MAX_FRAME)


class RpcClient(SharedConnection):
    """One upstream connection."""

    def __init__(self, pool: SharedPool, spec: RpcSpec, max_frame: i64) -> None:
        """`max_frame`: bytes of a frame that the host may send."""
        super().__init__(pool)
        self._spec = spec
        self._decoder = spec.decoder(max_frame)
        self._decoder.is_client = True
        self._streams: dict[int, RpcClientStream] = {}
        self._last_id: i64 = 0
        self._max_request_id: i64 = spec.max_request_id
        self._has_wrapped = False

    def load(self) -> i64:
        return len(self._streams)

    def open_stream(self, receiver: ResponseReceiver) -> RequestSender:
        self.served += 1
        return RpcClientStream(self, receiver, self.served > 1 and not self._streams)

    def next_request_id(self) -> i64:
        """An id that is not used by a pending request."""
        while True:
            if self._last_id < self._max_request_id:
                self._last_id += 1
            else:
                self._last_id = 1
                self._has_wrapped = True
            if not self._has_wrapped or int(self._last_id) not in self._streams:
                return self._last_id

    def send(self, stream: RpcClientStream, request: RpcRequest, data: bytes) -> None:
        """Sends the whole request of `stream`."""
        request_id: i64 = self.next_request_id()
        out = self.connection.batch_writer()
        before: i64 = out.size()
        try:
            request.encode(request_id, data, out)
        except BaseException as error:
            out.truncate(before)  # half a frame would garble the frames of others
            if is_a(error, HeaderError):
                stream.break_off(UNENCODABLE_REQUEST)
                return
            report("a request cannot be encoded", error)  # by the codec of an installed package
            stream.break_off(INTERNAL_ERROR)
            return
        if request.is_one_way:
            # There is no response to wait for.
            stream.complete(RpcResponse(RpcHeaders(), 200, b"", b""))
            self.close_if_done()
        else:
            stream.request_id = request_id
            self._streams[int(request_id)] = stream

    def probe(self) -> None:
        try:
            self.connection.batch_writer().write(self._spec.heartbeat(self.next_request_id()))
        except BaseException as error:  # of the codec of an installed package
            report("a heartbeat cannot be made", error)

    def on_cancel(self, stream: RpcClientStream) -> None:
        """The response of `stream` is no longer needed; if it arrives it is unexpected."""
        request_id = int(stream.request_id)
        if self._streams.get(request_id) is stream:
            del self._streams[request_id]
            self.close_if_done()

    # ---- called by the connection

    def on_data(self, data: bytes) -> bool:
        try:
            self._decoder.feed(data)
            self._pull()
        except ProtocolError:
            self.break_off(BAD_RESPONSE)
        except BaseException as error:  # of the codec of an installed package
            report("a frame cannot be decoded", error)
            self.break_off(BAD_RESPONSE)
        self.on_activity()
        self.close_if_done()
        if len(data) >= YIELD_SIZE:
            self.connection.yield_reading()
        return STOP

    def _pull(self) -> None:
        decoder = self._decoder
        while not self.connection.is_closed:
            found: i64 = decoder.decode()
            if found == NEED_MORE:
                break
            if found == RESPONSE:
                response = decoder.response
                request_id = int(decoder.request_id)
                stream = self._streams.get(request_id)
                if stream is None or response is None:
                    self._pool.on_unexpected_message()
                else:
                    del self._streams[request_id]
                    stream.complete(response)
            elif found == LARGE_RESPONSE:
                self._refuse_response()
            elif found == HEARTBEAT:
                if not self.is_full:  # a peer that does not read must not fill the buffer
                    self.connection.batch_writer().write(decoder.answer)
            elif found == GOAWAY:
                self._pool.note_farewell()
                self.retire()
            elif found in (REQUEST, ONE_WAY, LARGE_REQUEST):
                self._reject()

    def _refuse_response(self) -> None:
        """A response is too large: its own request fails, the others on the connection do not."""
        stream = self._streams.pop(int(self._decoder.request_id), None)
        if stream is None:
            self._pool.on_unexpected_message()
        else:
            stream.break_off(FRAME_TOO_LARGE_502)

    def _reject(self) -> None:
        """Rejects a server-initiated request: it cannot be routed to any client."""
        self._pool.on_unexpected_message()
        request = self._decoder.request
        if request is not None and not request.is_one_way and not self.is_full:
            response = request.local_reply(NO_ROUTE.status, headers_from(None), b"")
            response.encode(request.request_id, response.payload, self.connection.batch_writer())

    def on_eof(self) -> None:
        self._reset_streams(RESET_BEFORE_RESPONSE, True)
        self.connection.close(CLOSED_LOCALLY)

    def on_close(self, failure: Failure) -> None:
        self._reset_streams(reset_of(failure, False), is_remote_end(failure))

    def break_off(self, failure: Failure) -> None:
        # First: the connection reports its end, which is a local one.
        self._pool.forget(self, False, len(self._streams) > 0)
        self.connection.abort(failure)
        self._reset_streams(failure, False)

    def _reset_streams(self, failure: Failure, is_remote: bool) -> None:
        self._pool.forget(self, is_remote, len(self._streams) > 0)
        lost = self._streams
        self._streams = {}
        for stream in lost.values():
            stream.break_off(failure)


@mypyc_attr(free_list_len=1)
class RpcClientStream(RequestSender):
    """One request on a shared upstream connection. Its response arrives whole, so there is nothing to pause."""

    def __init__(self, client: RpcClient, receiver: ResponseReceiver, is_reused: bool) -> None:
        self.request_id: i64 = 0
        self._client = client
        self._receiver: ResponseReceiver | None = receiver
        self._is_reused = is_reused
        # For a request that arrives in parts: one from another protocol.
        self._head: RequestHead | None = None
        self._parts: list[bytes] | None = None

    def complete(self, response: RpcResponse) -> None:
        """The response has arrived."""
        receiver = self._receiver
        self._receiver = None
        if receiver is not None:
            receiver.on_response(response, response.payload, True)

    def break_off(self, failure: Failure) -> None:
        """There will be no response."""
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

    def _send(self, data: bytes) -> None:
        head = self._head
        self._head = None
        if self._receiver is None or head is None:
            return
        if isinstance(head, RpcRequest):
            self._client.send(self, head, data)
        else:
            self.break_off(PROTOCOL_MISMATCH)

    def cancel(self) -> None:
        if self._receiver is not None:
            self._receiver = None
            self._client.on_cancel(self)
