"""What a client of a test sends, and what its upstreams answer."""

import json
from collections.abc import Iterable
from typing import Any, Final

from pymosn.api.stream_filter import Fields
from pymosn.core import failure as failures
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers, headers_from

_FAILURES: Final = {kind.reason: kind for kind in vars(failures).values() if isinstance(kind, Failure)}


Body = bytes | str | Iterable[bytes | str]


class WithBody:
    """The body of a message, in `pieces` as it comes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.pieces)

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class Request(WithBody):
    """A request, from the client or as an upstream gets it."""

    def __init__(self, method: str = "GET", target: str = "/", headers: Fields | None = None, body: Body = b"") -> None:
        """`target`: path and query. `body`: in pieces when it is iterable. Without a Host field it is `test.example`."""
        super().__init__(_pieces(body))
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
        #: Whether its length is told beforehand; False is as with chunks.
        self.is_sized = True
        #: Fields behind the body; a message that has them is as with chunks.
        self.trailers: Headers | None = None

    def __repr__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"<Request {self.method} {self.path}{query}>"


class Response(WithBody):
    """What an upstream answers. `body`: in pieces when it is iterable."""

    def __init__(self, status: int = 200, body: Body = b"ok", headers: Fields | None = None) -> None:
        super().__init__(_pieces(body))
        self.status = status
        self.headers: Headers = headers_from(headers if isinstance(headers, list) else dict(headers or {}))
        #: Whether its length is told beforehand; a body in pieces has none.
        self.is_sized = isinstance(body, (bytes, str))
        #: Fields behind the body; a message that has them is as with chunks.
        self.trailers: Headers | None = None


class Down(Exception):
    """Raised by an upstream of a test that does not answer: `connect_refused`, `reset_before_response`, ..."""

    def __init__(self, reason: str = "connect_refused") -> None:
        """`reason`: a word of the failure table. KeyError for another one."""
        super().__init__(reason)
        self.failure = _FAILURES[reason]


def _pieces(body: Body) -> list[bytes]:
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes):
        return [body] if body else []
    return [piece.encode() if isinstance(piece, str) else piece for piece in body]
