"""A connection to an HTTP server of this process, with a deadline for everything that its client must do.

uvicorn only limits how long a connection is idle between two requests. Without the deadlines here, clients that connect and
stay silent, send a head or a body byte by byte, or never read a response would keep their connections for ever, and lock
all other clients out.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final, NamedTuple

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from pymosn.control.peer import peer_of

_TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Stage(enum.Enum):
    """What a connection waits for."""

    HEAD = "a request, or the rest of its head"
    BODY = "the rest of a body"
    RESPONSE = "the response of the app"
    CLIENT = "the client, which does not read"


class Limits(NamedTuple):
    """Connections of a server, and the seconds that each may stay in a stage, whatever happens in it."""

    connections: int = 100
    head: float = 10.0
    body: float = 30.0
    client: float = 30.0

    def seconds(self, stage: Stage) -> float | None:
        """The limit of a stage; None for the app, which is trusted to end."""
        return {Stage.HEAD: self.head, Stage.BODY: self.body, Stage.CLIENT: self.client}.get(stage)


class Connection(H11Protocol):
    """One connection. If there are already too many, it replaces the one that has waited longest for its client."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        others: set[Connection],
        users: tuple[int, ...] | None = None,
    ) -> None:
        """`others`: the open connections of the server. `users`: the user ids of the clients that are served; None: all."""
        super().__init__(config, state, {}, loop)
        self._limits = limits
        self._others = others
        self._users = users
        self._state: tuple[Stage, object] = (Stage.HEAD, None)
        self._since = loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base class
        super().connection_made(transport)
        self._others.add(self)
        if self._users is not None and peer_of(transport.get_extra_info("socket")).uid not in self._users:
            transport.abort()
        elif len(self._others) > self._limits.connections:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except h11.ProtocolError:
            # Invalid bytes after the response has begun, for which there is no other answer.
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._others.discard(self)
        super().connection_lost(exc)

    def _make_room(self) -> None:
        idle = [other for other in self._others if other is not self and other.stage() is not Stage.RESPONSE]
        if idle:
            min(idle, key=Connection.waiting_since).abort()
        else:
            self._leave()
            self.transport.write(_FULL)
            self.transport.close()

    def abort(self) -> None:
        """Closes the connection now."""
        self._leave()
        self.transport.abort()

    def _leave(self) -> None:
        """The connection no longer counts."""
        self._others.discard(self)
        self.connections.discard(self)

    def stage(self) -> Stage:
        """The current stage; the clock restarts when it changes, and with each request."""
        if self.transport.get_write_buffer_size() > 0:
            stage = Stage.CLIENT
        elif self.cycle is None or self.cycle.response_complete:
            stage = Stage.BODY if self.conn.their_state is h11.SEND_BODY else Stage.HEAD
        else:
            stage = Stage.BODY if self.cycle.more_body else Stage.RESPONSE
        if self._state != (stage, self.cycle):
            self._state = stage, self.cycle
            self._since = self.loop.time()
        return stage

    def is_new(self) -> bool:
        """Whether it has had no request yet."""
        return self.cycle is None and not self.transport.is_closing()

    def waiting_since(self) -> float:
        """The time at which the current stage began."""
        self.stage()
        return self._since

    def check_deadline(self) -> None:
        """Closes the connection if its client has used up the time of the stage."""
        stage = self.stage()
        limit = self._limits.seconds(stage)
        if limit is None or self.loop.time() - self._since <= limit:
            return
        if stage is not Stage.CLIENT and not self.transport.is_closing() and self._has_begun():
            self.transport.write(_TIMED_OUT)
            self.transport.close()
        else:
            self.abort()

    def _has_begun(self) -> bool:
        """Whether the client has sent a part of a request, and no part of its response was sent."""
        if self.cycle is None or self.cycle.response_complete:
            return bool(self.conn.trailing_data[0])
        return not self.cycle.response_started
