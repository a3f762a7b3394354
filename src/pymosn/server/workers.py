"""The workers as a service: started before anything is served, drained and stopped after."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import INFO, WARN, Log
from pymosn.server.families import Families
from pymosn.server.fleet import Fleet
from pymosn.server.hangs import HANG_PERIOD
from pymosn.server.run_options import RunOptions, StartError
from pymosn.server.shutdown import ShutdownSignals
from pymosn.version import VERSION, build

#: Seconds that workers get for exiting before they are killed.
STOP_TIME: Final = 3.0


class ShutdownRequested(Exception):
    """A signal arrived before the workers were ready."""


class Workers(Service):
    """Starts the fleet, replaces workers whose event loop hangs, and stops it."""

    name = "workers"

    def __init__(
        self,
        fleet: Fleet,
        families: Families,
        signals: ShutdownSignals,
        options: RunOptions,
        decided_by: str,
        log: Log,
    ) -> None:
        """`decided_by`: what has decided the number of workers."""
        self._fleet = fleet
        self._families = families
        self._signals = signals
        self._options = options
        self._decided_by = decided_by
        self._log = log
        self._hang_limit = self._start_limit = 0.0
        self._hang_watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when all workers serve. StartError if one fails, ShutdownRequested after a signal."""
        fleet, requested = self._fleet, self._signals.requested
        name = self._options.source.name
        text = f"pymosn {VERSION} ({build()}) starts {fleet.size} workers for {name}; decided by {self._decided_by}"
        self._log.write(INFO, text)
        fleet.start()
        await _until(
            requested, fleet.wait_for(lambda: fleet.all_ready or bool(fleet.start_failure), self._start_limit or math.inf)
        )
        if fleet.start_failure:
            faults = [fault.placed(self._options.places, name) for fault in fleet.faults]
            raise StartError(faults=faults, lines=[] if faults else [fleet.start_failure])
        if requested.is_set():
            raise ShutdownRequested
        if not fleet.all_ready:
            raise StartError(lines=[f"the workers were not ready within {self._start_limit:g} s"])
        self._hang_watch = asyncio.get_running_loop().create_task(self._watch())

    def follow(self, config: MosnConfig) -> None:
        self._hang_limit = config.servers[0].worker_hang_limit
        self._start_limit = config.servers[0].worker_start_limit

    async def _watch(self) -> None:
        while True:
            self._fleet.end_hung(self._hang_limit, self._start_limit)
            self._families.reap()
            await asyncio.sleep(HANG_PERIOD)

    async def drain(self, timeout: float) -> None:
        """Waits until requests in flight have finished, for `timeout` seconds or until a signal requests to stop now."""
        self._log.write(INFO, f"draining for at most {timeout:g} s")
        if await _until(self._signals.now, self._fleet.drain(timeout)) is False:
            self._log.write(WARN, "graceful timeout expired; closing the remaining connections")

    async def stop(self) -> None:
        if self._hang_watch is not None:
            self._hang_watch.cancel()
        await self._fleet.stop(STOP_TIME)
        self._families.close()
        self._log.write(INFO, "stopped")


async def _until(event: asyncio.Event, work: Coroutine[Any, Any, bool]) -> bool | None:
    """The result of `work`, or None if the event was set first; then `work` is cancelled."""
    tasks = (asyncio.ensure_future(work), asyncio.ensure_future(event.wait()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
