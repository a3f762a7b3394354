"""Notices edits of Python filters and triggers a live reload. See `source_watch`."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable

from pymosn.assembly.filters import filter_files
from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.server.inotify import Inotify
from pymosn.server.source_watch import Contents, Reader, SourceWatch


class FilterWatch(Service):
    """Watches the sources of the filters in the active configuration.

    Each set of filters has a daemon thread: a folder may be on a network mount that hangs.
    """

    name = "filter watch"

    def __init__(
        self,
        config_dir: str,
        read: Reader,
        last_read: Callable[[], Contents | None],
        on_change: Callable[[str], None],
        log: Log,
        inotify: Callable[[], Inotify] = Inotify,
    ) -> None:
        """`read` and `last_read`: see `SourceWatch`.

        `on_change` is called with a text that names the files that were edited, added or removed.
        """
        self._config_dir = config_dir
        self._read = read
        self._last_read = last_read
        self._on_change = on_change
        self._log = log
        self._inotify = inotify
        self._watched: tuple[frozenset[str], float] = frozenset(), 0.0
        self._watch: SourceWatch | None = None

    def follow(self, config: MosnConfig) -> None:
        """Watches the filters of `config` from now on; none if it has `watch_filters: false`."""
        server = config.servers[0]
        files = filter_files(server.listeners, self._config_dir) if server.watch_filters else {}
        paths = frozenset(os.path.abspath(file) for file in files.values())
        if self._watched != (paths, server.watch_filters_interval):
            self._watch_only(paths, server.watch_filters_interval)

    async def stop(self) -> None:
        self._watch_only(frozenset(), 0.0)

    def _watch_only(self, paths: frozenset[str], interval: float) -> None:
        self._watched = paths, interval
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        if paths:
            watch = SourceWatch(paths, interval, self._read, self._last_read, self._inotify)
            loop = asyncio.get_running_loop()
            watch.on_edit = lambda names: self._post(loop, watch, self._on_change, f"edit of {', '.join(names)}")
            watch.on_warning = lambda text: self._post(loop, watch, self._log.write, WARN, text)
            self._watch = watch
            threading.Thread(target=watch.run, name="filter watch", daemon=True).start()

    def _post(self, loop: asyncio.AbstractEventLoop, watch: SourceWatch, call: Callable[..., object], *args: object) -> None:
        """Called in the thread of `watch`; calls in the event loop, unless `watch` was replaced meanwhile."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: call(*args) if watch is self._watch else None)
