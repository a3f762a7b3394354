"""Shared by the demos: an HTTP server, a pymosn process, and a retry until it listens."""

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
    """Answers with a greeting and the requested path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello {self.path}".encode())

    def log_message(self, *arguments: object) -> None:
        pass


def serve_http(port: int) -> None:
    """Serves in a background thread until the process ends."""
    server = HTTPServer(("127.0.0.1", port), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()


@contextmanager
def pymosn(config: str) -> Iterator[None]:
    """Runs pymosn with a configuration until the block ends."""
    proxy = subprocess.Popen([sys.executable, "-m", "pymosn", "start", "-c", config], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        proxy.terminate()
        proxy.wait(20)


def retry(call: Callable[[], T]) -> T:
    """The result of `call`, which is retried until its port is open."""
    for _ in range(300):
        try:
            return call()
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the port is not open")
