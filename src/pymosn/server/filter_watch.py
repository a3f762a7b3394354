"""Notices edits of Python filters and triggers a live reload. See `source_watch`."""

import os
from collections.abc import Callable

from pymosn.assembly.extensions import code_files
from pymosn.config.schema import MosnConfig
from pymosn.core.log import Log
from pymosn.server.file_watch import FileWatch, Wanted
from pymosn.server.inotify import Inotify
from pymosn.server.source_watch import FILTERS, Contents, Reader


class FilterWatch(FileWatch):
    """Watches the sources of the filters in the active configuration."""

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
        """See `FileWatch`."""
        super().__init__(FILTERS, read, last_read, on_change, log, inotify)
        self._config_dir = config_dir

    def wanted(self, config: MosnConfig) -> Wanted:
        """The files to watch; none if `config` has `watch_filters: false`."""
        server = config.servers[0]
        files = code_files(config, self._config_dir) if server.watch_filters else {}
        return Wanted(frozenset(map(os.path.abspath, files.values())), server.watch_filters_interval)
