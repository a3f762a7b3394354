"""Huffman-coded strings of HPACK (RFC 7541 section 5.2 and appendix B)."""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import HTTP2_COMPRESSION

#: Bits of the code of each byte, then of EOS. The code is canonical: codes of one length follow each other like their bytes.
_LENGTHS: Final = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b080606060505050606060606"
    "060607080f060c0a0d06070707070707070707070707070707070707070707070807080d130d0e060f050605060506060605070706060605"
    "06070605050607070707070f0b0e0d1c14161414161616171617171717171817181816171817171717151617161717181615141616171715"
    "1716161815161717151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_EOS: Final[i64] = 256
_LONGEST: Final[i64] = 30


def _short_codes() -> tuple[bytes, bytes]:
    """The byte, and the bits of its code, for all values of the next 8 bits; 0 bits for the beginning of a longer code."""
    values = bytearray(256)
    lengths = bytearray(256)
    at = 0
    for length in range(1, 9):
        for value in range(256):
            if _LENGTHS[value] == length:
                for _ in range(1 << (8 - length)):
                    values[at] = value
                    lengths[at] = length
                    at += 1
    return bytes(values), bytes(lengths)


def _long_codes() -> tuple[list[int], list[int], list[int]]:
    """Of all longer codes in their order: the first 30 bits after the code, the bits of the code, and the byte."""
    ends: list[int] = []
    lengths: list[int] = []
    values: list[int] = []
    at = sum([1 << (30 - length) for length in _LENGTHS if length <= 8])
    for length in range(9, 31):
        for value in range(257):
            if _LENGTHS[value] == length:
                at += 1 << (30 - length)
                ends.append(at)
                lengths.append(length)
                values.append(value)
    return ends, lengths, values


_SHORT: Final = _short_codes()
_VALUES: Final[bytes] = _SHORT[0]
_BITS: Final[bytes] = _SHORT[1]
_LONG: Final = _long_codes()
_LONG_ENDS: Final[list[int]] = _LONG[0]
_LONG_BITS: Final[list[int]] = _LONG[1]
_LONG_VALUES: Final[list[int]] = _LONG[2]


def decode_huffman(data: bytes, start: i64, end: i64) -> bytes:
    """The string coded in `data[start:end]`. Raises ProtocolError for EOS, and for padding that is not less than 8 ones."""
    out = BytesWriter()
    window: i64 = 0  # the last 40 bits read, of which `bits` are not decoded yet
    bits: i64 = 0
    i: i64 = start
    while True:
        while bits <= 32 and i < end:
            window = ((window << 8) | data[i]) & 0xFFFFFFFFFF
            bits += 8
            i += 1
        if bits >= 8:
            next8: i64 = (window >> (bits - 8)) & 255
            length: i64 = _BITS[next8]
            if length != 0:
                out.append(u8(_VALUES[next8]))
                bits -= length
            else:
                at: i64 = _find_long(window, bits)
                length = _LONG_BITS[at]
                value: i64 = _LONG_VALUES[at]
                if value == _EOS or length > bits:
                    raise ProtocolError(HTTP2_COMPRESSION, "a Huffman-coded string has EOS or a part of a code")
                out.append(u8(value))
                bits -= length
        else:
            # The input is at its end. As if more ones followed: what does not become a complete code then is padding.
            padded: i64 = ((window << (8 - bits)) | (255 >> bits)) & 255
            length = _BITS[padded]
            if length == 0 or length > bits:
                if padded != 255:
                    raise ProtocolError(HTTP2_COMPRESSION, "a Huffman-coded string has wrong padding")
                return out.getvalue()
            out.append(u8(_VALUES[padded]))
            bits -= length


def _find_long(window: i64, bits: i64) -> i64:
    """The position in `_LONG` of the code, of at least 9 bits, that begins the last `bits` bits of `window`."""
    if bits >= _LONGEST:
        code: i64 = (window >> (bits - _LONGEST)) & 0x3FFFFFFF
    else:
        code = ((window << (_LONGEST - bits)) | (0x3FFFFFFF >> bits)) & 0x3FFFFFFF
    low: i64 = 0
    high: i64 = len(_LONG_ENDS) - 1
    while low < high:
        middle: i64 = (low + high) >> 1
        if code < i64(_LONG_ENDS[middle]):
            high = middle
        else:
            low = middle + 1
    return low
