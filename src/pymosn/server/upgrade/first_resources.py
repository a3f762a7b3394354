"""A successor with control planes takes over only when it has what these send first, because xDS is not carried."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.server.run_options import StartError

#: Seconds in which the control planes must have sent it, and seconds between two looks.
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

        `tell`: tells who asked for the upgrade.
        """
        self._missing = missing
        self._lost = lost
        self._tell = tell
        self._log = log
        self._sleep = sleep
        self._seconds = seconds

    async def start(self) -> None:
        """Returns when everything is there. StartError if it is not in time, and listeners would be lost."""
        told = ""
        for _ in range(int(self._seconds / PERIOD)):
            missing = self._missing()
            if not missing:
                return
            if missing != told:
                told = missing
                self._tell(f"waiting for the control plane: {missing}")
            await self._sleep(PERIOD)
        lost = sorted(self._lost())
        if lost:
            names = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
            raise StartError(lines=[f"the control plane has not sent within {self._seconds:g} s: {told}; without: {names}"])
        self._log.write(
            WARN, f"xDS: takes over without what the control plane has not sent within {self._seconds:g} s: {told}"
        )

    async def stop(self) -> None:
        """Nothing to stop."""
