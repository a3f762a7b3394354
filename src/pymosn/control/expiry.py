"""Log lines about certificates that expire soon or have expired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.certificates import Used, iso_time
from pymosn.control.service import Service
from pymosn.core.clock import Clock
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, WARN, Log

#: Days before the end at which a line is logged.
DAYS: Final = (30, 7, 1, 0)
#: The longest time in seconds between two looks, because the system's clock may be set.
LONGEST_PAUSE: Final = 3600.0
#: Lines of one look: a bundle of CAs may have many certificates.
MAX_LINES: Final = 20

_DAY: Final = 86_400.0


class Expiry(Service):
    """Logs each certificate in use once when it has 30, 7 and 1 days left, and when it has expired.

    A certificate that has expired when it is first seen is reported by whatever has read it.
    """

    name = "certificate expiry"

    def __init__(
        self,
        used: Callable[[], list[Used]],
        clock: Clock,
        log: Log,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`used`: the certificates in use; called off the event loop."""
        self._used = used
        self._clock = clock
        self._log = log
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        # The days of the last line about a certificate, by fingerprint.
        self._logged: dict[str, int] = {}

    def follow(self, config: MosnConfig) -> None:
        """Looks at the certificates of the configuration that is active now."""
        self._cancel()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            pause = LONGEST_PAUSE
            try:
                used = await asyncio.to_thread(self._used)
                pause = self.report(used)
            except Exception as error:
                self._log.write(ERROR, f"the expiry of certificates cannot be determined: {describe(error)}")
            await self._sleep(pause)

    def report(self, used: list[Used]) -> float:
        """Logs what is due; returns the seconds until something else may be."""
        now = self._clock.wall()
        pause = LONGEST_PAUSE
        lines = 0
        for entry in used:
            certificate = entry.certificate
            left = certificate.not_after - now
            pause = min([pause, *(left - days * _DAY for days in DAYS if left > days * _DAY)])
            due = [days for days in DAYS if left <= days * _DAY]
            before = self._logged.get(certificate.fingerprint)
            if not due or (before is not None and before <= due[-1]):
                continue
            self._logged[certificate.fingerprint] = due[-1]
            if before is None and due[-1] == 0:
                continue
            lines += 1
            if lines <= MAX_LINES:
                self._write(entry, left)
        if lines > MAX_LINES:
            self._log.write(WARN, f"{lines - MAX_LINES} more certificates expire soon: see /api/v1/certs")
        known = {entry.certificate.fingerprint for entry in used}
        self._logged = {fingerprint: days for fingerprint, days in self._logged.items() if fingerprint in known}
        return max(pause, 1.0)

    def _write(self, entry: Used, left: float) -> None:
        certificate = entry.certificate
        by = ", ".join(entry.by[:3]) + (" and others" if len(entry.by) > 3 else "")
        place = f"{entry.file or 'in the configuration'}; {by}"
        end = iso_time(certificate.not_after)
        if left <= 0:
            self._log.write(ERROR, f"the certificate {certificate.label!r} has expired on {end} ({place})")
        else:
            self._log.write(
                WARN, f"the certificate {certificate.label!r} expires in {left / _DAY:.1f} days, on {end} ({place})"
            )
