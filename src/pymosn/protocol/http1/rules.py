"""Small grammar rules: lengths, transfer codings, chunk extensions, trailer lines (RFC 9112 sections 6 and 7)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import ProtocolError
from pymosn.core.chars import FIELD_VALUE, TOKEN
from pymosn.core.failure import BAD_BODY, BAD_FRAMING, UNKNOWN_TRANSFER_CODING, Failure
from pymosn.core.headers import Headers, HttpHeaders, is_token
from pymosn.protocol.http.fields import may_trail

CR: Final[i64] = 13
LF: Final[i64] = 10
SP: Final[i64] = 32
COLON: Final[i64] = 58
SEMICOLON: Final[i64] = 59

#: Maximum digits of a content-length: 18 stay below 2^63.
MAX_LENGTH_DIGITS: Final[i64] = 18


def parse_length(value: bytes) -> i64:
    """Parses a content-length (RFC 9110 section 8.6). Raises ProtocolError for anything but digits after spaces."""
    size: i64 = len(value)
    i: i64 = 0
    while i < size and value[i] == SP:
        i += 1
    first: i64 = i
    length: i64 = 0
    while i < size:
        digit: i64 = value[i] - 48
        if digit < 0 or digit > 9:
            raise ProtocolError(BAD_FRAMING, "content-length is not a number")
        length = length * 10 + digit
        i += 1
        if i - first > MAX_LENGTH_DIGITS:
            raise ProtocolError(BAD_FRAMING, "content-length has too many digits")
    if i == first or (value[first] == 48 and i - first > 1):
        raise ProtocolError(BAD_FRAMING, "content-length is empty or has leading zeros")
    return length


def parse_lengths(value: bytes) -> i64:
    """Parses a content-length leniently: allows leading zeros, surrounding white space and a list of equal values."""
    length: i64 = -1
    for text in value.split(b","):
        digits = text.strip(b" \t")
        number: i64 = parse_length(digits.lstrip(b"0") or digits[-1:])
        if length >= 0 and number != length:
            raise ProtocolError(BAD_FRAMING, "conflicting Content-Length values")
        length = number
    return length


def check_coding(value: bytes) -> None:
    """Raises ProtocolError for any transfer coding but `chunked` (RFC 9112 section 6.1)."""
    coding = value.lstrip(b" ").lower()
    if coding == b"chunked":
        return
    failure: Failure = BAD_FRAMING
    if coding in (b"gzip", b"deflate", b"compress", b"x-gzip", b"identity", b"gzip, chunked"):
        failure = UNKNOWN_TRANSFER_CODING
    raise ProtocolError(failure, "transfer-encoding is not chunked")


def upgrade_protocol(value: bytes, options: bytes) -> bytes:
    """The lower-case protocol of an Upgrade field (RFC 9110 section 7.8); empty unless the Connection `options` confirm it.

    A list is ignored: its first protocol may be one that is not allowed here.
    """
    protocol = value.strip(b" \t").lower()
    if b"upgrade" not in [option.strip(b" \t") for option in options.split(b",")]:
        return b""
    name, slash, version = protocol.partition(b"/")
    return protocol if is_token(name) and (not slash or is_token(version)) else b""


def check_extensions(text: bytes) -> None:
    """Raises ProtocolError for chunk extensions that break RFC 9112 section 7.1.1."""
    i: i64 = 0
    end: i64 = len(text)
    while i < end:
        if text[i] != SEMICOLON:
            raise ProtocolError(BAD_BODY, "not a chunk extension")
        i += 1
        name: i64 = i
        while i < end and TOKEN[text[i]] != 0:
            i += 1
        if i == name:
            raise ProtocolError(BAD_BODY, "chunk extension without a name")
        if i < end and text[i] == 61:
            i = _extension_value(text, i + 1)


def _extension_value(text: bytes, start: i64) -> i64:
    end: i64 = len(text)
    i: i64 = start
    if i < end and text[i] == 34:
        i += 1
        while i < end and text[i] != 34:
            i += 2 if text[i] == 92 else 1
        if i >= end:
            raise ProtocolError(BAD_BODY, "chunk extension with an open quote")
        return i + 1
    while i < end and TOKEN[text[i]] != 0:
        i += 1
    if i == start:
        raise ProtocolError(BAD_BODY, "chunk extension without a value")
    return i


def scan_line(buffer: bytes, start: i64) -> i64:
    """Returns the offset after the field line (or empty line) at `start`, or -1 if it is incomplete."""
    size: i64 = len(buffer)
    i: i64 = start
    if i < size and buffer[i] != CR:
        while i < size and TOKEN[buffer[i]] != 0:
            i += 1
        if i < size and (buffer[i] != COLON or i == start):
            raise ProtocolError(BAD_BODY, "not a trailer field")
        i += 1
    while i < size and FIELD_VALUE[buffer[i]] != 0:
        i += 1
    if (i < size and buffer[i] != CR) or (i + 1 < size and buffer[i + 1] != LF):
        raise ProtocolError(BAD_BODY, "control character in a trailer field")
    return i + 2 if i + 1 < size else -1


def passable_trailers(lines: list[bytes]) -> Headers | None:
    """The trailers that may be forwarded (RFC 9110 section 6.5.1), or None."""
    kept = [line for line in lines if may_trail(line.partition(b":")[0])]
    return HttpHeaders(b"".join(kept)) if kept else None
