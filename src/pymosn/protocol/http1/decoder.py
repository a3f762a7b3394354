"""What requests and replies have in common on the wire: field lines, body framing, chunked bodies (RFC 9112).

Strict: whatever two parsers could read in two ways is refused. Incremental: any split of the input gives the same frames.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import DATA, NEED_MORE, Decoder, ProtocolError
from pymosn.core.chars import FIELD_VALUE, TOKEN
from pymosn.core.failure import (
    BAD_BODY,
    BAD_FRAMING,
    BAD_REQUEST,
    BODY_TOO_LARGE,
    HEADERS_TOO_LARGE,
)
from pymosn.core.headers import Headers, name_bit
from pymosn.protocol.http1 import fields
from pymosn.protocol.http1.fields import PROTECTED, classify
from pymosn.protocol.http1.rules import (
    COLON,
    CR,
    LF,
    SEMICOLON,
    check_coding,
    check_extensions,
    hex_digit,
    parse_length,
    passable_trailers,
    scan_line,
)

# How the body is framed; CLOSE is for replies only.
NO_BODY: Final[i64] = 0
LENGTH: Final[i64] = 1
CHUNKED: Final[i64] = 2
CLOSE: Final[i64] = 3

# Where in the message the decoder is.
AT_HEAD: Final[i64] = 0
IN_LENGTH: Final[i64] = 1
IN_CHUNK_SIZE: Final[i64] = 2
IN_CHUNK: Final[i64] = 3
AFTER_CHUNK: Final[i64] = 4
IN_TRAILERS: Final[i64] = 5
UNTIL_CLOSE: Final[i64] = 6

#: Digits of a chunk size: 15 hexadecimal ones stay below 2^60.
MAX_SIZE_DIGITS: Final[i64] = 15
#: Bytes of chunk extensions that one body may carry; they are read and forgotten.
MAX_EXTENSIONS: Final[i64] = 16 * 1024


class Http1Limits:
    """Limits of one side. Sizes in bytes; a `body` of 0 is no limit."""

    def __init__(self, head: i64 = 8192, fields: i64 = 100, body: i64 = 0) -> None:
        self.head: i64 = head
        self.fields: i64 = fields
        self.body: i64 = body


@mypyc_attr(allow_interpreted_subclasses=True)
class Http1Decoder(Decoder):
    """Shared half of RequestDecoder and ResponseDecoder.

    After `decode` said HEAD or DATA: `data` holds body bytes, `end` whether the message is complete, `trailers` its
    trailers if it had any. The next message is decoded by the next call after an `end`.
    """

    def __init__(self, limits: Http1Limits) -> None:
        self.limits = limits
        self.data: bytes = b""
        self.end: bool = False
        self.trailers: Headers | None = None
        self._buffer: bytes = b""
        self._at: i64 = 0
        self._scanned: i64 = 0
        self._stage: i64 = AT_HEAD
        self._left: i64 = 0
        self._body_size: i64 = 0
        self._extensions: i64 = 0
        # What the field lines of the head said.
        self._length: i64 = -1
        self._codings: i64 = 0
        self._options: bytes = b""
        self._upgrade: bytes = b""

    # ---- the buffer

    def feed(self, data: bytes) -> None:
        if self._at >= len(self._buffer):
            self._buffer = data
            self._scanned = 0
        else:
            self._buffer = self._buffer[self._at :] + data
            self._scanned = self._scanned - self._at if self._scanned > self._at else 0
        self._at = 0

    def has_buffered(self) -> bool:
        """Whether bytes are waiting that no frame has taken."""
        return self._at < len(self._buffer)

    def is_between_messages(self) -> bool:
        """Whether the last message is complete and no byte of a next one has come."""
        return self._stage == AT_HEAD and self._at >= len(self._buffer)

    def take_rest(self) -> bytes:
        """What is buffered, which is no HTTP: the connection carries something else from here on."""
        rest = self._buffer[self._at :]
        self.discard()
        return rest

    def discard(self) -> None:
        """Forgets what is buffered, to free its memory."""
        self._buffer = b""
        self._at = 0
        self._scanned = 0

    def _compact(self) -> None:
        if self._at >= len(self._buffer):
            self.discard()

    # ---- the field section

    def _needs_scan(self) -> bool:
        """Whether bytes that came since the last scan can have completed a line, or broken it by a control character.

        Without this a head that comes byte by byte would be scanned once per byte.
        """
        if self._scanned == 0:
            return True
        buffer = self._buffer
        if buffer[self._scanned - 1] == CR:
            return True
        size: i64 = len(buffer)
        i: i64 = self._scanned
        while i < size and FIELD_VALUE[buffer[i]] != 0:
            i += 1
        if i < size and (buffer[i] != CR or i + 1 < size):
            return True
        self._scanned = i
        return False

    def _scan_fields(self, start: i64) -> i64:
        """Scans field lines from `start`: the offset behind the empty line that ends them, or -1 when it has not come.

        Raises ProtocolError at the first byte that cannot be part of a field section.
        """
        buffer = self._buffer
        size: i64 = len(buffer)
        i: i64 = start
        kept: i64 = start
        cut: list[bytes] | None = None
        count: i64 = 0
        bits: i64 = 0
        while i < size:
            line: i64 = i
            byte: i64 = buffer[i]
            if byte == CR:
                if i + 1 >= size:
                    return -1
                if buffer[i + 1] != LF:
                    raise ProtocolError(BAD_REQUEST, "CR without LF")
                block = buffer[kept:i]
                if cut is not None:
                    cut.append(block)
                    block = b"".join(cut)
                self._take_headers(Headers(block, bits))
                return i + 2
            while TOKEN[byte] != 0:
                i += 1
                if i >= size:
                    return -1
                byte = buffer[i]
            if byte != COLON or i == line:
                raise ProtocolError(BAD_REQUEST, "not a header field name")
            kind: i64 = classify(buffer, line, i)
            bits |= name_bit(i - line, buffer[line])
            i += 1
            value: i64 = i
            if i >= size:
                return -1
            byte = buffer[i]
            while FIELD_VALUE[byte] != 0:
                i += 1
                if i >= size:
                    return -1
                byte = buffer[i]
            if byte != CR:
                raise ProtocolError(BAD_REQUEST, "control character in a header field")
            if i + 1 >= size:
                return -1
            if buffer[i + 1] != LF:
                raise ProtocolError(BAD_REQUEST, "CR without LF in a header field")
            count += 1
            if count > self.limits.fields:
                raise ProtocolError(HEADERS_TOO_LARGE, "too many header fields")
            i += 2
            if kind != fields.OTHER and self._take_field(kind, buffer[value : i - 2]):
                if cut is None:
                    cut = []
                cut.append(buffer[kept:line])
                kept = i
        return -1

    def _take_field(self, kind: i64, value: bytes) -> bool:
        """Notes one of the known fields; says whether its line is of this hop and is not passed on."""
        if kind >= fields.HOP_BY_HOP:
            if kind == fields.UPGRADE:
                # A second line makes a list, and a list is no one protocol.
                self._upgrade = self._upgrade + b"," + value if self._upgrade else value
            return True
        if kind == fields.CONTENT_LENGTH:
            if self._length >= 0:
                raise ProtocolError(BAD_FRAMING, "two content-length fields")
            self._length = parse_length(value)
        elif kind == fields.TRANSFER_ENCODING:
            self._codings += 1
            if self._codings > 1:
                raise ProtocolError(BAD_FRAMING, "two transfer-encoding fields")
            check_coding(value)
            return True
        elif kind == fields.CONNECTION:
            self._options = self._options + b"," + value.lower() if self._options else value.lower()
            return True
        elif kind == fields.TE:
            return True
        return False

    def _take_headers(self, headers: Headers) -> None:
        """The field lines that are passed on."""
        raise NotImplementedError

    def _reset_head(self) -> None:
        self._length = -1
        self._codings = 0
        self._options = b""
        self._upgrade = b""
        self._body_size = 0
        self._extensions = 0
        self.trailers = None

    def _keeps_alive(self, headers: Headers, minor_version: i64) -> bool:
        """What the Connection fields say about the connection (RFC 9112 section 9.3).

        Fields that they name are removed from `headers`: they were meant for this hop.
        """
        said = self._options
        if said == b" keep-alive":
            return True
        if said == b" close":
            return False
        keeps = minor_version == 1
        if said:
            options = [option.strip(b" \t") for option in said.split(b",")]
            named = set(options) - PROTECTED
            headers.block = b"".join(
                [line for line in headers.block.splitlines(True) if line.partition(b":")[0].lower() not in named]
            )
            if b"close" in options:
                keeps = False
            elif b"keep-alive" in options:
                keeps = True
        return keeps

    # ---- the body

    def _begin_body(self, framing: i64) -> None:
        if framing == NO_BODY:
            self._stage = AT_HEAD
        elif framing == LENGTH:
            self._left = self._length
            self._stage = IN_LENGTH
        elif framing == CHUNKED:
            self._stage = IN_CHUNK_SIZE
        else:
            self._stage = UNTIL_CLOSE

    def _decode_body(self) -> i64:
        """DATA with what is here of the body, or NEED_MORE."""
        if self._stage == IN_LENGTH:
            return self._decode_length()
        if self._stage == UNTIL_CLOSE:
            self.data = self._buffer[self._at :] if self._at > 0 else self._buffer
            self.discard()
            return DATA if self.data else NEED_MORE
        return self._decode_chunked()

    def _decode_length(self) -> i64:
        size: i64 = len(self._buffer)
        here: i64 = size - self._at
        if here <= self._left:
            if here == 0:
                return NEED_MORE
            self.data = self._buffer[self._at :] if self._at > 0 else self._buffer
            self._left -= here
            self.discard()
        else:
            self.data = self._buffer[self._at : self._at + self._left]
            self._at += self._left
            self._left = 0
        if self._left == 0:
            self.end = True
            self._stage = AT_HEAD
        return DATA

    def _decode_chunked(self) -> i64:
        pieces: list[bytes] = []
        size: i64 = len(self._buffer)
        while True:
            if self._stage == IN_CHUNK:
                here: i64 = size - self._at
                if here == 0:
                    break
                if here > self._left:
                    here = self._left
                pieces.append(self._buffer[self._at : self._at + here])
                self._at += here
                self._left -= here
                if self._left > 0:
                    break
                self._stage = AFTER_CHUNK
            if self._stage == AFTER_CHUNK and not self._take_crlf():
                break
            if self._stage == IN_CHUNK_SIZE and not self._take_chunk_size():
                break
            if self._stage == IN_TRAILERS:
                self._take_trailers()
                break
        if not pieces:
            self._compact()
            return DATA if self.end else NEED_MORE
        self.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._compact()
        return DATA

    def _take_crlf(self) -> bool:
        buffer = self._buffer
        here: i64 = len(buffer) - self._at
        if (here > 0 and buffer[self._at] != CR) or (here > 1 and buffer[self._at + 1] != LF):
            raise ProtocolError(BAD_BODY, "chunk is longer than its size")
        if here < 2:
            return False
        self._at += 2
        self._stage = IN_CHUNK_SIZE
        return True

    def _take_chunk_size(self) -> bool:
        """Reads a chunk-size line; False when it is not complete."""
        buffer = self._buffer
        end: i64 = len(buffer)
        i: i64 = self._at
        size: i64 = 0
        while i < end:
            digit: i64 = hex_digit(buffer[i])
            if digit < 0:
                break
            size = size * 16 + digit
            i += 1
            if i - self._at > MAX_SIZE_DIGITS:
                raise ProtocolError(BAD_BODY, "chunk size has too many digits")
        if i < end and (i == self._at or (buffer[i] != CR and buffer[i] != SEMICOLON)):
            raise ProtocolError(BAD_BODY, "not a chunk size")
        if i < end and buffer[i] == SEMICOLON:
            i = self._skip_extensions(i)
        if i + 1 >= end:
            return False
        if buffer[i + 1] != LF:
            raise ProtocolError(BAD_BODY, "CR without LF behind a chunk size")
        self._at = i + 2
        if size == 0:
            self._stage = IN_TRAILERS
            return True
        self._left = size
        self._stage = IN_CHUNK
        self._body_size += size
        self._check_body_size(self._body_size)
        return True

    def _skip_extensions(self, start: i64) -> i64:
        """The offset of the CR behind chunk extensions, or the end of what is here (RFC 9112 section 7.1.1)."""
        buffer = self._buffer
        end: i64 = len(buffer)
        i: i64 = start if self._scanned < start else self._scanned
        while i < end and FIELD_VALUE[buffer[i]] != 0:
            i += 1
        if self._extensions + i - start > MAX_EXTENSIONS:
            raise ProtocolError(BAD_BODY, "too many bytes of chunk extensions")
        if i >= end:
            self._scanned = end
            return i
        if buffer[i] != CR:
            raise ProtocolError(BAD_BODY, "control character in a chunk extension")
        check_extensions(buffer[start:i])
        if i + 1 < end:
            self._extensions += i - start
            self._scanned = 0
        return i

    def _take_trailers(self) -> None:
        buffer = self._buffer
        size: i64 = len(buffer)
        if not self._needs_scan():
            if size - self._at > self.limits.head:
                raise ProtocolError(HEADERS_TOO_LARGE, "trailers are too large")
            return
        end: i64 = self._at
        lines: list[bytes] = []
        while True:
            stop: i64 = scan_line(buffer, end)
            if stop < 0:
                if size - self._at > self.limits.head:
                    raise ProtocolError(HEADERS_TOO_LARGE, "trailers are too large")
                self._scanned = size
                return
            if stop == end + 2:
                break
            lines.append(buffer[end:stop])
            end = stop
            if end - self._at > self.limits.head or len(lines) > self.limits.fields:
                raise ProtocolError(HEADERS_TOO_LARGE, "trailers are too large")
        self._at = end + 2
        self._scanned = 0
        self._stage = AT_HEAD
        self.end = True
        if lines:
            self.trailers = passable_trailers(lines)

    def _check_body_size(self, size: i64) -> None:
        if self.limits.body > 0 and size > self.limits.body:
            raise ProtocolError(BODY_TOO_LARGE, "body is larger than max_request_body_size")
