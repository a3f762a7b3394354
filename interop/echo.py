"""Upstreams that tell what they have received, and that answer what the request asks for.

Request headers: `x-case`: the number under which a request is recorded. `x-answers`: the statuses of the attempts of a case,
separated by commas; `reset` closes the connection instead. `x-answer-delay`: seconds before each attempt's response.
`x-answer-header`: `name=value`, a header of the response.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A request as a host has received it. `headers`: with lower-case names, in order."""

    host: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hosts: EchoHosts
    name: str

    def handle_one_request(self) -> None:
        """Every method is answered in the same way."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = tuple((name.lower(), value) for name, value in self.headers.items())
        method, target, _ = self.requestline.split(" ")
        number = self.hosts.record(self.headers.get("x-case", ""), Seen(self.name, method, target, headers, body))
        delay = float(_nth(self.headers.get("x-answer-delay"), number, "0"))
        if delay:
            self.hosts.ended.wait(delay)
        answer = _nth(self.headers.get("x-answers"), number, "200")
        if answer == "reset":
            self.close_connection = True
            return
        self.send_response_only(int(answer))
        self.send_header("x-host", self.name)
        for added in self.headers.get_all("x-answer-header", []):
            self.send_header(*added.split("=", 1))
        content = f"{self.name} {number}\n".encode()
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _nth(values: str | None, number: int, default: str) -> str:
    """The value of the n-th attempt; the last one of the list for those after it."""
    if not values:
        return default
    items = values.split(",")
    return items[min(number, len(items)) - 1].strip()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error."""


class EchoHosts:
    """Hosts with names, each on a port of its own. A context manager that ends them."""

    def __init__(self, names: Sequence[str]) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._seen: dict[str, list[Seen]] = {}
        self._servers = [_Server(("127.0.0.1", 0), _handler(self, name)) for name in names]
        self.ports: dict[str, int] = {
            name: server.server_address[1] for name, server in zip(names, self._servers, strict=True)
        }
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def record(self, case: str, seen: Seen) -> int:
        """Records a request; returns the number of those of the case, from 1."""
        with self._lock:
            requests = self._seen.setdefault(case, [])
            requests.append(seen)
            return len(requests)

    def seen(self, case: str) -> list[Seen]:
        """The requests of a case."""
        with self._lock:
            return list(self._seen.get(case, ()))

    def __enter__(self) -> EchoHosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _handler(hosts: EchoHosts, name: str) -> type[_Handler]:
    return type("Handler", (_Handler,), {"hosts": hosts, "name": name})
