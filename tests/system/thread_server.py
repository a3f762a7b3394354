"""Servers of tests, with a thread for each connection."""

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ThreadServer:
    """Accepts until it is closed. A connection is closed when `serve` is done with it.

    `listener`: a socket that listens; by default on a free port of this machine.
    """

    def __init__(self, serve: Callable[[socket.socket], None], listener: socket.socket | None = None) -> None:
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
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


class HttpServer(ThreadingHTTPServer):
    """Serves HTTP until it is closed. `address`: host and port."""

    daemon_threads = True
    # The default of 5 is less than the proxy opens at once: the kernel would drop what is sent on the others for seconds.
    request_queue_size = 512

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.port: int = self.server_address[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the proxy has closed the connection before the response was complete

    def close(self) -> None:
        """Stops serving."""
        self.shutdown()
        self.server_close()
