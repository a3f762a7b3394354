"""Requests of a test's client, and responses of its upstreams, as they are written on a connection."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final

from pymosn.api.stream_filter import Fields
from pymosn.core import failure as failures
from pymosn.core.failure import Failure
from pymosn.core.headers import FRAMING, HeaderError, Headers, HttpHeaders, encode_value, to_bytes, wire_lines
from pymosn.core.json_text import parse_json
from pymosn.protocol.http1.encoder import LAST_CHUNK, encode_chunk, encode_trailers, status_line
from pymosn.testing.mistakes import InvalidTest, place_of_generator, raise_as_mistake

_FAILURES: Final = {kind.reason: kind for kind in vars(failures).values() if isinstance(kind, Failure)}

#: The host of requests that name none.
HOST: Final = "test.example"
#: Bytes that a body may have which is made while it is sent; with more it is taken for one without an end.
MOST_BYTES: Final = 128 << 20

Body = bytes | str | Iterable[bytes | str]
Chunks = Body | AsyncIterable[bytes | str]


class WithBody:
    """The body of a message, in `chunks` as it is sent or received."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return parse_json(self.body)


class Message(WithBody):
    """What requests and responses share: header fields, trailers, and how the body is framed."""

    def __init__(self, headers: Fields | Headers | None, chunks: list[bytes], is_sized: bool) -> None:
        super().__init__(chunks)
        self.headers: Headers = _headers_of(headers)
        #: Whether it has a Content-Length; otherwise the body is chunked.
        self.is_sized = is_sized
        #: Trailers; a message with trailers is chunked.
        self.trailers: Headers | None = None

    def check(self) -> None:
        """Raises InvalidTest if an attribute was set to what cannot be sent."""
        if not isinstance(self.headers, Headers):
            raise InvalidTest(
                f"headers must be Headers, not {_named(self.headers)}: set single ones, `headers[name] = value`"
            )
        if self.trailers is not None and not isinstance(self.trailers, Headers):
            raise InvalidTest(f"trailers must be HttpHeaders or None, not {_named(self.trailers)}")
        if not isinstance(self.chunks, list) or not all(isinstance(chunk, bytes) for chunk in self.chunks):
            raise InvalidTest("chunks must be a list of bytes")

    def end_of_body(self) -> bytes:
        """What is written after the last chunk of a chunked body."""
        return LAST_CHUNK if self.trailers is None else encode_trailers(self.trailers)


class Request(Message):
    """A request, sent by the client or received by an upstream."""

    def __init__(
        self, method: str = "GET", target: str = "/", headers: Fields | Headers | None = None, body: Body = b""
    ) -> None:
        """`target`: path and query. `body`: in chunks if it is iterable. The default Host is `test.example`.

        Raises HeaderError for header fields that cannot be sent, InvalidTest for arguments of other types.
        """
        super().__init__(headers, _chunks_of(body), True)
        self.method = method
        self.path, self._mark, self.query = _line("target", target).partition("?")
        self.check()

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"

    def check(self) -> None:
        super().check()
        for name in ("method", "path", "query"):
            _line(name, getattr(self, name))

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path + self._mark

    def head(self) -> bytes:
        """The head as it is sent: with a Host, and accepting trailers."""
        lines = [f"{self.method} {self.target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")]
        if not self.headers.has_raw(b"host"):
            lines.append(f"host: {HOST}\r\n".encode())
        lines.append(wire_lines(self.headers))
        if not self.headers.has_raw(b"te"):
            lines.append(b"te: trailers\r\nconnection: te\r\n")
        if self.is_chunked():
            lines.append(b"transfer-encoding: chunked\r\n")
        elif self.chunks:
            lines.append(b"content-length: %d\r\n" % len(self.body))
        return b"".join([*lines, b"\r\n"])

    def is_chunked(self) -> bool:
        """Whether the body is chunked."""
        return self.trailers is not None or not self.is_sized

    def pieces(self) -> Iterator[bytes]:
        """The bytes to send, as they arrive: the head, with a body that is a single chunk, or else each chunk alone."""
        if not self.is_chunked():
            if len(self.chunks) > 1 or self.headers.has_raw(b"expect"):
                yield self.head()
                yield from self.chunks
            else:
                yield self.head() + self.body
            return
        yield self.head()
        for chunk in self.chunks:
            yield b"".join(encode_chunk(chunk, False))
        yield self.end_of_body()


class Response(Message):
    """An upstream's response. `body`: in chunks if it is iterable.

    An iterator or an async iterable is read while the response is sent, so that it may raise `Down` in the middle.
    """

    def __init__(self, status: int = 200, body: Chunks = b"ok", headers: Fields | Headers | None = None) -> None:
        """Raises HeaderError for header fields that cannot be sent, InvalidTest for arguments of other types.

        `status`: from 200 to 599. With 204 and 304, and in the response to HEAD, no body is sent.
        """
        #: The chunks of a body that is read while it is sent.
        self._stream: Iterator[bytes | str] | AsyncIterator[bytes | str] | None = None
        if isinstance(body, AsyncIterable):
            self._stream = aiter(body)
        elif isinstance(body, Iterator):
            self._stream = body
        chunks = [] if isinstance(body, (Iterator, AsyncIterable)) else _chunks_of(body)
        super().__init__(headers, chunks, isinstance(body, (bytes, str, bytearray, memoryview)))
        self._is_used = False
        self.status = status
        self.check()

    def check(self) -> None:
        super().check()
        if not isinstance(self.status, int) or not 200 <= self.status <= 599:
            raise InvalidTest(f"the status of a response must be from 200 to 599, not {self.status!r:.50}")
        if self._is_used and self._stream is not None:
            raise InvalidTest(
                "the body of this response is an iterator that was already sent: "
                "use a list, or a function that makes a new response for each request"
            )

    def head(self, has_body: bool) -> bytes:
        """The head as it is sent. `has_body`: the request and the status allow a body."""
        lines = [status_line(self.status, b""), wire_lines(self.headers)]
        if self.is_chunked():
            lines.append(b"transfer-encoding: chunked\r\n" if has_body else b"")
        elif self.status not in (204, 304):
            lines.append(b"content-length: %d\r\n" % len(self.body))
        return b"".join([*lines, b"\r\n"])

    def is_chunked(self) -> bool:
        """Whether the body is chunked."""
        return self.trailers is not None or not self.is_sized

    def place(self) -> str:
        """The line at which a body that is being made waits; empty if it is not known."""
        return place_of_generator(self._stream)

    async def parts(self) -> AsyncIterator[bytes]:
        """The chunks of the body, as they are sent; those of an iterator are kept in `chunks`. Raises like `Answers.ask`."""
        stream = self._stream
        if stream is None:
            for chunk in list(self.chunks):
                yield chunk
            return
        self._is_used = True
        size = 0
        while True:
            try:
                chunk = _chunk_of(await anext(stream) if isinstance(stream, AsyncIterator) else next(stream))
            except (StopIteration, StopAsyncIteration):
                return
            except (Down, asyncio.CancelledError):
                raise
            except BaseException as error:
                raise_as_mistake(error, "the body of a response")
            size += len(chunk)
            if size > MOST_BYTES:
                raise InvalidTest(f"the body of a response has no end within {MOST_BYTES >> 20} MiB", self.place())
            self.chunks.append(chunk)
            yield chunk


class Down(Exception):
    """Raised by a test's upstream that fails: `connect_refused`, `reset_before_response`, ..."""

    def __init__(self, reason: str = "connect_refused") -> None:
        """`reason`: a reason word of the failure table. Raises InvalidTest for any other."""
        super().__init__(reason)
        found = _FAILURES.get(reason)
        if found is None:
            raise InvalidTest(f"{reason!r} is not a reason word, such as connect_refused or reset_before_response")
        self.failure = found


def _headers_of(fields: Fields | Headers | None) -> Headers:
    """Headers that may contain hop-by-hop fields, which the proxy has to remove; but not those that frame the body."""
    if isinstance(fields, Headers):
        return fields.copy()
    if fields is not None and not isinstance(fields, (Mapping, list, tuple)):
        raise InvalidTest(f"headers must be a dict or a list of pairs, not {_named(fields)}")
    headers = HttpHeaders()
    for pair in fields.items() if isinstance(fields, Mapping) else fields or ():
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise InvalidTest(f"names and values of headers must be text, not {pair!r:.200}")
        name, value = pair
        raw = to_bytes(name).lower()
        if raw in (b"content-length", b"transfer-encoding"):
            raise HeaderError(f"header {name} is written by the kit: the body, its chunks and `is_sized` decide about it")
        if raw in FRAMING:
            headers.add_raw(raw, encode_value(name, value))
        else:
            headers.add(name, value)
    return headers


def _chunks_of(body: Body) -> list[bytes]:
    if isinstance(body, (str, bytes, bytearray, memoryview)):
        whole = _chunk_of(body)
        return [whole] if whole else []
    if isinstance(body, Mapping) or not isinstance(body, Iterable):
        raise InvalidTest(f"a body must be bytes, text or chunks of them, not {_named(body)}")
    return [_chunk_of(chunk) for chunk in body]


def _chunk_of(chunk: object) -> bytes:
    if isinstance(chunk, str):
        return chunk.encode()
    if isinstance(chunk, (bytes, bytearray, memoryview)):
        return bytes(chunk)
    raise InvalidTest(f"a chunk of a body must be bytes or text, not {_named(chunk)}")


def _line(name: str, value: object) -> str:
    """A part of the request line. Raises InvalidTest for what would break out of it."""
    if not isinstance(value, str) or "\r" in value or "\n" in value:
        raise InvalidTest(f"the {name} of a request must be one line of text, not {value!r:.200}")
    return value


def _named(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} ({value!r:.60})"
