"""What llhttp (by httptools) and h11 see in the same bytes, in one common form."""

from __future__ import annotations

from dataclasses import dataclass, field

import h11
import httptools

Fields = list[tuple[bytes, bytes]]


@dataclass
class Seen:
    """One complete message. `start`: method and target as received, or the status."""

    start: tuple[bytes, ...]
    fields: Fields = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)


@dataclass
class View:
    """The complete messages, the error word if one followed them, and whether the parser stopped at a message's end."""

    messages: list[Seen] = field(default_factory=list)
    error: str = ""
    stopped: bool = False


class _Collector:
    """The callbacks of httptools."""

    def __init__(self) -> None:
        self.view = View()
        self._target = b""
        self._in_body = False
        self._fields: Fields = []
        self._trailers: Fields = []
        self._body = b""
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def on_message_begin(self) -> None:
        self._target, self._body, self._in_body = b"", b"", False
        self._fields, self._trailers = [], []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        (self._trailers if self._in_body else self._fields).append((name.lower(), (value or b"").strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if isinstance(self.parser, httptools.HttpResponseParser):
            start: tuple[bytes, ...] = (b"%d" % self.parser.get_status_code(),)
        else:
            start = (self.parser.get_method(), self._target)
        self.view.messages.append(Seen(start, self._fields, self._body, self._trailers))


def llhttp_requests(data: bytes) -> View:
    """The requests that llhttp sees."""
    collector = _Collector()
    while data:
        parser = collector.parser = httptools.HttpRequestParser(collector)
        try:
            parser.feed_data(data)
            break
        except httptools.HttpParserUpgrade as upgrade:
            # We never upgrade, so what follows is the next request.
            data = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            collector.view.error = f"{type(error).__name__}: {error}"
            break
    return collector.view


def llhttp_reply(data: bytes) -> View:
    """The replies that llhttp sees; a body without a length is not completed."""
    collector = _Collector()
    collector.parser = httptools.HttpResponseParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        collector.view.stopped = True
    except httptools.HttpParserError as error:
        collector.view.error = f"{type(error).__name__}: {error}"
    return collector.view


def h11_requests(data: bytes) -> View:
    """The requests that h11 sees; it stops behind one that does not keep the connection."""
    view = View()
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                seen = Seen((bytes(event.method), bytes(event.target)), _plain(event.headers))
            elif isinstance(event, h11.Data):
                seen.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                seen.trailers = _plain(event.headers)
                view.messages.append(seen)
                # Refused when it asks for a tunnel: we never make one here.
                connection.send(h11.Response(status_code=405 if seen.start[0] == b"CONNECT" else 204, headers=[]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.MUST_CLOSE or connection.their_state is h11.MUST_CLOSE:
                    view.stopped = True
                    return view
                connection.start_next_cycle()
            else:
                return view
    except h11.RemoteProtocolError as error:
        view.error = str(error)
        return view


def h11_reply(data: bytes, method: bytes, eof: bool) -> View:
    """The one reply that h11 sees, interim ones left out."""
    view = View()
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    try:
        if eof:
            connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                seen = Seen((b"%d" % event.status_code,), _plain(event.headers))
            elif isinstance(event, h11.Data):
                seen.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                seen.trailers = _plain(event.headers)
                view.messages.append(seen)
                return view
            elif not isinstance(event, h11.InformationalResponse):
                return view
    except h11.RemoteProtocolError as error:
        view.error = str(error)
        return view


def _plain(headers: h11.Headers | list[tuple[bytes, bytes]]) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in headers]
