"""Client and upstreams of the table that compares `pymosn.testing` with the server; they use another codec than pymosn."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from typing import Any, NamedTuple

import h11
from pymosn_process import PATIENCE
from recorder import Servers

#: Fields that belong to one connection, or whose values are different each time.
HIDDEN = {"connection", "transfer-encoding", "te", "date"}

Fields = list[tuple[str, str]]


class Case(NamedTuple):
    """One row: a filter, a request, and the upstream's response."""

    chain: str
    method: str = "GET"
    target: str = "/"
    headers: Fields = []
    body: bytes | list[bytes] = b""
    #: Of the request: with a Content-Length otherwise.
    chunked: bool = False
    trailers: Fields = []
    status: int = 200
    #: Of the response: chunked if it is a list. None: the upstream closes its connection.
    answer: bytes | list[bytes] | None = b"ok"
    answer_headers: Fields = []
    answer_trailers: Fields = []
    #: What differs, and why; otherwise nothing does.
    differs: tuple[str, ...] = ()
    reason: str = ""


class Received(NamedTuple):
    """A request as an upstream received it."""

    method: str
    target: str
    headers: Fields
    body: bytes
    trailers: Fields


class Outcome(NamedTuple):
    """What has become of a case."""

    status: int
    headers: Fields
    body: bytes
    trailers: Fields
    was_reset: bool
    upstream: list[Received]
    note: str


def shown(fields: Any) -> Fields:
    """Fields that can be compared: without those of one connection, and without values that are different each time."""
    found = []
    for pair in fields:
        name, value = [part if isinstance(part, str) else part.decode("utf-8", "surrogateescape") for part in pair]
        if name.lower() not in HIDDEN:
            found.append((name.lower(), "..." if name.lower() == "x-request-id" else masked(value)))
    return sorted(found)


def is_chunked(case: Case) -> bool:
    return case.chunked or bool(case.trailers)


def lines(fields: Fields) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode("utf-8", "surrogateescape") for name, value in fields)


def chunked(parts: list[bytes], trailers: Fields) -> list[bytes]:
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts] + [b"0\r\n" + lines(trailers) + b"\r\n"]


def pieces(case: Case) -> list[bytes]:
    """The bytes of the request, in pieces as a client sends them."""
    head = f"{case.method} {case.target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    if "host" not in [name.lower() for name, _ in case.headers]:
        head += b"Host: test.example\r\n"
    head += lines(case.headers)
    if "te" not in [name.lower() for name, _ in case.headers]:
        head += b"TE: trailers\r\nConnection: TE\r\n"
    parts = case.body if isinstance(case.body, list) else [case.body] if case.body else []
    if is_chunked(case):
        return [head + b"Transfer-Encoding: chunked\r\n\r\n", *chunked(parts, case.trailers)]
    if parts:
        head += b"Content-Length: %d\r\n" % len(b"".join(parts))
    is_split = isinstance(case.body, list) or "expect" in [name for name, _ in case.headers]
    return [head + b"\r\n", *parts] if is_split else [head + b"\r\n" + b"".join(parts)]


def response(case: Case) -> list[bytes]:
    """The bytes of the upstream's response to a GET, in parts. It asks to close the connection, so no case reuses one."""
    head = b"HTTP/1.1 %d Status\r\nConnection: close\r\n" % case.status + lines(case.answer_headers)
    if isinstance(case.answer, list) or case.answer_trailers:
        parts = case.answer if isinstance(case.answer, list) else [case.answer or b""]
        return [head + b"Transfer-Encoding: chunked\r\n\r\n", *chunked(parts, case.answer_trailers)]
    has_length = case.status not in (204, 304)
    body = (case.answer or b"") if has_length else b""
    return [head + (b"Content-Length: %d\r\n" % len(body) if has_length else b"") + b"\r\n" + body]


class Progress:
    """How far messages have come: a peer sends the next part when the other one has the last, so that each arrives alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: Events that the receiver of the request, and of the response, has seen.
        self.events = {"request": 0, "response": 0}

    def note(self, what: str) -> None:
        """A part has arrived."""
        with self._changed:
            self.events[what] += 1
            self._changed.notify_all()

    def wait(self, what: str, count: int) -> None:
        """Waits until so many parts have arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.events[what] >= count, PATIENCE), f"{what}: no part {count}"


def ask(port: int, case: Case, progress: Progress) -> tuple[int, Fields, bytes, Fields, bool]:
    """Sends the request of a case: status, headers, body, trailers, and whether the response was aborted."""
    codec = h11.Connection(h11.CLIENT)
    method = case.method if case.method.isalpha() else "GET"
    codec.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    if method != "CONNECT":
        codec.send(h11.EndOfMessage())
    status, headers, body, trailers = 0, [], b"", []
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        left = pieces(case)
        sock.sendall(left.pop(0))
        if not any(name == "expect" for name, _ in case.headers):
            for count, piece in enumerate(left, 1):
                progress.wait("request", count)
                sock.sendall(piece)
            left = []
        while True:
            try:
                event = codec.next_event()
            except h11.RemoteProtocolError:
                return status, headers, body, trailers, True
            if event is h11.NEED_DATA:
                codec.receive_data(sock.recv(65536))
            elif isinstance(event, h11.InformationalResponse):
                for piece in left:
                    sock.sendall(piece)
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, shown(event.headers)
                progress.note("response")
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                progress.note("response")
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body, shown(event.headers), False
            else:
                return status, headers, body, trailers, True


class Upstreams(Servers):
    """The servers of some clusters: `service` responds as the case says, `auth` by the path."""

    def __init__(self) -> None:
        self.case = Case("")
        self.progress = Progress()
        self.received: list[Received] = []
        super().__init__(("service", "auth"))

    async def serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        codec = h11.Connection(h11.SERVER)
        head: h11.Request | None = None
        body = b""
        try:
            while True:
                event = codec.next_event()
                if event is h11.NEED_DATA:
                    if head is not None and codec.they_are_waiting_for_100_continue:
                        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                        codec.send(h11.InformationalResponse(status_code=100, headers=[]))
                    codec.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    head = event
                    self.progress.note("request")
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                    self.progress.note("request")
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            assert head is not None
            target = head.target.decode()
            fields = shown(head.headers)
            self.received.append(Received(head.method.decode(), target, fields, body, shown(event.headers)))
            answer = self._answer(name, target)
            if head.method == b"HEAD":
                answer = [answer[0][: answer[0].index(b"\r\n\r\n") + 4]]
            for count, part in enumerate(answer):
                await self.loop.run_in_executor(None, self.progress.wait, "response", count)
                writer.write(part)
            await writer.drain()
        except (OSError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()

    def _answer(self, name: str, target: str) -> list[bytes]:
        case = self.case
        if name == "auth":
            case = Case("", status=200 if target == "/allow" else 403, answer=b"auth")
        return [] if case.answer is None else response(case)


def masked(text: str) -> str:
    """A line of the log without the addresses of hosts, which have other names in the kit."""
    return re.sub(r"127\.0\.0\.1:\d+|(service|auth|refused):80", "HOST", text)
