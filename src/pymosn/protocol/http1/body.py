"""The body of a message: by length, in chunks, until the end of the connection; and its trailers (RFC 9112 sections 6, 7).

Incremental: any split of the input gives the same frames, and no byte is looked at more than a few times.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import DATA, HEAD, NEED_MORE, Decoder, ProtocolError
from pymosn.core.chars import FIELD_VALUE, hex_digit
from pymosn.core.failure import BAD_BODY, BODY_TOO_LARGE, HEADERS_TOO_LARGE
from pymosn.core.headers import Headers
from pymosn.protocol.http1.rules import CR, LF, SEMICOLON, check_extensions, passable_trailers, scan_line

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
    """Limits of one side. Sizes in bytes; a `body` of 0 means no limit."""

    def __init__(self, *, head: i64, fields: i64, body: i64) -> None:
        self.head: i64 = head
        self.fields: i64 = fields
        self.body: i64 = body


@mypyc_attr(allow_interpreted_subclasses=True)
class BodyDecoder(Decoder):
    """The half of a decoder that keeps the buffer and takes bodies from it.

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

    def decode(self) -> i64:
        self.data = b""
        self.end = False
        if self._stage == AT_HEAD:
            return self._decode_head()
        return self._decode_body()

    def _decode_head(self) -> i64:
        """HEAD, or NEED_MORE; a head that is complete goes on to `_begin_body`."""
        raise NotImplementedError

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

    def buffered_size(self) -> i64:
        """How many bytes are waiting that no frame has taken."""
        return len(self._buffer) - self._at

    def is_between_messages(self) -> bool:
        """Whether the last message is complete and no byte of a next one has come."""
        return self._stage == AT_HEAD and self._at >= len(self._buffer)

    def unread(self) -> bytes:
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

    # ---- the body

    def _begin_body(self, framing: i64, length: i64) -> i64:
        """Takes what is here of the body that follows a head, and says HEAD. `length`: in bytes, for LENGTH."""
        self._body_size = 0
        self._extensions = 0
        self.trailers = None
        self.end = framing == NO_BODY
        if framing == NO_BODY:
            self._stage = AT_HEAD
            self._compact()
            return HEAD
        if framing == LENGTH:
            self._left = length
            self._stage = IN_LENGTH
        elif framing == CHUNKED:
            self._stage = IN_CHUNK_SIZE
        else:
            self._stage = UNTIL_CLOSE
        if self._at < len(self._buffer):
            self._decode_body()
        else:
            self._compact()
        return HEAD

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
