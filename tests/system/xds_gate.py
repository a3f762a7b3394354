"""A gate between xDS clients and their control plane, which records when they connect, and can be closed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine
from typing import Any


class Gate:
    """Forwards connections to all loopback addresses, 127.0.0.1 to 127.255.255.254, to a port; a context manager.

    `connects`: (monotonic time, address that the client has chosen) of each connection, also while it is shut, when
    connections are closed at once.
    """

    def __init__(self, target: int) -> None:
        self.connects: list[tuple[float, str]] = []
        self.port = 0
        self._target = target
        self._is_shut = False
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def shut(self) -> float:
        """Closes all connections, and new ones at once; returns the time."""
        return self._call(self._shut())

    def open(self) -> None:
        """Forwards again."""
        self._is_shut = False

    def cut(self) -> float:
        """Closes all connections, and forwards new ones; returns the time."""
        return self._call(self._cut())

    def since(self, at: float) -> dict[str, list[float]]:
        """The times of connections after `at`, by the address that clients have chosen."""
        found: dict[str, list[float]] = {}
        for when, address in list(self.connects):
            if when >= at:
                found.setdefault(address, []).append(when)
        return found

    def _call(self, wanted: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(wanted, self._loop).result(30)

    async def _shut(self) -> float:
        self._is_shut = True
        return await self._cut()

    async def _cut(self) -> float:
        at = time.monotonic()
        for writer in list(self._open):
            writer.transport.abort()
        return at

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects.append((time.monotonic(), writer.get_extra_info("sockname")[0]))
        if self._is_shut:
            writer.transport.abort()
            return
        try:
            inward, outward = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, outward}
        await asyncio.gather(_copy(reader, outward), _copy(inward, writer))
        self._open -= {writer, outward}

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "0.0.0.0", 0, backlog=1000)

    def __enter__(self) -> Gate:
        self._thread.start()
        self._server = self._call(self._start())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
