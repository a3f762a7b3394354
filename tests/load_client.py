"""A load client that accounts for each request: when it was sent, on which connection, and what became of it."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

Take = Callable[[bytes], Awaitable[None]]
#: Seconds after which a request counts as lost.
PATIENCE = 30.0
#: Largest reply head.
HEAD_LIMIT = 64 * 1024


@dataclass(slots=True)
class Asked:
    """One request. `status` 0: no reply head came. `error`: `connect`, `closed`, `reset`, `timeout`; empty when complete.

    `detail`: the exception behind the error.
    """

    path: str
    port: int  # the client's side of the connection, which names it
    is_first: bool  # of its connection
    began: float
    ended: float = 0.0
    status: int = 0
    size: int = 0
    reason: str = ""
    error: str = ""
    detail: str = ""

    @property
    def is_good(self) -> bool:
        return self.status == 200 and not self.error


class Client:
    """One keep-alive connection at a time, to a port of this machine; by TLS with a `context`."""

    def __init__(self, port: int, patience: float = PATIENCE, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._context = context
        self._patience = patience
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.head: dict[str, str] = {}

    async def ask(self, path: str = "/", method: str = "GET", headers: str = "", body: bytes = b"") -> Asked:
        """Sends one request and reads its whole reply. `headers`: lines that each end with CRLF."""
        if body:
            headers += f"content-length: {len(body)}\r\n"
        return await self.send(path, [f"{method} {path} HTTP/1.1\r\nhost: show\r\n{headers}\r\n".encode() + body])

    async def send(self, path: str, pieces: list[bytes] | AsyncIterator[bytes], take: Take | None = None) -> Asked:
        """Sends a request given as its bytes; `take` gets each piece of the reply's body."""
        asked = Asked(path, 0, self._writer is None, time.perf_counter())
        try:
            async with asyncio.timeout(self._patience):
                await self._exchange(asked, pieces, take)
        except TimeoutError:
            asked.error = "timeout"
        except asyncio.IncompleteReadError as error:
            asked.error, asked.detail = "closed", f"{error!r} {error.partial[:200]!r}"
        except OSError as error:
            asked.error, asked.detail = "reset" if self._writer is not None else "connect", repr(error)
        asked.ended = time.perf_counter()
        if asked.error or self.head.get("connection") == "close":
            await self.close()
        return asked

    async def _exchange(self, asked: Asked, pieces: list[bytes] | AsyncIterator[bytes], take: Take | None) -> None:
        if self._writer is None:
            name = "127.0.0.1" if self._context is not None else None
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=HEAD_LIMIT, ssl=self._context, server_hostname=name
            )
        asked.port = self._writer.get_extra_info("sockname")[1]
        self.head = {}
        if self._writer.is_closing():  # uvloop raises a RuntimeError for a write
            raise asyncio.IncompleteReadError(b"the server has closed it before", None)
        if isinstance(pieces, list):
            self._writer.writelines(pieces)
            await self._read(asked, take)
            return
        sending = asyncio.ensure_future(self._send_all(pieces, self._writer))
        try:
            await self._read(asked, take)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_all(self, pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
        async for piece in pieces:
            writer.write(piece)
            await writer.drain()

    async def _read(self, asked: Asked, take: Take | None) -> None:
        reader = self._reader
        assert reader is not None
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        asked.status = int(head[0].split(" ")[1])
        asked.reason = self.head.get("x-pymosn-reason", "")
        if self.head.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await self._read_sized(reader, size, asked, take)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            await self._read_sized(reader, int(self.head["content-length"]), asked, take)

    async def _read_sized(self, reader: asyncio.StreamReader, size: int, asked: Asked, take: Take | None) -> None:
        while size > 0:
            piece = await reader.read(min(size, HEAD_LIMIT))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            asked.size += len(piece)
            if take is not None:
                await take(piece)

    async def close(self) -> None:
        writer = self._writer
        self._writer = None
        if writer is not None:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


class Load:
    """Clients that ask without a pause until `total` requests are sent, or `stop`; a client whom nobody accepts ends.

    With a `context` they use TLS; `per_connection`: requests after which each of them makes a new connection.
    """

    def __init__(
        self,
        port: int,
        clients: int,
        total: int = 1 << 60,
        context: ssl.SSLContext | None = None,
        per_connection: int = 1 << 60,
    ) -> None:
        self.asked: list[Asked] = []
        self._left = iter(range(total))
        self._stopped = False
        self._port = port
        self._context = context
        self._per_connection = per_connection
        self._tasks = [asyncio.ensure_future(self._run()) for _ in range(clients)]

    async def _run(self) -> None:
        client = Client(self._port, context=self._context)
        for number, _ in enumerate(self._left, 1):
            asked = await client.ask()
            self.asked.append(asked)
            if self._stopped or asked.error == "connect":
                break
            if number % self._per_connection == 0:
                await client.close()
        await client.close()

    def stop(self) -> None:
        """Each client finishes what it is at."""
        self._stopped = True

    async def done(self) -> list[Asked]:
        """Waits for all clients; gives what they asked in the order of the replies."""
        await asyncio.gather(*self._tasks)
        return self.asked

    async def reaches(self, count: int) -> None:
        """Waits until so many requests are over."""
        while len(self.asked) < count and not all(task.done() for task in self._tasks):
            await asyncio.sleep(0.005)
        assert len(self.asked) >= count, f"the load ended after {len(self.asked)} requests: {summary(self.asked)}"


def bad(asked: list[Asked]) -> list[Asked]:
    """Those that are no complete 200."""
    return [one for one in asked if not one.is_good]


def summary(asked: list[Asked]) -> dict[str, int]:
    """How often what happened: `200`, `503 overflow`, `0 reset`."""
    return dict(Counter(f"{one.status} {one.reason}{one.error}".strip() for one in asked))


def percentile(asked: list[Asked], share: float) -> float:
    """Milliseconds within which that share of the requests was answered."""
    times = sorted(one.ended - one.began for one in asked)
    return times[min(len(times) - 1, int(len(times) * share))] * 1000.0
