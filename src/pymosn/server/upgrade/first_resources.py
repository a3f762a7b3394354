"""A successor with control planes takes over only when it has what these send first, because xDS is not carried."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.server.run_options import StartError

#: Seconds in which the control planes must have sent it, and seconds between two checks.
TIME: Final = 30.0
PERIOD: Final = 0.05


class FirstResources(Service):
    """Waits for the control planes, before the takeover."""

    name = "first resources of xDS"

    def __init__(
        self,
        missing: Callable[[], str],
        lost: Callable[[], Collection[str]],
        tell: Callable[[str], None],
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        seconds: float = TIME,
    ) -> None:
        """`missing`: what has not been sent yet, empty if nothing. `lost`: listeners that only the predecessor has.

        `tell`: reports to the requester of the upgrade.
        """
        self._missing = missing
        self._lost = lost
        self._tell = tell
        self._log = log
        self._sleep = sleep
        self._seconds = seconds

    async def start(self) -> None:
        """Returns when everything is there. StartError if it is not in time, and listeners would be lost."""
        reported = ""
        for _ in range(int(self._seconds / PERIOD)):
            missing = self._missing()
            if not missing:
                return
            if missing != reported:
                reported = missing
                self._tell(f"waiting for the control plane: {missing}")
            await self._sleep(PERIOD)
        late = f"the control plane has not sent within {self._seconds:g} s: {reported}"
        lost = sorted(self._lost())
        if lost:
            names = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
            raise StartError(lines=[f"{late}; without: {names}"])
        self._log.write(WARN, f"xDS: {late}; taking over without it")

    async def stop(self) -> None:
        """Nothing to stop."""
