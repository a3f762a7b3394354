"""Activates certificates, keys, CAs and revocation lists whose files have changed.

A certificate and its key are two files, so there are moments at which they do not belong together. Content with such a fault
is not used: what is active stays, a line of the log has the reason, and it is tried again when a file changes and after some
delays, because the cause may be none of the files. Requests and connections are not affected either way: only handshakes
that begin later use what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, Protocol

from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import ChangeResult
from pymosn.control.service import Service
from pymosn.core.log import ERROR, INFO, Log
from pymosn.server.tls_files import TlsFiles, TlsRead

#: Seconds between the attempts after a failed one.
DELAYS: Final = (0.25, 1.0, 3.0, 10.0, 30.0)


class Active(Protocol):
    """The active configuration, with the files of its TLS contexts."""

    config: MosnConfig
    material: TlsMaterial

    def reload_tls(self, source: str, read: TlsRead) -> Awaitable[ChangeResult]:
        """Activates what was read from the files."""


class Rotation(Service):
    """Tries to activate what the files have now, when `on_edit` is called."""

    name = "certificate rotation"

    def __init__(
        self,
        files: TlsFiles,
        active: Active,
        begin: Callable[[Coroutine[Any, Any, object]], object],
        log: Log,
        call_later: Callable[..., asyncio.TimerHandle],
    ) -> None:
        """`begin`: runs an attempt as a task."""
        self._files = files
        self._active = active
        self._begin = begin
        self._log = log
        self._call_later = call_later
        self._delays: Iterator[float] = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._lock = asyncio.Lock()
        # What was last logged, until it is over.
        self._fault = ""

    async def stop(self) -> None:
        self._cancel()

    def on_edit(self, source: str) -> None:
        """Some files have changed. `source`: text that names them, for the log."""
        self._delays = iter(DELAYS)
        self._try(source)

    def _try(self, source: str) -> None:
        self._cancel()
        self._begin(self._attempt(source))

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _attempt(self, source: str) -> None:
        async with self._lock:
            if not await self._rotate(source):
                delay = next(self._delays, None)
                self._cancel()
                if delay is not None:
                    self._timer = self._call_later(delay, self._try, source)

    async def _rotate(self, source: str) -> bool:
        """Activates the content of the files unless it is active; whether this has succeeded."""
        active = self._active
        config = active.config
        material, faults = await self._files.read(config, TlsMaterial(), active.material)
        errors = [fault for fault in faults if fault.severity == "error"]
        if errors:
            text = "; ".join(f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in errors)
            self._note(text, f"{source}: what was active before stays, because {text}")
            return False
        if material.digests == active.material.digests:
            if self._fault:
                self._log.write(INFO, f"{source}: the files of TLS contexts are again as they are active")
            self._fault = ""
            return True
        result = await active.reload_tls(source, TlsRead(config, material, faults))
        if not result.applied:
            self._fault = result.message  # `Changes` has logged the reasons
            return False
        self._fault = ""
        return True

    def _note(self, fault: str, line: str) -> None:
        """Logs a fault unless it is the one that was logged last."""
        if fault != self._fault:
            self._fault = fault
            self._log.write(ERROR, line)
