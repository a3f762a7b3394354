"""Notifies the service manager of what this process does: sd_notify(3), with `Type=notify` of systemd.

`NOTIFY_SOCKET` has the address of a datagram socket; without it nothing is sent. Only the main process is believed, so later
generations send through it (`upgrade/tether.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from pymosn.control.service import Service
from pymosn.core.log import WARN, Log

#: The environment variables of the service manager, which are not meant for children of workers.
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier(Service):
    """Sends states, and a sign of life of the event loop twice in each WATCHDOG_USEC (sd_watchdog_enabled(3)).

    READY=1 means that all workers serve; RELOADING=1 is followed by READY=1, whatever the result.
    """

    name = "service manager"

    def __init__(
        self,
        send: Callable[[str], str],
        environment: Mapping[str, str],
        main_pid: int,
        call_later: Callable[..., asyncio.TimerHandle],
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send` returns why it failed, empty if it did not. `main_pid`: the process that the service manager knows."""
        self._transmit = send
        self._call_later = call_later
        self._log = log
        self._clock = clock
        self._is_wanted = bool(environment.get("NOTIFY_SOCKET"))
        self._interval = _interval(environment, main_pid) if self._is_wanted else 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._failure = ""

    async def start(self) -> None:
        """Starts the watchdog's messages."""
        if self._interval:
            self._beat()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def ready(self, status: str) -> None:
        """All workers serve. `status`: one short sentence for people."""
        if not self._is_stopping:
            self._send(f"READY=1\nSTATUS={status}")

    def reloading(self, status: str) -> None:
        """A change of the configuration or of the process begins, and `ready` follows."""
        if not self._is_stopping:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock() * 1_000_000)}\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """The process drains and ends; the states above are not sent any more."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send(f"STOPPING=1\nSTATUS={status}")

    def leave(self) -> None:
        """Another generation has taken over, and sends what is to be sent."""
        self._is_stopping = True
        self._interval = 0.0

    @contextlib.asynccontextmanager
    async def reload(self) -> AsyncIterator[None]:
        """Announces a reload, which is the content of the block, and its end."""
        self.reloading("Reloading the configuration.")
        try:
            yield
        finally:
            self.ready("Serving.")

    def _beat(self) -> None:
        if self._interval:
            self._send("WATCHDOG=1")
            self._timer = self._call_later(self._interval, self._beat)

    def _send(self, text: str) -> None:
        if self._is_wanted:
            failure = self._transmit(text)
            if failure and failure != self._failure:  # not each time
                self._log.write(WARN, f"the service manager cannot be notified: {failure}")
            self._failure = failure


def _interval(environment: Mapping[str, str], main_pid: int) -> float:
    """Seconds between two signs of life; 0: none are expected from this process."""
    limit, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or pid not in ("", str(main_pid)):
        return 0.0
    return int(limit) / 2_000_000
