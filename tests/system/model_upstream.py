"""An upstream that answers like servers of language models, byte by byte as the request's path asks for."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

from thread_server import HttpServer


def event(text: str, **more: Any) -> bytes:
    """A chunk of a chat completion."""
    whole = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}], **more}
    return b"data: " + json.dumps(whole, ensure_ascii=False).encode() + b"\n\n"


#: Types and bodies by path. `/split` is sent byte by byte.
USAGE = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
BODIES: dict[str, tuple[str, bytes]] = {
    "/json": ("application/json", json.dumps({"choices": [{"message": {"content": "x"}}], "usage": USAGE}).encode()),
    "/broken": ("application/json", b'{"usage": {"completion_tokens": NaN}'),
    "/floats": ("application/json", b'{"usage": {"prompt_tokens": 1.0, "completion_tokens": "3", "total_tokens": 4e0}}'),
    "/tools": ("text/event-stream", event("", choices=[{"delta": {"tool_calls": [{"function": {"arguments": "x" * 16}}]}}])),
    "/split": (
        "text/event-stream",
        b"\xef\xbb\xbf" + event("зд").replace(b"\n", b"\r\n") + event("四").replace(b"\n", b"\r"),
    ),
    "/long": ("text/event-stream", b"".join(event(f"{number:04}") for number in range(60)) + b"data: [DONE]\n\n"),
}


class ModelUpstream:
    """Listens until it is closed. `/endless` streams events until its client goes."""

    def __init__(self) -> None:
        #: The heads of the requests that arrived, by lower-case name.
        self.heads: list[dict[str, str]] = []
        self.events_sent = 0
        self.is_left = threading.Event()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                upstream.heads.append({name.lower(): value for name, value in self.headers.items()})
                self._read()
                path = self.path.partition("?")[0]
                if path == "/endless":
                    self._stream()
                    return
                kind, body = BODIES.get(path, ("text/plain", b"ok"))
                self._begin(kind)
                size = 1 if path == "/split" else len(body)
                for at in range(0, len(body), size):
                    self._chunk(body[at : at + size])
                self._chunk(b"")

            def do_GET(self) -> None:
                self.do_POST()

            def _read(self) -> None:
                if self.headers.get("transfer-encoding"):
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()
                self.rfile.read(int(self.headers.get("content-length", "0")))

            def _begin(self, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()

            def _chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

            def _stream(self) -> None:
                self._begin("text/event-stream")
                try:
                    while True:
                        self._chunk(event("text"))
                        upstream.events_sent += 1
                        time.sleep(0.005)  # as fast as a model
                except OSError:
                    upstream.is_left.set()
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HttpServer(Handler)
        self.address = self._server.address

    def close(self) -> None:
        """Stops serving."""
        self._server.close()
