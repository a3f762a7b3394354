"""An upstream for many clusters: one port for each, and a record of every request that arrives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable


class Servers:
    """Servers on an event loop in a thread, one for each name."""

    def __init__(self, names: Iterable[str]) -> None:
        self.ports: dict[str, int] = {}
        self.loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self.loop.run_until_complete(self._open(names))
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    async def _open(self, names: Iterable[str]) -> None:
        for name in names:
            server = await asyncio.start_server(lambda r, w, name=name: self.serve(name, r, w), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]

    async def serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves a connection."""
        raise NotImplementedError

    def close(self) -> None:
        """Stops serving."""

        async def stop() -> None:
            for server in self._servers:
                server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


class Recorder(Servers):
    """Answers every request with 200. `arrived`: cluster and head of each, in order."""

    def __init__(self, clusters: Iterable[str]) -> None:
        self.arrived: list[tuple[str, bytes]] = []
        super().__init__(clusters)

    async def serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.arrived.append((name, head))
                body = b"" if head.startswith(b"HEAD ") else b"ok"
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def take(self) -> list[tuple[str, bytes]]:
        """What has arrived since the last look."""
        found, self.arrived = self.arrived, []
        return found
