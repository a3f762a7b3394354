"""Calls of gRPC: requests and responses with messages, as bytes. Client and upstreams of the World must speak HTTP/2.

call = GrpcRequest("/shop.Orders/Get", b"7", headers={"x-tenant": "acme"})
result = await send(filters, call, GrpcResponse(b"an order"), client_protocol="Http2")
assert (grpc_status(result), grpc_messages(result.body)) == (0, [b"an order"])
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from pymosn.api.grpc import framed, percent_encoded
from pymosn.api.stream_filter import Fields
from pymosn.core.headers import Headers, HttpHeaders
from pymosn.testing.messages import Request, Response
from pymosn.testing.mistakes import InvalidTest

_PREFIX: Final = 5
_CONTENT_TYPE: Final = "application/grpc"


class GrpcRequest(Request):
    """A call. `path`: `/package.Service/Method`. `messages`: each is one chunk of the body."""

    def __init__(self, path: str, *messages: bytes, headers: Fields | None = None, timeout: str = "") -> None:
        """`timeout`: the value of `grpc-timeout`, such as `100m` for milliseconds; empty for none."""
        super().__init__("POST", path, headers, [_frame(message) for message in messages])
        self.is_sized = False
        self.headers["content-type"] = self.headers.get("content-type") or _CONTENT_TYPE
        self.headers.add_raw(b"te", b"trailers")
        if timeout:
            self.headers["grpc-timeout"] = timeout


class GrpcResponse(Response):
    """The response to a call. Without messages and with a `status` other than 0 it has only a head (`Trailers-Only`)."""

    def __init__(self, *messages: bytes, status: int = 0, message: str = "", headers: Fields | None = None) -> None:
        """`status`: of gRPC, with its `message`."""
        is_bare = not messages and status != 0
        super().__init__(200, b"" if is_bare else [_frame(entry) for entry in messages], headers)
        self.headers["content-type"] = _CONTENT_TYPE
        fields: Headers = self.headers
        if not is_bare:
            fields = self.trailers = HttpHeaders()
        fields["grpc-status"] = str(status)
        if message:
            fields["grpc-message"] = percent_encoded(message).decode()


class _WithFields(Protocol):
    """A result of `send`, or a response."""

    headers: Headers
    trailers: Headers | None


def grpc_status(result: _WithFields) -> int:
    """The status of gRPC that a call ended with; -1 if there is none."""
    for fields in (result.trailers, result.headers):
        value = None if fields is None else fields.get("grpc-status")
        if value is not None:
            return int(value)
    return -1


def grpc_messages(body: bytes) -> list[bytes]:
    """The messages of a body. Raises InvalidTest for a body that ends within one."""
    return list(_split(body))


def _split(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at + 1 : at + _PREFIX], "big")
        stop = at + _PREFIX + size
        if stop > len(body):
            raise InvalidTest(f"the body ends within a message of gRPC: {body[at : at + 40]!r}")
        yield body[at + _PREFIX : stop]
        at = stop


def _frame(message: object) -> bytes:
    """A message that is not compressed, with its prefix."""
    if not isinstance(message, bytes):
        raise InvalidTest(f"a message of gRPC must be bytes, not {message!r:.60}")
    return framed(message)
