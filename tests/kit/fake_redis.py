"""A minimal Redis server: RESP over a socket, transactions, and counters that expire. It runs in separate threads."""

import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from io import BufferedIOBase


class FakeRedis:
    """Listens on a free port until it is closed."""

    def __init__(self, password: str = "", tls: ssl.SSLContext | None = None) -> None:
        """`password`: that clients need; `tls`: of the server."""
        self.counters: dict[bytes, int] = {}
        #: Monotonic seconds at which keys expire.
        self.expires: dict[bytes, float] = {}
        #: Whether commands get no answer.
        self.is_silent = False
        self.connections = 0
        #: How many commands have arrived.
        self.commands = 0
        self._password = password
        self._lock = threading.Lock()
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def setup(self) -> None:
                if tls is not None:
                    self.request = tls.wrap_socket(self.request, server_side=True)
                super().setup()
                fake.connections += 1

            def handle(self) -> None:
                session = Session(fake)
                while (command := read_command(self.rfile)) is not None:
                    fake.commands += 1
                    reply = session.answer(command)
                    if not fake.is_silent:
                        self.wfile.write(reply)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a client that does not trust the certificate, or that disconnects

        def make(port: int) -> Server:
            return Server(("127.0.0.1", port), Handler)

        self._make: Callable[[int], socketserver.ThreadingTCPServer] = make
        self._start(0)
        scheme = "redis" if tls is None else "rediss"
        self.url = f"{scheme}://127.0.0.1:{self.port}/0"

    def _start(self, port: int) -> None:
        self._server = self._make(port)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def reopen(self) -> None:
        """Listens again on the same port."""
        self._start(self.port)

    def is_allowed(self, words: list[bytes]) -> bool:
        """Whether AUTH with these words succeeds."""
        return bool(words) and words[-1] == self._password.encode()

    @property
    def needs_password(self) -> bool:
        return bool(self._password)

    def execute(self, command: list[bytes], null: bytes) -> bytes:
        """The reply to one command on keys. `null`: as the connection's version of the protocol writes it."""
        name, key, *more = command[0].upper(), *command[1:]
        with self._lock:
            if self.expires.get(key, time.monotonic() + 1) <= time.monotonic():
                self.counters.pop(key)
                self.expires.pop(key)
            if name == b"SET":
                return self._set(key, more, null)
            if name in (b"INCR", b"INCRBY"):
                self.counters[key] = self.counters.get(key, 0) + int((*more, b"1")[0])
                return b":%d\r\n" % self.counters[key]
            if name == b"PEXPIRE":
                self.expires[key] = time.monotonic() + int(more[0]) / 1000
                return b":1\r\n"
            if name == b"PTTL":
                left = int((self.expires[key] - time.monotonic()) * 1000) if key in self.expires else -1
                return b":%d\r\n" % (left if key in self.counters else -2)
        return b"-ERR unknown command '%s'\r\n" % name

    def _set(self, key: bytes, more: list[bytes], null: bytes) -> bytes:
        options = [word.upper() for word in more[1:]]
        if b"NX" in options and key in self.counters:
            return null
        self.counters[key] = int(more[0])
        self.expires.pop(key, None)
        if b"PX" in options:
            self.expires[key] = time.monotonic() + int(options[options.index(b"PX") + 1]) / 1000
        return b"+OK\r\n"

    def close(self) -> None:
        """Listens no more. Open connections stay."""
        self._server.shutdown()
        self._server.server_close()


class Session:
    """One connection: whether it has authenticated, and its transaction."""

    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._queued: list[list[bytes]] | None = None
        self._null = b"$-1\r\n"
        self._is_open = not redis.needs_password

    def answer(self, command: list[bytes]) -> bytes:
        """The reply to one command."""
        name = command[0].upper()
        if name == b"HELLO":
            words = command[3:] if b"AUTH" in [word.upper() for word in command] else []
            self._is_open = self._is_open or self._redis.is_allowed(words)
            self._null = b"_\r\n" if command[1] == b"3" else self._null
            return b"%%1\r\n+proto\r\n:%s\r\n" % command[1] if self._is_open else b"-WRONGPASS wrong\r\n"
        if name == b"AUTH":
            self._is_open = self._is_open or self._redis.is_allowed(command[1:])
            return b"+OK\r\n" if self._is_open else b"-WRONGPASS wrong\r\n"
        if not self._is_open:
            return b"-NOAUTH Authentication required.\r\n"
        if name in (b"CLIENT", b"SELECT"):
            return b"+OK\r\n"
        if name == b"MULTI":
            self._queued = []
            return b"+OK\r\n"
        if name == b"EXEC":
            queued, self._queued = self._queued or [], None
            return b"*%d\r\n" % len(queued) + b"".join(self._redis.execute(each, self._null) for each in queued)
        if self._queued is not None:
            self._queued.append(command)
            return b"+QUEUED\r\n"
        return self._redis.execute(command, self._null)


def read_command(stream: BufferedIOBase) -> list[bytes] | None:
    """An array of bulk strings; None at the end."""
    line = stream.readline()
    if not line:
        return None
    assert line.startswith(b"*"), line
    words = []
    for _ in range(int(line[1:])):
        size = stream.readline()
        assert size.startswith(b"$"), size
        words.append(stream.read(int(size[1:]) + 2)[:-2])
    return words
