"""Rotates log files on behalf of all processes that append to them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.control.threads import off_loop, within
from pymosn.core.clock import Clock
from pymosn.core.log import ERROR, Log
from pymosn.observe.destination import is_file
from pymosn.observe.roller import Policy, Roller
from pymosn.server.logs import log_paths, trace_logs

#: Seconds between two checks; also the time that processes get to close a file that was rotated.
PERIOD: Final = 5.0
#: Seconds for checking a file, or for its rotation; and for compressing it.
FILE_TIME: Final = 2.0
TIDY_TIME: Final = 600.0


class LogRolling(Service):
    """Rotates all log files so far. `paths`: all logs, files or not. `reopen` makes every process reopen its logs."""

    name = "log rolling"

    def __init__(
        self, config: MosnConfig, base_dir: str, policy: Policy, reopen: Callable[[], None], clock: Clock, log: Log
    ) -> None:
        self.paths: list[str] = []
        # The digest files of traces, which the admin API does not know as logs.
        self._digests: list[str] = []
        self._base_dir = base_dir
        self._rollers: dict[str, Roller] = {}
        self._policy = policy
        self._rotated: list[Roller] = []
        self._reopen = reopen
        self._clock = clock
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._new = asyncio.Event()
        self.follow(config)
        for path in self._unseen():
            with contextlib.suppress(TimeoutError):
                self._rollers[path] = within(FILE_TIME, Roller, path, policy, clock.wall())

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def follow(self, config: MosnConfig) -> None:
        """Rotates the files of `config` too; logs that are no longer configured may still be written to."""
        for path in log_paths(config, self._base_dir):
            if path not in self.paths:
                self.paths.append(path)
                self._new.set()
        for path in trace_logs(config):
            if path not in self._digests:
                self._digests.append(path)
                self._new.set()

    def _unseen(self) -> list[str]:
        return [path for path in (*self.paths, *self._digests) if is_file(path) and path not in self._rollers]

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            self._new.clear()
            await self._look_at_new()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD):
                    await self._new.wait()
                    continue
            await self.check()

    async def _look_at_new(self) -> None:
        """Finds when the first line of each new file was written."""
        for path in self._unseen():
            with contextlib.suppress(TimeoutError):  # tried again in the next period
                self._rollers[path] = await off_loop(FILE_TIME, Roller, path, self._policy, self._clock.wall())

    async def check(self) -> None:
        """Compresses or deletes the files rotated at the last check, and rotates those that are due now."""
        now = self._clock.wall()
        while self._rotated:
            roller = self._rotated.pop()
            try:
                await off_loop(TIDY_TIME, roller.tidy, now)
            except OSError as error:
                self._log.write(ERROR, f"old log files cannot be cleaned up: {error}")
        for path, roller in self._rollers.items():
            try:
                if await off_loop(FILE_TIME, roller.roll_if_due, now):
                    self._rotated.append(roller)
            except OSError as error:
                self._log.write(ERROR, f"log file {path} cannot be rotated: {error}")
        if self._rotated:
            self._reopen()
