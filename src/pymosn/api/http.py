"""Requests and responses of HTTP, of any version, as in RFC 9110: without the framing of a connection."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.core.addresses import entry_ip, host_field
from pymosn.core.authority import as_sent, normal_authority, split_authority
from pymosn.core.chars import decimal
from pymosn.core.clock import HttpDates
from pymosn.core.failure import Failure
from pymosn.core.forwarding import (
    CERT_ALWAYS_FORWARD_ONLY,
    CERT_APPEND_FORWARD,
    CERT_BY_TRUST,
    CERT_FORWARD_ONLY,
    CERT_SANITIZE_SET,
    ForwardingOptions,
)
from pymosn.core.headers import HeaderError, Headers, is_token, to_bytes
from pymosn.core.message import (
    BAD_HOPS,
    CONNECT,
    GLOBAL_TIMEOUT,
    LAST_HOP,
    MORE_HOPS,
    TRY_TIMEOUT,
    UNKNOWN_LENGTH,
    MessageHead,
    RequestHead,
    ResponseHead,
)
from pymosn.core.request_ids import RequestIds

#: Methods that may be sent twice (RFC 9110 section 9.2.2).
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
#: Methods whose requests Max-Forwards limits, the most that is forwarded, and what the answer to a TRACE repeats.
HOP_LIMITED: Final = (b"OPTIONS", b"TRACE")
MOST_HOPS: Final[i64] = 999_999_999
REFLECTED: Final = (b"host", b"via", b"max-forwards")
#: How names of fields begin, besides `forwarded`, that make claims about the client and its request.
CLAIMS: Final = (b"x-forwarded-", b"x-mosn-", b"x-envoy-", b"x-real-ip")
#: What trusted proxies write into X-Forwarded-Proto, and the scheme.
SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
#: The scheme of connections without TLS, which the cached `connection_lines` have.
HTTP: Final = "http"
#: What proxies say about their clients' certificates.
CLIENT_CERT: Final = b"x-forwarded-client-cert"
#: RFC 9110 section 15: clients reject any higher status.
MAX_STATUS: Final[i64] = 599

#: Fields that describe or identify the content: they would be wrong for the empty body that replaces a missing one.
OF_CONTENT: Final = (b"content-encoding", b"content-range", b"content-digest", b"etag", b"last-modified")
#: Methods whose requests declare a length even if they have no content (RFC 9110 section 8.6).
WITH_CONTENT: Final = (b"POST", b"PUT", b"PATCH")

_PHRASES: Final[dict[int, str]] = {int(status): status.phrase for status in HTTPStatus}


def phrase_of(status: i64) -> str:
    """The usual reason phrase of a status."""
    return _PHRASES.get(int(status), "Error")


def _set_length(head: MessageHead, length: i64) -> None:
    """Changes the length of the body and its Content-Length."""
    head.headers.remove_raw(b"content-length")
    head.content_length = length
    if length >= 0:
        head.headers.add_raw(b"content-length", b"%d" % length)


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpRequest(RequestHead):
    """The head of an HTTP request.

    `connection_lines`: X-Forwarded-For and -Proto, built for a connection's first request; the codec copies them to others.
    `expected_accept`: the Sec-WebSocket-Accept that the response must have, if the client itself does not check it.
    """

    def __init__(self, headers: Headers | None = None) -> None:
        super().__init__(headers)
        self.has_forwarded_for: bool = False
        self.has_forwarded_proto: bool = False
        self.has_request_id: bool = False
        #: Whether the request did not come through the trusted proxies, so that it is not trusted.
        self.bypassed_proxies: bool = False
        self.connection_lines: bytes = b""
        self.expected_accept: bytes = b""
        #: Bytes of the head as received; 0 if the protocol has no text for it.
        self.head_size: i64 = 0

    def copy(self) -> RequestHead:
        head = HttpRequest(self.headers.copy())
        self.copy_into(head)
        return head

    def copy_into(self, head: HttpRequest) -> None:
        """Copies everything but the header fields to `head`."""
        head.raw_method = self.raw_method
        head.raw_path = self.raw_path
        head.raw_query = self.raw_query
        head.raw_host = self.raw_host
        head.scheme = self.scheme
        head.content_length = self.content_length
        head.expects_continue = self.expects_continue
        head.accepts_trailers = self.accepts_trailers
        head.has_forwarded_for = self.has_forwarded_for
        head.has_forwarded_proto = self.has_forwarded_proto
        head.has_request_id = self.has_request_id
        head.bypassed_proxies = self.bypassed_proxies
        head.connection_lines = self.connection_lines
        head.has_timeout = self.has_timeout
        head.has_deadline = self.has_deadline
        head.is_one_way = self.is_one_way
        head.has_hop_limit = self.has_hop_limit
        head.timeout = self.timeout
        head.raw_tunnel = self.raw_tunnel
        head.expected_accept = self.expected_accept
        head.head_size = self.head_size

    def accepts_tunnel(self, response: ResponseHead) -> bool:
        return len(self.expected_accept) == 0 or response.headers.get_raw(b"sec-websocket-accept") == self.expected_accept

    def set_length(self, length: i64) -> None:
        _set_length(self, length)

    def describe(self, protocol: str) -> str:
        return (self.raw_method + b" " + self.raw_host + self.raw_path)[:512].decode("latin-1")

    # ---- what may be done with it

    def may_repeat(self, has_policy: bool, non_idempotent: bool) -> bool:
        return self.raw_method in IDEMPOTENT or non_idempotent

    def may_replay(self, non_idempotent: bool) -> bool:
        return self.raw_method in IDEMPOTENT or non_idempotent

    def replace_body(self, body: bytes) -> None:
        self.raw_tunnel = b""  # a request with content cannot ask for one
        self.headers.remove_raw(b"expect")
        _set_length(self, len(body))

    def spend_hop(self) -> i64:
        """Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2); with other methods it means nothing."""
        values = self.headers.get_all("max-forwards") if self.raw_method in HOP_LIMITED else []
        if not values:
            return MORE_HOPS
        text = values[0].strip(" \t")
        if len(values) > 1 or not (text.isascii() and text.isdigit()):
            return BAD_HOPS
        left: i64 = decimal(text.encode()) if len(text) <= 9 else MOST_HOPS
        if left == 0:
            return LAST_HOP
        self.headers.remove_raw(b"max-forwards")
        self.headers.add_raw(b"max-forwards", b"%d" % (left - 1))
        return MORE_HOPS

    def last_hop_reply(self, headers: Headers) -> bytes:
        """A TRACE is reflected (RFC 9110 section 9.3.8), without fields that may be secret: all but those of its way."""
        if self.raw_method != b"TRACE":
            return b""
        headers.add_raw(b"content-type", b"message/http")
        lines = [name + b": " + value for name, value in self.headers.items_raw() if name in REFLECTED]
        return b"\r\n".join([self.raw_method + b" " + self.raw_target() + b" HTTP/1.1", *lines, b"", b""])

    def continue_expected(self) -> None:
        self.expects_continue = False
        self.headers.remove_raw(b"expect")

    def rewrite_host(self, host: bytes) -> bool:
        normal = normal_authority(host)
        if normal is None:
            return False
        self._put_host(host, normal)
        return True

    def set_method(self, value: str) -> None:
        raw = to_bytes(value)
        if not is_token(raw):
            raise HeaderError(f"not a request method: {value!r}")
        if raw == CONNECT:
            raise HeaderError("the method cannot be changed to CONNECT: the response would not answer the client's request")
        if self.raw_method == CONNECT:
            raise HeaderError("the method of a CONNECT cannot be changed: the client expects a tunnel")
        self.raw_method = raw
        if self.content_length == 0 and raw in WITH_CONTENT:
            _set_length(self, 0)

    def set_host(self, host: bytes) -> None:
        normal = normal_authority(host)
        if normal is None:
            raise HeaderError(f"not a host: {host!r}")
        self._put_host(host, normal)

    def simplify_host(self, options: ForwardingOptions, own_port: i64) -> None:
        """Removes a port or a dot at the end of the name from the host, as the options say. CONNECT needs its port.

        `own_port`: the port that the client connected to.
        """
        host = self.raw_host
        if self.raw_method == CONNECT or not host:
            return
        authority = split_authority(host)
        if options.any_port or (options.own_port and authority.has_port(own_port)):
            authority.port = b""
        if options.trailing_dot:
            authority.host = authority.host.removesuffix(b".")
        simple = authority.write()
        if simple != host and simple:
            self._put_host(simple, simple)

    def _put_host(self, host: bytes, normal: bytes) -> None:
        """`normal`: the normal form of `host`, which is sent in its own case."""
        self.raw_host = normal
        self.headers.remove_raw(b"host")
        self.headers.put_first(b"Host", as_sent(host, normal))

    # ---- fields about the client

    def add_forwarding_fields(
        self, options: ForwardingOptions, remote_ip: str, upstream_address: str, was_filtered: bool, ids: RequestIds
    ) -> None:
        headers = self.headers
        if was_filtered:
            # What the codec saw in the request may no longer be true.
            self.has_forwarded_for = headers.has_raw(b"x-forwarded-for")
            self.has_forwarded_proto = headers.has_raw(b"x-forwarded-proto")
            self.has_request_id = headers.has_raw(b"x-request-id")
        if self.has_timeout and (not options.trusts_peer or self.bypassed_proxies):
            # Honoured, as in MOSN, but not forwarded: the next hop would trust it.
            headers.remove_raw(GLOBAL_TIMEOUT)
            headers.remove_raw(TRY_TIMEOUT)
        lines = b""
        if len(self.raw_host) == 0 and headers.get_raw(b"host") is None:
            # Optional in HTTP/1.0, required in HTTP/1.1.
            lines = b"host: " + host_field(upstream_address).encode() + b"\r\n"
        if options.x_forwarded:
            if self.has_forwarded_for or self.has_forwarded_proto:
                lines = lines + self._extended_lines(remote_ip, options.trusted_hops)
            elif self.scheme != HTTP:
                lines = lines + self._client_lines(remote_ip)
            else:
                if len(self.connection_lines) == 0:
                    self.connection_lines = self._client_lines(remote_ip)
                lines = self.connection_lines if len(lines) == 0 else lines + self.connection_lines
        elif options.adds_proto and not self.has_forwarded_proto:
            lines += b"x-forwarded-proto: " + self.scheme.encode() + b"\r\n"
        if options.replaces_request_id and self.has_request_id:
            headers.remove_raw(b"x-request-id")
            self.has_request_id = False
        if options.x_request_id and not self.has_request_id:
            id_line = ids.next_line()
            lines = id_line if len(lines) == 0 else lines + id_line
        if len(lines) > 0:
            headers.add_lines(lines)

    def _client_lines(self, remote_ip: str) -> bytes:
        lines = b"x-forwarded-proto: " + self.scheme.encode() + b"\r\n"
        if remote_ip:  # a client on a unix socket has none
            lines = b"x-forwarded-for: " + remote_ip.encode() + b"\r\n" + lines
        return lines

    def _extended_lines(self, remote_ip: str, hops: i64) -> bytes:
        """The lines for a request that has some of them: X-Forwarded-For is removed and gets the client's address."""
        chain = remote_ip
        if self.has_forwarded_for:
            entries = self._trusted_entries(hops) if hops > 0 else self.headers.get_all("x-forwarded-for")
            chain = ", ".join([*entries, *([chain] if chain else [])])
            self.headers.remove_raw(b"x-forwarded-for")
        lines = b"x-forwarded-for: " + chain.encode("utf-8", "surrogateescape") + b"\r\n" if chain else b""
        if not self.has_forwarded_proto:
            lines += b"x-forwarded-proto: " + self.scheme.encode() + b"\r\n"
        return lines

    def adopt_forwarded(self, options: ForwardingOptions) -> str:
        hops = options.trusted_hops
        address = self.forwarded_ip(hops) if hops > 0 else ""
        if hops > 0 and not address and not options.trusts_all:
            self._drop_claims()
        elif self.has_forwarded_proto:
            self._adopt_scheme(hops)
        return address

    def _adopt_scheme(self, hops: i64) -> None:
        """Makes the scheme that the client used, according to the trusted proxies, that of the request.

        Of several values, the one counts that the outermost trusted proxy has written. What is forwarded is the adopted
        scheme, and for an unknown one that of the connection.
        """
        fields = self.headers.get_all("x-forwarded-proto")
        words = ",".join(fields).split(",")
        scheme = SCHEMES.get(words[max(0, len(words) - max(1, int(hops)))].strip(" \t").lower(), "")
        if scheme:
            self.scheme = scheme
        if fields != [scheme]:
            self.headers.remove_raw(b"x-forwarded-proto")
            self.has_forwarded_proto = bool(scheme)
            if scheme:
                self.headers.add_raw(b"x-forwarded-proto", scheme.encode())

    def _drop_claims(self) -> None:
        """Removes the claims of a client that bypassed the trusted proxies, as those of any other client are removed.

        X-Forwarded-For and timeouts are removed later: see `add_forwarding_fields`.
        """
        self.bypassed_proxies = True
        self.has_forwarded_proto = False
        for name, _ in self.headers.items_raw():
            is_claim = name.startswith(CLAIMS) or name == b"forwarded"
            if is_claim and name not in (b"x-forwarded-for", GLOBAL_TIMEOUT, TRY_TIMEOUT):
                self.headers.remove_raw(name)

    def adopt_certificate(self, mode: i64, element: bytes) -> None:
        has_element = len(element) > 0
        keeps = mode in (CERT_BY_TRUST, CERT_ALWAYS_FORWARD_ONLY)
        if has_element and mode in (CERT_APPEND_FORWARD, CERT_FORWARD_ONLY):
            keeps = True
        adds = has_element and mode in (CERT_BY_TRUST, CERT_SANITIZE_SET, CERT_APPEND_FORWARD)
        headers = self.headers
        if not keeps:
            headers.remove_raw(CLIENT_CERT)
        elif adds:
            received = headers.get_all("x-forwarded-client-cert")
            if received:
                headers.remove_raw(CLIENT_CERT)
                element = to_bytes(",".join(received)) + b"," + element
        if adds:
            headers.add_raw(CLIENT_CERT, element)

    def received_headers(self) -> Headers | None:
        return self.headers.copy()

    def forwarded_ip(self, hops: i64) -> str:
        """The client's IP address according to `hops` trusted proxies, each of which appended its peer's address.

        That is the entry of X-Forwarded-For that is `hops` from the right; those to the left of it are client-supplied.
        Empty when there are fewer, or when it is not an IP address: then the request bypassed the proxies. Some proxies
        append the port of their peer too, or write brackets: see `entry_ip`.
        """
        entries = self._trusted_entries(hops)
        return entry_ip(entries[0]) if entries else ""

    def _trusted_entries(self, hops: i64) -> list[str]:
        """The entries of X-Forwarded-For that trusted proxies wrote; none when they cannot all have done so."""
        if not self.has_forwarded_for:
            return []
        parts = ",".join(self.headers.get_all("x-forwarded-for")).split(",")
        entries = [text for part in parts if (text := part.strip(" \t"))][-int(hops) :]
        return entries if len(entries) == hops and entry_ip(entries[0]) else []

    # ---- local replies; they repeat nothing of the request (MOSN echoes its headers)

    def local_reply(self, status: i64, headers: Headers, body: bytes) -> ResponseHead:
        if body and status != 204 and status != 304 and headers.get_raw(b"content-type") is None:
            headers.add_raw(b"content-type", b"text/plain; charset=utf-8")
        head = HttpResponse(status, b"", headers)
        if status == 204:
            head.content_length = 0
        elif status == 205:
            _set_length(head, 0)
        elif status != 304:
            head.content_length = len(body)
            headers.add_raw(b"content-length", b"%d" % len(body))
        return head

    def streamed_reply(self, status: i64, headers: Headers) -> ResponseHead:
        head = HttpResponse(status, b"", headers)
        if status == 205:
            _set_length(head, 0)
        return head

    def reply_body(self, head: ResponseHead, body: bytes) -> bytes:
        return b"" if head.status == 204 or head.status == 205 or head.status == 304 else body

    def failure_body(self, failure: Failure) -> bytes:
        return f"{failure.status} {phrase_of(failure.status)}\n".encode()

    def has_response_body(self, head: ResponseHead) -> bool:
        """Not for a HEAD, nor with a status that has no content (RFC 9110 section 6.4.1)."""
        return self.raw_method != b"HEAD" and head.status != 204 and head.status != 304

    def add_cookie(self, headers: Headers, cookie: bytes) -> None:
        headers.add_raw(b"set-cookie", cookie)


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpResponse(ResponseHead):
    """The head of an HTTP response. `raw_reason`: the upstream's reason phrase; empty for the usual one.

    `until_close`: the body ends with the connection, so a truncated one cannot be recognised.
    """

    def __init__(self, status: i64 = 200, reason: bytes = b"", headers: Headers | None = None) -> None:
        super().__init__(status, headers)
        self.raw_reason: bytes = reason
        self.has_date: bool = False
        self.until_close: bool = False

    def set_length(self, length: i64) -> None:
        _set_length(self, length)

    def replace_body(self, body: bytes) -> None:
        if self.status == 205:
            _set_length(self, 0)  # RFC 9110 section 15.3.6: no content
        elif self.status != 204 and self.status != 304:
            _set_length(self, len(body))

    def add_date(self, dates: HttpDates) -> None:
        if not self.has_date:
            self.headers.add_date(dates)

    def accept_status(self) -> bool:
        if self.status > MAX_STATUS:
            return False
        self.raw_reason = b""  # it belonged to the other status
        if self.status == 204:
            _set_length(self, UNKNOWN_LENGTH)  # RFC 9110 section 8.6: no Content-Length
        elif self.status == 205:
            _set_length(self, 0)
        return True

    def empty(self) -> None:
        _set_length(self, 0)
        for name in OF_CONTENT:
            self.headers.remove_raw(name)
