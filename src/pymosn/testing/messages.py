"""Requests of a test's client, and responses of its upstreams."""

from collections.abc import Iterable
from typing import Any, Final

from pymosn.api.stream_filter import Fields
from pymosn.core import failure as failures
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers, headers_from
from pymosn.core.json_text import parse_json

_FAILURES: Final = {kind.reason: kind for kind in vars(failures).values() if isinstance(kind, Failure)}


Body = bytes | str | Iterable[bytes | str]


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


class Request(WithBody):
    """A request, sent by the client or received by an upstream."""

    def __init__(self, method: str = "GET", target: str = "/", headers: Fields | None = None, body: Body = b"") -> None:
        """`target`: path and query. `body`: in chunks if it is iterable. The default Host is `test.example`."""
        super().__init__(_chunks(body))
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
        #: Whether it has a Content-Length; otherwise the body is chunked.
        self.is_sized = True
        #: Trailers; a message with trailers is chunked.
        self.trailers: Headers | None = None

    def __repr__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"<Request {self.method} {self.path}{query}>"


class Response(WithBody):
    """An upstream's response. `body`: in chunks if it is iterable."""

    def __init__(self, status: int = 200, body: Body = b"ok", headers: Fields | None = None) -> None:
        super().__init__(_chunks(body))
        self.status = status
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
        #: Whether it has a Content-Length, which a body in chunks does not.
        self.is_sized = isinstance(body, (bytes, str))
        #: Trailers; a message with trailers is chunked.
        self.trailers: Headers | None = None


class Down(Exception):
    """Raised by a test's upstream that fails: `connect_refused`, `reset_before_response`, ..."""

    def __init__(self, reason: str = "connect_refused") -> None:
        """`reason`: a reason word of the failure table. Raises KeyError for any other."""
        super().__init__(reason)
        self.failure = _FAILURES[reason]


def _chunks(body: Body) -> list[bytes]:
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes):
        return [body] if body else []
    return [chunk.encode() if isinstance(chunk, str) else chunk for chunk in body]
