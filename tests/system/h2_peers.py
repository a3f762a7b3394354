"""A client and an upstream with real sockets that speak HTTP/2, by the `h2` library, which is strict about what it gets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError, StreamClosedError
from pymosn_process import PATIENCE
from tests.kit import h2_frames
from thread_server import ThreadServer

from pymosn.protocol.http2 import frames

Pairs = list[tuple[str, str]]


@dataclass
class Message:
    """What one stream has brought: a request or a response. `code`: of its reset or the connection's end; -1 for none."""

    fields: Pairs = field(default_factory=list)
    body: bytes = b""
    trailers: Pairs = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    is_complete: bool = False
    code: int = -1

    @property
    def status(self) -> int:
        """Of a response; 0: there is none."""
        return int(self.value(":status") or 0)

    def value(self, name: str) -> str:
        """The value of a field; empty if there is none."""
        return next((value for known, value in self.fields if known == name), "")


class _End:
    """One end of a connection: reads events, and sends as the windows allow."""

    def __init__(self, sock: socket.socket, is_client: bool) -> None:
        self.sock = sock
        self._is_client = is_client
        self._rest = b""
        self.conn = H2Connection(H2Configuration(client_side=is_client, header_encoding="latin-1"))
        self.messages: dict[int, Message] = {}
        #: The code of the GOAWAY that came; -1 for none.
        self.goaway = -1
        self._queues: dict[int, tuple[bytes, bool, Pairs]] = {}
        self.conn.initiate_connection()
        self.conn.increment_flow_control_window(1 << 20)
        self.flush()

    def flush(self) -> None:
        if data := self.conn.data_to_send():
            self.sock.sendall(data)

    def send(self, stream: int, body: bytes, end: bool = True, trailers: Pairs | None = None) -> None:
        """Sends content, with trailers if given, as the windows allow."""
        before = self._queues.get(stream, (b"", False, []))[0]
        self._queues[stream] = (before + body, end, trailers or [])
        self._push(stream)
        self.flush()

    def _push(self, stream: int) -> None:
        body, end, trailers = self._queues[stream]
        while body:
            size = min(len(body), self.conn.local_flow_control_window(stream), self.conn.max_outbound_frame_size)
            if size <= 0:
                break
            piece, body = body[:size], body[size:]
            self.conn.send_data(stream, piece, end_stream=end and not body and not trailers)
            end = end and bool(body or trailers)
        self._queues[stream] = (body, end, trailers)
        if not body:
            del self._queues[stream]
            if trailers:
                self.conn.send_headers(stream, trailers, end_stream=True)
            elif end:
                self.conn.end_stream(stream)

    def read(self) -> bool:
        """Reads what comes next. Whether there is more to come. Raises ProtocolError for what the proxy must not send."""
        data = self.sock.recv(1 << 16)
        if not data:
            return False
        if self._is_client:
            data = self._without_goaways(data)
        for event in self.conn.receive_data(data):
            self.take(event)
        self.flush()
        return True

    def _without_goaways(self, data: bytes) -> bytes:
        """Notes GOAWAY frames: for the library they would be the end, which they are not for streams in flight."""
        found, self._rest = h2_frames.split(self._rest + data)
        kept = b""
        for frame in found:
            if frame.kind == frames.GOAWAY:
                self.goaway = int.from_bytes(frame.payload[4:8], "big")
            else:
                kept += h2_frames.frame(*frame)
        return kept

    def take(self, event: Event) -> None:
        if isinstance(event, WindowUpdated):
            for stream in list(self._queues):
                with contextlib.suppress(StreamClosedError):  # its reset is among the events that follow
                    self._push(stream)
            return
        number = getattr(event, "stream_id", None)
        if number is None:
            return
        message = self.messages.setdefault(number, Message())
        if isinstance(event, (RequestReceived, ResponseReceived)):
            message.fields = list(event.headers or ())
        elif isinstance(event, InformationalResponseReceived):
            message.interim.append(int(dict(event.headers or ())[":status"]))
        elif isinstance(event, DataReceived):
            message.body += event.data or b""
            with contextlib.suppress(ProtocolError):  # the stream is closed
                self.conn.acknowledge_received_data(event.flow_controlled_length or 0, number)
        elif isinstance(event, TrailersReceived):
            message.trailers = list(event.headers or ())
        elif isinstance(event, StreamEnded):
            message.is_complete = True
        elif isinstance(event, StreamReset):
            message.code = int(event.error_code or 0)
            self._queues.pop(number, None)


class H2Client:
    """A client on one connection. `context`: for TLS, with ALPN `h2`. `sock`: one that is connected, instead of the port."""

    def __init__(
        self,
        port: int = 0,
        *,
        context: ssl.SSLContext | None = None,
        name: str = "server.test",
        source: str = "",
        sock: socket.socket | None = None,
    ) -> None:
        if sock is None:
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0) if source else None)
        self.scheme = "http"
        if context is not None:
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(sock, server_hostname=name)
            assert sock.selected_alpn_protocol() == "h2"
            self.scheme = "https"
        self.end = _End(sock, True)

    def start(
        self,
        method: str = "GET",
        path: str = "/",
        fields: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        authority: str = "a.example",
        ends: bool = True,
        trailers: Pairs | None = None,
    ) -> int:
        """Sends a request: the number of its stream. `body`: None without content. `ends`: whether nothing more follows."""
        stream = self.end.conn.get_next_available_stream_id()
        head = [(":method", method), (":scheme", self.scheme), (":authority", authority), (":path", path), *fields]
        self.end.conn.send_headers(stream, head, end_stream=body is None and ends)
        self.end.messages[stream] = Message()
        if body is not None:
            self.end.send(stream, body, ends, trailers)
        self.end.flush()
        return stream

    def send(self, stream: int, body: bytes, end: bool = False) -> None:
        """Sends more content."""
        self.end.send(stream, body, end)

    def reset(self, stream: int, code: int = 8) -> None:
        self.end.conn.reset_stream(stream, code)
        self.end.flush()

    def wait(self, stream: int, until: Callable[[Message], bool] | None = None) -> Message:
        """The response, once it is complete or will not be, or `until` is true."""
        message = self.end.messages[stream]
        while not message.is_complete and message.code < 0 and not (until and until(message)):
            if not self.end.read():
                message.code = max(self.end.goaway, 0)
                break
        return message

    def request(
        self, method: str = "GET", path: str = "/", fields: Iterable[tuple[str, str]] = (), **rest: object
    ) -> Message:
        """Sends a request and waits for the response; `rest`: of `start`."""
        return self.wait(self.start(method, path, fields, **rest))  # type: ignore[arg-type]

    def read_to_end(self) -> int:
        """Reads until the connection is over: the code of its GOAWAY, -1 without one."""
        with contextlib.suppress(ConnectionError):
            while self.end.read():
                pass
        return self.end.goaway

    def close(self) -> None:
        self.end.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Serving(_End):
    """The server's end of one connection: calls the server's `answer` for each complete request."""

    def __init__(self, server: H2Server, sock: socket.socket) -> None:
        self._server = server
        super().__init__(sock, False)

    def take(self, event: Event) -> None:
        super().take(event)
        if isinstance(event, StreamEnded) and event.stream_id is not None:
            message = self.messages.pop(event.stream_id)
            self._server.requests.append(message)
            self._server.answer(self, event.stream_id, message)
        elif isinstance(event, StreamReset):
            self._server.resets.append(int(event.error_code or 0))

    def respond(
        self, stream: int, body: bytes = b"ok", status: int = 200, fields: Pairs | None = None, trailers: Pairs | None = None
    ) -> None:
        """Sends a complete response."""
        length = [] if trailers else [("content-length", str(len(body)))]
        self.conn.send_headers(stream, [(":status", str(status)), *length, *(fields or [])])
        self.send(stream, body, True, trailers)


class H2Server:
    """An upstream that responds `hello from upstream, PATH`, or does what `answer` does.

    `context`: for TLS. `listener`: a socket that listens, instead of a free port.
    """

    def __init__(
        self,
        answer: Callable[[Serving, int, Message], None] | None = None,
        context: ssl.SSLContext | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self.answer = answer or _hello
        #: Complete requests, and the codes of streams that were reset.
        self.requests: list[Message] = []
        self.resets: list[int] = []
        #: How many connections came, and what was wrong with what they sent.
        self.connections = 0
        self.faults: list[str] = []
        self._context = context
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._lock = threading.Lock()
        self._server = ThreadServer(self.serve, listener)
        self.port = self._server.port

    def serve(self, sock: socket.socket) -> None:
        """Serves one connection until its end."""
        with self._lock:
            self.connections += 1
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            end = Serving(self, sock)
            while end.read():
                pass
        except ProtocolError as error:
            self.faults.append(f"{type(error).__name__}: {error}")
        except OSError:
            pass  # the proxy has closed the connection
        finally:
            sock.close()

    def close(self) -> None:
        self._server.close()


def _hello(end: Serving, stream: int, message: Message) -> None:
    end.respond(stream, f"hello from upstream, {message.value(':path')}\n".encode())
