"""Clients of HTTP/2: many requests on one connection, slow ones, and such as leave or reset in the middle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.kit import h2_frames as wire
from tests.kit.h2_end import End, Stream
from tests.load.upstreams import reset

#: Seconds without a byte after which a client looks whether it still waits for something.
PAUSE = 0.05


class H2Connection:
    """One connection. `outcomes` counts statuses with `h2` before them, and resets by their codes."""

    def __init__(
        self, outcomes: Counter[str], chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.outcomes = outcomes
        self.random = chance
        self.reader = reader
        self.writer = writer
        self.end = End(True, writer.write)
        self._scheme = b"http" if writer.get_extra_info("ssl_object") is None else b"https"
        writer.write(self.end.opening())

    def head(self, path: bytes, method: bytes = b"GET") -> list[tuple[bytes, bytes]]:
        """The fields of a request."""
        return [(b":method", method), (b":scheme", self._scheme), (b":authority", b"a.example"), (b":path", path)]

    def path(self) -> bytes:
        """A path of the first hop, or of two hops over HTTP/2."""
        size = b"/big" if self.random.random() < 0.2 else b"/small"
        return b"/hop" + size if self.random.random() < 0.5 else size

    async def read(self) -> bool:
        """Reads once; False at the end of the connection."""
        data = await self.reader.read(1 << 16)
        self.end.feed(data)
        return bool(data)

    async def finish(self, streams: list[Stream]) -> None:
        """Reads until all these have ended."""
        while not all(stream.is_done for stream in streams) and await self.read():
            pass
        for stream in streams:
            word = f"h2 {stream.status}" if stream.status else f"h2 reset {stream.code}"
            self.outcomes[word if stream.is_done else "h2 cut"] += 1


async def many(connection: H2Connection) -> None:
    """Requests at once, a few times."""
    for _ in range(connection.random.randrange(1, 6)):
        count = connection.random.randrange(1, 30)
        await connection.finish(
            [connection.end.send_request(connection.head(connection.path()), b"", True) for _ in range(count)]
        )
        if connection.end.goaways:
            return


async def uploads(connection: H2Connection) -> None:
    """Bodies at once, as the windows allow."""
    streams = []
    for _ in range(connection.random.randrange(1, 4)):
        body = b"u" * connection.random.randrange(1, 400_000)
        streams.append(connection.end.send_request(connection.head(b"/up", b"POST"), body, True))
    await connection.finish(streams)


async def resets(connection: H2Connection) -> None:
    """Cancels some requests in the middle, and finishes the others."""
    streams = [connection.end.send_request(connection.head(connection.path()), b"", True) for _ in range(10)]
    await asyncio.sleep(connection.random.choice((0.0, 0.001, 0.02)))
    for stream in streams[::2]:
        connection.end.reset(stream)
    await connection.finish(streams[1::2])


async def slow_reader(connection: H2Connection) -> None:
    """One stream opens its window slowly, while others are served."""
    connection.end.grants = False
    slow = connection.end.send_request(connection.head(b"/big"), b"", True)
    await connection.read()
    connection.end.grants = True
    quick = [connection.end.send_request(connection.head(b"/small"), b"", True) for _ in range(5)]
    await connection.finish(quick)
    for _ in range(20):
        if slow.is_done:
            return
        connection.end.grant(slow, 5000)
        connection.end.grant(None, 5000)
        await asyncio.sleep(0.03)


async def slow_body(connection: H2Connection) -> None:
    """Less than the minimum rate."""
    stream = connection.end.send_request(connection.head(b"/up", b"POST"), b"", False)
    for _ in range(60):
        connection.end.send_data(stream, b"s", False)
        await asyncio.sleep(PAUSE)
        if stream.is_done or connection.reader.at_eof():
            return


async def half_a_head(connection: H2Connection) -> None:
    """A head without an end."""
    block = connection.end.block(connection.head(b"/small"))
    connection.writer.write(wire.frame(1, 0, connection.end.new_stream().number, block))
    while await connection.read():
        pass


async def nonsense(connection: H2Connection) -> None:
    """Frames of any kind, and then bytes that are none."""
    for _ in range(connection.random.randrange(1, 20)):
        kind, flags, stream = (connection.random.randrange(top) for top in (11, 256, 9))
        connection.writer.write(
            wire.frame(kind, flags, stream, connection.random.randbytes(connection.random.randrange(40)))
        )
    connection.writer.write(connection.random.randbytes(100))
    while await connection.reader.read(1 << 16):
        pass


async def leaves(connection: H2Connection) -> None:
    """Ends the connection with requests in flight, by a FIN or a RST."""
    for _ in range(connection.random.randrange(1, 20)):
        connection.end.send_request(connection.head(connection.path()), b"", True)
    await asyncio.sleep(connection.random.choice((0.0, 0.001, 0.01, 0.05)))
    if connection.random.random() < 0.5:
        reset(connection.writer)


H2_TALKS: tuple[Callable[[H2Connection], Awaitable[None]], ...] = (
    *(many, many, many, uploads, resets, slow_reader, slow_body, half_a_head, nonsense, leaves),
)
