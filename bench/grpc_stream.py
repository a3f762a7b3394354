"""`python -m bench.grpc_stream PROXY UPSTREAM STREAMS CONNECTIONS MESSAGES`: streams of a gRPC server, both ends here.

Each message is sent on all streams with a write of its own, and the next one when all clients have received it. The frames
are made by hand, without compressed heads: the ends must cost less than the proxy. The last line of output is JSON, or an
error message.
"""

import json
import selectors
import socket
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
#: No table for compressed heads, and windows that never hold up a message.
SETTINGS_OF_BOTH = b"\0\1\0\0\0\0" + b"\0\4\x7f\xff\0\0"
WINDOW = 0x7FFF0000 - 65535
PATIENCE = 30.0
MESSAGE_SIZE = 100


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A field that is neither compressed nor indexed (RFC 7541, 6.2.2); both parts are shorter than 127 bytes."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


HELLO = frame(SETTINGS, 0, 0, SETTINGS_OF_BOTH) + frame(WINDOW_UPDATE, 0, 0, WINDOW.to_bytes(4, "big"))
GRPC = literal("content-type", "application/grpc")
REQUEST = (
    *((":method", "POST"), (":scheme", "http"), (":authority", "127.0.0.1"), (":path", "/bench.Echo/Stream")),
    *(("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "bench"), ("x-user", "alice")),
)
REQUEST_BLOCK = b"".join(literal(name, value) for name, value in REQUEST)
RESPONSE_BLOCK = b"\x88" + GRPC
TRAILERS_BLOCK = literal("grpc-status", "0")


def message(number: int) -> bytes:
    """A message of one round, with its prefix."""
    return b"\0" + MESSAGE_SIZE.to_bytes(4, "big") + b"message %08d " % number + b"." * (MESSAGE_SIZE - 17)


class Connection:
    """Frames on a socket that does not block for reading."""

    def __init__(self, connection: socket.socket, is_server: bool) -> None:
        self.socket = connection
        self.is_server = is_server
        self._rest = b""
        #: Streams of a server that were opened, and received bytes of messages for each stream of a client.
        self.opened: list[int] = []
        self.answered = 0
        self.received: dict[int, bytearray] = {}
        self.ended: set[int] = set()

    def read(self) -> int:
        """Reads what there is; returns the number of bytes of messages. Raises ValueError for a stream that broke."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ValueError(f"the proxy closed a connection to the {'server' if self.is_server else 'client'}")
        data = self._rest + data
        at, count = 0, 0
        if self.is_server and data.startswith(PREFACE):
            at = len(PREFACE)
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if len(data) - at - 9 < size:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            count += self._take(data[at + 3], data[at + 4], stream, data[at + 9 : at + 9 + size])
            at += 9 + size
        self._rest = data[at:]
        return count

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> int:
        if kind == DATA:
            if flags & END_STREAM:
                self.ended.add(stream)
            if not self.is_server:
                self.received[stream] += payload
                return len(payload)
        elif kind == HEADERS:
            if self.is_server and stream not in self.opened:
                self.opened.append(stream)
            if flags & END_STREAM:
                self.ended.add(stream)
        elif kind in (SETTINGS, PING):
            if not flags & ACK:
                self.socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind in (RST_STREAM, GOAWAY):
            raise ValueError(f"{'RST_STREAM' if kind == RST_STREAM else 'GOAWAY'} with {payload!r}")
        return 0


class Streams:
    """All streams and both of their ends."""

    def __init__(self, proxy: int, upstream: int) -> None:
        self._proxy = proxy
        self._listener = socket.create_server(("127.0.0.1", upstream), backlog=128)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._clients: list[Connection] = []
        self._servers: list[Connection] = []
        self._count = 0
        self.bytes = 0

    def connect(self, connections: int) -> None:
        """Opens the clients' connections, without streams."""
        for _ in range(connections):
            client = self._add(socket.create_connection(("127.0.0.1", self._proxy), 10), is_server=False)
            client.socket.sendall(PREFACE + HELLO)
            self._clients.append(client)
        self.settle()

    def open(self, streams: int) -> None:
        """Opens `streams` more, spread over the connections, and sends a message on each stream."""
        self._count += streams
        for index in range(streams):
            client = self._clients[index % len(self._clients)]
            number = 1 + 2 * len(client.received)
            client.received[number] = bytearray()
            client.socket.sendall(
                frame(HEADERS, END_HEADERS, number, REQUEST_BLOCK) + frame(DATA, END_STREAM, number, message(0))
            )
            self._poll(0)
        while sum(len(server.opened) for server in self._servers) < self._count:
            self._poll(PATIENCE)
        for server in self._servers:
            for number in server.opened[server.answered :]:
                server.socket.sendall(frame(HEADERS, END_HEADERS, number, RESPONSE_BLOCK))
            server.answered = len(server.opened)
        self.send(0)

    def send(self, number: int) -> float:
        """Sends a message on each stream and waits for all; returns the seconds. ValueError: one is not what was sent."""
        started = time.perf_counter()
        data = message(number)
        for server in self._servers:
            for stream in server.opened:
                server.socket.sendall(frame(DATA, 0, stream, data))
        missing = self._count * len(data)
        while missing > 0:
            missing -= self._poll(PATIENCE)
        seconds = time.perf_counter() - started
        for client in self._clients:
            for stream, received in client.received.items():
                if received != data:
                    raise ValueError(f"stream {stream} received {bytes(received[:60])!r}")
                received.clear()
        self.bytes += self._count * len(data)
        return seconds

    def end(self) -> None:
        """Ends all streams with trailers."""
        for server in self._servers:
            for stream in server.opened:
                server.socket.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS_BLOCK))
        while any(len(client.ended) < len(client.received) for client in self._clients):
            self._poll(PATIENCE)

    def settle(self) -> None:
        """Handles what arrives until nothing has for a moment."""
        while self._selector.select(0.3):
            self._poll(0)

    def close(self) -> None:
        """Closes all sockets."""
        for connection in (*self._clients, *self._servers):
            connection.socket.close()
        self._listener.close()
        self._selector.close()

    def _add(self, connected: socket.socket, is_server: bool) -> Connection:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(connected, is_server)
        self._selector.register(connected, selectors.EVENT_READ, connection)
        return connection

    def _poll(self, seconds: float) -> int:
        """Reads from all sockets that are ready; returns the number of bytes of messages that clients received."""
        ready = self._selector.select(seconds)
        if seconds and not ready:
            raise ValueError(f"nothing arrived for {seconds:g} s")
        count = 0
        for key, _ in ready:
            if key.data is None:
                accepted, _ = self._listener.accept()
                server = self._add(accepted, is_server=True)
                server.socket.sendall(HELLO)
                self._servers.append(server)
            else:
                count += key.data.read()
        return count


def main(arguments: list[str]) -> int:
    """Runs one load; returns the exit code."""
    proxy, upstream, count, connections, messages = map(int, arguments)
    streams = Streams(proxy, upstream)
    try:
        streams.connect(connections)
        streams.open(count)
        started = time.perf_counter()
        times = sorted(streams.send(1 + number) for number in range(messages))
        seconds = time.perf_counter() - started
        streams.end()
    except (OSError, ValueError) as fault:
        print(f"a stream failed: {type(fault).__name__}: {fault}")
        return 1
    finally:
        streams.close()
    p50, p99 = (round(times[len(times) * percent // 100] * 1e6) for percent in (50, 99))
    done = {"chunks": messages * count, "bytes": streams.bytes, "seconds": seconds, "p50": p50, "p99": p99}
    print(f"result {json.dumps({**done, 'head': ''})}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
