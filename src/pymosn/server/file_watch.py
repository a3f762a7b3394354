"""Services that notice edits of the files that the active configuration names. See `source_watch`."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from pymosn.assembly.tls_material import TlsMaterial
from pymosn.config.schema import MosnConfig
from pymosn.control.service import Service
from pymosn.core.log import WARN, Log
from pymosn.server.inotify import Inotify
from pymosn.server.source_watch import CERTIFICATES, Contents, Kind, Reader, SourceWatch
from pymosn.server.tls_files import UNREADABLE, TlsFiles, fingerprint_of


class Wanted(NamedTuple):
    """Absolute paths of files, and the seconds between looking for edits; 0: the file system reports them."""

    paths: frozenset[str]
    interval: float


_NOTHING = Wanted(frozenset(), 0.0)


class FileWatch(Service):
    """Watches the files of the active configuration that `wanted` returns.

    Each set of files has a daemon thread: a folder may be on a network mount that hangs.
    """

    def __init__(
        self,
        kind: Kind,
        read: Reader,
        last_read: Callable[[], Contents | None],
        on_change: Callable[[str], None],
        log: Log,
        inotify: Callable[[], Inotify] = Inotify,
    ) -> None:
        """`read` and `last_read`: see `SourceWatch`.

        `on_change` is called with a text that names the files that were edited, added or removed.
        """
        self._kind = kind
        self._read = read
        self._last_read = last_read
        self._on_change = on_change
        self._log = log
        self._inotify = inotify
        self._watched = _NOTHING
        self._watch: SourceWatch | None = None

    def wanted(self, config: MosnConfig) -> Wanted:
        """The files to watch while `config` is active."""
        raise NotImplementedError

    def follow(self, config: MosnConfig) -> None:
        """Watches the files of `config` from now on."""
        wanted = self.wanted(config)
        if self._watched != wanted:
            self._watch_only(wanted)

    async def stop(self) -> None:
        self._watch_only(_NOTHING)

    def _watch_only(self, wanted: Wanted) -> None:
        self._watched = wanted
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        if wanted.paths:
            watch = SourceWatch(wanted.paths, wanted.interval, self._read, self._last_read, self._inotify, self._kind)
            loop = asyncio.get_running_loop()
            watch.on_edit = lambda names: self._post(loop, watch, self._on_change, f"edit of {', '.join(names)}")
            watch.on_warning = lambda text: self._post(loop, watch, self._log.write, WARN, text)
            self._watch = watch
            threading.Thread(target=watch.run, name=self.name, daemon=True).start()

    def _post(self, loop: asyncio.AbstractEventLoop, watch: SourceWatch, call: Callable[..., object], *args: object) -> None:
        """Called in the thread of `watch`; calls in the event loop, unless `watch` was replaced meanwhile."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: call(*args) if watch is self._watch else None)


class CertificateWatch(FileWatch):
    """Watches the files of TLS contexts."""

    name = "certificate watch"

    def __init__(
        self,
        files: TlsFiles,
        active: Callable[[], TlsMaterial],
        on_change: Callable[[str], None],
        log: Log,
        inotify: Callable[[], Inotify] = Inotify,
    ) -> None:
        """`active`: the active content, which is compared with that of the files."""
        super().__init__(CERTIFICATES, _fingerprints, self._active_fingerprints, on_change, log, inotify)
        self._files = files
        self._active = active
        # The paths as they are configured, by absolute path.
        self._texts: dict[str, str] = {}

    def wanted(self, config: MosnConfig) -> Wanted:
        """The files to watch; none if `config` has `watch_certificates: false`."""
        server = config.servers[0]
        paths = self._files.paths(config) if server.watch_certificates else {}
        self._texts = {path: text for text, path in paths.items()}
        return Wanted(frozenset(self._texts), server.watch_certificates_interval)

    def _active_fingerprints(self) -> Contents:
        """Called in the thread."""
        texts, digests = self._texts, self._active().digests
        return _by_folder(texts, lambda path: digests.get(texts[path], UNREADABLE))


def _fingerprints(paths: Collection[str]) -> Contents:
    return _by_folder(paths, fingerprint_of)


def _by_folder(paths: Iterable[str], value_of: Callable[[str], object]) -> Contents:
    found: dict[str, dict[str, object]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        found.setdefault(folder, {})[name] = value_of(path)
    return found
