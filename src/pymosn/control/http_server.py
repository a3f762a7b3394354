"""An ASGI app on a socket of this process, in its event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from pymosn.control.service import Service
from pymosn.network.listener import prepare_to_listen

#: Concurrent connections; further ones are answered with 503.
MAX_CONNECTIONS: Final = 100
#: Seconds after which an idle connection is closed.
KEEP_ALIVE: Final = 5
#: Seconds that requests in flight get when the server stops.
STOP_TIME: Final = 1


class HttpServer(Service):
    """Serves `app` on `sockets`, bound and not yet listening, which it owns from `start` on. Without any it does nothing.

    Unlike uvicorn's own runner it does not handle signals.
    """

    def __init__(self, app: ASGIApp, sockets: list[socket.socket], name: str = "HTTP server") -> None:
        self.name = name
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=STOP_TIME,
        )
        self._sockets = sockets
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens and accepts connections. OSError if a socket cannot be served."""
        if not self._sockets:
            return
        for sock in self._sockets:
            prepare_to_listen(sock)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=self._sockets))
        listening = asyncio.ensure_future(self._server.listening.wait())
        await asyncio.wait((self._task, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._task

    async def stop(self) -> None:
        """Stops within about STOP_TIME seconds and closes the sockets."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The supervisor handles them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()
