"""An upstream for the recipes: its responses describe the requests."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

from thread_server import HttpServer


class RecipeUpstream:
    """Serves until it is closed; `name` is part of its responses."""

    def __init__(self, name: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                got = {
                    "name": name,
                    "path": self.path,
                    "headers": {key.lower(): value for key, value in self.headers.items()},
                    "body": self.rfile.read(int(self.headers.get("content-length", "0"))).decode(),
                }
                body = json.dumps(got).encode()
                self.send_response(200)
                if self.path == "/fresh":
                    self.send_header("cache-control", "max-age=60")
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HttpServer(Handler)
        self.address = self._server.address

    def close(self) -> None:
        """Stops serving."""
        self._server.close()
