"""An ASGI app on a socket of this process, in its event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp

#: Connections at the same time; the next one is answered 503.
MAX_CONNECTIONS: Final = 100
#: Seconds that an idle connection is kept.
KEEP_ALIVE: Final = 5
#: Seconds that requests in flight get when the server stops.
STOP_TIME: Final = 1


class HttpServer:
    """Serves `app` on `sock`, a bound TCP socket that belongs to it from `start` on.

    An asynchronous context manager, or `start` and `stop`. Signals stay with the process.
    """

    def __init__(self, app: ASGIApp, sock: socket.socket) -> None:
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
        self._sock = sock
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accepts connections from now on. OSError when the socket cannot be served."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._sock]))
        listening = asyncio.ensure_future(self._server.listening.wait())
        await asyncio.wait((self._task, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._task

    async def stop(self) -> None:
        """Ends within about STOP_TIME seconds and closes the socket."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


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
