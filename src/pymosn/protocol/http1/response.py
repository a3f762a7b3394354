"""Response decoding (RFC 9112 sections 4 to 7). An upstream is trusted as little as a client."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.http import HttpResponse
from pymosn.api.protocol import HEAD, NEED_MORE, ProtocolError
from pymosn.core.chars import FIELD_VALUE
from pymosn.core.failure import BAD_RESPONSE
from pymosn.core.headers import NO_HEADERS
from pymosn.core.message import CONNECT, UPGRADE_REQUIRED
from pymosn.protocol.http import fields
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import STRICT, HttpPolicy
from pymosn.protocol.http1.body import AT_HEAD, IN_CHUNK_SIZE, IN_LENGTH, NO_BODY, UNTIL_CLOSE
from pymosn.protocol.http1.decoder import Http1Decoder
from pymosn.protocol.http1.repair import has_lone_cr, head_end, repaired
from pymosn.protocol.http1.rules import CR, LF, SP, upgrade_protocol

#: Maximum interim responses to one request.
MAX_INTERIM: Final[i64] = 100
#: Maximum total size of their heads, in bytes.
MAX_INTERIM_SIZE: Final[i64] = 64 * 1024


class ResponseDecoder(Http1Decoder):
    """Decodes the responses of one upstream connection.

    Call `expect` for each request that is sent. After HEAD with a 1xx status, decoding continues with the same response.
    After a head with `raw_tunnel`, DATA is tunnelled data and never ends.
    """

    def __init__(self, limits: HttpLimits, policy: HttpPolicy = STRICT) -> None:
        """`policy`: only `is_strict` counts."""
        super().__init__(limits, policy)
        self._pads_sizes = not policy.is_strict
        self.head: HttpResponse = HttpResponse(200, b"", NO_HEADERS)
        self._to_head: bool = False
        self._tunnel: bytes = b""
        self._interim: i64 = 0
        self._interim_size: i64 = 0
        # Whether an interim response to the present request has declared a body.
        self._is_suspect: bool = False

    def expect(self, method: bytes, tunnel: bytes = b"") -> None:
        """Prepares for the response to a request with `method` and `tunnel` (`RequestHead.raw_tunnel`)."""
        self._to_head = method == b"HEAD"
        self._tunnel = tunnel
        self._interim = 0
        self._interim_size = 0
        self._is_suspect = False

    def begin_tunnel(self) -> None:
        """Treats all input as tunnelled data, without a request and response."""
        self._stage = UNTIL_CLOSE

    def finish(self) -> bool:
        """The upstream closed. Returns whether that completes the response, which is so only for a close-delimited body."""
        if self._stage == UNTIL_CLOSE:
            self._stage = AT_HEAD
            return True
        return False

    def _decode_head(self) -> i64:
        size: i64 = len(self._buffer)
        start: i64 = self._at
        if start >= size:
            return NEED_MORE
        if not self._is_strict:
            if not self._repair(start):
                return NEED_MORE
            start = self._at
            size = len(self._buffer)
        after: i64 = -1
        if self._needs_scan():
            self.head = HttpResponse(200, b"", NO_HEADERS)
            self._reset_head()
            self._declares_body = False
            after = self._scan_status_line(start)
            if after >= 0:
                after = self._scan_fields(after)
        if (size if after < 0 else after) - start > self.limits.head:
            raise ProtocolError(BAD_RESPONSE, "response head is too large")
        if after < 0:
            self._scanned = size
            return NEED_MORE
        self._at = after
        self._scanned = 0
        if self.head.status < 200:
            self._interim_size += after - start
        return self._finish_head()

    def _repair(self, start: i64) -> bool:
        """Brings a head into the form that is read strictly; returns whether it is complete."""
        buffer = self._buffer
        if not b"HTTP/1.".startswith(buffer[start : start + 7]):
            raise ProtocolError(BAD_RESPONSE, "not a status line")
        # The LF before the empty line may be followed by a CR, which arrived alone.
        sought: i64 = self._scanned - 2
        end: i64 = head_end(buffer, sought if sought > start else start)
        size: i64 = end if end >= 0 else len(buffer)
        if size - start > self.limits.head:
            raise ProtocolError(BAD_RESPONSE, "response head is too large")
        if end < 0:
            # The head may be complete for a server that ends lines so, and will never be for us.
            if has_lone_cr(buffer, sought if sought > start else start):
                raise ProtocolError(BAD_RESPONSE, "CR without LF")
            self._scanned = size
            return False
        head = buffer[start:end]
        good = repaired(head)
        if good is not head:
            self._buffer = good + buffer[end:]
            self._at = 0
        self._scanned = 0
        return True

    def _scan_status_line(self, start: i64) -> i64:
        """Returns the offset after the status line, or -1 if it is incomplete."""
        buffer = self._buffer
        size: i64 = len(buffer)
        if size - start < 12:
            if not b"HTTP/1.".startswith(buffer[start : start + 7]) or b"\n" in buffer[start:]:
                raise ProtocolError(BAD_RESPONSE, "not a status line")
            return -1
        minor: i64 = buffer[start + 7] - 48
        if buffer[start : start + 7] != b"HTTP/1." or (minor != 0 and minor != 1) or buffer[start + 8] != SP:
            raise ProtocolError(BAD_RESPONSE, "not a status line")
        status: i64 = 0
        i: i64 = start + 9
        while i < start + 12:
            digit: i64 = buffer[i] - 48
            if digit < 0 or digit > 9:
                raise ProtocolError(BAD_RESPONSE, "not a status code")
            status = status * 10 + digit
            i += 1
        if status < 100 or status > 599:
            raise ProtocolError(BAD_RESPONSE, "status code is outside 100 to 599")
        if i < size and buffer[i] != SP and buffer[i] != CR:
            raise ProtocolError(BAD_RESPONSE, "not a status code")
        while i < size and FIELD_VALUE[buffer[i]] != 0:
            i += 1
        if (i < size and buffer[i] != CR) or (i + 1 < size and buffer[i + 1] != LF):
            raise ProtocolError(BAD_RESPONSE, "control character in a status line")
        if i + 1 >= size:
            return -1
        head = self.head
        self.minor_version = minor
        head.status = status
        # Compiled code rejects a slice that ends before it begins, and the line may end right after the status code.
        head.raw_reason = buffer[start + 13 : i] if i > start + 13 else b""
        return i + 2

    def _take_field(self, kind: i64, value: bytes) -> bool:
        if kind == fields.DATE:
            self.head.has_date = True
            return False
        if (kind == fields.CONTENT_LENGTH or kind == fields.TRANSFER_ENCODING) and self._ends_at_head():
            # Whatever its value is, it means nothing here (RFC 9112 section 6.3).
            if kind == fields.TRANSFER_ENCODING or value.strip(b" \t") != b"0":
                self._declares_body = True
            return True
        if kind == fields.TRANSFER_ENCODING and (self._to_head or self.head.status == 304):
            self._codings += 1  # how a body would be coded
            return True
        return super()._take_field(kind, value)

    def _ends_at_head(self) -> bool:
        """Whether no body follows the head that is being read, and none is described by it as in a 304."""
        status: i64 = self.head.status
        return status < 200 or status == 204 or (status < 300 and self._tunnel == CONNECT)

    def _finish_head(self) -> i64:
        head = self.head
        head.headers = self._headers
        self._finish_fields(head.headers)
        if self._tunnel == CONNECT and 200 <= head.status < 300:
            return self._begin_tunnel(head)
        if head.status < 200:
            return self._finish_interim(head)
        if self._is_suspect:
            self.keep_alive = False
        has_body = not self._to_head and head.status != 304
        if has_body and self._codings > 0 and (self._length >= 0 or self.minor_version == 0):
            raise ProtocolError(BAD_RESPONSE, "transfer-encoding with content-length or in HTTP/1.0")
        if head.status == UPGRADE_REQUIRED and len(self._upgrade) > 0:
            # Of this hop like the others, but such a response must have it (RFC 9110 section 15.5.22).
            head.headers.add_raw(b"upgrade", self._upgrade.strip(b" \t"))
        return self._begin_body(self._framing(head), self._length)

    def _finish_interim(self, head: HttpResponse) -> i64:
        self._interim += 1
        if self._interim > MAX_INTERIM or self._interim_size > MAX_INTERIM_SIZE:
            raise ProtocolError(BAD_RESPONSE, "too many interim responses")
        # It ends at its empty line, whatever it declares (RFC 9112 section 6.3). An upstream that sends a body nevertheless
        # is found out by the next status line, or loses the connection after this response.
        if self._declares_body:
            self._is_suspect = True
        if head.status == 101:
            agreed = upgrade_protocol(self._upgrade, self._options)
            if not self._tunnel or self.minor_version == 0 or agreed != self._tunnel:
                raise ProtocolError(BAD_RESPONSE, "switch to a protocol that was not requested")
            return self._begin_tunnel(head)
        self._compact()
        return HEAD

    def _begin_tunnel(self, head: HttpResponse) -> i64:
        """All further bytes belong to the tunnel, even if the head announces a body (RFC 9110 sections 7.8 and 9.3.6)."""
        head.raw_tunnel = self._tunnel
        self.keep_alive = False
        return self._begin_body(UNTIL_CLOSE, 0)

    def _framing(self, head: HttpResponse) -> i64:
        """How the body is framed (RFC 9112 section 6.3)."""
        if head.status == 204:
            if self._declares_body:
                self.keep_alive = False
            head.content_length = 0
            return NO_BODY
        if self._to_head or head.status == 304:
            if self._codings > 0 and self._length >= 0:
                # One of the two is wrong, and no body will tell which.
                head.headers.remove_raw(b"content-length")
                self._length = -1
                self.keep_alive = False
            head.content_length = self._length
            return NO_BODY
        if self._codings > 0:
            return IN_CHUNK_SIZE
        if self._length < 0:
            self.keep_alive = False
            head.until_close = True
            return UNTIL_CLOSE
        head.content_length = self._length
        return IN_LENGTH if self._length > 0 else NO_BODY
