"""What the demos share: an HTTP server, pymosn beside it, and patience until it listens."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TypeVar

T = TypeVar("T")


class Hello(BaseHTTPRequestHandler):
    """Says hello, and what it was asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello {self.path}".encode())

    def log_message(self, *arguments: object) -> None:
        pass


def serve_http(port: int) -> None:
    """Says hello for as long as the process lives."""
    server = HTTPServer(("127.0.0.1", port), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()


@contextmanager
def pymosn(config: str) -> Iterator[None]:
    """pymosn with a configuration, until the block ends."""
    proxy = subprocess.Popen([sys.executable, "-m", "pymosn", "start", "-c", config], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        proxy.terminate()
        proxy.wait(20)


def patiently(call: Callable[[], T]) -> T:
    """What `call` gives, once somebody listens where it connects to."""
    for _ in range(300):
        try:
            return call()
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("nobody listens")
