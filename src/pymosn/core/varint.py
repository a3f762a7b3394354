"""Numbers in groups of 7 bits, the lowest first, as in Protocol Buffers and Thrift's compact protocol."""

from __future__ import annotations


def varint(number: int) -> bytes:
    """A number of at most 64 bits; negative ones as their two's complement."""
    rest = number & 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)
