"""Request decoding (RFC 9112 sections 3 to 7)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.http import HttpRequest
from pymosn.api.protocol import NEED_MORE, ProtocolError
from pymosn.core.authority import connect_target, normal_authority
from pymosn.core.chars import PATH, QUERY, RAW_PATH, RAW_QUERY, TOKEN, escape, is_digit
from pymosn.core.failure import (
    BAD_EXPECTATION,
    BAD_FRAMING,
    BAD_HOST,
    BAD_REQUEST,
    BAD_TARGET,
    BAD_VERSION,
    CONNECT_NOT_ALLOWED,
    HEADERS_TOO_LARGE,
    TARGET_TOO_LONG,
)
from pymosn.core.headers import NO_HEADERS, HttpHeaders
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH
from pymosn.core.uri import normalize_path, parse_uri
from pymosn.protocol.http import fields
from pymosn.protocol.http.fields import trimmed
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import STRICT, HttpPolicy
from pymosn.protocol.http1.body import IN_CHUNK_SIZE, IN_LENGTH, NO_BODY
from pymosn.protocol.http1.decoder import Http1Decoder
from pymosn.protocol.http1.rules import CR, LF, SP, upgrade_protocol

SLASH: Final[i64] = 47
DOT: Final[i64] = 46
PERCENT: Final[i64] = 37
QUESTION: Final[i64] = 63
#: The longest accepted method; the longest registered one has 17 letters.
MAX_METHOD: Final[i64] = 32


class RequestDecoder(Http1Decoder):
    """Decodes the requests of one connection. After HEAD, `head` is the current request.

    The head's `raw_tunnel` is any protocol to which the client may ask to upgrade; whether that is allowed is decided later.
    """

    def __init__(self, limits: HttpLimits, policy: HttpPolicy = STRICT, connect: bytes = b"") -> None:
        """`connect`: the `raw_tunnel` of CONNECT requests; empty if CONNECT is not allowed."""
        super().__init__(limits, policy)
        self._connect = connect
        # What a target may have before and after its question mark.
        self._path_bytes: bytes = PATH if policy.is_strict else RAW_PATH
        self._query_bytes: bytes = QUERY if policy.is_strict else RAW_QUERY
        #: The connection's, `http` or `https`.
        self.scheme: bytes = b"http"
        self.head: HttpRequest = HttpRequest(NO_HEADERS)
        self._has_host: bool = False
        #: The target is an absolute URI, so its authority overrides the Host field (RFC 9112 section 3.2.2).
        self._target_has_host: bool = False
        #: The Host field is not in the form in which it is forwarded.
        self._rewrites_host: bool = False
        self._skipped_line: bool = False
        #: Length of the request line once it is complete, so that it is not scanned again for each further field line.
        self._line_size: i64 = 0

    def refused_head(self) -> HttpRequest:
        """The part of the head that was decoded before it was refused."""
        if self.head.headers is NO_HEADERS:
            self.head.headers = HttpHeaders()
        return self.head

    # ---- the head

    def _decode_head(self) -> i64:
        buffer = self._buffer
        size: i64 = len(buffer)
        start: i64 = self._at
        if start >= size:
            return NEED_MORE
        first: i64 = buffer[start]
        if first < SP and first in (CR, LF) and not self._skipped_line:
            # One empty line before a request is tolerated (RFC 9112 section 2.2).
            self._begin_head()
            after_line: i64 = self._end_line(start, first)
            if after_line < 0:
                return NEED_MORE
            self._skipped_line = True
            self._at = start = after_line
        if start >= size or not self._needs_scan():
            return self._check_head_size(size - start)
        after: i64 = start + self._line_size
        if self._line_size == 0:
            self._begin_head()
            after = self._scan_request_line(start)
            if after >= 0:
                self._line_size = after - start
        self._reset_head()
        self._has_host = False
        self._rewrites_host = False
        if after >= 0:
            after = self._scan_fields(after)
        if after < 0:
            self._scanned = size
            return self._check_head_size(size - start)
        self._check_head_size(after - start)
        self.head.head_size = after - start
        self._at = after
        self._scanned = 0
        self._skipped_line = False
        self._line_size = 0
        return self._finish_head()

    def _begin_head(self) -> None:
        """Replaces the previous request, also for bytes that turn out not to begin another one."""
        lines = self.head.connection_lines
        self.head = HttpRequest(NO_HEADERS)
        self.head.connection_lines = lines
        self._target_has_host = False

    def _check_head_size(self, size: i64) -> i64:
        if size > self.limits.head:
            if self._buffer.find(b"\n", self._at, self._at + self.limits.head) >= 0:
                raise ProtocolError(HEADERS_TOO_LARGE, "head is larger than max_header_size")
            raise ProtocolError(TARGET_TOO_LONG, "request line is larger than max_header_size")
        return NEED_MORE

    def _scan_request_line(self, start: i64) -> i64:
        """Returns the offset after the request line, or -1 if it is incomplete."""
        buffer = self._buffer
        size: i64 = len(buffer)
        head = self.head
        i: i64 = start
        while i < size and TOKEN[buffer[i]] != 0 and not 97 <= buffer[i] <= 122:
            i += 1
        if i - start > MAX_METHOD:
            raise ProtocolError(BAD_REQUEST, "method is too long")
        if i >= size:
            return -1
        if buffer[i] != SP or i == start:
            raise ProtocolError(BAD_REQUEST, "not a method")
        head.raw_method = buffer[start:i]
        i += 1
        target: i64 = i
        query: i64 = -1
        odd = False
        before: i64 = 0
        characters = self._path_bytes
        while i < size:
            byte: i64 = buffer[i]
            if characters[byte] == 0:
                break
            if byte == PERCENT or (before == SLASH and (byte in (SLASH, DOT))):
                odd = True
            before = byte
            i += 1
        if i < size and buffer[i] == QUESTION:
            query = i
            i += 1
            characters = self._query_bytes
            while i < size and characters[buffer[i]] != 0:
                i += 1
        if i - target > self.limits.head:
            raise ProtocolError(TARGET_TOO_LONG, "target is larger than max_header_size")
        if i >= size:
            return -1
        if buffer[i] != SP or i == target:
            # A line without a version is HTTP/0.9; anything else is a character that is not allowed in a target.
            raise ProtocolError(BAD_REQUEST if buffer[i] == CR else BAD_TARGET, "not a request target")
        self._take_target(target, query, i, odd)
        return self._scan_version(i + 1)

    def _scan_version(self, start: i64) -> i64:
        buffer = self._buffer
        size: i64 = len(buffer)
        end: i64 = start + 8
        if not b"HTTP/".startswith(buffer[start : start + 5]):
            raise ProtocolError(BAD_REQUEST, "not an HTTP version")
        if end >= size:
            if b"\n" in buffer[start:]:
                raise ProtocolError(BAD_REQUEST, "not an HTTP version")
            return -1
        is_version = is_digit(buffer[end - 3]) and buffer[end - 2] == DOT and is_digit(buffer[end - 1])
        if not is_version or (buffer[end] != CR and buffer[end] != LF):
            raise ProtocolError(BAD_REQUEST, "not an HTTP version")
        after: i64 = self._end_line(end, buffer[end])
        minor: i64 = buffer[end - 1] - 48
        if after >= 0 and (buffer[end - 3] != 49 or minor > 1):
            raise ProtocolError(BAD_VERSION, "HTTP version is not 1.0 or 1.1")
        self.minor_version = minor
        return after

    def _take_target(self, start: i64, query: i64, end: i64, odd: bool) -> None:
        buffer = self._buffer
        head = self.head
        if head.raw_method == CONNECT:
            self._take_authority(buffer[start:end])
            return
        if query >= 0:
            # What a tolerant listener accepts beyond RFC 3986 is forwarded percent-encoded (RFC 3987 section 3.1).
            head.raw_query = buffer[query + 1 : end] if self._is_strict else escape(buffer[query + 1 : end], QUERY)
            end = query
        path = buffer[start:end]
        if buffer[start] != SLASH:
            if path == b"*" and query < 0 and head.raw_method == b"OPTIONS":
                head.raw_path = path
                return
            path = self._take_absolute(path)
            if not path:
                # RFC 9112 section 3.2.4: without path and query the request is about the server as a whole.
                path = b"*" if query < 0 and head.raw_method == b"OPTIONS" else b"/"
            else:
                odd = True
        if not self._is_strict:
            path = escape(path, PATH)
        if odd and path != b"*":
            normal = normalize_path(path, self.policy)
            if normal is None:
                raise ProtocolError(BAD_TARGET, "path has an invalid percent-escape, escapes the root, or is ambiguous")
            path = normal
        head.raw_path = path

    def _take_absolute(self, target: bytes) -> bytes:
        """The path, possibly empty, of an absolute-form target; its authority becomes the host (RFC 9112 section 3.2.2).

        Its scheme must be the connection's (RFC 9110 section 7.4).
        """
        uri = parse_uri(target)
        if uri.authority is None or uri.scheme != self.scheme:
            raise ProtocolError(BAD_TARGET, "target is neither a path nor a URI of the connection's scheme")
        host = normal_authority(uri.authority, self._is_strict)
        if host is None:
            raise ProtocolError(BAD_HOST, "target has a bad authority")
        self.head.raw_host = host
        self._target_has_host = True
        return uri.path

    def _take_authority(self, target: bytes) -> None:
        """Reads the target of a CONNECT: host and port, which override the Host field (RFC 9112 section 3.2.3)."""
        if not self._connect:
            raise ProtocolError(CONNECT_NOT_ALLOWED, "CONNECT is not allowed on this listener")
        host = connect_target(target)
        if host is None:
            raise ProtocolError(BAD_TARGET, "target of a CONNECT is not a host with a port")
        head = self.head
        head.raw_host = host
        head.raw_path = b"/"
        head.raw_tunnel = self._connect
        self._target_has_host = True

    def _take_field(self, kind: i64, value: bytes) -> bool:
        head = self.head
        if kind == fields.HOST:
            text = trimmed(value)
            if self._has_host:
                raise ProtocolError(BAD_HOST, "more than one host field")
            self._has_host = True
            host = normal_authority(text, self._is_strict)
            if host is None:
                raise ProtocolError(BAD_HOST, "not a host")
            if self._target_has_host:
                return True  # `_finish_head` adds the target's host instead
            head.raw_host = host
            self._rewrites_host = len(host) != len(text)
            return self._rewrites_host
        if kind == fields.X_FORWARDED_FOR:
            head.has_forwarded_for = True
        elif kind == fields.X_FORWARDED_PROTO:
            if not self.policy.trusts_peer:
                return True
            head.has_forwarded_proto = True
        elif kind == fields.CLAIM:
            return not self.policy.trusts_peer
        elif kind == fields.X_REQUEST_ID:
            head.has_request_id = True
        elif kind == fields.GLOBAL_TIMEOUT or kind == fields.TRY_TIMEOUT:
            head.has_timeout = True
        elif kind == fields.MAX_FORWARDS:
            head.has_hop_limit = True
        elif kind == fields.EXPECT:
            if value.strip(b" \t").lower() != b"100-continue":
                raise ProtocolError(BAD_EXPECTATION, "unknown expectation")
            head.expects_continue = True
        elif kind == fields.TE:
            if b"trailers" in [coding.strip(b" \t") for coding in value.lower().split(b",")]:
                head.accepts_trailers = True
            return True
        else:
            return super()._take_field(kind, value)
        return False

    def _finish_head(self) -> i64:
        head = self.head
        head.headers = self._headers
        if not self._has_host and self.minor_version == 1:
            raise ProtocolError(BAD_HOST, "no host field")
        if self._target_has_host or self._rewrites_host:
            head.headers.put_first(b"Host", head.raw_host)
        self._finish_fields(head.headers)
        if self.minor_version == 0 and head.expects_continue:
            head.continue_expected()
        framing: i64 = NO_BODY
        if self._codings > 0:
            if self._length >= 0:
                raise ProtocolError(BAD_FRAMING, "both content-length and transfer-encoding")
            if self.minor_version == 0:
                raise ProtocolError(BAD_FRAMING, "transfer-encoding in an HTTP/1.0 request")
            head.content_length = UNKNOWN_LENGTH
            framing = IN_CHUNK_SIZE
        elif self._length > 0:
            self._check_body_size(self._length)
            head.content_length = self._length
            framing = IN_LENGTH
        if len(head.raw_tunnel) > 0 and framing != NO_BODY:
            raise ProtocolError(BAD_FRAMING, "CONNECT with content")
        if len(self._upgrade) > 0 and framing == NO_BODY:
            self._take_upgrade(head)
        return self._begin_body(framing, self._length)

    def _take_upgrade(self, head: HttpRequest) -> None:
        """Records the protocol that the client may upgrade to (RFC 9110 section 7.8); any other Upgrade field is ignored.

        Not in HTTP/1.0, not with content, and only with methods for which a 101 is a complete answer; WebSocket requires a
        GET (RFC 6455 section 4.1).
        """
        method = head.raw_method
        if self.minor_version == 0 or head.expects_continue or head.raw_tunnel:
            return
        protocol = upgrade_protocol(self._upgrade, self._options)
        if method == b"GET" or (method == b"POST" and protocol != b"websocket"):
            head.raw_tunnel = protocol
