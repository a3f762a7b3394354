"""HTTP/1 clients for upgrades under load. Each kind is a coroutine that goes on until `stop` is set."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Final

from tests.kit.tls_streams import Truncated, open_tls
from tests.load.tally import Tally, describe

from load_client import Asked, Client
from show_upstream import BLOCK

#: Seconds between two requests of a client that is not idle.
PAUSE: Final = 0.02
#: Seconds for which one that is idle waits, at least and at most.
IDLE: Final = (1.0, 4.0)
DEPTH: Final = 6
PIECE: Final = 64 * 1024
LARGE: Final = 4 << 20
#: Seconds that a large body takes, if nothing else slows it down.
LARGE_TIME: Final = 0.8
SECRET_NAME: Final = "server.test"


class Caller:
    """One client of a kind: makes requests by a `Client`, and counts them."""

    def __init__(self, tally: Tally, port: int, context: ssl.SSLContext | None = None) -> None:
        self.tally = tally
        self.client = Client(port, context=context)
        self._opened = 0.0

    async def send(self, pieces: list[bytes] | AsyncIterator[bytes], expected: bytes, size: int = -1) -> None:
        """Sends a request. The body of the response must be `expected`, or have `size` bytes of the upstream's block."""
        body = bytearray()
        received = 0
        is_right = True

        async def take(piece: bytes) -> None:
            nonlocal received, is_right
            if size >= 0:
                at = received % len(BLOCK)
                is_right &= (BLOCK + BLOCK)[at : at + len(piece)] == piece
                received += len(piece)
                await _pace(began, received)
            else:
                body.extend(piece)

        began = time.monotonic()
        asked = await self.client.send("", pieces, take)
        if asked.is_first:
            self.tally.connections += 1
            self._opened = began
        if not asked.is_good:
            self._fail(asked, began)
            return
        self.tally.told += self.client.head.get("connection") == "close"
        if not is_right or bytes(body) != expected or (size >= 0 and received != size):
            self.tally.fail("wrong body", f"{received or len(body)} bytes, {bytes(body[:60])!r}", self._opened)
        else:
            self.tally.succeed(began)

    def _fail(self, asked: Asked, began: float) -> None:
        which = "first" if asked.is_first else "later"
        detail = f"{which} request of port {asked.port}, status {asked.status}, {asked.size} bytes of the body"
        self.tally.fail(
            asked.error or asked.reason or str(asked.status), f"{detail}; {asked.detail}", self._opened, 1, began
        )

    async def get(self) -> None:
        """A small GET."""
        await self.send([_get()], HELLO)


HELLO: Final = b"hello from upstream\n"


def _get(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: show\r\n\r\n".encode()


async def keep_alive(tally: Tally, stop: asyncio.Event, port: int, context: ssl.SSLContext | None = None) -> None:
    """One connection for all requests."""
    caller = Caller(tally, port, context)
    while not stop.is_set():
        await caller.get()
        await asyncio.sleep(PAUSE)
    await caller.client.close()


async def new_connections(tally: Tally, stop: asyncio.Event, port: int) -> None:
    """A connection for each request."""
    caller = Caller(tally, port)
    while not stop.is_set():
        await caller.get()
        await caller.client.close()
        await asyncio.sleep(PAUSE)


async def idle(tally: Tally, stop: asyncio.Event, port: int, seed: int) -> None:
    """One connection, with seconds between the requests."""
    caller, dice = Caller(tally, port), random.Random(seed)
    await asyncio.sleep(dice.random())
    while not stop.is_set():
        await caller.get()
        await until(stop, dice.uniform(*IDLE))
    await caller.client.close()


async def halves(tally: Tally, stop: asyncio.Event, port: int, seed: int) -> None:
    """Requests in two parts, a while apart; the cut is anywhere in head or body."""
    caller, dice = Caller(tally, port), random.Random(seed)
    while not stop.is_set():
        body = b"h" * dice.randrange(200)
        whole = b"POST / HTTP/1.1\r\nhost: show\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        at = dice.randrange(1, len(whole))
        await caller.send(_parts([whole[:at], whole[at:]], dice.uniform(0.05, 0.8)), _digest(body))
    await caller.client.close()


async def _pace(began: float, done: int) -> None:
    """Waits until so many bytes of a large body, which began at that time, are due."""
    await asyncio.sleep(max(0.0, began + done / LARGE * LARGE_TIME - time.monotonic()))


async def _slowly(pieces: list[bytes]) -> AsyncIterator[bytes]:
    began, done = time.monotonic(), 0
    for piece in pieces:
        yield piece
        done += len(piece)
        await _pace(began, done)


async def _parts(pieces: list[bytes], pause: float) -> AsyncIterator[bytes]:
    for number, piece in enumerate(pieces):
        if number:
            await asyncio.sleep(pause)
        yield piece


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


async def downloads(tally: Tally, stop: asyncio.Event, port: int, chunked: bool) -> None:
    """Large responses that are read slowly."""
    caller = Caller(tally, port)
    path = f"/{'chunks' if chunked else 'bytes'}/{LARGE}"
    while not stop.is_set():
        await caller.send([_get(path)], b"", LARGE)
    await caller.client.close()


async def uploads(tally: Tally, stop: asyncio.Event, port: int) -> None:
    """Large requests that are sent slowly."""
    caller = Caller(tally, port)
    pieces = [BLOCK[:PIECE]] * (LARGE // PIECE)
    head = b"POST / HTTP/1.1\r\nhost: show\r\ncontent-length: %d\r\n\r\n" % LARGE
    expected = _digest(b"".join(pieces))
    while not stop.is_set():
        await caller.send(_slowly([head, *pieces]), expected)
    await caller.client.close()


async def pipelined(tally: Tally, stop: asyncio.Event, port: int) -> None:
    """Several requests at once on one connection. What follows a `connection: close` is sent again on a new one."""
    pipeline = Pipeline(tally, port)
    waiting = 0
    while not stop.is_set():
        if await pipeline.connect():
            waiting = await pipeline.ask(waiting or DEPTH)
        await asyncio.sleep(PAUSE)
    while waiting and await pipeline.connect():
        waiting = await pipeline.ask(waiting)
    pipeline.close()


class Pipeline:
    """The connection of a client with several requests at once."""

    def __init__(self, tally: Tally, port: int) -> None:
        self._tally = tally
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._opened = 0.0

    async def connect(self) -> bool:
        """Connects unless it is connected."""
        if self._writer is not None:
            return True
        try:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            self._tally.fail("connect", describe(error))
            return False
        self._tally.connections += 1
        self._opened = time.monotonic()
        return True

    async def ask(self, count: int) -> int:
        """Sends so many requests and reads the responses: how many of them must be sent again."""
        assert self._reader is not None
        assert self._writer is not None
        began, done = time.monotonic(), 0
        try:
            if self._writer.is_closing():
                raise EOFError("the server has closed it before")
            async with asyncio.timeout(30):
                self._writer.write(_get() * count)
                while done < count:
                    head = await self._reader.readuntil(b"\r\n\r\n")
                    body = await self._reader.readexactly(len(HELLO))
                    if not head.startswith(b"HTTP/1.1 200 ") or body != HELLO:
                        raise ValueError(f"{head!r} {body!r}")
                    done += 1
                    self._tally.succeed(began)
                    if b"\r\nconnection: close\r\n" in head.lower():
                        self._tally.told += 1
                        self._tally.repeated += count - done
                        self.close()
                        return count - done
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            port = self._writer.get_extra_info("sockname")
            detail = f"{describe(error)}, {done} of {count} responses had come, {port}, {getattr(error, 'partial', b'')!r}"
            self._tally.fail(type(error).__name__, detail, self._opened, count - done)
            self.close()
        return 0

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


async def unix_socket(tally: Tally, stop: asyncio.Event, path: str) -> None:
    """A connection to a unix socket for each request."""
    while not stop.is_set():
        began, got = time.monotonic(), b""
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_unix_connection(path)
                tally.connections += 1
                writer.write(b"GET / HTTP/1.1\r\nhost: show\r\nconnection: close\r\n\r\n")
                got = await reader.read()
                writer.close()
            if got.startswith(b"HTTP/1.1 200 ") and got.endswith(HELLO):
                tally.succeed(began)
            else:
                tally.fail("wrong response", repr(got[:200]))
        except (OSError, TimeoutError) as error:
            tally.fail("unix", f"{describe(error)} after {len(got)} bytes")
        await asyncio.sleep(PAUSE)


async def silent_tls(tally: Tally, stop: asyncio.Event, port: int, context: ssl.SSLContext) -> None:
    """One request by TLS, and then nothing until the server ends the connection, which it must do by a close_notify."""
    while not stop.is_set():
        began = time.monotonic()
        try:
            reader, writer = await open_tls("127.0.0.1", port, context, SECRET_NAME)
            tally.connections += 1
            writer.write(_get())
            got = b""
            while not got.endswith(HELLO):
                piece = await reader.read(1 << 16)
                if not piece:
                    raise EOFError(f"the connection ended after {got!r}")
                got += piece
            tally.succeed(began)
            await _first_of(reader.read(1), stop)
            if not stop.is_set():
                tally.cut(began, "close_notify")
            writer.close()
        except Truncated:
            tally.fail("truncated", "a FIN without close_notify", began)
        except (OSError, EOFError) as error:
            tally.fail("silent", describe(error), began)


async def _first_of(work: asyncio._CoroutineLike[bytes], stop: asyncio.Event) -> None:
    reading, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    done, others = await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
    for other in others:
        other.cancel()
    if reading in done:
        reading.result()


async def until(stop: asyncio.Event, seconds: float) -> None:
    """Waits for so long, or for the stop."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([stopping], timeout=seconds)
    stopping.cancel()


def use_no_delay(writer: asyncio.StreamWriter) -> None:
    """Small messages are sent at once."""
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
