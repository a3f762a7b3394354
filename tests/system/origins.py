"""An upstream that speaks HTTP/1 or HTTP/2, for tests that must hold for both: it records and echoes requests."""

from __future__ import annotations

import socket
import threading

import h11
from h2_peers import H2Server, Message, Pairs, Serving
from pymosn_process import PATIENCE
from thread_server import ThreadServer


class Origin:
    """Responds with the path and the content of each request; to `/slow` when `gate` is set."""

    def __init__(self, protocol: str) -> None:
        """`protocol`: `Http1` or `Http2`, as in the configuration."""
        self.protocol = protocol
        self.gate = threading.Event()
        self.arrived = threading.Event()
        #: Requests that were complete, in order; those of HTTP/1 with the fields of HTTP/2.
        self.requests: list[Message] = []
        self._connections = 0
        self._lock = threading.Lock()
        self._server: H2Server | ThreadServer = H2Server(self._answer) if protocol == "Http2" else ThreadServer(self._serve)
        self.port = self._server.port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def opened(self) -> int:
        """How many connections there were."""
        return self._server.connections if isinstance(self._server, H2Server) else self._connections

    def close(self) -> None:
        """Ends it. Fails if the proxy has violated RFC 9113."""
        self.gate.set()
        self._server.close()
        assert not isinstance(self._server, H2Server) or self._server.faults == []

    def _respond_to(self, request: Message) -> tuple[Pairs, bytes]:
        """The fields and the content of the response, once it may be sent."""
        with self._lock:
            self.requests.append(request)
        path = request.value(":path")
        if path == "/slow":
            self.arrived.set()
            assert self.gate.wait(PATIENCE)
        return [("content-type", "text/plain"), ("x-origin", self.protocol)], path.encode() + b" " + request.body

    def _answer(self, end: Serving, stream: int, request: Message) -> None:
        fields, body = self._respond_to(request)
        end.respond(stream, body, 200, fields)

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self._connections += 1
        codec = h11.Connection(h11.SERVER)
        request = Message()
        while True:
            event = codec.next_event()
            if event is h11.NEED_DATA:
                try:
                    codec.receive_data(sock.recv(1 << 16))
                except ConnectionError:
                    return
            elif isinstance(event, h11.Request):
                request = Message([(":method", event.method.decode()), (":path", event.target.decode())])
                request.fields += [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            elif isinstance(event, h11.Data):
                request.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                fields, body = self._respond_to(request)
                head = h11.Response(status_code=200, headers=[*fields, ("content-length", str(len(body)))])
                sock.sendall(b"".join((codec.send(head) or b"", codec.send(h11.Data(data=body)) or b"")))
                codec.send(h11.EndOfMessage())
                codec.start_next_cycle()
            else:
                return  # the proxy has closed the connection
