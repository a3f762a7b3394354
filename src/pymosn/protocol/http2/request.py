"""Heads and trailers of requests, decoded from header blocks (RFC 9113 section 8).

A request that HTTP/1 would read in another way than its sender is refused here, whatever the protocol of its host. The rules
beyond RFC 9113 are those of `protocol/http1/request.py`.
"""

from __future__ import annotations

from typing import Final, cast

from mypy_extensions import i64

from pymosn.api.grpc import CONTENT_TYPE as GRPC_TYPE
from pymosn.api.grpc import GrpcRequest, is_grpc
from pymosn.api.http import WITH_CONTENT, HttpRequest
from pymosn.core.authority import connect_target, normal_authority
from pymosn.core.chars import PATH, QUERY, RAW_PATH, RAW_QUERY, TARGET, all_in, escape
from pymosn.core.failure import (
    BAD_EXPECTATION,
    BAD_FRAMING,
    BAD_HOST,
    BAD_REQUEST,
    BAD_TARGET,
    BODY_TOO_LARGE,
    CONNECT_NOT_ALLOWED,
    HEADERS_TOO_LARGE,
    MALFORMED,
    TARGET_TOO_LONG,
    Failure,
)
from pymosn.core.headers import NO_HEADERS, HttpHeaders, is_token, name_bit
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH
from pymosn.core.uri import is_plain_path, normalize_path
from pymosn.protocol.http import fields
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import DROP_UNDERSCORES, PASS_UNDERSCORES, HttpPolicy
from pymosn.protocol.http2 import tables
from pymosn.protocol.http2.heads import BAD, GOOD, TOO_LARGE, HeadDecoder, KnownBlock, parse_length
from pymosn.protocol.http2.tables import Entry

SLASH: Final[i64] = 47
#: The longest accepted method; the longest registered one has 17 letters.
MAX_METHOD: Final[i64] = 32

#: Facts about a request, as bits.
HAS_FORWARDED_FOR: Final[i64] = 1
HAS_FORWARDED_PROTO: Final[i64] = 2
HAS_REQUEST_ID: Final[i64] = 4
HAS_TIMEOUT: Final[i64] = 8
EXPECTS_CONTINUE: Final[i64] = 16
IS_GRPC: Final[i64] = 32
HAS_HOP_LIMIT: Final[i64] = 64
_LATE: Final = "pseudo-header field after another field"
_LENGTH_BIT: Final[i64] = name_bit(14, 99, 104)


class RequestHeads(HeadDecoder):
    """Decodes the header blocks of the requests of one connection. Has the connection's HPACK decoder."""

    def __init__(self, limits: HttpLimits, policy: HttpPolicy, connect: bytes, table_size: i64) -> None:
        """`connect`: the `raw_tunnel` of CONNECT requests; empty if CONNECT is not allowed.

        `table_size`: the dynamic table's, in bytes, as announced in our SETTINGS.
        """
        super().__init__(limits, table_size)
        self._policy = policy
        self._connect = connect
        #: The connection's scheme, `http` or `https`; to be set before the first request.
        self.scheme: str = "http"
        #: After `decode`: the head, complete or, for a refused one, what was understood.
        self.head: HttpRequest = HttpRequest(NO_HEADERS)
        #: Whether the refused head is malformed (RFC 9113 section 8.1.1): the stream is reset instead of answered.
        self.is_malformed = False
        self._failure: Failure | None = None
        self._connection_lines: bytes = b""
        # The last block that means the same if it comes again, and once it has its head, which is never given away.
        self._known = KnownBlock()
        self._template: HttpRequest | None = None
        # The last scheme, target and host that were good, with the normal forms.
        self._good_scheme: bytes = b""
        self._target: bytes = b""
        self._path: bytes = b""
        self._query: bytes | None = None
        self._authority: bytes = b""
        self._host: bytes = b""
        # The contents of the block that is being read.
        self._facts: i64 = 0
        self._length: i64 = -1
        self._host_entry: Entry | None = None
        self._crumbs: list[bytes] | None = None
        self._grpc_timeout: bytes | None = None
        self._raw_method: bytes | None = None
        self._raw_scheme: bytes | None = None
        self._raw_path: bytes | None = None
        self._raw_authority: Entry | None = None
        self._raw_protocol: bytes | None = None

    def _reset(self) -> None:
        self._failure = None
        self.detail = ""
        self.is_malformed = False
        self._facts = 0
        self._length = -1
        self._host_entry = None
        self._crumbs = None
        self._grpc_timeout = None
        self._raw_method = None
        self._raw_scheme = None
        self._raw_path = None
        self._raw_authority = None
        self._raw_protocol = None

    def decode(self, fragment: bytes, end: bool) -> Failure | None:
        """Decodes a complete header block; None if the request is acceptable, else why it is not.

        `end`: whether it ends the stream. Raises ProtocolError for a block that violates HPACK, which ends the connection.
        """
        if len(self._connection_lines) == 0:
            self._connection_lines = self.head.connection_lines
        hpack = self._hpack
        version: i64 = hpack.version
        is_known = self._known.matches(fragment, hpack, end)
        template = self._template
        if is_known and template is not None:
            self._known.repeat(hpack)
            self.head = cast(HttpRequest, template.copy())
            self.head.connection_lines = self._connection_lines
            self.detail = ""
            self.is_malformed = False
            return None
        self._template = None
        self._reset()
        self._read(hpack.decode(fragment, True), end)
        if self._failure is not None:
            return self._failure
        if is_known:
            self._template = cast(HttpRequest, self.head.copy())
        else:
            self._known.remember(fragment, hpack, version, end)
        return None

    def decode_trailers(self, fragment: bytes) -> Failure | None:
        """Decodes the block after the content, like `decode`."""
        result: i64 = self.read_trailers(fragment)
        self.is_malformed = result == BAD
        if result == GOOD:
            return None
        return HEADERS_TOO_LARGE if result == TOO_LARGE else MALFORMED

    def _refuse(self, failure: Failure, detail: str) -> None:
        """Records why the request is refused: the first reason counts."""
        if self._failure is None:
            self._failure = failure
            self.detail = detail
            self.is_malformed = failure is MALFORMED

    def _malformed(self, detail: str) -> None:
        self._refuse(MALFORMED, detail)

    # ---- the fields

    def _read(self, entries: list[Entry], end: bool) -> None:
        """Sets `head` from the fields of a block."""
        hpack = self._hpack
        bits: i64 = hpack.bits
        count: i64 = hpack.count
        for entry in entries:
            kind: i64 = entry.kind
            if kind >= tables.METHOD:
                self._take_pseudo(entry, kind, count > hpack.count)
                continue
            count += 1
            bits |= entry.bit  # also of cookies, which are added below
            if self._take_field(entry, kind):
                hpack.add_line(entry.line)
        if hpack.is_late:
            self._malformed(_LATE)
        if hpack.overflow >= 0 or count > self._limits.fields:
            if hpack.overflow == tables.PATH:
                self._refuse(TARGET_TOO_LONG, "path is larger than max_header_size")
            self._refuse(HEADERS_TOO_LARGE, "head is larger than max_header_size, or has too many fields")
        facts: i64 = self._facts
        head = GrpcRequest(NO_HEADERS) if facts & IS_GRPC != 0 else HttpRequest(NO_HEADERS)
        head.scheme = self.scheme
        head.connection_lines = self._connection_lines
        head.accepts_trailers = True
        head.has_forwarded_for = facts & HAS_FORWARDED_FOR != 0
        head.has_forwarded_proto = facts & HAS_FORWARDED_PROTO != 0
        head.has_request_id = facts & HAS_REQUEST_ID != 0
        head.has_timeout = facts & HAS_TIMEOUT != 0
        head.has_hop_limit = facts & HAS_HOP_LIMIT != 0
        head.expects_continue = facts & EXPECTS_CONTINUE != 0
        if self._grpc_timeout is not None and isinstance(head, GrpcRequest):
            head.adopt_timeout(self._grpc_timeout)
        self.head = head
        host = self._take_host(head)
        self._take_method(head)
        if self._take_length(head, end):
            hpack.add_line(b"content-length: 0\r\n")
            bits |= _LENGTH_BIT
        if self._crumbs is not None:
            hpack.add_line(_joined_cookies(self._crumbs))
        lines = hpack.lines()
        if host is not None:
            lines = host.line + lines
            bits |= host.bit
        head.headers = HttpHeaders(lines, bits)

    def _take_pseudo(self, entry: Entry, kind: i64, is_late: bool) -> None:
        if kind == tables.FAULTY:
            self._malformed(entry.fault())
        elif kind == tables.STATUS:
            self._malformed(":status in a request")
        elif is_late:
            self._malformed(_LATE)
        else:
            is_second = False
            if kind == tables.METHOD:
                is_second = self._raw_method is not None
                self._raw_method = entry.value
            elif kind == tables.SCHEME:
                is_second = self._raw_scheme is not None
                self._raw_scheme = entry.value
            elif kind == tables.PATH:
                is_second = self._raw_path is not None
                self._raw_path = entry.value
            elif kind == tables.AUTHORITY:
                is_second = self._raw_authority is not None
                self._raw_authority = entry
            else:
                is_second = self._raw_protocol is not None
                self._raw_protocol = entry.value
            if is_second:
                self._malformed("pseudo-header field is given twice")

    def _take_field(self, entry: Entry, kind: i64) -> bool:
        """Records a field of a known kind. Returns whether its line is forwarded unchanged."""
        policy = self._policy
        if kind == tables.CONNECTION_FIELD:
            self._malformed("connection field")
            return False
        if kind == tables.COOKIE:
            if self._crumbs is None:
                self._crumbs = []
            self._crumbs.append(entry.line)
            return False
        if kind == tables.CONTENT_TYPE:
            if entry.value == GRPC_TYPE or is_grpc(entry.value):
                self._facts |= IS_GRPC
        elif kind == tables.GRPC_TIMEOUT:
            self._grpc_timeout = entry.value
        elif kind == fields.HOST:
            if self._host_entry is not None:
                self._refuse(BAD_HOST, "more than one host field")
            self._host_entry = entry
            return False
        elif kind == fields.CONTENT_LENGTH:
            if self._length != -1:
                self._malformed("more than one content-length field")
            self._length = parse_length(entry.value)
            if self._length < 0:
                self._malformed("content-length is not a number")
        elif kind == fields.TE:
            if entry.value != b"trailers" and entry.value.lower() != b"trailers":
                self._malformed("te is not trailers")
            return False
        elif kind == fields.EXPECT:
            if entry.value.lower() != b"100-continue":
                self._refuse(BAD_EXPECTATION, "unknown expectation")
            self._facts |= EXPECTS_CONTINUE
        elif kind == fields.X_FORWARDED_FOR:
            self._facts |= HAS_FORWARDED_FOR
        elif kind == fields.X_FORWARDED_PROTO:
            if not policy.trusts_peer:
                return False
            self._facts |= HAS_FORWARDED_PROTO
        elif kind == fields.CLAIM:
            return policy.trusts_peer
        elif kind == fields.X_REQUEST_ID:
            self._facts |= HAS_REQUEST_ID
        elif kind == fields.GLOBAL_TIMEOUT or kind == fields.TRY_TIMEOUT:
            self._facts |= HAS_TIMEOUT
        elif kind == fields.MAX_FORWARDS:
            self._facts |= HAS_HOP_LIMIT
        elif kind == tables.UNDERSCORE or kind == fields.LOOK_ALIKE:
            if policy.underscores == PASS_UNDERSCORES:
                return kind == tables.UNDERSCORE
            if policy.underscores != DROP_UNDERSCORES:
                self._refuse(BAD_REQUEST, "underscore in a header field name")
            return False
        elif kind >= fields.HOP_BY_HOP:
            return False
        return True

    # ---- what they mean together

    def _take_host(self, head: HttpRequest) -> Entry | None:
        """Sets the host; returns the field that becomes the `host` of the block (RFC 9113 section 8.3.1)."""
        authority = self._raw_authority
        entry = self._host_entry if authority is None else authority
        if entry is None:
            if self._raw_method != CONNECT:
                self._refuse(BAD_HOST, "neither :authority nor host")
            return None
        value = entry.value
        if len(value) == 0 or value != self._authority:
            if b"@" in value or not all_in(value, TARGET):
                self._malformed("host has user information, or characters that no host has")
                return None
            normal = normal_authority(value, self._policy.is_strict)
            if normal is None:
                self._refuse(BAD_HOST, "not a host")
                return None
            self._authority = value
            self._host = normal
        head.raw_host = self._host
        if authority is not None and self._host_entry is not None:
            other = self._host_entry.value
            if other != value and normal_authority(other, self._policy.is_strict) != head.raw_host:
                self._malformed(":authority and host differ")
        # What is forwarded is the normal form if something was dropped from the host.
        return entry if len(value) == len(self._host) else Entry(entry.name, self._host, False)

    def _take_method(self, head: HttpRequest) -> None:
        method = self._raw_method
        if method is None or not is_token(method):
            self._malformed("no :method, or not one")
            return
        if len(method) > MAX_METHOD or has_lower(method):
            self._refuse(BAD_REQUEST, "not a method")
            return
        head.raw_method = method
        if self._raw_protocol is not None:
            self._take_protocol(head, self._raw_protocol)
        elif method == CONNECT:
            self._take_connect(head)
        else:
            self._take_target(head)

    def _take_connect(self, head: HttpRequest) -> None:
        """RFC 9113 section 8.5."""
        authority = self._raw_authority
        head.raw_path = b"/"
        if self._raw_scheme is not None or self._raw_path is not None or authority is None:
            self._malformed("CONNECT with :scheme or :path, or without :authority")
            return
        if not self._connect:
            self._refuse(CONNECT_NOT_ALLOWED, "CONNECT is not allowed on this listener")
            return
        if connect_target(authority.value) is None:
            self._refuse(BAD_TARGET, "target of a CONNECT is not a host with a port")
        head.raw_tunnel = self._connect

    def _take_protocol(self, head: HttpRequest, protocol: bytes) -> None:
        """Makes an extended CONNECT the request to upgrade that HTTP/1 has for it (RFC 8441 section 4)."""
        name, slash, version = protocol.partition(b"/")
        if head.raw_method != CONNECT or self._raw_authority is None:
            self._malformed(":protocol without CONNECT, or without :authority")
        elif not is_token(name) or (len(slash) > 0 and not is_token(version)):
            self._malformed("not a protocol")
        elif self._facts & EXPECTS_CONTINUE != 0:
            self._refuse(BAD_EXPECTATION, "CONNECT with an expectation")
        head.raw_method = b"GET"
        self._take_target(head)
        head.raw_tunnel = protocol.lower()

    def _take_target(self, head: HttpRequest) -> None:
        target = self._raw_path
        scheme = self._raw_scheme
        if target is None or len(target) == 0 or scheme is None or len(scheme) == 0:
            self._malformed("no :path or no :scheme")
            return
        if scheme != self._good_scheme:
            if self._is_scheme(scheme):
                self._good_scheme = scheme
            else:
                self._refuse(BAD_TARGET, "scheme is not the connection's")
        if target == self._target:
            head.raw_path = self._path
            head.raw_query = self._query
            return
        mark: i64 = target.find(b"?")
        path = target if mark < 0 else target[:mark]
        query = None if mark < 0 else target[mark + 1 :]
        is_strict = self._policy.is_strict
        if not all_in(path, PATH if is_strict else RAW_PATH) or (
            query is not None and not all_in(query, QUERY if is_strict else RAW_QUERY)
        ):
            self._malformed(":path has characters that no path has")
        elif target[0] == SLASH:
            self._normalize(head, path, query)
            self._target = target if self._failure is None else b""
        elif target == b"*" and head.raw_method == b"OPTIONS" and self._raw_protocol is None:
            head.raw_path = target
        else:
            self._malformed(":path does not begin with a slash")

    def _is_scheme(self, scheme: bytes) -> bool:
        """Whether the scheme is acceptable: the connection's, or `http` over TLS.

        Hops that forward the scheme of a request without TLS send the latter, MOSN and Envoy among them. `https` without TLS
        is rejected (RFC 9110 section 7.4) unless the peer, which may terminate TLS, is trusted, or the listener is tolerant.
        The scheme of the head stays that of the connection.
        """
        text = scheme.lower().decode("latin-1")
        if text == self.scheme or text == "http":
            return True
        return text == "https" and (self._policy.trusts_peer or not self._policy.is_strict)

    def _normalize(self, head: HttpRequest, path: bytes, query: bytes | None) -> None:
        if not self._policy.is_strict:  # see `RequestDecoder._take_target`
            path = escape(path, PATH)
            query = None if query is None else escape(query, QUERY)
        if not is_plain_path(path):
            normal = normalize_path(path, self._policy)
            if normal is None:
                self._refuse(BAD_TARGET, "path has an invalid percent-escape, escapes the root, or is ambiguous")
                return
            path = normal
        head.raw_path = self._path = path
        head.raw_query = self._query = query

    def _take_length(self, head: HttpRequest, end: bool) -> bool:
        """Returns whether the request needs a length of 0 in HTTP/1, because of its method (RFC 9110 section 8.6)."""
        length: i64 = self._length
        if end:
            if length > 0:
                self._malformed("content-length without content")
            return length < 0 and head.raw_method in WITH_CONTENT
        if len(head.raw_tunnel) > 0:
            if length > 0:
                self._refuse(BAD_FRAMING, "CONNECT with content")
        else:
            head.content_length = length if length >= 0 else UNKNOWN_LENGTH
            if length > self._limits.body > 0:
                self._refuse(BODY_TOO_LARGE, "body is larger than max_request_body_size")
        return False


def has_lower(method: bytes) -> bool:
    """Whether `method` has a lower-case letter."""
    size: i64 = len(method)
    i: i64 = 0
    while i < size and not 97 <= method[i] <= 122:
        i += 1
    return i < size


def _joined_cookies(lines: list[bytes]) -> bytes:
    """The crumbs as one line (RFC 9113 section 8.2.3)."""
    if len(lines) == 1:
        return lines[0]
    crumbs = [line[7:-2].lstrip(b" ") for line in lines]
    return b"cookie: " + b"; ".join(crumbs) + b"\r\n"
