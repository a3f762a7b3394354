"""`python -m bench.relay PORT UPSTREAM_PORT`: copies bytes both ways between each client and an upstream connection.

This is what a proxy on uvloop costs before it understands anything: the floor for pymosn.
"""

import asyncio
import sys
from typing import cast

import uvloop


class Half(asyncio.Protocol):
    """One side of a relayed connection: what it receives is written to the other side."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do everything that asyncio.Transport does, but do not derive from it.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, fault: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            if other.transport is not None:
                other.transport.close()


class Client(Half):
    """The client's side: dials the upstream, and holds what the client sends until that has answered."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self.upstream_port = upstream_port
        self.early: list[bytes] = []
        self.dialing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.dialing = asyncio.get_running_loop().create_task(self.dial())

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            super().data_received(data)

    async def dial(self) -> None:
        """Joins this side to a fresh upstream connection, or closes it when there is none."""
        loop = asyncio.get_running_loop()
        assert self.transport is not None
        try:
            _, upstream = await loop.create_connection(Half, "127.0.0.1", self.upstream_port)
        except OSError:
            self.transport.close()
            return
        finally:
            self.dialing = None
        if self.transport.is_closing():
            assert upstream.transport is not None
            upstream.transport.close()
            return
        self.other, upstream.other = upstream, self
        for data in self.early:
            super().data_received(data)
        self.early.clear()


async def serve(port: int, upstream_port: int) -> None:
    """Relays until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Client(upstream_port), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
