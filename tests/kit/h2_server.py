"""The server half of an HTTP/2 connection without the other layers: a fake connection, a clock, and requests that record."""

from __future__ import annotations

from typing import Any

from tests.kit import h2_frames as wire
from tests.kit.h2_end import End, Pairs, Stream
from tests.kit.options import http2_options

from pymosn.api.http import HttpResponse
from pymosn.api.network import Connection
from pymosn.api.stream import RequestReceiver, ResponseSender, StreamHandler
from pymosn.core.failure import Failure
from pymosn.core.frame_writer import FrameWriter
from pymosn.core.headers import Headers, headers_from
from pymosn.core.message import RequestHead
from pymosn.core.timers import NEVER
from pymosn.stream.http2.options import Http2Options
from pymosn.stream.http2.server_filter import Http2Server


def options(**changes: Any) -> Http2Options:
    """Options of a listener that allows bodies of any rate."""
    return http2_options(**{"body_min_rate": 0.0, **changes})


class FakeConnection(Connection):
    """Records what happens to a connection. `now_` is the time; `take` returns what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.id = 7
        self.time = 1000.0
        self.alarm = NEVER
        self.out = FrameWriter()
        self.pauses = 0
        self.turns_given = 0
        #: How it was closed: `close`, `linger` or `abort`, and why.
        self.end = ""
        self.failure: Failure | None = None

    def now(self) -> float:
        return self.time

    def batch_writer(self) -> FrameWriter:
        return FrameWriter() if self.is_closed else self.out

    def take(self) -> bytes:
        """What was written since the last call."""
        return b"".join(self.out.take())

    def set_idle(self, seconds: float) -> None:
        self.alarm = self.time + seconds if seconds > 0.0 else NEVER

    def pause_reading(self) -> None:
        self.pauses += 1

    def resume_reading(self) -> None:
        self.pauses -= 1

    def yield_reading(self) -> None:
        self.turns_given += 1

    def _close(self, how: str, failure: Failure) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.end, self.failure = how, failure

    def close(self, failure: Failure) -> None:
        self._close("close", failure)

    def close_lingering(self, failure: Failure) -> None:
        self._close("linger", failure)

    def abort(self, failure: Failure) -> None:
        self._close("abort", failure)


class Request(RequestReceiver):
    """Records a request. `reply` is called when it begins, if there is one."""

    def __init__(self, handler: Handler, sender: ResponseSender) -> None:
        super().__init__()
        self._handler = handler
        self.sender = sender
        self.head: RequestHead | None = None
        self.data = b""
        #: Lengths of the pieces of content.
        self.pieces: list[int] = []
        self.has_end = False
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.refusal = ""
        self.reset = ""
        self.writable: list[bool] = []

    def on_request(self, head: RequestHead, data: bytes, end: bool) -> None:
        assert self.head is None
        self.head = head
        self.data, self.has_end = data, end
        self.pieces = [len(data)] if data else []
        self._handler.on_begin(self)

    def on_refused(self, head: RequestHead, failure: Failure) -> None:
        assert self.head is None
        self.head = head
        self.refusal = failure.reason
        self._handler.on_refusal(self, failure)

    def on_data(self, data: bytes, end: bool) -> None:
        assert not self.has_end, "content behind the end"
        assert not self.reset, "content behind a reset"
        assert end or data, "content without bytes"
        self.data += data
        self.pieces.append(len(data))
        self.has_end = end
        self._handler.on_content(self)

    def on_trailers(self, trailers: Headers) -> None:
        assert not self.has_end
        assert not self.reset
        self.has_end = True
        self.trailers = list(trailers.items_raw())
        self._handler.on_content(self)

    def on_reset(self, failure: Failure) -> None:
        assert not self.reset, "reset twice"
        self.reset = failure.reason
        self._handler.on_break(self)

    def on_writable(self, writable: bool) -> None:
        self.writable.append(writable)

    def respond(
        self, status: int = 200, body: bytes = b"", *, end: bool = True, release: bool = True, **fields: str
    ) -> None:
        """Responds; a complete response releases the stream, as an exchange does."""
        head = HttpResponse(status, b"", headers_from({name.replace("_", "-"): value for name, value in fields.items()}))
        self.sender.send_response(head, body, end)
        if end and release:
            self.sender.release()


class Handler(StreamHandler):
    """Records requests and counted failures. Subclasses say what happens to a request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.counted: list[str] = []

    def new_stream(self, sender: ResponseSender) -> RequestReceiver:
        self.requests.append(Request(self, sender))
        return self.requests[-1]

    def on_unexpected_message(self, failure: Failure) -> None:
        self.counted.append(failure.reason)

    def on_begin(self, request: Request) -> None:
        pass

    def on_content(self, request: Request) -> None:
        pass

    def on_refusal(self, request: Request, failure: Failure) -> None:
        request.respond(failure.status)

    def on_break(self, request: Request) -> None:
        request.sender.release()

    @property
    def refusals(self) -> list[str]:
        return [request.refusal for request in self.requests if request.refusal]


class ServerRig:
    """A server half and its client (`end`), which checks all that it is sent."""

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        settings: tuple[tuple[int, int], ...] = (),
        window: int = 0,
        answers: bool = True,
        connection: FakeConnection | None = None,
        **changes: Any,
    ) -> None:
        """`settings`, `window`: the client's. `answers`: whether it acknowledges. `changes`: of the options."""
        self.handler = Handler() if handler is None else handler
        self.connection = FakeConnection() if connection is None else connection
        self.server = Http2Server(self.handler, options(**changes))
        self._to_server = b""
        self.end = End(True, self._write, settings, window)
        self.end.answers = answers
        self.server.on_connection(self.connection)
        self.feed(self.end.opening())

    def _write(self, data: bytes) -> None:
        self._to_server += data

    @property
    def requests(self) -> list[Request]:
        return self.handler.requests

    @property
    def request(self) -> Request:
        """The last request."""
        return self.handler.requests[-1]

    @property
    def goaway(self) -> int:
        """The code of the last GOAWAY; -1 for none."""
        return self.end.goaways[-1][1] if self.end.goaways else -1

    def feed(self, data: bytes) -> None:
        """The client sends these bytes, and whatever follows from the answers."""
        while data:
            if self.connection.is_closed:
                break
            self.server.on_data(data)
            data = self.exchange()
        self.exchange()

    def exchange(self) -> bytes:
        """The client reads what was sent. Returns what it has to send."""
        out = self.connection.take()
        if out:
            self.end.feed(out)
        data, self._to_server = self._to_server, b""
        return data

    def settle(self) -> None:
        """Both sides read until nothing is left."""
        self.feed(self.exchange())

    def open(self, fields: Pairs, body: bytes = b"", end: bool = True) -> Stream:
        """The client sends a request."""
        stream = self.end.send_request(fields, body, end)
        self.settle()
        return stream

    def advance(self, seconds: float) -> None:
        """Time passes; alarms fire."""
        until = self.connection.time + seconds
        while self.connection.alarm <= until and not self.connection.is_closed:
            self.connection.time = max(self.connection.time, self.connection.alarm)
            self.connection.alarm = NEVER
            self.server.on_idle()
            self.settle()
        self.connection.time = until

    def lose(self, failure: Failure) -> None:
        """The connection is gone."""
        self.connection.is_closed = True
        self.server.on_close(failure)


def get(path: bytes = b"/", *fields: tuple[bytes, bytes]) -> Pairs:
    """The fields of a GET."""
    return method(b"GET", path, *fields)


def method(name: bytes, path: bytes = b"/", *fields: tuple[bytes, bytes]) -> Pairs:
    """The fields of a request."""
    pseudo = [(b":method", name), (b":scheme", b"http"), (b":authority", b"a"), (b":path", path)]
    return [*pseudo, *fields]


__all__ = ["FakeConnection", "Handler", "Request", "ServerRig", "get", "method", "options", "wire"]
