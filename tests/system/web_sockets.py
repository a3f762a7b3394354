"""A WebSocket server beside the tests, and frames made by hand (RFC 6455 section 5)."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from plain_sockets import PATIENCE, connect, read_until
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ASK = (
    f"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
).encode()


def frame(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """One frame from a client."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([128 | size])
    elif size < 65536:
        head += bytes([128 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([128 | 127]) + struct.pack("!Q", size)
    key = mask * (size // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")
    return head + mask + masked.to_bytes(size, "big")


class Echo:
    """Echoes; `/flood` sends messages until nobody takes them, `/abort` resets, `/refuse` answers 403 to the upgrade."""

    def __init__(self) -> None:
        self.sent = 0
        self.ends: list[tuple[str, int]] = []
        self.connections: list[ServerConnection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Server = self.run(self._start())
        self.port: int = next(iter(self._server.sockets)).getsockname()[1]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    async def _start(self) -> Server:
        return await serve(
            self._serve,
            "127.0.0.1",
            0,
            process_request=self._consider,
            max_size=None,
            ping_interval=None,
            close_timeout=PATIENCE,
        )

    def _consider(self, connection: ServerConnection, request: Any) -> Any:
        return connection.respond(403, "no\n") if request.path == "/refuse" else None

    async def _serve(self, connection: ServerConnection) -> None:
        path = connection.request.path if connection.request else ""
        self.connections.append(connection)
        with contextlib.suppress(ConnectionClosed):
            if path == "/flood":
                while self.sent < 256:
                    await connection.send(b"f" * 262_144)
                    self.sent += 1
            if path.startswith("/close/"):
                await connection.close(int(path[7:]), "as asked")
            async for message in connection:
                if path == "/abort":
                    connection.transport.abort()
                await connection.send(message)
        await connection.wait_closed()
        self.ends.append((path, connection.close_code or 0))

    def serves(self, path: str) -> bool:
        """Whether a connection for `path` has come so far that it is served; its client may know of it before."""
        return any(connection.request is not None and connection.request.path == path for connection in self.connections)

    def abort_all(self) -> None:
        """Resets every connection."""

        async def abort() -> None:
            for connection in self.connections:
                if connection.transport.is_closing():
                    continue
                sock = connection.transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.transport.abort()

        self.run(abort())

    def close(self) -> None:
        async def close() -> None:
            self._server.close(close_connections=False)
            for connection in self.connections:
                connection.transport.abort()
            await self._server.wait_closed()

        self.run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class FrameEcho:
    """Echoes by the protocol of `websockets` without its I/O, frame by frame: the same bytes get the same answer."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._sock.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        protocol = ServerProtocol(max_size=None)
        decode = codecs.getincrementaldecoder("utf-8")().decode
        is_text = False
        data = b""
        with sock, contextlib.suppress(OSError):
            sock.settimeout(PATIENCE)
            while more := sock.recv(1 << 20):
                data += more
                while size := unit(data, protocol.state is State.CONNECTING):
                    protocol.receive_data(data[:size])
                    data = data[size:]
                    for event in protocol.events_received():
                        if isinstance(event, Request):
                            protocol.send_response(protocol.accept(event))
                        elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                            is_text = event.opcode is Opcode.TEXT or (is_text and event.opcode is Opcode.CONT)
                            self._echo(protocol, event, decode if is_text else None)
                    for out in protocol.data_to_send():
                        if out:
                            sock.sendall(out)
                        else:
                            sock.shutdown(socket.SHUT_WR)

    def _echo(self, protocol: ServerProtocol, event: Frame, decode: Callable[[bytes, bool], str] | None) -> None:
        if protocol.state is not State.OPEN:
            return
        try:
            if decode is not None:
                decode(event.data, event.fin)
        except UnicodeDecodeError:
            protocol.fail(CloseCode.INVALID_DATA, "no UTF-8")
            return
        sends = {Opcode.TEXT: protocol.send_text, Opcode.BINARY: protocol.send_binary}
        sends.get(event.opcode, protocol.send_continuation)(event.data, fin=event.fin)

    def close(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join(10)


def unit(data: bytes, is_head: bool) -> int:
    """The size of the request head or the masked frame that `data` begins with; 0 when it is not whole."""
    if is_head:
        return data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0
    if len(data) < 2:
        return 0
    size, start = data[1] & 127, 2
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    return start + 4 + size if len(data) >= start + 4 + size else 0


class RawClient:
    """A socket whose upgrade has been agreed to."""

    def __init__(self, port: int, ask: bytes = ASK, behind: bytes = b"") -> None:
        self.sock = connect(port)
        self.sock.sendall(ask + behind)
        self.head, _, self.data = read_until(self.sock, b"\r\n\r\n").partition(b"\r\n\r\n")

    def talk(self, pieces: list[bytes]) -> bytes:
        """Sends `pieces` one after the other, and a close; gives all that comes until the end."""

        def send() -> None:
            with contextlib.suppress(OSError):  # the server may have had enough
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    self.sock.sendall(piece)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        received = [self.data]
        with contextlib.suppress(ConnectionResetError):
            while more := self.sock.recv(1 << 20):
                received.append(more)
        sender.join(10)
        self.sock.close()
        return b"".join(received)

    def reset(self) -> None:
        """Leaves with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
