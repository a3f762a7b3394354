"""Bytes of many messages on their way to one connection."""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter
from mypy_extensions import i64, u8

#: Bytes of a piece that is not copied: handing it over by itself costs less.
LONG: Final[i64] = 4096
#: Bytes of a buffer that is used again; one that had to grow beyond them would be held for nothing.
KEPT: Final[i64] = 256 * 1024


class FrameWriter:
    """Gathers frames. What is short is copied together, to be sent in one piece; what is long is kept as it is."""

    def __init__(self) -> None:
        self._out = BytesWriter()
        # Long pieces and what stands before them, and their size.
        self._parts: list[bytes] = []
        self._parts_size: i64 = 0

    def size(self) -> i64:
        """Bytes that it holds."""
        return self._parts_size + len(self._out)

    def write(self, data: bytes) -> None:
        """Adds `data`."""
        if len(data) < LONG:
            self._out.write(data)
        else:
            self._cut()
            self._parts.append(data)
            self._parts_size += len(data)

    def write_front(self, data: bytes, size: i64) -> None:
        """Adds the first `size` bytes of `data`."""
        if len(data) < LONG:
            kept: i64 = len(self._out) + size
            self._out.write(data)
            self._out.truncate(kept)
        else:
            self.write(data[:size])

    def write_number(self, number: i64, width: i64) -> None:
        """Adds a number of `width` bytes in network order; a negative one as its two's complement."""
        shift: i64 = 8 * width
        while shift > 0:
            shift -= 8
            self._out.append(u8((number >> shift) & 0xFF))

    def write_numbered(self, front: bytes, at: i64, width: i64, number: i64) -> None:
        """Adds `front` with another number, of `width` bytes in network order, at `at`: a frame's header and its id.

        A negative number is written as its two's complement. `front` must have those bytes.
        """
        if len(front) >= LONG:
            self.write(front[:at] + int(number).to_bytes(8, "big", signed=True)[8 - width :] + front[at + width :])
            return
        out = self._out
        place: i64 = len(out) + at + width
        out.write(front)
        while width > 0:
            place -= 1
            width -= 1
            out[place] = u8(number & 0xFF)
            number >>= 8

    def truncate(self, size: i64) -> None:
        """Forgets what was written since it held `size` bytes, and nothing has been taken: a frame that came to nothing."""
        while self._parts_size > size:
            part = self._parts.pop()
            self._parts_size -= len(part)
            self._empty()
            if self._parts_size < size:  # the part began before the frame
                self._out.write(part[: size - self._parts_size])
        self._out.truncate(size - self._parts_size)

    def take(self) -> list[bytes]:
        """All that it holds, in order; it is empty then."""
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
        """Makes a part of what was copied together so far."""
        if len(self._out) > 0:
            self._parts_size += len(self._out)
            self._parts.append(self._out.getvalue())
            self._empty()

    def _empty(self) -> None:
        """Forgets what was copied together."""
        if len(self._out) > KEPT:
            self._out = BytesWriter()
        else:
            self._out.truncate(0)
