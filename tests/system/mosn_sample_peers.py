"""The peers of MOSN's samples: each says what it received, and who it is."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from bolt_peers import BoltServer
from grpc_peers import EchoServer
from h2_peers import H2Server, Message, Serving
from tests.kit import bolt_frames as bolt
from tests.kit import dubbo_frames as dubbo
from thread_server import ThreadServer

_PREFACE = b"PRI * HTTP/2.0"
#: HTTP peers: of the samples, of mirrors, and of the cluster with weights.
HTTP = ("http", "mirror 1", "mirror 2", "mirror http1 copies", "mirror http2 copies", "weight 1", "weight 2", "weight 3")
BOLT = ("bolt", "bolt 1", "bolt 2", "bolt 3", "bolt 4", "bolt 5")
DUBBO = ("dubbo", "mirror dubbo copies")


class Counting:
    """How many requests each peer has got."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def of(self, name: str) -> int:
        return self._counts[name]


def _said(name: str, method: str, path: str, version: str, host: str, size: int) -> bytes:
    return f"{method} {path} {version} for {host}, {size} bytes, at {name}".encode()


class HttpPeer(ThreadServer):
    """Speaks HTTP/1 and HTTP/2, as the client begins; 404 on /nowhere."""

    def __init__(self, name: str, counting: Counting) -> None:
        self._name = name
        self._counting = counting
        self._http2 = H2Server(self._answer)
        self._handler = type("Handler", (_Handler,), {"name": name, "counting": counting})
        super().__init__(self._serve)

    def _serve(self, sock: socket.socket) -> None:
        first = sock.recv(len(_PREFACE), socket.MSG_PEEK)
        if first and _PREFACE.startswith(first):
            self._http2.serve(sock)
        elif first:
            self._handler(sock, ("", 0), None)  # type: ignore[arg-type]  # it needs no server

    def _answer(self, end: Serving, stream: int, message: Message) -> None:
        self._counting.add(self._name)
        path = message.value(":path")
        host = message.value(":authority")
        body = _said(self._name, message.value(":method"), path, "HTTP/2", host, len(message.body))
        end.respond(stream, body, 404 if path == "/nowhere" else 200, [("content-type", "text/x"), ("x-peer", self._name)])

    def close(self) -> None:
        super().close()
        self._http2.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""
    counting: Counting

    def do_GET(self) -> None:
        received = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.counting.add(self.name)
        host = self.headers.get("host", "")
        body = _said(self.name, self.command, self.path, self.request_version, host, len(received))
        self.send_response(404 if self.path == "/nowhere" else 200)
        for name, value in (("content-type", "text/x"), ("x-peer", self.name), ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class BoltPeer(BoltServer):
    """Answers with the content of the call, and its own name in the header `via`."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__()

    def _answer(self, frame: bolt.Parsed) -> bytes | None:
        if frame.command == 0:
            return bolt.heartbeat_ack(frame.request_id)
        return bolt.response(frame.request_id, frame.content, {"via": self._name})


class DubboPeer(ThreadServer):
    """Answers each call with its own name and the length of the call."""

    def __init__(self, name: str, counting: Counting) -> None:
        self._name = name
        self._counting = counting
        super().__init__(self._read)

    def _read(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as stream:
            while head := stream.read(16):
                _, flags, _, number, size = struct.unpack(">HBBqI", head)
                stream.read(size)
                if flags & 0x20:
                    sock.sendall(dubbo.heartbeat_ack(number))
                else:
                    self._counting.add(self._name)
                    sock.sendall(dubbo.result(number, f"<{self._name}>"))


class LinePeer(ThreadServer):
    """Answers each line with the same line and its own name."""

    def __init__(self, name: str, listener: socket.socket | None = None) -> None:
        self._name = name
        super().__init__(self._serve, listener)

    def _serve(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            for line in lines:
                sock.sendall(line.rstrip(b"\n") + f" from {self._name}\n".encode())


class DatagramPeer:
    """The same with datagrams."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                data, client = self._socket.recvfrom(65536)
            except OSError:
                return
            self._socket.sendto(data.rstrip(b"\n") + b" from udp\n", client)

    def close(self) -> None:
        self._socket.close()


class Peers:
    """All of them. `addresses`: where they are."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for the unix socket; its name must be short."""
        self.counting = Counting()
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(folder / "unix.sock"))
        unix.listen()
        self._running: dict[str, Any] = {
            **{name: HttpPeer(name, self.counting) for name in HTTP},
            **{name: BoltPeer(name) for name in BOLT},
            **{name: DubboPeer(name, self.counting) for name in DUBBO},
            "grpc": EchoServer(),
            "tcp": LinePeer("tcp"),
            "udp": DatagramPeer(),
        }
        self.addresses = {name: f"127.0.0.1:{peer.port}" for name, peer in self._running.items()}
        self.addresses["unix"] = f"unix:{folder / 'unix.sock'}"
        self._running["unix"] = LinePeer("unix", unix)

    def close(self) -> None:
        for peer in self._running.values():
            peer.close()
