"""The files of unix sockets that were MOSN's: it removes them when it ends, although this process serves the sockets.

They get a second name at once, and the first one again as soon as MOSN has removed it. (MOSN itself does not do this.)
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from typing import Final

from pymosn.core.errors import reason
from pymosn.core.log import INFO, WARN, Log
from pymosn.server.inotify import DELETE, Inotify, wait

#: What is added to the name of a file.
SUFFIX: Final = ".pymosn"
#: Seconds for a MOSN whose end cannot be seen, because it is in another namespace. It ends after 30 s and twice its timeout.
LONGEST: Final = 600.0


class KeptFiles:
    """Keeps files until MOSN has ended."""

    def __init__(self, paths: Iterable[str], process: int, is_ours: Callable[[str], bool], log: Log) -> None:
        """`process`: the pidfd of MOSN, which this owns from now on; -1 if there is none.

        `is_ours`: whether this process still serves a path; it may be called in another thread. OSError if the file system
        or the system refuses it.
        """
        self._spares: Final = {path: path + SUFFIX for path in paths}
        self._process = process
        self._is_ours = is_ours
        self._log = log
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="files of MOSN", daemon=True)
        self._inotify = Inotify()
        for path, spare in self._spares.items():
            self._inotify.watch(os.path.dirname(path), DELETE)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare)
            os.link(path, spare, follow_symlinks=False)
        self._thread.start()

    def close(self) -> None:
        """Ends it; the files keep only their first names."""
        os.close(self._writing)
        self._thread.join()

    def _run(self) -> None:
        watched = [self._reading, self._inotify.descriptor, *([] if self._process < 0 else [self._process])]
        while True:
            ready = wait(LONGEST, *watched)
            if self._inotify.descriptor in ready:
                self._inotify.read()
            self._restore()
            if not ready or not ready.isdisjoint({self._reading, self._process}):
                break
        for spare in self._spares.values():
            with contextlib.suppress(OSError):
                os.unlink(spare)
        self._inotify.close()
        os.close(self._reading)
        if self._process >= 0:
            os.close(self._process)

    def _restore(self) -> None:
        for path, spare in self._spares.items():
            if self._is_ours(path) and not os.path.lexists(path):
                try:
                    os.link(spare, path, follow_symlinks=False)
                    self._log.write(INFO, f"MOSN has removed {path}, which is there again")
                except OSError as error:
                    self._log.write(WARN, f"MOSN has removed {path}: {reason(error)}")
