"""Heads of responses with faults that are harmless: what a cluster with `upstream_profile: compatible` tolerates.

A head is brought into the form of RFC 9112 before the decoder reads it, so that nothing else knows of these faults, and what
is forwarded has none. Tolerated are LF alone as the end of a line (section 2.2), white space before a colon and folded lines
(sections 5.1 and 5.2, by which proxies must remove them). Whatever remains wrong is refused by the decoder, and what
could give a message two ends is refused here: a folded line that is empty, or belongs to a field that frames the message.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import BAD_RESPONSE
from pymosn.core.headers import is_token
from pymosn.protocol.http1.rules import CR, LF

_BLANKS: Final = b" \t"
#: Fields that must not be folded.
_FRAMING: Final = (b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"trailer")


def head_end(buffer: bytes, start: i64) -> i64:
    """The offset after the empty line that ends a head, whatever its lines end with; -1 if it is incomplete.

    `start`: an offset in it that is not beyond the LF before the empty line.
    """
    size: i64 = len(buffer)
    i: i64 = buffer.find(b"\n", start)
    while i >= 0:
        after: i64 = i + 1
        if after < size and buffer[after] == CR:
            after += 1
        if after < size and buffer[after] == LF:
            return after + 1
        i = buffer.find(b"\n", i + 1)
    return -1


def has_lone_cr(buffer: bytes, start: i64) -> bool:
    """Whether a CR after `start` is followed by another byte than LF."""
    size: i64 = len(buffer)
    i: i64 = buffer.find(b"\r", start)
    while i >= 0 and i + 1 < size:
        if buffer[i + 1] != LF:
            return True
        i = buffer.find(b"\r", i + 1)
    return False


def repaired(head: bytes) -> bytes:
    """A complete head in the form of RFC 9112, as far as its faults are harmless; the same object if it has none.

    Raises ProtocolError for a folded line that must not be.
    """
    lines = head.split(b"\n")[:-2]
    good: list[bytes] = []
    for line in lines:
        text = line.removesuffix(b"\r")
        if text[:1] in (b" ", b"\t") and len(good) > 1:
            good[-1] = _unfolded(good[-1], text)
        else:
            good.append(_without_blanks(text) if good else text)
    result = b"\r\n".join(good) + b"\r\n\r\n"
    return head if result == head else result


def _unfolded(field: bytes, line: bytes) -> bytes:
    """A field with the line that continues it; the fold is replaced by a space."""
    rest = line.strip(_BLANKS)
    if not rest:
        raise ProtocolError(BAD_RESPONSE, "a folded line that is empty")
    if field.partition(b":")[0].lower() in _FRAMING:
        raise ProtocolError(BAD_RESPONSE, "a folded field that frames the message")
    return field + b" " + rest


def _without_blanks(line: bytes) -> bytes:
    """A field line without white space before its colon."""
    name, colon, value = line.partition(b":")
    bare = name.rstrip(_BLANKS)
    return bare + colon + value if colon and len(bare) < len(name) and is_token(bare) else line
