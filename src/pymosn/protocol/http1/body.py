"""Message bodies by length, chunked or ended by the connection's close, and their trailers (RFC 9112 sections 6 and 7).

Incremental: any split of the input yields the same data, and no byte is scanned more than a few times.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.protocol import DATA, HEAD, NEED_MORE, Decoder, ProtocolError
from pymosn.core.chars import FIELD_VALUE, hex_digit
from pymosn.core.failure import BAD_BODY, BODY_TOO_LARGE, HEADERS_TOO_LARGE
from pymosn.core.headers import Headers
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http1.rules import CR, LF, SEMICOLON, SP, check_extensions, passable_trailers, scan_line

# The decoder's position in the message. The first four are also how a body is framed: not at all (NO_BODY), by its length,
# chunked, or by the connection's close, which is for responses only.
AT_HEAD: Final[i64] = 0
NO_BODY: Final[i64] = 0
IN_LENGTH: Final[i64] = 1
IN_CHUNK_SIZE: Final[i64] = 2
UNTIL_CLOSE: Final[i64] = 3
IN_CHUNK: Final[i64] = 4
AFTER_CHUNK: Final[i64] = 5
IN_TRAILERS: Final[i64] = 6

#: Maximum hexadecimal digits of a chunk size: 15 stay below 2^60.
MAX_SIZE_DIGITS: Final[i64] = 15
#: Maximum bytes of a chunk size with the spaces after it.
MAX_PADDED_SIZE: Final[i64] = 32
#: Maximum bytes of chunk extensions in one body; they are parsed and discarded.
MAX_EXTENSIONS: Final[i64] = 16 * 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class BodyDecoder(Decoder):
    """The part of a decoder that owns the buffer and reads bodies from it.

    After `decode` returned HEAD or DATA: `data` holds body bytes, `end` whether the message is complete, `trailers` its
    trailers, if any. After an `end`, the next call decodes the next message.
    """

    def __init__(self, limits: HttpLimits) -> None:
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
        #: Whether spaces after a chunk size are tolerated, with which old servers pad it.
        self._pads_sizes = False

    def decode(self) -> i64:
        self.data = b""
        self.end = False
        return self._decode_head() if self._stage == AT_HEAD else self._decode_body()

    def _decode_head(self) -> i64:
        """Returns HEAD or NEED_MORE; calls `_begin_body` once the head is complete."""
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
        """Whether there are undecoded bytes."""
        return self._at < len(self._buffer)

    def buffered_size(self) -> i64:
        """Number of undecoded bytes."""
        return len(self._buffer) - self._at

    def has_begun(self) -> bool:
        """Whether an incomplete message, or a byte of it, has been received."""
        return self._stage != AT_HEAD or self._at < len(self._buffer)

    def peek(self) -> bytes:
        """The undecoded bytes, which remain."""
        return self._buffer[self._at :]

    def unread(self) -> bytes:
        """Removes and returns the undecoded bytes, when the connection switches to another protocol."""
        rest = self._buffer[self._at :]
        self.discard()
        return rest

    def discard(self) -> None:
        """Drops the undecoded bytes and frees their memory."""
        self._buffer = b""
        self._at = 0
        self._scanned = 0

    def _compact(self) -> None:
        if self._at >= len(self._buffer):
            self.discard()

    def _needs_scan(self) -> bool:
        """Whether the bytes received since the last scan can complete a line or contain a control character.

        Without this check a head that arrives byte by byte would be rescanned for every byte.
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
        """Starts the body after a head, decodes what is buffered of it, and returns HEAD. `length`: for IN_LENGTH."""
        self._body_size = 0
        self._extensions = 0
        self._left = length
        self._stage = framing
        self.trailers = None
        self.end = framing == NO_BODY
        if self.end or self._at >= len(self._buffer):
            self._compact()
        else:
            self._decode_body()
        return HEAD

    def _decode_body(self) -> i64:
        """Returns DATA with the buffered part of the body, or NEED_MORE."""
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
        parts: list[bytes] = []
        size: i64 = len(self._buffer)
        while True:
            if self._stage == IN_CHUNK:
                here: i64 = size - self._at
                if here == 0:
                    break
                if here > self._left:
                    here = self._left
                parts.append(self._buffer[self._at : self._at + here])
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
        self._compact()
        if parts:
            self.data = parts[0] if len(parts) == 1 else b"".join(parts)
        return DATA if parts or self.end else NEED_MORE

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
        """Reads a chunk-size line; returns False if it is incomplete."""
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
        if self._pads_sizes and i > self._at:
            while i < end and buffer[i] == SP and i - self._at <= MAX_PADDED_SIZE:
                i += 1
        if i < end and (i == self._at or (buffer[i] != CR and buffer[i] != SEMICOLON)):
            raise ProtocolError(BAD_BODY, "not a chunk size")
        if i < end and buffer[i] == SEMICOLON:
            i = self._skip_extensions(i)
        if i + 1 >= end:
            return False
        if buffer[i + 1] != LF:
            raise ProtocolError(BAD_BODY, "CR without LF after chunk size")
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
        """Returns the offset of the CR after chunk extensions, or the end of the buffer (RFC 9112 section 7.1.1)."""
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
        end: i64 = self._at
        limit: i64 = end + self.limits.head
        lines: list[bytes] = []
        stop: i64 = scan_line(buffer, end) if self._needs_scan() else -1
        while stop > end + 2:
            lines.append(buffer[end:stop])
            end = stop
            if end > limit or len(lines) > self.limits.fields:
                raise ProtocolError(HEADERS_TOO_LARGE, "trailers are too large")
            stop = scan_line(buffer, end)
        if stop < 0:
            self._scanned = len(buffer)
            if self._scanned > limit:
                raise ProtocolError(HEADERS_TOO_LARGE, "trailers are too large")
            return
        self._at = end + 2
        self._scanned = 0
        self._stage = AT_HEAD
        self.end = True
        if lines:
            self.trailers = passable_trailers(lines)

    def _check_body_size(self, size: i64) -> None:
        if self.limits.body > 0 and size > self.limits.body:
            raise ProtocolError(BODY_TOO_LARGE, "body is larger than max_request_body_size")
