"""A Bolt server and a Bolt client over real sockets, small and strict: every reply must be the one that was asked for."""

import contextlib
import random
import socket
import threading
from collections.abc import Callable

from plain_sockets import PATIENCE, connect
from tests.kit import bolt_frames as bolt
from thread_server import ThreadServer


class BoltServer(ThreadServer):
    """Answers each request with its content. Replies to what came together go out in reverse order."""

    def __init__(self) -> None:
        self.one_ways: list[bytes] = []
        self.connections: list[socket.socket] = []
        #: Closed, requests whose content begins with `slow` are not answered.
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Semaphore(0)
        super().__init__(self._read)

    def _read(self, sock: socket.socket) -> None:
        self.connections.append(sock)
        lock = threading.Lock()
        rest = b""
        try:
            while data := sock.recv(65536):
                rest += data
                replies = []
                while True:
                    frame, rest = bolt.parse(rest)
                    if frame is None:
                        break
                    if frame.content.startswith(b"slow") and not self.gate.is_set():
                        self.held.release()
                        threading.Thread(target=self._answer_later, args=(sock, lock, frame), daemon=True).start()
                    elif (reply := self._answer(frame)) is not None:
                        replies.append(reply)
                with lock:
                    sock.sendall(b"".join(reversed(replies)))
        except OSError:
            pass

    def _answer_later(self, sock: socket.socket, lock: threading.Lock, frame: bolt.Parsed) -> None:
        self.gate.wait(PATIENCE)
        reply = self._answer(frame)
        assert reply is not None
        with lock, contextlib.suppress(OSError):
            sock.sendall(reply)

    def _answer(self, frame: bolt.Parsed) -> bytes | None:
        v2 = frame.raw[0] == 2
        crc = v2 and frame.raw[1] == 2
        if frame.kind == 2:
            self.one_ways.append(frame.content)
            return None
        if frame.command == 0:
            return bolt.heartbeat_ack(frame.request_id, v2)
        return bolt.response(frame.request_id, frame.content, {"via": frame.headers.get("via")}, v2=v2, crc=crc)

    def close(self) -> None:
        self.gate.set()
        super().close()
        for sock in self.connections:
            sock.close()


class BoltClient:
    """Calls with many requests in flight on one connection."""

    def __init__(self, port: int, v2: bool = False) -> None:
        self._socket = connect(port)
        self._v2 = v2
        self._rest = b""
        self._last = random.randrange(1 << 31)
        #: Goaway frames that came.
        self.goaways = 0

    def request(self, content: bytes, kind: int = 1) -> tuple[int, bytes]:
        """The id and the frame of a new request."""
        self._last += 1
        return self._last, bolt.request(self._last, content, timeout=60_000, kind=kind, v2=self._v2, crc=self._v2)

    def send(self, data: bytes, chop: Callable[[], int] | None = None) -> None:
        """Sends `data`, in pieces of `chop()` bytes if given."""
        while data:
            size = len(data) if chop is None else chop()
            self._socket.sendall(data[:size])
            data = data[size:]

    def receive(self) -> bolt.Parsed:
        """The next reply."""
        while True:
            frame, self._rest = bolt.parse(self._rest)
            if frame is not None and frame.command == 100:
                self.goaways += 1
            elif frame is not None:
                return frame
            else:
                data = self._socket.recv(65536)
                if not data:
                    raise EOFError("the connection ended")
                self._rest += data

    def ends(self) -> bool:
        """Whether the peer closes without another byte."""
        return self._socket.recv(100) == b""

    def call(self, content: bytes) -> bolt.Parsed:
        """One request and its reply."""
        number, frame = self.request(content)
        self.send(frame)
        reply = self.receive()
        assert reply.request_id == number
        return reply

    def call_many(self, count: int, in_flight: int, chop: Callable[[], int] | None = None) -> dict[int, int]:
        """Calls `count` times; how often each status came. A reply with another content than was sent is an error."""
        waiting: dict[int, bytes] = {}
        statuses: dict[int, int] = {}
        sent = 0
        while sent < count or waiting:
            batch = b""
            while sent < count and len(waiting) < in_flight:
                content = b"%d from %d" % (sent, id(self)) * random.randrange(1, 30)
                number, frame = self.request(content)
                waiting[number] = content
                batch += frame
                sent += 1
            self.send(batch, chop)
            reply = self.receive()
            expected = waiting.pop(reply.request_id)
            if reply.status == 0:
                assert reply.content == expected
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
        return statuses

    def close(self) -> None:
        self._socket.close()
