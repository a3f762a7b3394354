"""Decoding of header blocks (RFC 7541 sections 3, 5 and 6)."""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from pymosn.api.protocol import ProtocolError
from pymosn.core.failure import HEADER_BOMB, HTTP2_COMPRESSION
from pymosn.protocol.http.fields import OTHER
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2.frames import DEFAULT_TABLE_SIZE
from pymosn.protocol.http2.huffman import decode_huffman
from pymosn.protocol.http2.tables import METHOD, STATIC, STATIC_SIZE, TO_LINE, Entry, FieldName

#: Continuation bytes of an integer at most: more than 2^28 of anything is an attack.
_MAX_SHIFT: Final[i64] = 21
#: A larger buffer is not kept for the next block.
_KEPT: Final[i64] = 2048
#: So many evicted entries at least are removed at once, when they are half of all.
_EVICTED: Final[i64] = 16
#: A block may be larger than its limit by so many bytes, and four times the limit, before it counts as an attack.
_EXCESS: Final[i64] = 64 * 1024
_LARGEST: Final[i64] = 1 << 40
NOTHING: Final[i64] = -1
#: Entries that an independent block may add.
MOST_ADDED: Final[i64] = 16


class HpackDecoder:
    """Decodes the header blocks of one direction of one connection. Has the dynamic table.

    A block that is too large is decoded to its end, since it may change the table, but only what is within the limit is
    returned. One that is larger than any mistake ends the connection: a byte may stand for a field of thousands.
    """

    def __init__(self, limits: HttpLimits, table_size: i64) -> None:
        """`table_size`: the largest size of the table, in bytes, as announced in our SETTINGS."""
        self._limits = limits
        #: What a block may have beyond the limit of its size, in bytes.
        self._excess: i64 = 4 * min(limits.head, _LARGEST) + _EXCESS
        #: Of the last block: the kind of the first field beyond the limit of its size, NOTHING if there is none.
        self.overflow: i64 = NOTHING
        #: Of the fields that were joined: how many, the `name_bit` of each, and whether a pseudo-header field followed.
        self.count: i64 = 0
        self.bits: i64 = 0
        self.is_late = False
        self._lines = BytesWriter()
        #: Changes with the dynamic table.
        self.version: i64 = 0
        #: Of the last block: whether it means the same with any table, and what it has added to the table, if anything.
        #: One that adds more than MOST_ADDED does not count, because its entries would be kept beyond the table.
        self.is_independent = False
        self.added: list[Entry] | None = None
        # The peer uses the default size until it has our SETTINGS (RFC 9113 section 6.5.2).
        self._allowed: i64 = table_size if table_size > DEFAULT_TABLE_SIZE else DEFAULT_TABLE_SIZE
        self._capacity: i64 = DEFAULT_TABLE_SIZE
        #: From the oldest to the newest; those before the offset `_oldest` are evicted. The table may have 30,000 entries.
        self._entries: list[Entry] = []
        self._oldest: i64 = 0
        self._used: i64 = 0
        self._at: i64 = 0

    def decode(self, block: bytes, joins: bool) -> list[Entry]:
        """The fields of a complete block. Raises ProtocolError, after which nothing can be decoded: HTTP2_COMPRESSION for a
        block that violates RFC 7541, HEADER_BOMB for one that is many times larger than the limit.

        `joins`: the ordinary fields, of the kind OTHER, are not returned. Their lines are joined: see `lines`.
        """
        found: list[Entry] = []
        size: i64 = len(block)
        left: i64 = self._limits.head
        bits: i64 = 0
        count: i64 = 0
        is_start = True
        self.overflow = NOTHING
        self.is_late = False
        self.is_independent = True
        self.added = None
        lines = self._lines
        lines.truncate(0)
        i: i64 = 0
        while i < size:
            byte: i64 = block[i]
            if byte >= 128:
                index: i64 = byte & 127
                if index < 127:
                    i += 1
                else:
                    index = self._read_integer(block, i, 127)
                    i = self._at
                entry = self._entry(index)
            elif byte >= 64:
                entry = self._read_literal(block, i, 63, False)
                i = self._at
                self._insert(entry)
                self._note_added(entry)
            elif byte >= 32:
                if not is_start:
                    raise ProtocolError(HTTP2_COMPRESSION, "a change of the table's size after a field")
                self._resize(self._read_integer(block, i, 31))
                i = self._at
                continue
            else:
                entry = self._read_literal(block, i, 15, byte >= 16)
                i = self._at
            is_start = False
            left -= entry.size - TO_LINE
            if left < 0:
                if self.overflow < 0:
                    self.overflow = entry.kind
                if left < -self._excess:
                    raise ProtocolError(HEADER_BOMB, "a head is many times larger than the limit")
            elif joins and entry.kind == OTHER:
                lines.write(entry.line)
                bits |= entry.bit
                count += 1
            else:
                if count > 0 and entry.kind >= METHOD:
                    self.is_late = True
                found.append(entry)
        self.bits = bits
        self.count = count
        return found

    def add_line(self, line: bytes) -> None:
        """Adds a line to those of the ordinary fields."""
        self._lines.write(line)

    def lines(self) -> bytes:
        """The lines of the ordinary fields of the last block, which was decoded with `joins`, and those that were added."""
        lines = self._lines.getvalue()
        if len(lines) > _KEPT:
            self._lines = BytesWriter()
        return lines

    # ---- the table

    def _entry(self, index: i64) -> Entry:
        if index <= STATIC_SIZE:
            if index == 0:
                raise ProtocolError(HTTP2_COMPRESSION, "index 0")
            return STATIC[index - 1]
        at: i64 = len(self._entries) + STATIC_SIZE - index
        if at < self._oldest:
            raise ProtocolError(HTTP2_COMPRESSION, "index beyond the table")
        self.is_independent = False
        return self._entries[at]

    def _note_added(self, entry: Entry) -> None:
        added = self.added
        if added is None:
            self.added = [entry]
        elif len(added) < MOST_ADDED:
            added.append(entry)
        else:
            self.is_independent = False

    def add_again(self, added: list[Entry]) -> None:
        """An independent block has come again, which adds these entries."""
        for entry in added:
            self._insert(entry)

    def _insert(self, entry: Entry) -> None:
        self.version += 1
        self._evict(self._capacity - entry.size)
        if entry.size <= self._capacity:
            self._entries.append(entry)
            self._used += entry.size

    def _resize(self, size: i64) -> None:
        if size > self._allowed:
            raise ProtocolError(HTTP2_COMPRESSION, "the table's size is larger than SETTINGS_HEADER_TABLE_SIZE")
        self.version += 1
        self.is_independent = False
        self._capacity = size
        self._evict(size)

    def _evict(self, room: i64) -> None:
        """Removes the oldest entries until the others have at most `room` bytes (RFC 7541 sections 4.3 and 4.4)."""
        entries = self._entries
        oldest: i64 = self._oldest
        while self._used > room and oldest < len(entries):
            self._used -= entries[oldest].size
            entries[oldest] = STATIC[0]
            oldest += 1
        if oldest >= _EVICTED and oldest * 2 >= len(entries):
            del entries[:oldest]
            oldest = 0
        self._oldest = oldest

    # ---- primitives; each sets `_at` to the offset after what it has read

    def _read_integer(self, block: bytes, start: i64, mask: i64) -> i64:
        """The integer whose prefix is the bits of `mask` in the byte at `start` (RFC 7541 section 5.1)."""
        size: i64 = len(block)
        if start >= size:
            raise ProtocolError(HTTP2_COMPRESSION, "block ends within a field")
        value: i64 = block[start] & mask
        i: i64 = start + 1
        if value == mask:
            shift: i64 = 0
            while True:
                if i >= size or shift > _MAX_SHIFT:
                    raise ProtocolError(HTTP2_COMPRESSION, "integer is too large or has no end")
                byte: i64 = block[i]
                value += (byte & 127) << shift
                shift += 7
                i += 1
                if byte < 128:
                    break
        self._at = i
        return value

    def _read_string(self, block: bytes, start: i64) -> bytes:
        """RFC 7541 section 5.2."""
        length: i64 = self._read_integer(block, start, 127)
        first: i64 = self._at
        end: i64 = first + length
        if end > len(block):
            raise ProtocolError(HTTP2_COMPRESSION, "string is longer than the block")
        self._at = end
        return decode_huffman(block, first, end) if block[start] >= 128 else block[first:end]

    def _read_literal(self, block: bytes, start: i64, mask: i64, never_indexed: bool) -> Entry:
        """RFC 7541 section 6.2."""
        index: i64 = self._read_integer(block, start, mask)
        name = self._entry(index).name if index > 0 else FieldName(self._read_string(block, self._at))
        return Entry(name, self._read_string(block, self._at), never_indexed)
