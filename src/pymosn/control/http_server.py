"""An ASGI app on a socket of this process, in its event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pymosn.control.http_connection import Connection, Limits
from pymosn.control.service import Service
from pymosn.network.listener import prepare_to_listen

#: Seconds after which an idle connection is closed.
KEEP_ALIVE: Final = 5
#: Seconds that requests in flight get when the server stops.
STOP_TIME: Final = 1
#: Seconds in which a client that has just connected may send its request when the server stops.
LAST_TIME: Final = 0.5
#: Ticks of uvicorn's main loop, of 0.1 s, between two checks of the deadlines.
TICKS: Final = 5


class HttpServer(Service):
    """Serves `app` on `sockets`, TCP or unix sockets that are bound and do not listen yet.

    It owns them from `start` on. Without any it does nothing.

    All its sockets share `limits`, so sockets that must not starve each other need servers of their own. On a unix socket
    only root and the user of this process are served. Unlike uvicorn's own runner it does not handle signals.
    """

    def __init__(
        self, app: ASGIApp, sockets: list[socket.socket], name: str = "HTTP server", limits: Limits | None = None
    ) -> None:
        self.name = name
        self._limits = limits or Limits()
        config = uvicorn.Config(
            _until_stopped(app),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            # It would write a line to standard error for each invalid request, and tracebacks; the app has its own log.
            log_level=logging.CRITICAL + 1,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            # For requests whose client has gone; `Connection` limits connections, one fewer.
            limit_concurrency=self._limits.connections + 1,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=STOP_TIME,
        )
        self._sockets = sockets
        self._server = _Server(config, self._limits)
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

    def stop_listening(self) -> None:
        """Accepts no further connections from now on; whoever else has the sockets does."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Stops within about STOP_TIME seconds and closes the sockets."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


def _until_stopped(app: ASGIApp) -> ASGIApp:
    """Answers 503 for requests that the stop of the server ends; uvicorn would answer 500, as if the app had failed."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await app(scope, receive, noted)
        except asyncio.CancelledError:
            if has_begun:
                raise
            await PlainTextResponse("the process is stopping\n", 503)(scope, receive, send)

    return serve


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, limits: Limits) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.servers = []
        self._limits = limits
        self._connections: set[Connection] = set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The supervisor handles them."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.servers = []
        for sock in sockets or ():
            is_unix = sock.family == socket.AF_UNIX
            # The file is not the server's: another process may have taken the socket over.
            kept: dict[str, Any] = {"cleanup_socket": False} if is_unix and sys.version_info >= (3, 13) else {}
            create: Callable[..., Any] = loop.create_unix_server if is_unix else loop.create_server
            users = (0, os.geteuid()) if is_unix else None
            self.servers.append(await create(partial(self._connection, loop, users), sock=sock, **kept))
        self.started = True
        self.listening.set()

    def _connection(self, loop: asyncio.AbstractEventLoop, users: tuple[int, ...] | None) -> Connection:
        return Connection(self.config, self.server_state, loop, self._limits, self._connections, users)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves the clients that have connected last: after an upgrade others listen, so they cannot expect an end."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            server.close()
        deadline = loop.time() + LAST_TIME
        await asyncio.sleep(0)  # a socket that was accepted just now becomes a connection
        while any(connection.is_new() for connection in self._connections) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS == 0:
            for connection in list(self._connections):
                connection.check_deadline()
        return await super().on_tick(counter)
