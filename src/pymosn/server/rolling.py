"""Sets log files aside when it is time, for all processes that append to them."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from pymosn.core.clock import Clock
from pymosn.core.log import ERROR, Log
from pymosn.observe.destination import is_file
from pymosn.observe.roller import Policy, Roller

#: Seconds between two looks at the files; also the time that processes get to let go of a file set aside.
PERIOD: Final = 5.0


class LogRolling:
    """Rolls the files among `paths`; `reopen` makes every process open its logs anew."""

    def __init__(self, paths: Iterable[str], policy: Policy, reopen: Callable[[], None], clock: Clock, log: Log) -> None:
        self._rollers: dict[str, Roller] = {}
        self._policy = policy
        self._untidy: list[Roller] = []
        self._reopen = reopen
        self._clock = clock
        self._log = log
        self.add(paths)

    def add(self, paths: Iterable[str]) -> None:
        """Rolls the files among these too."""
        for path in paths:
            if is_file(path) and path not in self._rollers:
                self._rollers[path] = Roller(path, self._policy, self._clock.wall())

    async def run(self) -> None:
        """Looks at the files until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Tidies up after the last look and sets aside what is due now."""
        now = self._clock.wall()
        while self._untidy:
            roller = self._untidy.pop()
            try:
                await asyncio.to_thread(roller.tidy, now)
            except OSError as error:
                self._log.write(ERROR, f"old log files cannot be tidied up: {error}")
        for path, roller in list(self._rollers.items()):
            try:
                if roller.roll_if_due(now):
                    self._untidy.append(roller)
            except OSError as error:
                self._log.write(ERROR, f"log file {path} cannot be set aside: {error}")
        if self._untidy:
            self._reopen()
