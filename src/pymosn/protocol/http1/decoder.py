"""What request and response heads share: field lines, framing, and the state of the connection.

A decoder is one object with one buffer, built up in three steps: `BodyDecoder` owns the buffer and reads bodies,
`Http1Decoder` scans field lines, and `RequestDecoder` or `ResponseDecoder` reads the first line and decides what the fields
mean. The caller feeds bytes and pulls: each `decode` returns HEAD, DATA or NEED_MORE, so any split of the input gives the
same result.

A head is checked in one pass over its bytes. No field is copied during that pass: `classify` recognises the few names that
matter to a proxy, `_take_field` records their values and decides whether the line is forwarded, and the lines between those
that are cut form the block of the head's `Headers`. An incomplete head is scanned again only when `_needs_scan` finds that
the new bytes can complete a line. A head that two parsers could read differently is rejected, except for what
`HttpPolicy` permits.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import ProtocolError
from pymosn.core.chars import FIELD_VALUE, NAME, TOKEN
from pymosn.core.failure import BAD_FRAMING, BAD_REQUEST, HEADERS_TOO_LARGE
from pymosn.core.headers import TAB, Headers, HttpHeaders
from pymosn.protocol.http import fields
from pymosn.protocol.http.fields import PROTECTED, classify, is_claim, is_look_alike
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http.policy import REFUSE_UNDERSCORES, HttpPolicy
from pymosn.protocol.http1.body import BodyDecoder
from pymosn.protocol.http1.rules import COLON, CR, LF, SP, check_coding, parse_length, parse_lengths

#: `x` with bit 5 set: the first letter of all fields with claims about the client.
LOWER_X: Final[i64] = 120


@mypyc_attr(allow_interpreted_subclasses=True)
class Http1Decoder(BodyDecoder):
    """Base of RequestDecoder and ResponseDecoder: scans the field section of a head."""

    def __init__(self, limits: HttpLimits, policy: HttpPolicy) -> None:
        super().__init__(limits)
        self.policy = policy
        #: Of the last head: the version HTTP/1.x, and whether another message may follow on the connection.
        self.minor_version: i64 = 1
        self.keep_alive: bool = True
        self._is_strict: bool = policy.is_strict
        #: The field lines to be forwarded, and values collected from all lines.
        self._headers: Headers = HttpHeaders()
        self._rewrites_length: bool = False
        self._length: i64 = -1
        self._codings: i64 = 0
        self._options: bytes = b""
        self._upgrade: bytes = b""

    def _reset_head(self) -> None:
        self._length = -1
        self._rewrites_length = False
        self._codings = 0
        self._options = b""
        self._upgrade = b""

    # ---- the field section

    def _scan_fields(self, start: i64) -> i64:
        """Scans field lines from `start`. Returns the offset after the empty line that ends them, or -1 if it is incomplete.

        Raises ProtocolError at the first byte that cannot be part of a field section.
        """
        buffer = self._buffer
        size: i64 = len(buffer)
        i: i64 = start
        kept: i64 = start
        cut: list[bytes] | None = None
        count: i64 = 0
        bits: i64 = 0
        one: i64 = (size | 1) & 1  # as in `name_bit`
        while i < size:
            line: i64 = i
            byte: i64 = buffer[i]
            if byte in (CR, LF):
                after: i64 = self._end_line(i, byte)
                if after < 0:
                    return -1
                block = buffer[kept:i]
                if cut is not None:
                    cut.append(block)
                    block = b"".join(cut)
                self._headers = HttpHeaders(block, bits)
                return after
            while NAME[byte] != 0:
                i += 1
                if i >= size:
                    return -1
                byte = buffer[i]
            if byte != COLON or i == line:
                i = self._end_name(line, i)
                if i < 0:
                    return -1
            kind: i64 = classify(buffer, line, i) if byte == COLON else self._kind_of(line, i)
            if kind == fields.OTHER and buffer[line] | 32 == LOWER_X and is_claim(buffer, line, i):
                kind = fields.CLAIM
            # `name_bit`, written out: a call for each field would cost more than it does.
            bits |= one << (((i - line) * 5 + (buffer[line] & 31) + (buffer[i - 1] & 31) * 7) & 63)
            value: i64 = i + 1
            i = value
            while i < size and FIELD_VALUE[buffer[i]] != 0:
                i += 1
            if i >= size:
                return -1
            byte = buffer[i]
            stop: i64 = i
            if byte == CR and i + 1 < size and buffer[i + 1] == LF:
                i += 2
            else:
                i = self._end_line(i, byte)
                if i < 0:
                    return -1
            count += 1
            if count > self.limits.fields:
                raise ProtocolError(HEADERS_TOO_LARGE, "too many header fields")
            is_cut = kind != fields.OTHER and self._take_field(kind, buffer[value:stop])
            if is_cut or byte == LF:
                if cut is None:
                    cut = []
                cut.append(buffer[kept:line] if is_cut else buffer[kept:stop] + b"\r\n")
                kept = i
        return -1

    def _end_name(self, start: i64, i: i64) -> i64:
        """Returns the offset of the colon after a name with an underscore, or -1. Scanned so far: `start` to `i`."""
        buffer = self._buffer
        size: i64 = len(buffer)
        while i < size and TOKEN[buffer[i]] != 0:
            i += 1
        if i >= size:
            return -1
        if buffer[i] != COLON or i == start:
            byte: i64 = buffer[i]
            is_blank = byte in (SP, TAB)
            detail = "white space before a colon" if is_blank and i > start else "folded line" if is_blank else ""
            raise ProtocolError(BAD_REQUEST, detail or "not a header field name")
        return i

    def _end_line(self, end: i64, byte: i64) -> i64:
        """Returns the offset after the line that ends at `end` with `byte`, or -1 if its LF is missing."""
        buffer = self._buffer
        if byte == CR:
            if end + 1 >= len(buffer):
                return -1
            if buffer[end + 1] != LF:
                raise ProtocolError(BAD_REQUEST, "CR without LF")
            return end + 2
        if byte != LF:
            raise ProtocolError(BAD_REQUEST, "control character in a header field")
        if self._is_strict:
            raise ProtocolError(BAD_REQUEST, "LF without CR")
        return end + 1

    def _kind_of(self, start: i64, end: i64) -> i64:
        """The kind of a field name with an underscore (hostile case C14)."""
        policy = self.policy
        if policy.underscores == REFUSE_UNDERSCORES:
            raise ProtocolError(BAD_REQUEST, "underscore in a header field name")
        if policy.underscores != 0 or is_look_alike(self._buffer[start:end]):
            return fields.LOOK_ALIKE
        return fields.OTHER

    def _take_field(self, kind: i64, value: bytes) -> bool:
        """Records a known field. Returns whether its line must not be forwarded unchanged."""
        if kind >= fields.HOP_BY_HOP:
            if kind == fields.UPGRADE:
                # A second line makes it a list, which is never confirmed as an upgrade.
                self._upgrade = self._upgrade + b"," + value if self._upgrade else value
            return True
        if kind == fields.CONTENT_LENGTH:
            if self._is_strict:
                if self._length >= 0:
                    raise ProtocolError(BAD_FRAMING, "more than one content-length field")
                self._length = parse_length(value)
            else:
                length: i64 = parse_lengths(value)
                if self._length >= 0 and self._length != length:
                    raise ProtocolError(BAD_FRAMING, "conflicting Content-Length values")
                self._length = length
                self._rewrites_length = True
                return True
        elif kind == fields.TRANSFER_ENCODING:
            self._codings += 1
            if self._codings > 1:
                raise ProtocolError(BAD_FRAMING, "more than one transfer-encoding field")
            check_coding(value if self._is_strict else value.strip(b" \t"))
            return True
        elif kind == fields.CONNECTION:
            self._options = self._options + b"," + value.lower() if self._options else value.lower()
            return True
        elif kind == fields.TE:
            return True
        return False

    def _finish_fields(self, headers: Headers) -> None:
        """Decides whether another message may follow on the connection (RFC 9112 section 9.3).

        Fields named in `Connection` are hop-by-hop and are removed from `headers`.
        """
        if self._rewrites_length:
            headers.add_raw(b"content-length", b"%d" % self._length)
        listed = self._options
        keeps = self.minor_version == 1
        # The two common values name no field that is left: a `Keep-Alive` field is never forwarded.
        if listed == b" keep-alive":
            keeps = True
        elif listed == b" close":
            keeps = False
        elif len(listed) > 0:
            options = [option.strip(b" \t") for option in listed.split(b",")]
            headers.remove_named(frozenset(options) - PROTECTED)
            if b"close" in options:
                keeps = False
            elif b"keep-alive" in options:
                keeps = True
        self.keep_alive = keeps


__all__ = ["Http1Decoder"]
