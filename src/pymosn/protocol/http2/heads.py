"""What the heads of requests and responses have in common: the cache of the last block, lengths, trailers."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.core.headers import Headers, HttpHeaders
from pymosn.protocol.http.fields import may_trail
from pymosn.protocol.http.limits import HttpLimits
from pymosn.protocol.http2.hpack_decoder import HpackDecoder
from pymosn.protocol.http2.tables import CONNECTION_FIELD, FAULTY, METHOD, Entry

#: Blocks up to this size are remembered.
_LONGEST_KNOWN: Final[i64] = 2048
#: Digits of a content-length: 18 stay below 2^63.
_MAX_DIGITS: Final[i64] = 18
#: Results of `parse_length` and `read_trailers`.
BAD_LENGTH: Final[i64] = -2
GOOD: Final[i64] = 0
BAD: Final[i64] = 1
TOO_LARGE: Final[i64] = 2


class KnownBlock:
    """The last block that means the same when it comes again.

    Either it has not changed the table, and nothing else has since. Or it does not refer to the table: some hosts, such as
    nginx, write all fields as literals each time, with which they enter the table.
    """

    def __init__(self) -> None:
        self._block: bytes = b""
        self._end: bool = False
        self._is_known = False
        self._version: i64 = -1
        self._is_independent = False
        self._added: list[Entry] | None = None

    def matches(self, block: bytes, hpack: HpackDecoder, end: bool) -> bool:
        """Whether it is this block; `hpack` has not decoded it yet."""
        if not self._is_known or self._end != end or self._block != block:
            return False
        return self._is_independent or self._version == hpack.version

    def repeat(self, hpack: HpackDecoder) -> None:
        """The block has come again, and is not decoded: changes the table as it does."""
        if self._added is not None:
            hpack.add_again(self._added)

    def forget(self) -> None:
        """Before another block replaces what the owner knows about this one."""
        self._is_known = False
        self._added = None

    def remember(self, block: bytes, hpack: HpackDecoder, version: i64, end: bool) -> None:
        """`hpack` has just decoded the block; `version`: of its table, before that."""
        if len(block) <= _LONGEST_KNOWN and (hpack.is_independent or hpack.version == version):
            self._is_known = True
            self._block = block
            self._end = end
            self._version = version
            self._is_independent = hpack.is_independent
            self._added = hpack.added


class HeadDecoder:
    """Base of RequestHeads and ResponseHeads."""

    def __init__(self, limits: HttpLimits, table_size: i64) -> None:
        self._limits = limits
        self._hpack = HpackDecoder(limits, table_size)
        #: After `decode_trailers`: those that may be forwarded; None for none.
        self.trailers: Headers | None = None
        #: What is wrong with the last block, for the log.
        self.detail = ""
        # The last trailers, which are often the same, as with gRPC.
        self._known_trailers = KnownBlock()
        self._trailer_lines: bytes = b""
        self._trailer_bits: i64 = 0

    def read_trailers(self, fragment: bytes) -> i64:
        """Sets `trailers`. Returns GOOD, BAD for a malformed block, or TOO_LARGE; the last two with `detail`."""
        hpack = self._hpack
        version: i64 = hpack.version
        if self._known_trailers.matches(fragment, hpack, True):
            self._known_trailers.repeat(hpack)
        else:
            self._known_trailers.forget()
            self.trailers = None
            entries = hpack.decode(fragment, False)
            if hpack.overflow >= 0 or len(entries) > self._limits.fields:
                self.detail = "trailers are too large"
                return TOO_LARGE
            if not self._join_trailers(entries):
                return BAD
            self._known_trailers.remember(fragment, hpack, version, True)
        self.detail = ""
        self.trailers = HttpHeaders(self._trailer_lines, self._trailer_bits) if len(self._trailer_lines) > 0 else None
        return GOOD

    def _join_trailers(self, entries: list[Entry]) -> bool:
        parts: list[bytes] = []
        bits: i64 = 0
        for entry in entries:
            kind: i64 = entry.kind
            if kind >= METHOD or kind == CONNECTION_FIELD:
                self.detail = "pseudo-header field in trailers"
                if kind == FAULTY:
                    self.detail = entry.fault()
                elif kind == CONNECTION_FIELD:
                    self.detail = "connection field in trailers"
                return False
            if may_trail(entry.name.text):
                parts.append(entry.line)
                bits |= entry.bit
        self._trailer_lines = b"".join(parts)
        self._trailer_bits = bits
        return True


def parse_length(value: bytes) -> i64:
    """Parses a content-length (RFC 9110 section 8.6): digits without leading zeros. BAD_LENGTH for anything else."""
    size: i64 = len(value)
    if size == 0 or size > _MAX_DIGITS or (value[0] == 48 and size > 1):
        return BAD_LENGTH
    length: i64 = 0
    i: i64 = 0
    while i < size:
        digit: i64 = value[i] - 48
        if digit < 0 or digit > 9:
            return BAD_LENGTH
        length = length * 10 + digit
        i += 1
    return length
