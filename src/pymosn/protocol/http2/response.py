"""Heads and trailers of responses, decoded from header blocks (RFC 9113 section 8).

An upstream is trusted as little as a client.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.http import HttpResponse
from pymosn.core.failure import BAD_RESPONSE, Failure
from pymosn.core.headers import NO_HEADERS, HttpHeaders
from pymosn.core.message import CONNECT, UNKNOWN_LENGTH
from pymosn.protocol.http import fields
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2 import tables
from pymosn.protocol.http2.heads import BAD_LENGTH, GOOD, HeadDecoder, KnownBlock, parse_length
from pymosn.protocol.http2.tables import Entry

#: Maximum interim responses to one request.
MAX_INTERIM: Final[i64] = 100
_NO_CONTENT: Final[i64] = 204
_NOT_MODIFIED: Final[i64] = 304
_SWITCHING: Final[i64] = 101


class ResponseHeads(HeadDecoder):
    """Decodes the header blocks of the responses of one connection. Has the connection's HPACK decoder."""

    def __init__(self, limits: HttpLimits, table_size: i64) -> None:
        """`table_size`: the dynamic table's, in bytes, as announced in our SETTINGS."""
        super().__init__(limits, table_size)
        #: After `decode`: the head. `content_length` is that of the field: UNKNOWN_LENGTH without one, even for `end`; 0
        #: for a 204. That of an answer to HEAD and of a 304 is not the length of what follows.
        self.head: HttpResponse = HttpResponse(200, b"", NO_HEADERS)
        # The last block that means the same when it comes again, and its meaning.
        self._known = KnownBlock()
        self._known_to_head = False
        self._lines: bytes = b""
        self._bits: i64 = 0
        self._status: i64 = 0
        self._length: i64 = -1
        self._has_date = False

    def decode(self, fragment: bytes, end: bool, to_head: bool, tunnel: bytes, interims: i64 = 0) -> Failure | None:
        """Decodes a complete header block; None if the response is acceptable, else BAD_RESPONSE.

        `to_head`: it answers a HEAD. `tunnel`: the request's `raw_tunnel`. A 2xx agrees to it: the head gets it, and the
        status 101 if it is a protocol to upgrade to, as in HTTP/1. `interims`: how many interim responses came before it.
        Raises ProtocolError for a block that violates HPACK, which ends the connection.
        """
        hpack = self._hpack
        version: i64 = hpack.version
        if self._known_to_head == to_head and self._known.matches(fragment, hpack, end):
            self._known.repeat(hpack)
        else:
            self._known.forget()
            self.detail = ""
            if not self._read(hpack.decode(fragment, True)) or not self._is_framed(end, to_head):
                self.head = HttpResponse(200, b"", HttpHeaders())
                return BAD_RESPONSE
            self._known.remember(fragment, hpack, version, end)
            self._known_to_head = to_head
        status: i64 = self._status
        head = HttpResponse(status, b"", HttpHeaders(self._lines, self._bits))
        self.head = head
        head.has_date = self._has_date
        head.content_length = self._length
        if status < 200:
            if interims >= MAX_INTERIM:
                self.detail = "too many interim responses"
                return BAD_RESPONSE
        elif status == _NO_CONTENT:
            head.content_length = 0
        if self._length >= 0 and (status < 200 or status == _NO_CONTENT):
            head.headers.remove_raw(b"content-length")
        if len(tunnel) > 0 and 200 <= status < 300:
            head.headers.remove_raw(b"content-length")
            head.content_length = UNKNOWN_LENGTH
            head.raw_tunnel = tunnel
            if tunnel != CONNECT:
                head.status = _SWITCHING
        return None

    def decode_trailers(self, fragment: bytes) -> Failure | None:
        """Decodes the block after the content, like `decode`."""
        return None if self.read_trailers(fragment) == GOOD else BAD_RESPONSE

    def _read(self, entries: list[Entry]) -> bool:
        """Sets what the fields of a block mean. Returns whether they are good; else with `detail`."""
        hpack = self._hpack
        bits: i64 = hpack.bits
        count: i64 = 0
        self._status = 0
        self._length = UNKNOWN_LENGTH
        self._has_date = False
        for entry in entries:
            kind: i64 = entry.kind
            if kind == tables.STATUS:
                if self._status != 0 or count > 0 or hpack.is_late:
                    return self._fault("more than one :status, or a late one")
                self._status = _parse_status(entry.value)
                if self._status == 0:
                    return self._fault("not a status code")
                continue
            count += 1
            if self._take_field(entry, kind):
                hpack.add_line(entry.line)
                bits |= entry.bit
            elif len(self.detail) > 0:
                return False
        if hpack.overflow >= 0 or count + hpack.count > self._limits.fields:
            return self._fault("response head is too large")
        if self._status == 0:
            return self._fault("no :status")
        self._lines = hpack.lines()
        self._bits = bits
        return True

    def _take_field(self, entry: Entry, kind: i64) -> bool:
        """Returns whether the field is forwarded; sets `detail` if it makes the response malformed."""
        if kind == fields.DATE:
            self._has_date = True
        elif kind == fields.CONTENT_LENGTH:
            if self._length != UNKNOWN_LENGTH:
                return self._fault("more than one content-length field")
            self._length = parse_length(entry.value)
            if self._length == BAD_LENGTH:
                return self._fault("content-length is not a number")
        elif kind == tables.CONNECTION_FIELD:
            return self._fault("connection field")
        elif kind == tables.FAULTY:
            return self._fault(entry.fault())
        elif kind >= tables.METHOD:
            return self._fault("pseudo-header field of a request")
        elif kind == fields.TE or (kind >= fields.HOP_BY_HOP and kind <= fields.LOOK_ALIKE):
            return False
        return True

    def _is_framed(self, end: bool, to_head: bool) -> bool:
        """Whether status, length and end of the stream agree (RFC 9113 section 8.1.1)."""
        status: i64 = self._status
        length: i64 = self._length
        if status < 200:
            if end:
                return self._fault("interim response that ends the stream")
            if status == _SWITCHING:
                return self._fault("status 101")
            return True  # whatever its length: no content belongs to it
        if end and length > 0 and not to_head and status != _NO_CONTENT and status != _NOT_MODIFIED:
            return self._fault("content-length without content")
        return True

    def _fault(self, detail: str) -> bool:
        self.detail = detail
        return False


def _parse_status(value: bytes) -> i64:
    """A status of 100 to 599; 0 for anything else."""
    if len(value) != 3:
        return 0
    status: i64 = parse_length(value)
    return status if 100 <= status <= 599 else 0
