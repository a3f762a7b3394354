"""Buffers outgoing frames of one connection."""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

#: Minimum size of data that is kept without copying, because a separate write costs less.
LONG: Final[i64] = 4096
#: Maximum size of a buffer that is reused; larger ones would waste memory.
KEPT: Final[i64] = 256 * 1024


class FrameWriter:
    """Collects frames. Short pieces are coalesced; long pieces are kept as they are."""

    def __init__(self) -> None:
        self._out = BytesWriter()
        # Long pieces and the data before them, and their total size.
        self._parts: list[bytes] = []
        self._parts_size: i64 = 0
        #: The next one, while its owner keeps it for later.
        self.next_spare: FrameWriter | None = None
        #: For its connection: the time of the last event, and the turns of the event loop since it began, and since that.
        self.last_event = 0.0
        self.turns: i64 = 0
        self.quiet_turns: i64 = 0

    def size(self) -> i64:
        """Number of collected bytes."""
        return self._parts_size + len(self._out)

    def write(self, data: bytes) -> None:
        """Appends `data`."""
        if len(data) < LONG:
            self._out.write(data)
        else:
            self._cut()
            self._parts.append(data)
            self._parts_size += len(data)

    def write_front(self, data: bytes, size: i64) -> None:
        """Appends the first `size` bytes of `data`."""
        if len(data) < LONG:
            kept: i64 = len(self._out) + size
            self._out.write(data)
            self._out.truncate(kept)
        else:
            self.write(data[:size])

    def write_number(self, number: i64, width: i64) -> None:
        """Appends a number of `width` bytes in network order; a negative one as its two's complement."""
        if width >= 4:  # unrolled, because frames of HTTP/2 have little else
            out = self._out
            if width == 8:
                out.append(u8((number >> 56) & 0xFF))
                out.append(u8((number >> 48) & 0xFF))
                out.append(u8((number >> 40) & 0xFF))
                out.append(u8((number >> 32) & 0xFF))
                width = 4
            if width == 4:
                out.append(u8((number >> 24) & 0xFF))
                out.append(u8((number >> 16) & 0xFF))
                out.append(u8((number >> 8) & 0xFF))
                out.append(u8(number & 0xFF))
                return
        shift: i64 = 8 * width
        while shift > 0:
            shift -= 8
            self._out.append(u8((number >> shift) & 0xFF))

    def write_numbered(self, front: bytes, at: i64, width: i64, number: i64) -> None:
        """Appends `front` with the number at offset `at` replaced, for example a frame's header with another id.

        The number has `width` bytes in network order, and is written as its two's complement if negative.
        """
        if len(front) >= LONG:
            self.write(front[:at] + int(number).to_bytes(8, "big", signed=True)[8 - width :] + front[at + width :])
            return
        out = self._out
        position: i64 = len(out) + at + width
        out.write(front)
        while width > 0:
            position -= 1
            width -= 1
            out[position] = u8(number & 0xFF)
            number >>= 8

    def truncate(self, size: i64) -> None:
        """Truncates to `size` bytes, discarding a partially written frame. Not valid across `take`."""
        while self._parts_size > size:
            part = self._parts.pop()
            self._parts_size -= len(part)
            self._empty()
            if self._parts_size < size:  # the part began before the frame
                self._out.write(part[: size - self._parts_size])
        self._out.truncate(size - self._parts_size)

    def take(self) -> list[bytes]:
        """Removes and returns all collected bytes, in order."""
        if not self._parts:
            data = self._out.getvalue()
            self._empty()
            return [data]
        self._cut()
        parts = self._parts
        self._parts = []
        self._parts_size = 0
        return parts

    def _cut(self) -> None:
        """Turns the coalesced bytes into a part."""
        if len(self._out) > 0:
            self._parts_size += len(self._out)
            self._parts.append(self._out.getvalue())
            self._empty()

    def _empty(self) -> None:
        """Discards the coalesced bytes."""
        if len(self._out) > KEPT:
            self._out = BytesWriter()
        else:
            self._out.truncate(0)
