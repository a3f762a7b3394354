"""Messages whose status or method a filter changes, in the real program: each is complete, and its connection is kept."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, TwoHops

FILTERS = """
from pymosn.api import StreamFilter

STATUSES = {"/no-content": 200, "/not-modified": 200, "/to-no-content": 204, "/to-not-modified": 304}

class Changes(StreamFilter):
    def on_request(self, exchange):
        if exchange.request.path == "/to-head":
            exchange.request.method = "HEAD"

    def on_response(self, exchange):
        exchange.response.status = STATUSES.get(exchange.request.path, exchange.response.status)
"""


class Handler(BaseHTTPRequestHandler):
    """`/no-content` is a 204, `/not-modified` a 304, all else a 200 with a body that it sends in two parts."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        status = {"/no-content": 204, "/not-modified": 304}.get(self.path, 200)
        self.send_response(status)
        self.send_header("etag", '"e"')
        if status != 204:
            self.send_header("content-length", "5")
        self.end_headers()
        if status == 200 and self.command == "GET":
            self.wfile.write(b"he")
            self.wfile.write(b"llo")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


ROWS = [
    ("GET", "/no-content", 200, b"", "0"),
    ("GET", "/not-modified", 200, b"", "0"),
    ("GET", "/to-head", 200, b"", "0"),
    ("HEAD", "/plain", 200, b"", "5"),
    ("GET", "/to-no-content", 204, b"", None),
    ("GET", "/to-not-modified", 304, b"", "5"),
    ("GET", "/plain", 200, b"hello", "5"),
]


def test_each_message_is_complete(start: Start, port: int, tmp_path: Path) -> None:
    (tmp_path / "filters.py").write_text(FILTERS)
    hops = TwoHops(port)
    listener = hops.server["listeners"][0]
    listener["stream_filters"] = [{"type": "python", "config": {"path": str(tmp_path / "filters.py"), "class": "Changes"}}]
    listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "server_router"
    proxy = start(hops.config, "--workers", "2")
    proxy.wait_for(READY)
    connection = http.client.HTTPConnection("127.0.0.1", hops.client_port, timeout=PATIENCE)
    connection.connect()
    assert connection.sock is not None
    local = connection.sock.getsockname()
    for _ in range(3):
        for method, path, status, body, length in ROWS:
            connection.request(method, path)
            response = connection.getresponse()
            assert (response.status, response.read()) == (status, body), (method, path)
            assert response.headers["content-length"] == length, (method, path)
            assert connection.sock is not None, "the proxy closed the connection"
            assert connection.sock.getsockname() == local
    connection.close()
