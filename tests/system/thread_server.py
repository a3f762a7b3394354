"""A server of tests: what happens with each connection is a function's, in a thread of its own."""

import socket
import threading
from collections.abc import Callable


class ThreadServer:
    """Accepts until it is closed. A connection is closed when `serve` is done with it."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._serve = serve
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock: socket.socket) -> None:
        with sock:
            self._serve(sock)

    def close(self) -> None:
        self._listener.close()
