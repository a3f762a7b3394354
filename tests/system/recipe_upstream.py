"""An upstream for the recipes: tells what it got, and what else a recipe needs to show itself."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ("one ", "two ", "thr ", "four", "five")


class RecipeUpstream:
    """Listens on a port of its own until it is closed; `name` stands in what it tells."""

    def __init__(self, name: str) -> None:
        #: How many requests came.
        self.count = 0
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                upstream.count += 1
                body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
                if self.path == "/sse":
                    self._stream()
                    return
                got = {
                    "name": name,
                    "path": self.path,
                    "headers": {key.lower(): value for key, value in self.headers.items()},
                    "body": body,
                    "password": "p",
                }
                self._answer(json.dumps(got).encode(), {"cache-control": "max-age=60"} if self.path == "/fresh" else {})

            def do_POST(self) -> None:
                self.do_GET()

            def _answer(self, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(200)
                for key, value in {**headers, "content-type": "application/json", "content-length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for word in WORDS:
                    event = b"data: " + json.dumps({"choices": [{"delta": {"content": word}}]}).encode() + b"\n\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a stream that a filter ends is broken off here

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Listens no more."""
        self._server.shutdown()
        self._server.server_close()
