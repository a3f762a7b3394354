"""A reply that a filter makes piece by piece: sent as it comes, as fast as the client takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable

from pymosn.core.clock import Clock
from pymosn.proxy.filtering import FilteredExchange


class ReplyStream:
    """Pulls the pieces of one reply in a task of its own."""

    def __init__(self, pieces: Iterable[bytes] | AsyncIterable[bytes], clock: Clock) -> None:
        self._pieces = pieces
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    def start(self, exchange: FilteredExchange) -> None:
        """Begins; `exchange` hears of each piece."""
        self._task = asyncio.get_running_loop().create_task(self._run(exchange))

    def on_writable(self, writable: bool) -> None:
        """Whether the client takes more."""
        if writable:
            self._may_go_on.set()
        else:
            self._may_go_on.clear()

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, exchange: FilteredExchange) -> None:
        try:
            if isinstance(self._pieces, AsyncIterable):
                async for piece in self._pieces:
                    await self._send(exchange, piece)
            else:
                for piece in self._pieces:
                    await self._send(exchange, piece)
                    await asyncio.sleep(0)  # others have their turn, however much there is to send
        except Exception as error:
            self._clock.tick()
            exchange.on_stream_broken(error)
            return
        self._clock.tick()
        exchange.on_piece(b"", True)

    async def _send(self, exchange: FilteredExchange, piece: object) -> None:
        if not isinstance(piece, bytes):
            raise TypeError(f"a piece of a reply is bytes, not {type(piece).__name__}")
        await self._may_go_on.wait()
        self._clock.tick()
        exchange.on_piece(piece, False)
