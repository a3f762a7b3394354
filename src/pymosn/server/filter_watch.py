"""Watches Python filter files and triggers a live reload on change."""

import asyncio
import contextlib
import threading
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
    """Watches the folders that contain filters of the active configuration.

    Each set of folders has a daemon thread: a folder may be on a network mount that hangs.
    """

    name = "filter watch"

    def __init__(self, config_dir: str, on_change: Callable[[str], None], log: Log) -> None:
        """`on_change` is called with a text that names the files that were edited, added or removed."""
        self._config_dir = config_dir
        self._on_change = on_change
        self._log = log
        self._folders: set[Path] = set()
        self._end = threading.Event()

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
        self._end.set()
        self._folders = folders
        if folders:
            self._end = threading.Event()
            arguments = (folders, self._end, asyncio.get_running_loop())
            threading.Thread(target=self._watch, args=arguments, name="filter watch", daemon=True).start()

    def _watch(self, folders: set[Path], end: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread, until `end` is set."""
        from watchfiles import PythonFilter, watch  # imported only when there are such filters

        def report(call: Callable[..., None], *args: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(lambda: None if end.is_set() else call(*args))

        try:
            for changes in watch(
                *folders,
                watch_filter=PythonFilter(),
                step=QUIET_TIME,
                recursive=False,
                stop_event=end,
                raise_interrupt=False,
            ):
                report(self._on_change, f"edit of {', '.join(sorted({Path(name).name for _, name in changes}))}")
        except (OSError, RuntimeError) as error:
            text = f"filter files are no longer watched: {error}; run `pymosn reload` after an edit"
            report(self._log.write, WARN, text)
