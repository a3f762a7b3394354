"""Tells when the files of Python filters change, so that an edit is in force without a word."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pymosn.config.schema import MosnConfig
from pymosn.core.log import WARN, Log
from pymosn.filters.stream.shipped import FROM_FILES

#: Milliseconds without another change before an edit is taken to be complete.
QUIET_TIME: Final = 100


class FilterWatch:
    """Watches the folders in which the filters of the configuration in force are."""

    def __init__(self, config_dir: str, on_change: Callable[[list[str]], None], log: Log) -> None:
        """`on_change` is called with the names of the files that were edited, added or removed."""
        self._config_dir = config_dir
        self._on_change = on_change
        self._log = log
        self._folders: set[Path] = set()
        self._task: asyncio.Task[None] | None = None

    def follow(self, config: MosnConfig) -> None:
        """Watches what `config` uses from now on; nothing when it says `watch_filters: false`."""
        server = config.servers[0]
        folders = {
            Path(self._config_dir, str(entry.config.get("path", ""))).parent
            for listener in server.listeners
            for entry in listener.stream_filters
            if entry.type in FROM_FILES and server.watch_filters
        }
        if folders != self._folders:
            self.close()
            self._folders = folders
            if folders:
                self._task = asyncio.get_running_loop().create_task(self._watch(folders))

    def close(self) -> None:
        """Watches no more."""
        self._folders = set()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self, folders: set[Path]) -> None:
        from watchfiles import PythonFilter, awatch  # only who has such filters pays for it

        try:
            async for changes in awatch(*folders, watch_filter=PythonFilter(), step=QUIET_TIME, recursive=False):
                self._on_change(sorted({Path(name).name for _, name in changes}))
        except (OSError, RuntimeError) as error:
            self._log.write(WARN, f"filter files are not watched any more: {error}; `pymosn reload` takes an edit")
