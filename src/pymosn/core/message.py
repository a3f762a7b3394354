"""The heads of a request and of a reply, as every HTTP-like protocol gives them to the proxy."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.chars import HOST, TARGET
from pymosn.core.headers import HeaderError, Headers, encode_name

#: `content_length` of a message whose length only its end will tell (chunked, HTTP/2 without content-length).
UNKNOWN_LENGTH: Final[i64] = -1


class RequestHead:
    """The head of one request.

    `path` and `query` are the target in the normal form that routes are matched on and that is sent upstream.
    `content_length` is the body's length in bytes, 0 for no body, UNKNOWN_LENGTH when it is not known beforehand.
    """

    def __init__(self) -> None:
        self.raw_method: bytes = b""
        self.raw_path: bytes = b""
        self.raw_query: bytes | None = None
        self.raw_host: bytes = b""
        self.scheme: str = "http"
        self.headers: Headers = Headers()
        self.content_length: i64 = 0
        self.minor_version: i64 = 1
        self.keep_alive: bool = True
        self.expects_continue: bool = False
        self.accepts_trailers: bool = False
        self.has_forwarded_for: bool = False
        self.has_forwarded_proto: bool = False
        self.has_request_id: bool = False
        self.has_timeout: bool = False

    @property
    def method(self) -> str:
        """The request method, case-sensitive."""
        return self.raw_method.decode("ascii")

    @method.setter
    def method(self, value: str) -> None:
        self.raw_method = encode_name(value)

    @property
    def path(self) -> str:
        """The path in normal form, percent-encoded, without the query."""
        return self.raw_path.decode("ascii")

    @path.setter
    def path(self, value: str) -> None:
        raw = value.encode("ascii", "replace")
        if not raw.startswith(b"/") or not all(TARGET[byte] for byte in raw) or b"?" in raw:
            raise HeaderError(f"not a request path: {value!r}")
        self.raw_path = raw

    @property
    def query(self) -> str:
        """The query without its question mark; empty when there is none."""
        return "" if self.raw_query is None else self.raw_query.decode("ascii")

    @query.setter
    def query(self, value: str) -> None:
        raw = value.encode("ascii", "replace")
        if not all(TARGET[byte] for byte in raw):
            raise HeaderError(f"not a query string: {value!r}")
        self.raw_query = raw or None

    @property
    def host(self) -> str:
        """The host asked for, in lower case, with its port when one was given."""
        return self.raw_host.decode("ascii")

    @host.setter
    def host(self, value: str) -> None:
        raw = value.encode("ascii", "replace")
        if not raw or not all(HOST[byte] or byte in b":[]" for byte in raw):
            raise HeaderError(f"not a host: {value!r}")
        self.raw_host = raw.lower()
        self.headers.remove_raw(b"host")
        self.headers.block = b"Host: " + raw + b"\r\n" + self.headers.block


class ResponseHead:
    """The head of one reply.

    `content_length` as in RequestHead; in the reply to a HEAD it is the length that a GET would have told.
    `keep_alive` is what the upstream said of its own connection.
    """

    def __init__(self, status: i64 = 200, reason: bytes = b"", headers: Headers | None = None) -> None:
        self.status: i64 = status
        self.raw_reason: bytes = reason
        self.headers: Headers = Headers() if headers is None else headers
        self.content_length: i64 = UNKNOWN_LENGTH
        self.minor_version: i64 = 1
        self.keep_alive: bool = True
        self.has_date: bool = False
