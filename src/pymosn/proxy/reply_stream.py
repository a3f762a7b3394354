"""A reply that a filter makes piece by piece: sent as it comes, as fast as the client takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from typing import cast

from pymosn.core.clock import Clock
from pymosn.proxy.filtering import FilteredExchange
from pymosn.proxy.stream_filters import FilterHandle


class ReplyStream:
    """Pulls the pieces of one reply in a task of its own."""

    def __init__(self, pieces: Iterable[bytes] | AsyncIterable[bytes], named: FilterHandle, clock: Clock) -> None:
        """`named`: the filter that makes them."""
        # Of objects: what a filter really makes is looked at here, not by the compiler.
        self._pieces = cast("Iterable[object] | AsyncIterable[object]", pieces)
        self._named = named
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
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
        self._is_cancelled = True
        if self._task is not None:
            self._task.cancel()

    async def _run(self, exchange: FilteredExchange) -> None:
        try:
            if isinstance(self._pieces, AsyncIterable):
                async for piece in self._pieces:
                    if not await self._is_sent(exchange, piece):
                        return
            else:
                for piece in self._pieces:
                    if not await self._is_sent(exchange, piece):
                        return
                    await asyncio.sleep(0)  # others have their turn, however much there is to send
        except BaseException as error:
            if self._is_cancelled or isinstance(error, GeneratorExit):
                raise
            self._clock.tick()
            exchange.on_stream_broken(self._named, error)
            return
        self._clock.tick()
        exchange.on_piece(b"", True)

    async def _is_sent(self, exchange: FilteredExchange, piece: object) -> bool:
        """Sends a piece when the client takes it; whether it is one."""
        if not isinstance(piece, bytes):
            self._clock.tick()
            exchange.on_stream_broken(self._named, f"a piece of its reply is {type(piece).__name__}, not bytes")
            return False
        await self._may_go_on.wait()
        self._clock.tick()
        exchange.on_piece(piece, False)
        return True
