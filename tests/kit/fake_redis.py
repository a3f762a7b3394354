"""A minimal Redis server: RESP over a socket, and counters. It runs in separate threads."""

import socketserver
import threading
from io import BufferedIOBase


class FakeRedis:
    """Listens on a free port until it is closed."""

    def __init__(self) -> None:
        self.counters: dict[bytes, int] = {}
        #: Seconds to live that were asked for, by key.
        self.expires: dict[bytes, int] = {}
        self._lock = threading.Lock()
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while (command := read_command(self.rfile)) is not None:
                    self.wfile.write(fake.answer(command))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, command: list[bytes]) -> bytes:
        """The reply to one command."""
        name = command[0].upper()
        with self._lock:
            if name in (b"INCR", b"INCRBY"):
                self.counters[command[1]] = self.counters.get(command[1], 0) + int((*command, b"1")[2])
                return b":%d\r\n" % self.counters[command[1]]
            if name == b"EXPIRE":
                self.expires[command[1]] = int(command[2])
                return b":1\r\n"
        if name == b"HELLO":
            return b"%%1\r\n+proto\r\n:%s\r\n" % command[1]
        if name in (b"CLIENT", b"SELECT"):
            return b"+OK\r\n"
        return b"-ERR unknown command '%s'\r\n" % name

    def close(self) -> None:
        """Listens no more."""
        self._server.shutdown()
        self._server.server_close()


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
