"""Upstreams that break in every way in turn: down, resetting, answering 502 and 504, stalling, cut short, and well."""

import asyncio
import contextlib
import socket
import struct
from typing import Final, NoReturn

from bench.machine import free_port

MODES: Final = ("well", "down", "well", "resets", "says 502", "well", "says 504", "stalls", "cuts short", "slow")

NO_LINGER: Final = struct.pack("ii", 1, 0)
BODY: Final = b"x" * 2000
BIG: Final = b"y" * 400_000


class MoodyUpstream:
    """An HTTP/1 server whose `mode` decides what becomes of each request."""

    def __init__(self, place: int) -> None:
        self.port = 0
        self.mode = "well"
        self.served = 0
        self._turn = place * (len(MODES) // 2)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listens, always on the same port, which nothing else is given while it is down."""
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)

    async def close(self) -> None:
        """Is down: refuses connections and resets those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            reset(writer)

    async def turn(self) -> None:
        """Goes on to the next mode."""
        self._turn += 1
        await self.set_mode(MODES[self._turn % len(MODES)])

    async def set_mode(self, mode: str) -> None:
        """Changes what becomes of requests from now on."""
        self.mode = mode
        if mode == "down":
            await self.close()
        elif self._server is None:
            await self.open()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._serve_one(reader, writer):
                self.served += 1
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass  # the loop ends; asyncio would print the trace of each connection
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        mode = self.mode
        if mode == "resets":
            reset(writer)
            return False
        if mode == "stalls":
            await reader.read(1 << 20)
            await asyncio.sleep(5)
            return False
        await read_body(head, reader)
        body = BIG if head.startswith(b"GET /big") else BODY
        status = b"%s Odd" % mode[-3:].encode() if mode.startswith("says") else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body))
        if mode == "cuts short":
            writer.write(body[: len(body) // 2])
            return False
        if mode == "slow":
            for start in range(0, len(body), 1 + len(body) // 4):
                writer.write(body[start : start + 1 + len(body) // 4])
                await asyncio.sleep(0.02)
        else:
            writer.write(body)
        await writer.drain()
        return True


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()


async def read_body(head: bytes, reader: asyncio.StreamReader) -> int:
    """Reads what belongs to a head; how many bytes it was."""
    lines = head.lower().split(b"\r\n")
    for line in lines:
        if line.startswith(b"content-length:"):
            return len(await reader.readexactly(int(line[15:])))
        if line == b"transfer-encoding: chunked":
            total = 0
            while True:
                size = int(await reader.readuntil(b"\r\n"), 16)
                total += len(await reader.readexactly(size + 2)) - 2
                if size == 0:
                    return total
    return 0


async def main() -> NoReturn:
    """Serves well until it is killed; prints the port."""
    upstream = MoodyUpstream(0)
    await upstream.open()
    print(upstream.port, flush=True)
    while True:
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())
