"""Entries of HPACK's tables (RFC 7541 section 2.3), with all that the proxy must know about a field: it is checked once.

An entry has the finished line of HTTP/1, `name: value` CR LF, which becomes a part of the block of `HttpHeaders`.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.chars import FIELD_VALUE, TOKEN
from pymosn.core.headers import SPACE, TAB, name_bit
from pymosn.protocol.http import fields
from pymosn.protocol.http.fields import classify, is_claim, is_look_alike

# Kinds of fields besides those of protocol/http/fields.py.
#: Names with an underscore that resemble no other field.
UNDERSCORE: Final[i64] = 26
#: Fields of a connection of HTTP/1, which make a message malformed (RFC 9113 section 8.2.2).
CONNECTION_FIELD: Final[i64] = 22
COOKIE: Final[i64] = 23
CONTENT_TYPE: Final[i64] = 24
GRPC_TIMEOUT: Final[i64] = 25
#: Kinds from here on are pseudo-header fields.
METHOD: Final[i64] = 32
SCHEME: Final[i64] = 33
AUTHORITY: Final[i64] = 34
PATH: Final[i64] = 35
PROTOCOL: Final[i64] = 36
STATUS: Final[i64] = 37
#: A name or value that makes every message malformed.
FAULTY: Final[i64] = 40

_PSEUDO: Final[dict[bytes, int]] = {
    b":method": 32,
    b":scheme": 33,
    b":authority": 34,
    b":path": 35,
    b":protocol": 36,
    b":status": 37,
}
_SPECIAL: Final[dict[bytes, int]] = {
    b"connection": 22,
    b"keep-alive": 22,
    b"proxy-connection": 22,
    b"transfer-encoding": 22,
    b"upgrade": 22,
    b"cookie": 23,
    b"content-type": 24,
    b"grpc-timeout": 25,
}
_COLON: Final[i64] = 58
_LETTER_X: Final[i64] = 120

#: What an entry costs besides its name and value (RFC 7541 section 4.1), and how much less a line of HTTP/1 costs.
OVERHEAD: Final[i64] = 32
TO_LINE: Final[i64] = 28


class FieldName:
    """A name and what is known about every field with it. Shared by entries; immutable.

    `prefix`: the beginning of a line; empty for pseudo-header fields, except that `:authority` becomes a `host`.
    `fault`: why the name makes a message malformed; usually empty.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.fault = _fault_of_name(text)
        self.kind: i64 = FAULTY
        self.prefix: bytes = b""
        self.bit: i64 = 0
        if len(self.fault) > 0:
            return
        self.kind = _kind_of_name(text)
        if self.kind < METHOD:
            self.prefix = text + b": "
            self.bit = name_bit(len(text), text[0], text[len(text) - 1])
        elif self.kind == AUTHORITY:
            self.prefix = b"host: "
            self.bit = name_bit(4, 104, 116)


class Entry:
    """A field, in a table or not. Immutable.

    `kind`: of its name, or FAULTY if the value makes a message malformed. `line`: to append to a block; empty for
    a pseudo-header field, and for a faulty one. `size`: as RFC 7541 section 4.1 counts.
    """

    def __init__(self, name: FieldName, value: bytes, never_indexed: bool) -> None:
        self.name = name
        self.value = value
        self.kind: i64 = name.kind
        self.bit: i64 = name.bit
        self.size: i64 = len(name.text) + len(value) + OVERHEAD
        self.line: bytes = b""
        if name.kind != FAULTY and not is_value(value):
            self.kind = FAULTY
        elif len(name.prefix) > 0:
            if never_indexed and name.kind != AUTHORITY:
                # The missing space is legal, and means that no encoder may index the field (RFC 7541 section 6.2.3).
                self.line = name.text + b":" + value + b"\r\n"
            else:
                self.line = name.prefix + value + b"\r\n"

    def fault(self) -> str:
        """Why a FAULTY field makes a message malformed."""
        return self.name.fault or "control character in a field value, or white space around it"


def is_value(value: bytes) -> bool:
    """Whether `value` has no control characters, and no white space around it (RFC 9113 section 8.2.1)."""
    size: i64 = len(value)
    if size == 0:
        return True
    i: i64 = 0
    while i < size and FIELD_VALUE[value[i]] != 0:
        i += 1
    if i < size:
        return False
    first: i64 = value[0]
    last: i64 = value[size - 1]
    return first != SPACE and first != TAB and last != SPACE and last != TAB


def _fault_of_name(text: bytes) -> str:
    size: i64 = len(text)
    if size == 0:
        return "a field without a name"
    if text[0] == _COLON:
        return "" if text in _PSEUDO else "unknown pseudo-header field"
    i: i64 = 0
    while i < size:
        byte: i64 = text[i]
        if 65 <= byte <= 90:
            return "upper-case letter in a field name"
        if TOKEN[byte] == 0:
            return "not a field name"
        i += 1
    return ""


def _kind_of_name(text: bytes) -> i64:
    if text[0] == _COLON:
        return _PSEUDO[text]
    special: i64 = _SPECIAL.get(text, 0)
    if special != 0:
        return special
    if b"_" in text:
        return fields.LOOK_ALIKE if is_look_alike(text) else UNDERSCORE
    kind: i64 = classify(text, 0, len(text))
    if kind == fields.OTHER and text[0] == _LETTER_X and is_claim(text, 0, len(text)):
        return fields.CLAIM
    return kind


_TEXT: Final = (
    b":authority|:method=GET|:method=POST|:path=/|:path=/index.html|:scheme=http|:scheme=https|:status=200|:status=204"
    b"|:status=206|:status=304|:status=400|:status=404|:status=500|accept-charset|accept-encoding=gzip, deflate"
    b"|accept-language|accept-ranges|accept|access-control-allow-origin|age|allow|authorization|cache-control"
    b"|content-disposition|content-encoding|content-language|content-length|content-location|content-range|content-type"
    b"|cookie|date|etag|expect|expires|from|host|if-match|if-modified-since|if-none-match|if-range|if-unmodified-since"
    b"|last-modified|link|location|max-forwards|proxy-authenticate|proxy-authorization|range|referer|refresh|retry-after"
    b"|server|set-cookie|strict-transport-security|transfer-encoding|user-agent|vary|via|www-authenticate"
)


def _static_entries() -> list[Entry]:
    names: dict[bytes, FieldName] = {}
    entries: list[Entry] = []
    for item in _TEXT.split(b"|"):
        name, _, value = item.partition(b"=")
        if name not in names:
            names[name] = FieldName(name)
        entries.append(Entry(names[name], value, False))
    return entries


#: The static table (RFC 7541 appendix A); its first entry has the index 1.
STATIC: Final[list[Entry]] = _static_entries()
STATIC_SIZE: Final[i64] = 61
#: The first index of each name in the static table.
STATIC_NAMES: Final[dict[bytes, int]] = {
    entry.name.text: index for index, entry in reversed(list(enumerate(STATIC, start=1)))
}
