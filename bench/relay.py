"""`python -m bench.relay PORT UPSTREAM_PORT`: copies bytes in both directions between a client and an upstream connection.

This is the cost of a proxy on uvloop that does not parse anything: the lower bound for pymosn.
"""

import asyncio
import sys
from typing import cast

import uvloop


class Half(asyncio.Protocol):
    """One side of a relayed connection: received data is written to the other side."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports implement asyncio.Transport, but do not derive from it.
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
    """The client's side: dials the upstream, and buffers the client's data until it is connected."""

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
        """Connects this side to a new upstream connection, or closes it if that fails."""
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
