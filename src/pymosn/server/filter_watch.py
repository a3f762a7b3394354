"""Watches Python filter files and triggers a live reload on change."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.filters.stream.shipped import FROM_FILES

#: Milliseconds without another change after which an edit is considered complete.
QUIET_TIME: Final = 100


class FilterWatch(Service):
    """Watches the folders that contain filters of the active configuration."""

    name = "filter watch"

    def __init__(self, config_dir: str, on_change: Callable[[str], None], log: Log) -> None:
        """`on_change` is called with a text that names the files that were edited, added or removed."""
        self._config_dir = config_dir
        self._on_change = on_change
        self._log = log
        self._folders: set[Path] = set()
        self._task: asyncio.Task[None] | None = None

    def follow(self, config: MosnConfig) -> None:
        """Watches the filters of `config` from now on; none if it has `watch_filters: false`."""
        server = config.servers[0]
        folders = {
            Path(self._config_dir, str(entry.config.get("path", ""))).parent
            for listener in server.listeners
            for entry in listener.stream_filters
            if entry.type in FROM_FILES and server.watch_filters
        }
        if folders != self._folders:
            self._watch_only(folders)

    async def stop(self) -> None:
        self._watch_only(set())

    def _watch_only(self, folders: set[Path]) -> None:
        if self._task is not None:
            self._task.cancel()
        self._folders = folders
        self._task = asyncio.get_running_loop().create_task(self._watch(folders)) if folders else None

    async def _watch(self, folders: set[Path]) -> None:
        from watchfiles import PythonFilter, awatch  # imported only when there are such filters

        try:
            async for changes in awatch(*folders, watch_filter=PythonFilter(), step=QUIET_TIME, recursive=False):
                self._on_change(f"edit of {', '.join(sorted({Path(name).name for _, name in changes}))}")
        except (OSError, RuntimeError) as error:
            self._log.write(WARN, f"filter files are no longer watched: {error}; run `pymosn reload` after an edit")
