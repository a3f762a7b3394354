"""An upstream for the shows, in the test's own event loop: it counts what it is asked and misbehaves to order."""

import asyncio
import hashlib
import resource
import socket
import struct

#: Bytes that a download repeats.
BLOCK = bytes(range(256)) * 256


class ShowUpstream:
    """An HTTP/1.1 server. `delay`: seconds before each answer, `lanes`: requests that it works on at once (0: any number).

    `/bytes/N` is a body of N bytes (`/chunks/N`: chunked), `/drip` a chunk every 50 ms until `release`; an upload is
    answered with its SHA-256, all else with a short text. What comes while `holds` is set waits for `release` too.

    `mode`: `serve`, `unavailable` (503), `reset` (broken off within the reply), `drop` (the connection is cut in place of a
    reply), `silent` (no reply). `at_once`: requests that it has now; `most`, `most_connections`: the most that it had of
    requests and of connections.
    """

    def __init__(self, delay: float = 0.0, mode: str = "serve", lanes: int = 0) -> None:
        self.delay = delay
        self.mode = mode
        self.port = 0
        self.holds = False
        self._gate = asyncio.Event()
        self.requests = 0
        self.most = 0
        self.most_connections = 0
        self.at_once = 0
        self._lanes = asyncio.Semaphore(lanes or 1 << 30)
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[object]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "ShowUpstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self.die()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def release(self) -> None:
        """Lets go what waits; what comes later waits for the next time."""
        gate, self._gate = self._gate, asyncio.Event()
        gate.set()

    def die(self) -> None:
        """As if its process were killed."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(writer)
        self.most_connections = max(self.most_connections, len(self._connections))
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._one(head, reader, writer)
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            pass  # the client is gone; uvloop says so by a RuntimeError
        finally:
            self._connections.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _one(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if self.holds:
                await self._gate.wait()
            if self.delay:
                async with self._lanes:
                    await asyncio.sleep(self.delay)
            await self._answer(head, reader, writer)
        finally:
            self.at_once -= 1

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, what, number, _ = f"{head.split(b' ')[1].decode()}//".split("/", 3)
        if self.mode == "silent":
            await reader.read()
        elif self.mode == "drop":
            reset(writer)
        elif self.mode == "reset":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf a")
            await writer.drain()
            await asyncio.sleep(0.005)
            reset(writer)
        elif self.mode == "unavailable":
            _answer(writer, b"503 Service Unavailable", b"not now\n")
        elif b"content-length: " in head.lower() or b"chunked" in head:
            _answer(writer, b"200 OK", (await _digest(head.lower(), reader)).encode())
        elif what in ("bytes", "chunks"):
            await _download(writer, int(number), what == "chunks")
        elif what == "drip":
            await _drip(writer, self._gate)
        else:
            _answer(writer, b"200 OK", b"hello from upstream\n")


def reset(writer: asyncio.StreamWriter) -> None:
    """Cuts a connection with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _answer(writer: asyncio.StreamWriter, status: bytes, body: bytes) -> None:
    writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body))


async def _digest(head: bytes, reader: asyncio.StreamReader) -> str:
    digest = hashlib.sha256()

    async def take(size: int) -> None:
        while size > 0:
            piece = await reader.read(min(size, 1 << 18))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            digest.update(piece)

    if b"content-length: " in head:
        await take(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    else:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await take(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return digest.hexdigest()


async def _download(writer: asyncio.StreamWriter, size: int, chunked: bool) -> None:
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % size
    writer.write(b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % framing)
    while size > 0:
        piece = BLOCK[:size]
        size -= len(piece)
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")


async def _drip(writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    number = 0
    while not gate.is_set():
        line = b"data: %d\n\n" % number
        number += 1
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await writer.drain()
        await asyncio.sleep(0.05)
    writer.write(b"0\r\n\r\n")


async def main() -> None:
    """Serves in a process of its own; prints the port."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with ShowUpstream() as upstream:
        print(upstream.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
