"""Rotates log files on behalf of all processes that append to them."""

import asyncio
from collections.abc import Callable
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.clock import Clock
from pymosn.core.log import ERROR, Log
from pymosn.observe.destination import is_file
from pymosn.observe.roller import Policy, Roller
from pymosn.server.logs import log_paths

#: Seconds between two checks; also the time that processes get to close a file that was rotated.
PERIOD: Final = 5.0


class LogRolling(Service):
    """Rotates all log files so far. `paths`: all logs, files or not. `reopen` makes every process reopen its logs."""

    name = "log rolling"

    def __init__(
        self, config: MosnConfig, base_dir: str, policy: Policy, reopen: Callable[[], None], clock: Clock, log: Log
    ) -> None:
        self.paths: list[str] = []
        self._base_dir = base_dir
        self._rollers: dict[str, Roller] = {}
        self._policy = policy
        self._rotated: list[Roller] = []
        self._reopen = reopen
        self._clock = clock
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self.follow(config)

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def follow(self, config: MosnConfig) -> None:
        """Rotates the files of `config` too; logs that are no longer configured may still be written to."""
        for path in log_paths(config, self._base_dir):
            if path not in self.paths:
                self.paths.append(path)
                if is_file(path):
                    self._rollers[path] = Roller(path, self._policy, self._clock.wall())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            await self.check()

    async def check(self) -> None:
        """Compresses or deletes the files rotated at the last check, and rotates those that are due now."""
        now = self._clock.wall()
        while self._rotated:
            roller = self._rotated.pop()
            try:
                await asyncio.to_thread(roller.tidy, now)
            except OSError as error:
                self._log.write(ERROR, f"old log files cannot be cleaned up: {error}")
        for path, roller in self._rollers.items():
            try:
                if roller.roll_if_due(now):
                    self._rotated.append(roller)
            except OSError as error:
                self._log.write(ERROR, f"log file {path} cannot be rotated: {error}")
        if self._rotated:
            self._reopen()
