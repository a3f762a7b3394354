"""What a predecessor does after another process has taken over, until its last connection has ended."""

from __future__ import annotations

import asyncio
import gc
from typing import Final

from pymosn.core.log import INFO, WARN, Log
from pymosn.server.fleet import Fleet
from pymosn.server.messages import Depart, Finish
from pymosn.server.shutdown import ShutdownSignals
from pymosn.server.upgrade.predecessor import Upgrade
from pymosn.server.upgrade.successor import Takeover, first_of

#: Seconds between two reports to the successor, and between two lines of the log about what is left.
REPORT_PERIOD = 1.0
LOG_PERIOD = 10.0

#: The services that end as soon as another process has taken over; the others serve the connections that are left.
FOREGROUND: Final = frozenset(
    (
        "succession",
        "auto_config",
        "extensions",
        "log rolling",
        "xDS",
        "admin API",
        "admin socket",
        "demo upstream",
        "pid file",
        "guardian",
        "certificate expiry",
        "certificate rotation",
        "certificate watch",
        "filter watch",
    )
)


class Leave:
    """Makes the workers leave, and reports what they still serve."""

    def __init__(
        self, fleet: Fleet, upgrade: Upgrade, takeover: Takeover | None, signals: ShutdownSignals, log: Log
    ) -> None:
        """`takeover`: from this process's own predecessor, if there was one."""
        self._fleet = fleet
        self._takeover = takeover
        self._upgrade = upgrade
        self._signals = signals
        self._log = log
        self._finishing: asyncio.Task[None] | None = None

    async def run(self, command: Depart) -> None:
        """Returns when no connection is left, at the timeout, or when a signal requests to stop now."""
        # This process ends, and the last reports replace the metrics of all hosts: collections would block the loop.
        gc.disable()
        self._log.write(INFO, f"leaving: connections may finish for at most {command.timeout:g} s")
        loop = asyncio.get_running_loop()
        end = loop.time() + command.timeout
        work = loop.create_task(self._fleet.depart(command, list(self._upgrade.queues.descriptors)))
        stop = loop.create_task(self._signals.now.wait())
        self._finishing = loop.create_task(self._finish())
        try:
            next_line = loop.time() + LOG_PERIOD
            await self._report({}, command.timeout)  # the workers have not reported yet
            while not (work.done() or stop.done()):
                await asyncio.wait((work, stop), timeout=REPORT_PERIOD, return_when=asyncio.FIRST_COMPLETED)
                left = self._fleet.departing()
                await self._report(left, max(0.0, end - loop.time()))
                if loop.time() >= next_line and left:
                    next_line += LOG_PERIOD
                    self._log.write(INFO, f"leaving: {_text(left)} left, for {max(0.0, end - loop.time()):.0f} s")
            if work.done() and not work.result():
                self._log.write(WARN, f"graceful timeout expired; closing {_text(self._fleet.departing())}")
        finally:
            work.cancel()
            stop.cancel()

    async def _finish(self) -> None:
        """When the successor shuts down, no generation waits for idle connections any longer."""
        await self._upgrade.is_stopping.wait()
        self._log.write(INFO, "leaving: the new generation shuts down; closing idle connections")
        self._fleet.send(Finish())
        if self._takeover is not None:
            self._takeover.tell_stopping()

    async def outlast(self) -> None:
        """Passes on what older generations report; returns when they have gone, or when a signal requests to stop now.

        To be called when the workers have ended; nothing else knows of those generations.
        """
        takeover = self._takeover
        if takeover is not None:
            if takeover.older():
                self._log.write(INFO, "leaving: waiting for the generations before this one")
            while not (takeover.has_ended.is_set() or self._signals.now.is_set()):
                await self._report({}, 0.0)
                await first_of(takeover.has_ended, self._signals.now, seconds=REPORT_PERIOD)
            takeover.close()
        if self._finishing is not None:
            self._finishing.cancel()

    async def _report(self, connections: dict[str, int], seconds: float) -> None:
        await self._upgrade.leaving(connections, seconds, [] if self._takeover is None else self._takeover.older())


def _text(connections: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(connections.items())) or "what is left"
