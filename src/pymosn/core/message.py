"""The heads of a request and of a reply, as every protocol gives them to the proxy; those of RPC are in `api.rpc`."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.chars import HOST, TARGET
from pymosn.core.failure import Failure
from pymosn.core.headers import HeaderError, Headers, is_token, to_bytes

#: `content_length` of a message whose length only its end will tell (chunked, HTTP/2 without content-length).
UNKNOWN_LENGTH: Final[i64] = -1

#: `raw_tunnel` of a CONNECT that is sent on to another proxy, and of one that ends here: its bytes go to the host as such.
#: Names of protocols to upgrade to are in lower case, so they are never one of these.
CONNECT: Final = b"CONNECT"
CONNECT_HERE: Final = b"TCP"


#: Bytes of a body that a filter gets at most, unless it asks for more.
BODY_LIMIT: Final[i64] = 1024 * 1024


class Refused(Exception):
    """A filter cannot take a message. That is no fault of the filter, and is answered by `failure`."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class BodyTooLarge(Refused):
    """A body is longer than a filter wants to read. A filter may catch it."""

    def __init__(self, failure: Failure, limit: int) -> None:
        super().__init__(failure, f"the body is longer than {limit} bytes")


@mypyc_attr(allow_interpreted_subclasses=True)
class BodySource:
    """Where the body of a message is had from as a whole."""

    def read(self, limit: int) -> Awaitable[bytes]:
        """The whole body. Raises BodyTooLarge."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class MessageHead:
    """What the heads of requests and replies have in common."""

    def __init__(self, headers: Headers, content_length: i64) -> None:
        self.headers: Headers = headers
        self.content_length: i64 = content_length
        #: Fields behind the body; there before the last piece of a body is shown to a filter.
        self.trailers: Headers | None = None
        #: Set for exchanges with filters that may wait.
        self.body_source: BodySource | None = None
        #: What a filter puts in place of the body.
        self.new_body: bytes | None = None

    def read(self, limit: int = int(BODY_LIMIT)) -> Awaitable[bytes]:
        """The whole body; for `async` filters, before it is sent on. Raises BodyTooLarge when it is over `limit` bytes."""
        if self.body_source is None:
            raise RuntimeError("only an `async` method of a filter can read a body, before it is sent on")
        return self.body_source.read(limit)

    async def json(self, limit: int = int(BODY_LIMIT)) -> Any:
        """The whole body as JSON. Raises like `read`, and ValueError for what is no JSON."""
        return json.loads(await self.read(limit))

    def set_body(self, body: bytes | str) -> None:
        """Sends `body` (text as UTF-8) in place of the message's own, whether that was read or not."""
        self.new_body = body.encode() if isinstance(body, str) else bytes(body)

    def set_json(self, value: object) -> None:
        """Sends `value` as JSON. Raises TypeError for what JSON does not know."""
        self.set_body(json.dumps(value, separators=(",", ":")))

    def set_length(self, length: i64) -> None:
        """Frames the body anew; UNKNOWN_LENGTH when only its end will tell."""
        self.headers.remove_raw(b"content-length")
        self.content_length = length
        if length >= 0:
            self.headers.add_raw(b"content-length", b"%d" % length)


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestHead(MessageHead):
    """The head of one request.

    `path` and `query` are the target in the normal form that routes are matched on and that is sent upstream.
    `content_length` is the body's length in bytes, 0 for no body, UNKNOWN_LENGTH when it is not known beforehand.
    `is_rpc`: it is a `RpcRequest`, whose message nothing of HTTP's own concerns. `is_one_way`: nobody waits for a reply.
    `timeout`: the seconds that the message itself gives its receiver, 0 for none.
    `raw_tunnel`: what the connection shall carry both ways once the reply agrees: the protocol to upgrade to, CONNECT or
    CONNECT_HERE; empty for an ordinary request.
    """

    def __init__(self, headers: Headers | None = None) -> None:
        super().__init__(Headers() if headers is None else headers, 0)
        self.raw_method: bytes = b""
        self.raw_path: bytes = b""
        self.raw_query: bytes | None = None
        self.raw_host: bytes = b""
        self.scheme: str = "http"
        self.minor_version: i64 = 1
        self.keep_alive: bool = True
        self.expects_continue: bool = False
        self.accepts_trailers: bool = False
        self.has_forwarded_for: bool = False
        self.has_forwarded_proto: bool = False
        self.has_request_id: bool = False
        self.has_timeout: bool = False
        self.is_rpc: bool = False
        self.is_one_way: bool = False
        self.timeout: float = 0.0
        self.raw_tunnel: bytes = b""

    def copy(self) -> RequestHead:
        """A copy of the head that can be edited by itself; what filters do with the body does not concern it."""
        head = RequestHead()
        head.raw_method = self.raw_method
        head.raw_path = self.raw_path
        head.raw_query = self.raw_query
        head.raw_host = self.raw_host
        head.scheme = self.scheme
        head.headers = self.headers.copy()
        head.content_length = self.content_length
        head.minor_version = self.minor_version
        head.keep_alive = self.keep_alive
        head.expects_continue = self.expects_continue
        head.accepts_trailers = self.accepts_trailers
        head.has_forwarded_for = self.has_forwarded_for
        head.has_forwarded_proto = self.has_forwarded_proto
        head.has_request_id = self.has_request_id
        head.has_timeout = self.has_timeout
        head.is_rpc = self.is_rpc
        head.is_one_way = self.is_one_way
        head.timeout = self.timeout
        head.raw_tunnel = self.raw_tunnel
        return head

    @property
    def method(self) -> str:
        """The request method, case-sensitive."""
        return self.raw_method.decode("ascii")

    @method.setter
    def method(self, value: str) -> None:
        raw = to_bytes(value)
        if not is_token(raw):
            raise HeaderError(f"not a request method: {value!r}")
        if raw == CONNECT:
            raise HeaderError("a request cannot be made a CONNECT: its reply would be no reply to what the client asked")
        self.raw_method = raw

    @property
    def tunnel(self) -> str:
        """The protocol that the client asks to upgrade to (`websocket`), `CONNECT` or `TCP` for a CONNECT; mostly empty."""
        return self.raw_tunnel.decode("ascii")

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


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseHead(MessageHead):
    """The head of one reply.

    `content_length` as in RequestHead; in the reply to a HEAD it is the length that a GET would have told.
    `keep_alive` is what the upstream said of its own connection. `raw_tunnel` as in RequestHead: not empty in the reply that
    agrees to it, behind which there is no body but the tunnel.
    """

    def __init__(self, status: i64 = 200, reason: bytes = b"", headers: Headers | None = None) -> None:
        super().__init__(Headers() if headers is None else headers, UNKNOWN_LENGTH)
        self.status: i64 = status
        self.raw_reason: bytes = reason
        self.minor_version: i64 = 1
        self.keep_alive: bool = True
        self.has_date: bool = False
        self.raw_tunnel: bytes = b""
