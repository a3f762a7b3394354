"""An upstream for tests of caches: its query says how it responds."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Any
from urllib.parse import parse_qsl


class CacheUpstream:
    """Listens on a port of its own until it is closed.

    Parameters: `h=NAME:VALUE` adds a header; `sleep` seconds before the response; `body` replaces the JSON that describes
    the request; `short` announces more bytes than it sends; `close` ends the body with the connection; `chunked`;
    `upgrade` switches to WebSocket, and sends the body at once.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, target: str) -> int:
        """How many requests there were for a target."""
        with self._lock:
            return self._counts.get(target, 0)

    def close(self) -> None:
        """Listens no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, client.makefile("rb") as lines:
            self._respond(client, lines)

    def _respond(self, client: socket.socket, lines: Any) -> None:
        method, target, _ = lines.readline().decode().split()
        headers: dict[str, str] = {}
        while (line := lines.readline().decode("latin-1").strip()) != "":
            key, _, value = line.partition(":")
            headers[key.lower()] = value.strip()
        lines.read(int(headers.get("content-length", "0")))
        with self._lock:
            number = self._counts[target] = self._counts.get(target, 0) + 1
        fields = parse_qsl(target.partition("?")[2], keep_blank_values=True)
        wishes = dict(fields)
        time.sleep(float(wishes.get("sleep", "0")))  # the time that an upstream takes, not one for a test to wait
        seen = {"upstream": self.name, "number": number, "method": method, "headers": headers, "password": "s3cret"}
        body = wishes["body"].encode() if "body" in wishes else json.dumps(seen).encode()
        added = "".join(f"{value.partition(':')[0]}: {value.partition(':')[2]}\r\n" for key, value in fields if key == "h")
        self._send(client, added, b"" if method == "HEAD" else body, wishes, len(body))

    def _send(self, client: socket.socket, added: str, body: bytes, wishes: dict[str, str], length: int) -> None:
        if "upgrade" in wishes:
            client.sendall(
                b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-type: text/html\r\n\r\n" + body
            )
            return
        framing = f"content-length: {length + (10 if 'short' in wishes else 0)}\r\n"
        if "close" in wishes:
            framing = ""
        elif "chunked" in wishes:
            framing = "transfer-encoding: chunked\r\n"
            body = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        kind = "" if "content-type:" in added else "content-type: application/json\r\n"
        head = f"HTTP/1.1 {wishes.get('status', '200')} x\r\nconnection: close\r\n{kind}{added}{framing}\r\n"
        client.sendall(head.encode() + body)
