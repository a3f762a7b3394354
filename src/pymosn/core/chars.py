"""Character classes of HTTP as 256-byte tables: `TABLE[byte]` is 0 if the byte is not in the class."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

_DIGITS: Final = b"0123456789"
_ALPHA: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def table(members: bytes) -> bytes:
    """A table that is 1 for each of `members`."""
    return bytes([1 if byte in members else 0 for byte in range(256)])


#: token of RFC 9110 section 5.6.2: methods and field names.
TOKEN: Final = table(b"!#$%&'*+-.^_`|~" + _DIGITS + _ALPHA)

#: TOKEN without the underscore, which some servers treat as a dash.
NAME: Final = table(b"!#$%&'*+-.^`|~" + _DIGITS + _ALPHA)

#: Bytes allowed in a field value: tab, visible ASCII, space and obs-text (RFC 9110 section 5.5).
FIELD_VALUE: Final = table(b"\t" + bytes(range(32, 127)) + bytes(range(128, 256)))

#: Bytes of a path: RFC 3986, and some that browsers send unescaped; no space, control, `?`, `#`, `\` or 8-bit byte.
PATH: Final = table(b"-._~:/[]@!$&'()*+,;=%" + b'|{}^`"<>' + _DIGITS + _ALPHA)

#: Bytes of a path with a query: PATH and the question mark.
TARGET: Final = table(b"-._~:/?[]@!$&'()*+,;=%" + b'|{}^`"<>' + _DIGITS + _ALPHA)

#: Bytes of a query: TARGET and `\`, which browsers send unescaped and which has no meaning there.
QUERY: Final = table(b"-._~:/?[]@!$&'()*+,;=%" + b'|{}^`"<>\\' + _DIGITS + _ALPHA)

#: The same with 8-bit bytes, which some clients do not escape.
_HIGH: Final = bytes(range(128, 256))
RAW_PATH: Final = table(b"-._~:/[]@!$&'()*+,;=%" + b'|{}^`"<>' + _DIGITS + _ALPHA + _HIGH)
RAW_QUERY: Final = table(b"-._~:/?[]@!$&'()*+,;=%" + b'|{}^`"<>\\' + _DIGITS + _ALPHA + _HIGH)

#: Bytes of a path, and of a query or fragment, that are written into a URI: RFC 3986, and `[]`, which all readers accept.
PATH_TEXT: Final = table(b"-._~:/[]@!$&'()*+,;=%" + _DIGITS + _ALPHA)
QUERY_TEXT: Final = table(b"-._~:/?[]@!$&'()*+,;=%" + _DIGITS + _ALPHA)

#: Bytes of a scheme after its first letter (RFC 3986 section 3.1).
SCHEME: Final = table(b"+-." + _DIGITS + _ALPHA)

#: Bytes of a host name: unreserved characters of RFC 3986 section 3.2.2.
HOST: Final = table(b"-._~" + _DIGITS + _ALPHA)

#: Bytes of a reg-name in RFC 3986, except for the comma; no colon, bracket or `@`.
REG_NAME: Final = table(b"-._~!$&'()*+;=%" + _DIGITS + _ALPHA)

#: ASCII upper case folded to lower case, every other byte itself.
LOWER: Final = bytes(range(256)).lower()

#: Unreserved characters (RFC 3986 section 2.3): percent-encoding them does not change their meaning.
UNRESERVED: Final = table(b"-._~" + _DIGITS + _ALPHA)


def all_in(text: bytes, characters: bytes) -> bool:
    """Whether each byte of `text` is in the class `characters`."""
    size: i64 = len(text)
    i: i64 = 0
    while i < size and characters[text[i]] != 0:
        i += 1
    return i == size


def escape(text: bytes, characters: bytes) -> bytes:
    """`text` with every byte percent-encoded that is not in the class `characters`; the same object if there is none."""
    if all_in(text, characters):
        return text
    return b"".join([bytes([byte]) if characters[byte] else b"%%%02X" % byte for byte in text])


def has_lowered(data: bytes, at: i64, name: bytes) -> bool:
    """Whether `data` contains the lower-case `name` at offset `at`, ignoring ASCII case. The data must be long enough."""
    size: i64 = len(name)
    i: i64 = 0
    while i < size and LOWER[data[at + i]] == name[i]:
        i += 1
    return i == size


def decimal(text: bytes) -> i64:
    """Parses 1 to 9 ASCII digits; -1 for anything else."""
    size: i64 = len(text)
    if size < 1 or size > 9:
        return -1
    value: i64 = 0
    i: i64 = 0
    while i < size:
        digit: i64 = text[i] - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
        i += 1
    return value


def is_digit(byte: i64) -> bool:
    """Whether `byte` is a decimal digit."""
    return 48 <= byte <= 57


def hex_digit(byte: i64) -> i64:
    """The value of a hexadecimal digit, or -1."""
    if 48 <= byte <= 57:
        return byte - 48
    if 97 <= byte <= 102:
        return byte - 87
    if 65 <= byte <= 70:
        return byte - 55
    return -1
