"""Encoding of header fields (RFC 7541 section 6): indexed, or as literals without Huffman codes.

Entries are looked up by their HTTP/1 lines, as blocks contain them, so that a known field costs one lookup. A field enters
the table when it is sent for the second time: unique ones (ids, cookies of one client) do not displace common ones.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

from pymosn.protocol.http2.frames import DEFAULT_TABLE_SIZE
from pymosn.protocol.http2.tables import OVERHEAD, STATIC_SIZE

#: First bytes of representations.
_INDEXED: Final[i64] = 0x80
_ADDED: Final[i64] = 0x40
_RESIZED: Final[i64] = 0x20
NOT_INDEXED: Final[i64] = 0x00
NEVER_INDEXED: Final[i64] = 0x10

#: The memory of what has come once is a Bloom filter: bytes, the last bit, and how many keys it takes before it is emptied.
_BYTES: Final[i64] = 256
_BITS: Final[i64] = 2047
_REMEMBERED: Final[i64] = 256
_BIT: Final = bytes([1 << shift for shift in range(8)])


class Added:
    """An entry of the dynamic table. `key`: how it is found; `number`: counts from the first entry of the connection."""

    def __init__(self, key: bytes, number: i64, size: i64) -> None:
        self.key = key
        self.number: i64 = number
        self.size: i64 = size


class HpackEncoder:
    """Encodes fields of one direction of one connection. Has the dynamic table.

    The table is never larger than the default of 4096 bytes, whatever the peer allows.
    """

    def __init__(self) -> None:
        #: Whether the block so far would be the same bytes if it came again: no field is new.
        self.is_settled = True
        #: Changes with the dynamic table.
        self.version: i64 = 0
        self._capacity: i64 = DEFAULT_TABLE_SIZE
        self._used: i64 = 0
        self._by_key: dict[bytes, Added] = {}
        #: From the oldest to the newest.
        self._entries: list[Added] = []
        self._count: i64 = 0
        # A change of the table's size of which the peer does not know: the smallest since then (RFC 7541 section 4.2).
        self._is_resized = False
        self._smallest: i64 = DEFAULT_TABLE_SIZE
        self._bits = bytearray(_BYTES)
        self._remembered: i64 = 0

    def set_table_size(self, size: i64) -> None:
        """Applies the peer's SETTINGS_HEADER_TABLE_SIZE."""
        capacity: i64 = size if size < DEFAULT_TABLE_SIZE else DEFAULT_TABLE_SIZE
        if capacity == self._capacity:
            return
        if not self._is_resized or capacity < self._smallest:
            self._smallest = capacity
        self._is_resized = True
        self._capacity = capacity
        self.version += 1
        self._evict(capacity)

    def begin(self, out: BytesWriter) -> None:
        """Begins a block."""
        self.is_settled = True
        if self._is_resized:
            self._is_resized = False
            self.is_settled = False
            if self._smallest < self._capacity:
                write_integer(out, self._smallest, 31, _RESIZED)
            write_integer(out, self._capacity, 31, _RESIZED)

    def write_known(self, out: BytesWriter, key: bytes) -> bool:
        """Writes the field if it is in the table under `key`."""
        added = self._by_key.get(key)
        if added is None:
            return False
        index: i64 = STATIC_SIZE + self._count - added.number
        if index < 127:
            out.append(u8(_INDEXED | index))
        else:
            write_integer(out, index, 127, _INDEXED)
        return True

    def write_new(self, out: BytesWriter, key: bytes, index: i64, name: bytes, value: bytes) -> None:
        """Writes a field that is not in the table under `key`, and adds it if it comes for the second time.

        `index`: one with that name in the static table, or 0.
        """
        size: i64 = len(name) + len(value) + OVERHEAD
        if size * 2 > self._capacity or not self._was_seen(key):
            write_literal(out, NOT_INDEXED, index, name, value)
            return
        self._evict(self._capacity - size)
        self._by_key[key] = added = Added(key, self._count, size)
        self._entries.append(added)
        self._count += 1
        self._used += size
        self.version += 1
        write_literal(out, _ADDED, index, name, value)

    def write_unique(self, out: BytesWriter, name: bytes, value: bytes) -> None:
        """Writes a field that is not expected to come again, whose name is not in the static table."""
        self.is_settled = False
        write_literal(out, NOT_INDEXED, 0, name, value)

    def _was_seen(self, key: bytes) -> bool:
        """Whether the key has come before, as far as is remembered; remembers it. Seldom wrong, which does no harm."""
        self.is_settled = False
        mark: i64 = 0
        i: i64 = 0
        while i < len(key):
            mark = (mark * 31 + key[i]) & 0xFFFFFFFF
            i += 1
        bits = self._bits
        first: i64 = mark & _BITS
        second: i64 = (mark >> 16) & _BITS
        if (bits[first >> 3] >> (first & 7)) & (bits[second >> 3] >> (second & 7)) & 1 != 0:
            return True
        if self._remembered == _REMEMBERED:
            self._remembered = 0
            bits = self._bits = bytearray(_BYTES)
        self._remembered += 1
        bits[first >> 3] |= _BIT[first & 7]
        bits[second >> 3] |= _BIT[second & 7]
        return False

    def _evict(self, room: i64) -> None:
        """Removes the oldest entries until the others have at most `room` bytes."""
        while self._used > room and len(self._entries) > 0:
            added = self._entries.pop(0)
            self._used -= added.size
            del self._by_key[added.key]


def write_index(out: BytesWriter, index: i64) -> None:
    """A field of the static table."""
    out.append(u8(_INDEXED | index))


def write_literal(out: BytesWriter, representation: i64, index: i64, name: bytes, value: bytes) -> None:
    """A literal field (RFC 7541 section 6.2). `index`: one with that name in the static table, or 0."""
    if index > 0:
        write_integer(out, index, 63 if representation == _ADDED else 15, representation)
    else:
        out.append(u8(representation))
        write_integer(out, len(name), 127, 0)
        out.write(name)
    write_integer(out, len(value), 127, 0)
    out.write(value)


def write_integer(out: BytesWriter, value: i64, mask: i64, first: i64) -> None:
    """An integer whose prefix is the bits of `mask` in a byte that begins as `first` (RFC 7541 section 5.1)."""
    if value < mask:
        out.append(u8(first | value))
        return
    out.append(u8(first | mask))
    value -= mask
    while value >= 128:
        out.append(u8((value & 127) | 128))
        value >>= 7
    out.append(u8(value))
