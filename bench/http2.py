"""A blocking HTTP/2 client for checks and for idle connections, on the library `h2`."""

import socket
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from bench.certificate import Certificate
from bench.void import Void

#: Flow control must never hold up a response.
WINDOW = (1 << 31) - 1 - 65535


@dataclass
class Reply:
    """One response."""

    head: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_complete: bool = False

    def field(self, name: str) -> str:
        """The value of a field of the head or the trailers; empty if there is none."""
        wanted = name.encode()
        return next((value.decode("latin-1") for key, value in (*self.head, *self.trailers) if key == wanted), "")


def connect_http2(port: int, certificate: Certificate | None) -> socket.socket:
    """A new loopback connection for HTTP/2, with TLS if there is a certificate."""
    if certificate is not None:
        return certificate.connect(port, "h2")
    return socket.create_connection(("127.0.0.1", port), 10)


class Client:
    """One connection. All methods raise Void if the peer breaks the protocol, resets a stream, or closes the connection."""

    def __init__(self, port: int, certificate: Certificate | None = None) -> None:
        self.socket = connect_http2(port, certificate)
        self._scheme = "https" if certificate is not None else "http"
        self._authority = f"127.0.0.1:{port}"
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self._state.initiate_connection()
        self._state.increment_flow_control_window(WINDOW)
        self._state.update_settings({4: WINDOW})  # SETTINGS_INITIAL_WINDOW_SIZE
        self._replies: dict[int, Reply] = {}
        self._flush()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, path: str, fields: dict[str, str], body: bytes = b"") -> Reply:
        """Sends a GET, or a POST if there is a body, and waits for the complete response."""
        host = fields.get("Host", self._authority)
        head = [(":method", "POST" if body else "GET"), (":scheme", self._scheme), (":authority", host), (":path", path)]
        head += [(name.lower(), value) for name, value in fields.items() if name != "Host"]
        number = self._state.get_next_available_stream_id()
        reply = self._replies[number] = Reply()
        self._state.send_headers(number, head, end_stream=not body)
        if body:
            self._state.send_data(number, body, end_stream=True)
        self._flush()
        while not reply.is_complete:
            self._receive()
        del self._replies[number]
        return reply

    def _flush(self) -> None:
        try:
            self.socket.sendall(self._state.data_to_send())
        except OSError as fault:
            raise Void(f"HTTP/2: {fault}") from None

    def _receive(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
            events = self._state.receive_data(data)
        except (OSError, h2.exceptions.ProtocolError) as fault:
            raise Void(f"HTTP/2: {fault!r}") from None
        if not data:
            raise Void("HTTP/2: the connection was closed within a reply")
        for event in events:
            self._apply(event)
        self._flush()

    def _apply(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            raise Void(f"HTTP/2: {event!r}")
        reply = self._replies.get(getattr(event, "stream_id", None) or 0)
        if reply is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            reply.head = list(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            reply.trailers = list(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data
        elif isinstance(event, h2.events.StreamEnded):
            reply.is_complete = True
