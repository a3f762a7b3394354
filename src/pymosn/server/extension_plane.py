"""What one extension of the process may do: the implementation of `pymosn.api.Plane`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Protocol

from pymosn.api.extension import Change, ChangeRejected, Plane
from pymosn.config.diagnostics import Diagnostic
from pymosn.config.overlay import Key, Overlay, keys_of, with_changes
from pymosn.config.schema import MosnConfig
from pymosn.control.plane import Candidate, ChangeResult, Edit
from pymosn.core.errors import describe
from pymosn.core.log import ERROR, INFO, Log
from pymosn.core.redaction import KnownSecrets

#: Seconds in which cancelled tasks must end.
END_TIME = 2.0


class Configuration(Protocol):
    """What is needed of the process: its active configuration, and the way to change it."""

    def whole_config(self) -> dict[str, Any]: ...
    def apply(self, source: str, edit: Edit) -> Awaitable[ChangeResult]: ...


class ExtensionPlane(Plane):
    """The plane of one object of an extension."""

    def __init__(
        self,
        name: str,
        process: Configuration,
        overlay: Overlay,
        log: Log,
        secrets: KnownSecrets,
        stream_filters: Callable[[], Collection[str]],
    ) -> None:
        """`name`: of the extension. `overlay` gets its changes. `secrets`: not to be shown in the log."""
        self.name = name
        self._process = process
        self._overlay = overlay
        self._log = log
        self._secrets = secrets
        self._stream_filters = stream_filters
        self._tasks: set[asyncio.Task[Any]] = set()
        # Why it may change nothing any more.
        self._refusal = ""
        # Changes in progress, which end even if the extension that waits for them does not.
        self._changing: set[asyncio.Task[None]] = set()

    def config(self) -> dict[str, Any]:
        return self._process.whole_config()

    async def apply(self, *changes: Change) -> None:
        task = asyncio.get_running_loop().create_task(self._apply(changes))
        self._changing.add(task)
        task.add_done_callback(self._on_changed)
        await asyncio.shield(task)

    def _on_changed(self, task: asyncio.Task[None]) -> None:
        self._changing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone, and then it would be reported as one that nobody retrieved

    async def _apply(self, changes: tuple[Change, ...]) -> None:
        keys: list[Key] = []
        states: list[MosnConfig] = []

        def edit(active: MosnConfig) -> Candidate:
            if self._refusal:
                return Candidate(None, [Diagnostic(file=f"extension {self.name}", message=self._refusal)])
            after, faults = with_changes(active, changes, self._stream_filters())
            if after is not None:
                keys[:], states[:] = keys_of(changes), [after]
            return Candidate(after, faults)

        if self._refusal:
            raise ChangeRejected(f"rejected; nothing changed: {self._refusal}")
        result = await self._process.apply(f"extension {self.name}", edit)
        if not result.applied:
            raise ChangeRejected(result.message, [fault.text() for fault in result.faults if fault.severity == "error"])
        # Nothing else runs between the end of the change and this, so that no reload can miss it.
        self._overlay.note(self.name, keys, *states)

    def write(self, text: str) -> None:
        self.log(INFO, text)

    def log(self, level: int, text: str) -> None:
        """Writes a line with the name of the extension, without its secrets."""
        self._log.write(level, f"extension {self.name!r}: {self.without_secrets(text)}")

    def without_secrets(self, text: str) -> str:
        """A text without the secrets of its settings."""
        return self._secrets.hide(text)

    def create_task(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # `sys.exit` would end the process
            self.log(ERROR, f"background task failed: {describe(error)}")

    def close(self, reason: str) -> None:
        """Rejects changes from now on, also those that wait for another one."""
        self._refusal = reason

    async def end_tasks(self) -> None:
        """Cancels the background tasks and waits for their end, for a bounded time."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=END_TIME)
