"""The heads of requests and responses, independent of the protocol.

A protocol derives its own classes, which answer whatever depends on it: `api.http` has those of HTTP, `api.rpc` those of
RPC. Layer 4 asks a head and never which protocol it belongs to; a further protocol is a further pair of classes.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.chars import HOST, PATH, QUERY, all_in
from pymosn.core.clock import HttpDates
from pymosn.core.failure import BAD_REWRITE, INVALID_JSON, INVALID_RESPONSE_JSON, Failure, Refused, RefusedValue
from pymosn.core.forwarding import ForwardingOptions
from pymosn.core.headers import HeaderError, Headers, HttpHeaders, to_text
from pymosn.core.json_text import parse_json, write_json
from pymosn.core.plain import plain_bytes, plain_text
from pymosn.core.request_ids import RequestIds
from pymosn.core.uri import STRICT_PATHS, PathPolicy, is_plain_path, rewritten_path, target_of

#: `content_length` of a message whose length is only known at its end (chunked, HTTP/2 without content-length).
UNKNOWN_LENGTH: Final[i64] = -1

#: A response with this status has an Upgrade field, although that belongs to one hop (RFC 9110 section 15.5.22).
UPGRADE_REQUIRED: Final[i64] = 426

#: `raw_tunnel` of a CONNECT that is forwarded to another proxy, and of one that ends here: its bytes go to the host as such.
#: Names of protocols to upgrade to are in lower case, so they never equal one of these.
CONNECT: Final = b"CONNECT"
CONNECT_HERE: Final = b"TCP"

#: Header fields with which a client sets timeouts, in milliseconds: for the whole request, and for each attempt.
GLOBAL_TIMEOUT: Final = b"x-mosn-global-timeout"
TRY_TIMEOUT: Final = b"x-mosn-try-timeout"

NOT_READABLE: Final = "the body can only be read in an `async` filter method, before it has been forwarded"

#: Default limit in bytes for a body that a filter reads.
BODY_LIMIT: Final[i64] = 1024 * 1024

#: Results of `RequestHead.spend_hop`: forward it, answer it as the last recipient, or refuse it.
MORE_HOPS: Final[i64] = 0
LAST_HOP: Final[i64] = 1
BAD_HOPS: Final[i64] = 2

#: Bytes of a request body that are kept for a further attempt, by default, and where there is no limit.
KEPT_BODY: Final[i64] = 64 * 1024
UNLIMITED: Final[i64] = 1 << 62


def body_bytes(body: bytes | bytearray | memoryview | str) -> bytes:
    """A body that a filter supplies, as bytes; text as UTF-8."""
    if isinstance(body, str):
        return plain_text(body).encode()
    return plain_bytes(body) if isinstance(body, bytes) else bytes(body)


class BodyTooLarge(Refused):
    """The body is longer than a filter accepts. A filter may catch it."""

    def __init__(self, failure: Failure, limit: int) -> None:
        super().__init__(failure, f"the body is longer than {limit} bytes")


class RefusedPath(Refused):
    """A filter set a path that has no normal form, or a `..` in it. The client gets a 400 unless a filter catches it."""

    def __init__(self, path: str) -> None:
        super().__init__(BAD_REWRITE, f"not a path to rewrite to: {path!r}")


class InvalidJson(RefusedValue):
    """The body is not the JSON that filters read. A filter may catch it, as a ValueError."""


class UnreadableHeaders(Refused):
    """The headers of an RPC message cannot be read or changed, or contain a name with different values.

    Raised by every method that would judge or change them, so that no rule is skipped. A filter may catch it.
    """


@mypyc_attr(allow_interpreted_subclasses=True)
class BodySource:
    """What a head gets from its exchange for filters: the complete body, and the policy for paths."""

    def read(self, limit: int) -> Awaitable[bytes]:
        """The whole body. Raises BodyTooLarge, and RuntimeError where it cannot be read."""
        raise NotImplementedError

    def path_policy(self) -> PathPolicy:
        """The listener's policy, which also holds for the paths that filters set."""
        return STRICT_PATHS


class NoBodySource(BodySource):
    """For exchanges without filters that may wait, on listeners whose policy for paths is not the default."""

    def __init__(self, policy: PathPolicy) -> None:
        self._policy = policy

    def read(self, limit: int) -> Awaitable[bytes]:
        raise RuntimeError(NOT_READABLE)

    def path_policy(self) -> PathPolicy:
        return self._policy


@mypyc_attr(allow_interpreted_subclasses=True)
class MessageHead:
    """The common part of request and response heads."""

    def __init__(self, headers: Headers, content_length: i64) -> None:
        self.headers: Headers = headers
        self.content_length: i64 = content_length
        #: Fields after the body; set before the last chunk of a body is shown to a filter. In `on_response_body` it may
        #: change those of a response, or set this to None so that the body ends without.
        self.trailers: Headers | None = None
        #: Set for exchanges with filters that may wait, or set a path under another policy than the default.
        self.body_source: BodySource | None = None
        #: The body that a filter set instead of the original one.
        self.new_body: bytes | None = None

    def read(self, limit: int = int(BODY_LIMIT)) -> Awaitable[bytes]:
        """The whole body; for `async` filters, before it is forwarded. Raises BodyTooLarge above `limit` bytes."""
        if self.body_source is None:
            raise RuntimeError(NOT_READABLE)
        return self.body_source.read(limit)

    async def json(self, limit: int = int(BODY_LIMIT)) -> Any:
        """The whole body as JSON. Raises like `read`, and InvalidJson for whatever `parse_json` does not accept."""
        body = await self.read(limit)
        try:
            return parse_json(body)
        except ValueError as error:
            raise InvalidJson(self.json_failure(), f"the body is not valid JSON: {error}") from None

    def json_failure(self) -> Failure:
        """What a body that is not valid JSON means for the exchange."""
        return INVALID_JSON

    def set_body(self, body: bytes | str) -> None:
        """Sends `body` (text as UTF-8) instead of the original one, whether that was read or not."""
        self.new_body = body_bytes(body)

    def set_json(self, value: object) -> None:
        """Sends `value` as JSON. Raises TypeError or ValueError for one that JSON cannot represent; see `write_json`."""
        self.new_body = write_json(value)

    def set_length(self, length: i64) -> None:
        """Changes the length of the body; UNKNOWN_LENGTH when it is only known at the end."""
        self.content_length = length

    def replace_body(self, body: bytes) -> None:
        """Prepares the head for `body`, which a filter set instead of the original one."""
        self.set_length(len(body))


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestHead(MessageHead):
    """The head of one request.

    `path` and `query` are the target in the normal form that routes match on and that is sent upstream; a protocol without
    paths leaves them empty. `content_length` is the body's length in bytes, 0 for no body, UNKNOWN_LENGTH when it is not
    known in advance. `is_one_way`: no response is expected. `timeout`: the timeout in seconds that the message itself
    carries, 0 for none; `has_timeout`: the message, or its header fields, may set timeouts. `has_deadline`: `timeout` limits
    the whole exchange, from the request's arrival to the end of the response. `has_call_status`: the headers or trailers of
    the response have the status of a call.
    `raw_tunnel`: what the connection is to carry in both directions once the response agrees: the protocol to upgrade to,
    CONNECT or CONNECT_HERE; empty for an ordinary request.
    """

    def __init__(self, headers: Headers | None = None) -> None:
        super().__init__(HttpHeaders() if headers is None else headers, 0)
        self.raw_method: bytes = b""
        self.raw_path: bytes = b""
        self.raw_query: bytes | None = None
        self.raw_host: bytes = b""
        self.scheme: str = "http"
        self.raw_tunnel: bytes = b""
        self.timeout: float = 0.0
        # The flags come last: subclasses add theirs to the same word.
        self.has_timeout: bool = False
        self.has_deadline: bool = False
        self.has_call_status: bool = False
        self.is_one_way: bool = False
        self.expects_continue: bool = False
        self.accepts_trailers: bool = False
        #: Whether a header field limits the number of proxies: see `spend_hop`.
        self.has_hop_limit: bool = False

    def copy(self) -> RequestHead:
        """A copy of the head that can be sent to another host; it does not share what filters do with the body."""
        raise NotImplementedError

    # ---- what the request asks for

    def has_path(self) -> bool:
        """Whether it names a path: a CONNECT names only a host, and RPC calls a service."""
        return len(self.raw_path) > 0 and self.raw_tunnel != CONNECT and self.raw_tunnel != CONNECT_HERE

    def raw_target(self) -> bytes:
        """Path and query, as they are sent; `/` for a CONNECT, which sends none."""
        return target_of(self.raw_path, self.raw_query)

    def method_name(self) -> str:
        """The method, for routes and logs; empty if unknown."""
        return to_text(self.raw_method)

    def route_value(self, name: str) -> str | None:
        """The header `name` (lower case) as routes see it: several values are joined.

        A protocol may know it where the headers as a whole cannot be read.
        """
        return self.headers.joined(name)

    def service(self) -> str:
        """The service that an RPC request calls; empty for other requests, and if unknown."""
        return ""

    def rpc_method(self) -> str:
        """The method that an RPC request calls; empty like `service`."""
        return ""

    def describe(self, protocol: str) -> str:
        """The request in a log line about a failure: printable ASCII. `protocol`: the name of its protocol."""
        try:
            line = f"{protocol} {self.service()} {self.method_name()}"[:512]
        except UnreadableHeaders:
            line = f"{protocol} (unreadable headers)"
        return line.encode("unicode_escape").decode("ascii")

    # ---- what may be done with it

    def may_repeat(self, has_policy: bool, non_idempotent: bool) -> bool:
        """Whether a host may get this request although another one may have acted upon it.

        `has_policy`: the route has a retry policy; `non_idempotent`: which also covers methods that are not idempotent.
        """
        return has_policy and not self.is_one_way

    def may_replay(self, non_idempotent: bool) -> bool:
        """Whether to send it again when its host closes a reused connection before the response."""
        return False

    def accepts_tunnel(self, response: ResponseHead) -> bool:
        """Whether a response that opens the requested tunnel proves what it must."""
        return True

    def kept_body_limit(self) -> i64:
        """Bytes of its body that may be kept for a further attempt."""
        return KEPT_BODY

    def held_body(self) -> bytes:
        """The complete body, where the message itself holds it, as an RPC frame does; else empty."""
        return b""

    def spend_hop(self) -> i64:
        """Counts this proxy, before the request is forwarded; returns MORE_HOPS, LAST_HOP or BAD_HOPS."""
        return MORE_HOPS

    def last_hop_reply(self, headers: Headers) -> bytes:
        """The body of the proxy's own 200 to a request that it must not forward; adds its header fields to `headers`."""
        return b""

    def continue_expected(self) -> None:
        """The client gets its 100 (Continue) from the proxy, and the upstream is not asked for one."""
        self.expects_continue = False

    def rewrite_host(self, host: bytes) -> bool:
        """Makes `host` the host of the request; returns False, and does nothing, where it cannot be."""
        return False

    def add_forwarding_fields(
        self, options: ForwardingOptions, remote_ip: str, upstream_address: str, was_filtered: bool, ids: RequestIds
    ) -> None:
        """Adds the fields about the client that `options` asks for, where the protocol has such fields.

        `remote_ip`: the other end of the client's connection. `was_filtered`: filters may have changed the headers.
        """

    def adopt_forwarded(self, options: ForwardingOptions) -> str:
        """Adopts what trusted proxies say about the client's request, its scheme, before anything judges by it.

        Returns the client's IP address according to them; empty when they do not name it.
        """
        return ""

    def adopt_certificate(self, mode: i64, element: bytes) -> None:
        """Adds the facts of the client's certificate to the value of trusted proxies, if the protocol has such a field.

        `mode`: a constant of `core.forwarding`. `element`: see `api.client_cert`; empty without a verified certificate.
        """

    def received_headers(self) -> Headers | None:
        """A copy of the headers, where that is cheap; else None."""
        return None

    def limit_time(self, seconds: float) -> None:
        """Sets the deadline that the next host gets: `seconds` are left. For protocols that have one."""

    # ---- the outcome of a call whose status is apart from the status of its response, as in gRPC: `has_call_status`

    def call_status(self, fields: Headers) -> i64:
        """The status of the call in headers or trailers of its response, a small number; -1 if they have none."""
        return -1

    def failure_call_status(self, failure: Failure) -> i64:
        """The status that the caller gets for `failure`; -1 where calls have none."""
        return -1

    def failure_trailers(self, response: ResponseHead, failure: Failure) -> Headers | None:
        """The trailers that end a `response` which has begun, because of `failure`; None: it can only be broken off."""
        return None

    def call_outcome(self, response: ResponseHead | None, failure: Failure | None) -> i64:
        """The status that the caller got in the end; -1 where calls have none, and while there is no response.

        `failure`: of the exchange, which may have broken off the response.
        """
        return -1

    def host_outcome(self, fields: Headers) -> i64:
        """The HTTP status that corresponds to the `call_status` of `fields`; 0 without one."""
        return 0

    # ---- local replies

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> ResponseHead:
        """The head of a local reply, sent with `reply_body`; `status` is HTTP's. `headers` may be kept and changed."""
        raise NotImplementedError

    def failure_reply(self, failure: Failure, headers: Headers, body: bytes) -> ResponseHead:
        """The head of a local reply about a failure; `body` is the `failure_body`."""
        return self.local_reply(failure.status, headers, body)

    def streamed_reply(self, status: i64, headers: Headers) -> ResponseHead:
        """The head of a local reply whose body follows in chunks."""
        return ResponseHead(status, headers)

    def reply_body(self, head: ResponseHead, body: bytes) -> bytes:
        """The bytes to send after `head`, which `local_reply` made for `body` or `streamed_reply` made."""
        return body

    def failure_body(self, failure: Failure) -> bytes:
        """The body of a local reply about a failure. The reason word is for the operator, not for the client."""
        return b""

    def has_response_body(self, head: ResponseHead) -> bool:
        """Whether the upstream's response with `head` has a body, even an empty one; see `ResponseSender.takes_body`."""
        return True

    def add_cookie(self, headers: Headers, cookie: bytes) -> None:
        """Adds a cookie to the `headers` of the response, where the protocol has cookies."""

    # ---- the str view, for filters

    def set_method(self, value: str) -> None:
        """Changes the method. Raises HeaderError for an invalid one, and where the protocol does not allow it."""
        raise HeaderError("the method of this request is read-only")

    def set_host(self, host: bytes) -> None:
        """Changes the host. Raises HeaderError for one that the protocol cannot send."""
        self.raw_host = host.lower()

    @property
    def method(self) -> str:
        """The method, case-sensitive."""
        return self.method_name()

    @method.setter
    def method(self, value: str) -> None:
        self.set_method(value)

    @property
    def tunnel(self) -> str:
        """The protocol that the client asks to upgrade to (`websocket`), `CONNECT` or `TCP` for a CONNECT; usually empty."""
        return self.raw_tunnel.decode("ascii")

    @property
    def upgrade(self) -> str:
        """The protocol that the client asks to upgrade to, in lower case; empty if none, or if it may not.

        For conditions on the header `Upgrade`, which is hop-by-hop and therefore not in `headers`.
        """
        asked = self.raw_tunnel
        return asked.decode("ascii") if asked.islower() else ""  # those for CONNECT are in upper case

    @property
    def path(self) -> str:
        """The path in normal form, percent-encoded, without the query.

        A new one is brought to normal form. Setting it raises HeaderError for an invalid path (without a leading slash, with
        a query, white space or other characters that must be escaped), and RefusedPath for one that is refused.
        """
        return self.raw_path.decode("ascii")

    @path.setter
    def path(self, value: str) -> None:
        raw = plain_text(value).encode("ascii", "replace")
        if not is_plain_path(raw):
            if not raw.startswith(b"/") or not all_in(raw, PATH):
                raise HeaderError(f"not a request path: {value!r}")
            policy = STRICT_PATHS if self.body_source is None else self.body_source.path_policy()
            normal = rewritten_path(raw, self.raw_path, policy)
            if normal is None:
                raise RefusedPath(value)
            raw = normal
        self.raw_path = raw

    @property
    def query(self) -> str:
        """The query without its question mark; empty when there is none."""
        return "" if self.raw_query is None else self.raw_query.decode("ascii")

    @query.setter
    def query(self, value: str) -> None:
        raw = plain_text(value).encode("utf-8", "surrogatepass")  # bytes above 127 are in no class
        if not all_in(raw, QUERY):
            raise HeaderError(f"not a query string: {value!r}")
        self.raw_query = raw or None

    @property
    def host(self) -> str:
        """The requested host, in lower case, with its port if one was given."""
        return self.raw_host.decode("ascii")

    @host.setter
    def host(self, value: str) -> None:
        raw = plain_text(value).encode("ascii", "replace")
        if not raw or not all(HOST[byte] or byte in b":[]" for byte in raw):
            raise HeaderError(f"not a host: {value!r}")
        self.set_host(raw)


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseHead(MessageHead):
    """The head of one response. `status` is HTTP's; another protocol maps its own to it.

    `content_length` as in RequestHead; in the response to a HEAD it is the length that a GET would have returned.
    `raw_tunnel` as in RequestHead: not empty in the response that agrees to it, after which there is no body but the tunnel.
    """

    def __init__(self, status: i64 = 200, headers: Headers | None = None) -> None:
        super().__init__(HttpHeaders() if headers is None else headers, UNKNOWN_LENGTH)
        self.status: i64 = status
        self.raw_tunnel: bytes = b""
        #: Whether the host finds fault with the request, although `status` is 500 or more.
        self.rejects_request: bool = False

    def json_failure(self) -> Failure:
        return INVALID_RESPONSE_JSON

    def add_date(self, dates: HttpDates) -> None:
        """Adds the date if the protocol requires one and there is none."""

    def accept_status(self) -> bool:
        """Adapts the head to a `status` that a filter set; returns False for one that cannot be sent."""
        return True

    def empty(self) -> None:
        """Makes it the head of an empty body: the upstream sent none, although the client expects one."""
        self.set_length(0)
