"""The successor's side of an upgrade: takes over from the process that has started this one.

`Takeover` is the service that reports that everything else is ready, and waits for its turn. `Succession`, the last service,
makes it final. If the predecessor ends before that, or the upgrade fails there, this process exits and leaves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import INFO, WARN, Log
from pymosn.server.channel import Channel
from pymosn.server.resources import making_many
from pymosn.server.run_options import StartError
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.upgrade.carried import CarriedState, Parts
from pymosn.server.upgrade.inheritance import Inheritance
from pymosn.server.upgrade.messages import (
    FROM_PREDECESSOR,
    VERSION,
    Carried,
    CarriedPart,
    FromPredecessor,
    Leaving,
    OlderGeneration,
    Progress,
    Ready,
    Stopping,
    Take,
    Taken,
)
from pymosn.server.upgrade.queues import Queues
from pymosn.version import VERSION as PROGRAM

#: Bytes from which the objects of a content would make collections of garbage slow.
LARGE: Final = 64 * 1024


class Takeover(Service):
    """Sends `Ready` when everything before it has started, and waits for `Take`."""

    name = "takeover"

    def __init__(
        self,
        inheritance: Inheritance,
        workers: int,
        carried: CarriedState,
        signals: ShutdownSignals,
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self.inheritance: Final = inheritance
        #: The queues through which the predecessor's workers pass connections.
        self.queues: Final = Queues(workers)
        #: What connections of each listener must match to be passed, for `Ready`.
        self.listener_keys: Callable[[], Mapping[str, str]] = dict
        #: Called when this process is the one that serves.
        self.on_taken: Callable[[], None] = lambda: None
        #: What the predecessor still waits for; None if it has gone.
        self.leaving: Leaving | None = Leaving({}, 0.0)
        #: Called when the predecessor has ended after that; `has_ended` is set before.
        self.on_ended: Callable[[], None] = lambda: None
        self.has_ended: Final = asyncio.Event()
        #: Whether the channel to the predecessor stays open when this process leaves: what it reports is passed on.
        self.outlasts = False
        self.has_taken = False
        self._carried = carried
        self._signals = signals
        self._log = log
        self._lost = ""
        self._news = asyncio.Event()
        self._may_take = False
        self._channel: Channel[FromPredecessor] = Channel(
            loop, inheritance.sock.dup(), FROM_PREDECESSOR, self._on_message, self._on_closed
        )
        self._parts = Parts()
        # Adopted while the event loop does other things: it may be large.
        self._waiting = [each for each in inheritance.carried if carried.is_repeated(each.kind)]
        for each in inheritance.carried:
            if not carried.is_repeated(each.kind):
                carried.adopt(each.kind, each.content)
        inheritance.carried.clear()  # it may be large, and contain secrets

    def tell(self, text: str) -> None:
        """Reports to the requester of the upgrade what this process is doing."""
        if not self.has_taken:
            self._channel.send(Progress(text))

    async def start(self) -> None:
        """Returns when this process may take over. StartError if the predecessor has ended, or has given up."""
        await self._adopt_waiting()
        version = min(VERSION, self.inheritance.estate.version)
        self._channel.send(Ready(version, PROGRAM, dict(self.listener_keys())), self.queues.sending())
        while not (self._may_take or self._lost or self._signals.requested.is_set()):
            self._news.clear()
            await first_of(self._news, self._signals.requested)
        if not self._may_take:
            raise StartError(lines=[f"the upgrade was given up: {self._lost or 'a signal has stopped this process'}"])
        self.queues.close_sending()

    def _adopt(self, state: Carried) -> None:
        with making_many() if len(state.content) > LARGE else contextlib.nullcontext():
            self._carried.adopt(state.kind, state.content)

    async def _adopt_waiting(self) -> None:
        """Adopts what may be large."""
        for each in self._waiting:
            self._adopt(each)
            await asyncio.sleep(0)
        self._waiting.clear()

    def finish(self) -> None:
        """This process is the one from now on. StartError if the predecessor has ended, or given up."""
        if self._lost:
            raise StartError(lines=[f"the upgrade was given up: {self._lost}"])
        self.has_taken = True
        dropped = self.inheritance.close_spare()
        self.on_taken()
        self._channel.send(Taken(dropped))

    async def stop(self) -> None:
        self.queues.close()
        if not self.outlasts:
            self.close()

    def tell_stopping(self) -> None:
        """Reports to the predecessor, which may still have connections, that this process shuts down."""
        if self.has_taken:
            self._channel.send(Stopping())

    def close(self) -> None:
        """Closes the channel to the predecessor."""
        self._channel.close()

    def older(self) -> list[OlderGeneration]:
        """The generations before this one, the oldest first: they drain, if this process has taken over."""
        if self.leaving is None:
            return []
        estate, leaving = self.inheritance.estate, self.leaving
        last = OlderGeneration(
            generation=estate.generation - 1,
            pid=estate.pid,
            program=estate.program,
            started=estate.started,
            workers=estate.workers,
            connections=leaving.connections,
            seconds=leaving.seconds,
        )
        return [*leaving.older, last]

    def follow(self, config: MosnConfig) -> None:
        """Nothing depends on the configuration."""

    def _on_message(self, message: FromPredecessor, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        match message:
            case Take():
                self._may_take = True
            case CarriedPart():
                self._parts.add(message)
            case Carried():
                self._adopt(self._parts.whole(message))
            case Leaving():
                self.leaving = message
        self._news.set()

    def _on_closed(self, reason: str) -> None:
        self._lost = reason
        self._news.set()
        if self.has_taken:
            self._end()
        else:
            self._log.write(WARN, "upgrade: the old process has ended or given up; this one ends, too")
            self._signals.request_stop()

    def _end(self) -> None:
        """The predecessor has gone."""
        self._log.write(INFO, "upgrade: the old process has ended")
        self.leaving = None
        self.has_ended.set()
        self.inheritance.sock.close()
        self.on_ended()


class Succession(Service):
    """The last service to start: from now on this process is the one that serves."""

    name = "succession"

    def __init__(self, takeover: Takeover) -> None:
        self._takeover = takeover

    async def start(self) -> None:
        """StartError if the predecessor has ended, or given up, meanwhile."""
        self._takeover.finish()

    async def stop(self) -> None:
        """Nothing to stop."""


async def first_of(*events: asyncio.Event, seconds: float | None = None) -> None:
    """Waits until one of the events is set, for at most `seconds`."""
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
