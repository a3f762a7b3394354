"""Tests extensions of the process without one: their changes are checked as in a running proxy, in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from pymosn.api.extension import Change, ChangeRejected, Extension, Plane
from pymosn.config.dump import dump
from pymosn.config.load import load_text
from pymosn.config.overlay import with_changes
from pymosn.config.schema import MosnConfig
from pymosn.filters.typed_config import typed_config
from pymosn.testing.mistakes import InvalidTest


class ExtensionWorld(Plane):
    """An extension and the configuration that it changes. It is also the plane that `start` gets.

        async with ExtensionWorld(HostsFromFile, {"file": str(path), "cluster": "backend"}, CONFIG) as world:
            assert world.hosts("backend") == ["127.0.0.1:9001"]

    Background tasks run on the loop of the test; one that has failed fails the test at the end of the block.
    """

    def __init__(
        self, kind: type[Extension], settings: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
    ) -> None:
        """`settings`: those of the extension. `config`: a configuration with MOSN's keys; without it one without listeners.

        InvalidTest if that is invalid; whatever the extension raises if its settings are.
        """
        if not isinstance(kind, type) or not issubclass(kind, Extension):
            raise InvalidTest(f"expected the class of an extension, not {kind!r:.60}")
        loaded = load_text(json.dumps(dict(config or {"servers": [{}]})), "configuration")
        if loaded.config is None:
            raise InvalidTest("; ".join(fault.text() for fault in loaded.errors))
        #: The applied changes, one list for each call of `apply`.
        self.changes: list[list[Change]] = []
        #: What it has written to the log.
        self.lines: list[str] = []
        self.extension = kind(typed_config(kind.Config, dict(settings or {})))
        self._active: MosnConfig = loaded.config
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        try:
            await self.extension.start(self)
        except BaseException:
            await self._end_tasks()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks = await self._end_tasks()
        await self.extension.stop()
        if error is None:
            _raise_failure(tasks)

    async def _end_tasks(self) -> list[asyncio.Task[Any]]:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return tasks

    def config(self) -> dict[str, Any]:
        return dump(self._active)

    def hosts(self, cluster: str) -> list[str]:
        """The addresses of a cluster's hosts. KeyError without such a cluster."""
        clusters = {each.name: each for each in self._active.cluster_manager.clusters}
        return [host.address for host in clusters[cluster].hosts]

    async def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Lets background tasks run until `condition` holds, for a change of a file for example.

        TimeoutError; the exception of a background task as soon as one has failed.
        """
        async with asyncio.timeout(seconds):
            await asyncio.sleep(0)
            while not condition():
                _raise_failure(self._tasks)
                await asyncio.sleep(0.001)

    async def apply(self, *changes: Change) -> None:
        await asyncio.sleep(0)  # as in a process, others run meanwhile
        after, faults = with_changes(self._active, changes)
        if after is None:
            raise ChangeRejected(
                "rejected; nothing changed", [fault.text() for fault in faults if fault.severity == "error"]
            )
        if after is not self._active:
            self._active = after
            self.changes.append(list(changes))

    def write(self, text: str) -> None:
        self.lines.append(text)

    def create_task(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)


def _raise_failure(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Raises the exception of the first task that has failed."""
    for task in tasks:
        failure = task.exception() if task.done() and not task.cancelled() else None
        if failure is not None:
            raise failure
