"""Replaces workers whose event loop hangs."""

import asyncio
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.server.fleet import Fleet

#: Seconds between two checks.
PERIOD: Final = 1.0


class HangWatch(Service):
    """Kills workers that have not responded for `worker_hang_limit` seconds; the fleet replaces them."""

    name = "hang watch"

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._limit = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def follow(self, config: MosnConfig) -> None:
        self._limit = config.servers[0].worker_hang_limit

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            self._fleet.end_hung(self._limit, PERIOD)
            await asyncio.sleep(PERIOD)
