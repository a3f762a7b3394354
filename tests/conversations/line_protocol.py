"""A protocol that exists only in the tests: neither HTTP nor RPC, with heads, codec and connections of its own.

Each message is a line. A request: `verb /topic name=value ... |body`; a response: `status name=value ... |body`. One request
at a time per connection; `get` may be sent twice. There are no hosts, cookies, dates or fields about the client.
"""

from __future__ import annotations

from collections import deque

from pymosn.api.network import STOP, Connection, Dialer, DialReceiver, NetworkFilter
from pymosn.api.protocol import NO, YES, ProtocolSpec
from pymosn.api.stream import (
    ConnectionPool,
    PoolTarget,
    RequestReceiver,
    RequestSender,
    ResponseReceiver,
    ResponseSender,
    ServerStreams,
    StreamHandler,
    StreamProtocol,
)
from pymosn.core.failure import CLIENT_GONE, CLOSED_LOCALLY, OVERFLOW, RESET_BEFORE_RESPONSE, Failure
from pymosn.core.headers import Headers
from pymosn.core.message import RequestHead, ResponseHead
from pymosn.core.timers import TimerWheel

# ---- heads


class LineHeaders(Headers):
    """A list of pairs."""

    def __init__(self, pairs: list[tuple[bytes, bytes]] | None = None) -> None:
        self._pairs = list(pairs or [])

    def get_raw(self, name: bytes) -> bytes | None:
        return next((value for key, value in self._pairs if key == name), None)

    def add_raw(self, name: bytes, value: bytes) -> None:
        self._pairs.append((name.lower(), value))

    def remove_raw(self, name: bytes) -> bool:
        kept = [pair for pair in self._pairs if pair[0] != name]
        removed = len(kept) < len(self._pairs)
        self._pairs = kept
        return removed

    def items_raw(self) -> list[tuple[bytes, bytes]]:
        return list(self._pairs)

    def copy(self) -> Headers:
        return LineHeaders(self._pairs)


class LineRequest(RequestHead):
    def __init__(self, verb: bytes, topic: bytes, headers: Headers) -> None:
        super().__init__(headers)
        self.raw_method = verb
        self.raw_path = topic

    def copy(self) -> RequestHead:
        copied = LineRequest(self.raw_method, self.raw_path, self.headers.copy())
        copied.content_length = self.content_length
        return copied

    def describe(self, protocol: str) -> str:
        return f"{protocol} {self.method} {self.path}"

    def may_repeat(self, has_policy: bool, non_idempotent: bool) -> bool:
        return self.raw_method == b"get" or non_idempotent

    def may_replay(self, non_idempotent: bool) -> bool:
        return self.may_repeat(False, non_idempotent)

    def local_reply(self, status: int, headers: Headers, body: bytes) -> ResponseHead:
        return LineResponse(status, LineHeaders(headers.items_raw()))

    def streamed_reply(self, status: int, headers: Headers) -> ResponseHead:
        return LineResponse(status, LineHeaders(headers.items_raw()))

    def failure_body(self, failure: Failure) -> bytes:
        return failure.reason.encode()


class LineResponse(ResponseHead):
    def accept_status(self) -> bool:
        return self.status < 1000


# ---- codec


def parse(line: bytes) -> tuple[list[bytes], LineHeaders, bytes]:
    """Words, header fields and body of a message."""
    front, _, body = line.partition(b"|")
    words = front.split()
    pairs = [(name, value) for name, mark, value in (word.partition(b"=") for word in words) if mark]
    return [word for word in words if b"=" not in word], LineHeaders(pairs), body


def line(words: list[bytes], headers: Headers, body: bytes) -> bytes:
    """A message."""
    fields = [name + b"=" + value for name, value in headers.items_raw()]
    return b" ".join([*words, *fields, b""]) + b"|" + body + b"\n"


class LineSpec(ProtocolSpec):
    def __init__(self) -> None:
        super().__init__("line", "", False)

    def match(self, data: bytes) -> int:
        return YES if data[:1].islower() else NO


# ---- downstream


class LineServer(ServerStreams):
    def __init__(self, handler: StreamHandler) -> None:
        self._handler = handler
        self._connection = Connection()
        self._buffer = b""
        self._waiting: deque[bytes] = deque()
        self._stream: LineServerStream | None = None

    def on_connection(self, connection: Connection) -> None:
        self._connection = connection

    def on_data(self, data: bytes) -> bool:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._waiting.extend(lines)
        self.next()
        return STOP

    def next(self) -> None:
        while self._waiting and self._stream is None:
            words, headers, body = parse(self._waiting.popleft())
            head = LineRequest(words[0], words[1], headers)
            head.content_length = len(body)
            stream = LineServerStream(self, self._connection)
            self._stream = stream
            receiver = self._handler.new_stream(stream)
            stream.receiver = receiver
            receiver.on_request(head, body, True)

    def on_release(self) -> None:
        self._stream = None
        self.next()

    def on_eof(self) -> None:
        self._connection.close(CLOSED_LOCALLY)

    def on_close(self, failure: Failure) -> None:
        self._waiting.clear()
        stream = self._stream
        if stream is not None and stream.receiver is not None:
            stream.receiver.on_reset(CLIENT_GONE)


class LineServerStream(ResponseSender):
    def __init__(self, server: LineServer, connection: Connection) -> None:
        self.receiver: RequestReceiver | None = None
        self._server = server
        self._connection = connection
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []

    def connection(self) -> Connection:
        return self._connection

    def send_informational(self, head: ResponseHead) -> None:
        raise AssertionError("the protocol has no informational responses")

    def send_response(self, head: ResponseHead, data: bytes, end: bool) -> None:
        self._head = head
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        self._parts.append(data)
        if end and self._head is not None:
            self._connection.write(line([b"%d" % self._head.status], self._head.headers, b"".join(self._parts)))

    def send_trailers(self, trailers: Headers) -> None:
        self.send_data(b"", True)

    def reset(self, failure: Failure) -> None:
        self._connection.abort(failure)

    def release(self) -> None:
        self.receiver = None
        self._server.on_release()

    def pause(self) -> None:
        self._connection.pause_reading()

    def resume(self) -> None:
        self._connection.resume_reading()


# ---- upstream


class LineClient(NetworkFilter):
    """One upstream connection."""

    def __init__(self, pool: LinePool, receiver: ResponseReceiver) -> None:
        self.receiver: ResponseReceiver | None = receiver
        self.connection = Connection()
        self.is_reused = False
        self.is_waiting = True
        self._pool = pool
        self._buffer = b""

    def on_connection(self, connection: Connection) -> None:
        self.connection = connection

    def serve(self, receiver: ResponseReceiver) -> None:
        self.is_waiting = False
        self.receiver = receiver
        receiver.on_sender(LineClientStream(self))

    def on_data(self, data: bytes) -> bool:
        self._buffer += data
        if self._buffer.endswith(b"\n"):
            words, headers, body = parse(self._buffer[:-1])
            self._buffer = b""
            receiver = self.receiver
            self._pool.put_back(self)
            if receiver is not None:
                receiver.on_response(LineResponse(int(words[0]), headers), body, True)
        return STOP

    def on_eof(self) -> None:
        self.connection.close(CLOSED_LOCALLY)

    def on_close(self, failure: Failure) -> None:
        self._pool.forget(self, True)
        receiver = self.receiver
        self.receiver = None
        if receiver is not None:
            receiver.on_reset(RESET_BEFORE_RESPONSE)


class LineDial(DialReceiver):
    """Waits for the connection of one client. Compiled classes have one base, so this is an object of its own."""

    def __init__(self, pool: LinePool, client: LineClient) -> None:
        self._pool = pool
        self._client = client

    def on_dialed(self, connection: Connection) -> None:
        self._pool.target.on_connection()
        if self._client.receiver is None:
            self._pool.put_back(self._client)
        else:
            self._client.serve(self._client.receiver)

    def on_dial_failed(self, failure: Failure, detail: str) -> None:
        self._pool.forget(self._client, False)
        if self._client.receiver is not None:
            self._client.receiver.on_no_sender(failure)


class LineClientStream(RequestSender):
    def __init__(self, client: LineClient) -> None:
        self._client = client
        self._is_reused = client.is_reused
        self._head: RequestHead | None = None
        self._parts: list[bytes] = []
        client.is_reused = True

    def connection(self) -> Connection:
        return self._client.connection

    def is_reused(self) -> bool:
        return self._is_reused

    def send_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        self._head = head
        self.send_data(data, end)

    def send_data(self, data: bytes, end: bool) -> None:
        self._parts.append(data)
        if end and self._head is not None:
            words = [self._head.raw_method, self._head.raw_path]
            self._client.connection.write(line(words, self._head.headers, b"".join(self._parts)))

    def send_trailers(self, trailers: Headers) -> None:
        self.send_data(b"", True)

    def pause(self) -> None:
        self._client.connection.pause_reading()

    def resume(self) -> None:
        self._client.connection.resume_reading()

    def cancel(self) -> None:
        self._client.receiver = None
        self._client.connection.abort(CLOSED_LOCALLY)


class LinePool(ConnectionPool):
    def __init__(self, target: PoolTarget, dialer: Dialer) -> None:
        self.target = target
        self._dialer = dialer
        self._all: list[LineClient] = []
        self._idle: list[LineClient] = []

    def acquire(self, receiver: ResponseReceiver, fresh: bool) -> None:
        if self._idle and not fresh:
            self._idle.pop().serve(receiver)
        elif not self.target.try_connection():
            receiver.on_no_sender(OVERFLOW)
        else:
            client = LineClient(self, receiver)
            self._all.append(client)
            self._dialer.dial(self.target.peer, self.target.connect_timeout, client, LineDial(self, client))

    def withdraw(self, receiver: ResponseReceiver) -> None:
        for client in self._all:
            if client.is_waiting and client.receiver is receiver:
                client.receiver = None

    def put_back(self, client: LineClient) -> None:
        client.receiver = None
        self._idle.append(client)

    def forget(self, client: LineClient, was_open: bool) -> None:
        if client in self._all:
            self._all.remove(client)
            self.target.on_connection_end(was_open)
        if client in self._idle:
            self._idle.remove(client)

    def close(self) -> None:
        for client in list(self._idle):
            client.connection.close(CLOSED_LOCALLY)


class LineProtocol(StreamProtocol):
    def __init__(self) -> None:
        super().__init__(LineSpec())

    def server(self, handler: StreamHandler, options: object) -> ServerStreams:
        return LineServer(handler)

    def pool(self, target: PoolTarget, dialer: Dialer, wheel: TimerWheel) -> ConnectionPool:
        return LinePool(target, dialer)
