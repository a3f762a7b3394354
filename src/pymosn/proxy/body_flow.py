"""Buffers one direction of an exchange's body while its bytes must wait.

A body normally streams through without touching this file. It waits while no upstream has accepted the request yet, while
filters process a response's head, while a filter reads the whole body, and while the sink is full. A `BodyFlow` serves
either direction of an exchange: `source` is the sender whose `pause` stops the bytes from arriving.
"""

from __future__ import annotations

import asyncio

from mypy_extensions import i64

from pymosn.api.stream import StreamSender
from pymosn.core.chunks import append_chunk
from pymosn.core.failure import Failure
from pymosn.core.headers import Headers
from pymosn.core.message import BodyTooLarge


class Reading:
    """A filter that waits for a whole body."""

    def __init__(self, limit: int) -> None:
        """`limit`: maximum size in bytes."""
        self._limit: i64 = limit
        self.is_too_large = False
        #: No exception is set in it, because that would refer to this object by its traceback.
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_size(self, size: i64, ended: bool) -> None:
        """`size` bytes of the body have arrived; `ended`: no more will."""
        if self.done.done():
            return
        self.is_too_large = size > self._limit
        if self.is_too_large or ended:
            self.done.set_result(None)


class BodyFlow:
    """Held chunks, trailers and back-pressure of one body."""

    def __init__(self, source: StreamSender | None) -> None:
        """`source`: None when the body is complete."""
        self.source = source
        self.size: i64 = 0
        self.ended = False
        self._is_paused = False
        self.trailers: Headers | None = None
        # The held bytes; the further chunks are joined when all are needed. Mostly there is only one.
        self._data: bytes = b""
        self._more: list[bytes] | None = None
        self._reading: Reading | None = None

    # ---- chunks

    def hold(self, data: bytes, end: bool) -> None:
        """Holds the next chunk."""
        if data:
            if self.size == 0:
                self._data = data
            else:
                more = self._more
                if more is None:
                    more = self._more = []
                append_chunk(more, data)
            self.size += len(data)
        self.ended = end

    def add(self, data: bytes, end: bool) -> None:
        """Holds the next chunk and pauses the source, unless a filter reads the body as a whole."""
        self.hold(data, end)
        if self._reading is not None:
            self._reading.on_size(self.size, end)
        else:
            self.pause()

    def add_trailers(self, trailers: Headers) -> None:
        """Holds the trailers, which end the body."""
        self.trailers = trailers
        self.ended = True
        if self._reading is not None:
            self._reading.on_size(self.size, True)

    def set_body(self, data: bytes, ended: bool) -> None:
        """Replaces everything that is held."""
        self._data = data
        self._more = None
        self.size = len(data)
        self.ended = ended
        self.trailers = None

    def body(self) -> bytes:
        """Returns the held bytes and keeps them."""
        more = self._more
        if more is not None:
            self._data = b"".join([self._data, *more])
            self._more = None
        return self._data

    def take(self) -> bytes:
        """Removes and returns the held bytes."""
        data = self.body()
        self.clear()
        return data

    def clear(self) -> None:
        """Drops the held bytes; trailers stay."""
        self._data = b""
        self._more = None
        self.size = 0

    # ---- back-pressure

    def pause(self) -> None:
        """Pauses the source, unless it is already paused."""
        if not self._is_paused and self.source is not None:
            self._is_paused = True
            self.source.pause()

    def release(self) -> None:
        """Resumes the source, if it is paused."""
        if self._is_paused:
            self._is_paused = False
            if self.source is not None:
                self.source.resume()

    # ---- reading as a whole

    async def read(self, limit: int, failure: Failure) -> bytes:
        """Returns the whole body and keeps it. Raises BodyTooLarge with `failure` above `limit` bytes."""
        reading = Reading(limit)
        reading.on_size(self.size, self.ended)
        if not reading.done.done():
            self._reading = reading
            self.release()
        try:
            await reading.done
        finally:
            self._reading = None
        if reading.is_too_large:
            raise BodyTooLarge(failure, limit)
        return self.body()
