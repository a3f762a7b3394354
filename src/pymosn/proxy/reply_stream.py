"""A reply that a filter streams: sent chunk by chunk, as fast as the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from contextvars import Context
from typing import cast

from mypy_extensions import mypyc_attr

from pymosn.core.clock import Clock
from pymosn.core.errors import is_a, type_name
from pymosn.core.plain import plain_bytes
from pymosn.core.turn_limit import TurnLimit
from pymosn.proxy.stream_filters import FilterHandle


@mypyc_attr(allow_interpreted_subclasses=True)
class ChunkReceiver:
    """Receives the chunks of a streamed reply."""

    def on_chunk(self, data: bytes, end: bool) -> None:
        """The next chunk."""
        raise NotImplementedError

    def on_stream_error(self, handle: FilterHandle, error: BaseException | str) -> None:
        """The filter's stream failed."""
        raise NotImplementedError


class ReplyStream:
    """Pulls the chunks of one reply in a task."""

    def __init__(self, chunks: Iterable[bytes] | AsyncIterable[bytes], handle: FilterHandle, clock: Clock) -> None:
        """`handle`: the filter that streams."""
        # Typed `object` because chunks are validated at run time.
        self._chunks = cast("Iterable[object] | AsyncIterable[object]", chunks)
        self._handle = handle
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._turns = TurnLimit()

    def start(self, receiver: ChunkReceiver, context: Context) -> None:
        """Starts streaming to `receiver`. `context`: of the filter's code."""
        self._task = asyncio.get_running_loop().create_task(self._run(receiver), context=context)

    def on_writable(self, writable: bool) -> None:
        """False: the client's buffer is full; True: it has drained."""
        if writable:
            self._is_writable.set()
        else:
            self._is_writable.clear()

    def cancel(self) -> None:
        """Stops: the rest is not needed."""
        self._is_cancelled = True
        task = self._task
        self._task = (
            None  # it refers to this stream by its exception: without this only the garbage collector would free them
        )
        if task is not None:
            task.cancel()

    async def _run(self, receiver: ChunkReceiver) -> None:
        is_whole = False
        failed: BaseException | None = None
        try:
            is_whole = await self._send_all(receiver)
        except BaseException as error:
            failed = error
        # Not in a `finally`: with an `await` in it, mypyc's may raise the exception of an earlier coroutine again.
        try:
            await self._close()
        except BaseException as error:
            if failed is None or self._is_cancelled:
                failed = error
        if self._is_cancelled and (failed is None or is_a(failed, asyncio.CancelledError)):
            failed = None  # it refers to this frame
            return
        self._clock.tick()
        if failed is not None:
            receiver.on_stream_error(self._handle, failed)
            failed = None
        elif is_whole:
            receiver.on_chunk(b"", True)

    async def _send_all(self, receiver: ChunkReceiver) -> bool:
        """Sends all chunks. Returns False after an invalid one."""
        if isinstance(self._chunks, AsyncIterable):
            async for chunk in self._chunks:
                if not await self._send(receiver, chunk):
                    return False
                if self._turns.is_reached():  # neither the generator nor the client need have made it wait
                    await asyncio.sleep(0)
        else:
            for chunk in self._chunks:
                if not await self._send(receiver, chunk):
                    return False
                await asyncio.sleep(0)  # a long reply must not starve other exchanges
        return True

    async def _close(self) -> None:
        """Runs the rest of a generator that is not exhausted, here because its context is that of the exchange."""
        chunks = self._chunks
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
        elif isinstance(chunks, Generator):
            chunks.close()

    async def _send(self, receiver: ChunkReceiver, chunk: object) -> bool:
        """Sends a chunk once the client is ready. Returns False for an invalid chunk."""
        if not isinstance(chunk, bytes):
            self._clock.tick()
            receiver.on_stream_error(self._handle, f"a chunk of its reply is {type_name(chunk)}, not bytes")
            return False
        await self._is_writable.wait()
        self._clock.tick()
        receiver.on_chunk(plain_bytes(chunk), False)
        return True
