"""Text from certificates, which their owners choose, as text that neither a header, a list nor a log line can misread.

The results are printable ASCII without quotation marks, and every backslash begins a pair of hexadecimal digits. So no
reader takes one for the end of a quoted string or for another element, whatever it knows of quoting.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

_QUOTE: Final = 34
_BACKSLASH: Final = 92
_HEX: Final = b"0123456789abcdefABCDEF"
#: Characters of host names, with the star of wildcards; those of URIs (RFC 3986 section 2), without separators of lists.
_IN_NAMES: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._*")
_IN_URIS: Final = _IN_NAMES | frozenset(b"~:/?#[]@!$&'()+%")


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates that do not encode a byte
        return text.encode("utf-8", "replace")


def safe_dn(text: str) -> str:
    """A distinguished name in the form of RFC 4514: special characters become `\\2C` and the like, which it allows."""
    raw = _encoded(text)
    size: i64 = len(raw)
    out = bytearray()
    i: i64 = 0
    while i < size:
        byte: i64 = raw[i]
        if byte == _BACKSLASH and i + 2 < size and raw[i + 1] in _HEX and raw[i + 2] in _HEX:
            out += raw[i : i + 3]
            i += 3
            continue
        is_escaped = byte == _BACKSLASH and i + 1 < size
        if is_escaped:
            i += 1
            byte = raw[i]
        if is_escaped or byte < 32 or byte > 126 or byte in (_QUOTE, _BACKSLASH):
            out += b"\\%02X" % byte
        else:
            out.append(byte)
        i += 1
    return out.decode("ascii")


def _percent_encoded(text: str, allowed: frozenset[int]) -> str:
    raw = _encoded(text)
    if allowed.issuperset(raw):
        return raw.decode("ascii")
    return "".join([chr(byte) if byte in allowed else f"%{byte:02X}" for byte in raw])


def safe_name(text: str) -> str:
    """A DNS name: whatever a host name cannot have is percent-encoded."""
    return _percent_encoded(text, _IN_NAMES)


def safe_uri(text: str) -> str:
    """A URI: whatever it cannot have is percent-encoded, and so are commas, semicolons and equals signs."""
    return _percent_encoded(text, _IN_URIS)


def listed(texts: list[str], limit: i64) -> str:
    """Safe texts, joined with commas; those beyond `limit` characters are left out, none is cut."""
    kept: list[str] = []
    left: i64 = limit
    for text in texts:
        left -= len(text) + 1
        if left < 0:
            break
        kept.append(text)
    return ",".join(kept)
