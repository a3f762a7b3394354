"""Notices changes in files, such as certificates, and in the sources of Python filters, in a thread.

Notifications of the file system are only hints of when to check. What counts is a comparison: the sources are read, and
compared with what the process has read last, after each hint and each time that the folders are watched again. So nothing is
missed between two watches, or between the start and the first one; and a change of attributes alone, or an edit that was
rejected, triggers nothing. `watched_paths` determines which folders are watched.

Some changes cause no notification: those that other machines make on a network file system, and those that a host makes in a
folder of its virtual machine. So the attributes of all files are compared too, at an interval.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

from pymosn.core.errors import describe
from pymosn.server.inotify import DELETE_SELF, IGNORED, MOVE_SELF, Q_OVERFLOW, UNMOUNT, Event, Inotify, wait
from pymosn.server.watched_paths import Attributes, Plan, Watched, attributes, package_folders, plan_for, remote_mounts

#: Seconds without another change after which an edit is considered complete, and the longest wait for them.
QUIET_TIME: Final = 0.1
SETTLE_TIME: Final = 2.0
#: Seconds between two comparisons of attributes: in addition to notifications, and where the system refuses them.
CHECK_INTERVAL: Final = 5.0
REFUSED_INTERVAL: Final = 1.0
#: Seconds after a change during which another one may leave all attributes as they are, because times are coarse.
TIME_RESOLUTION: Final = 2.0

#: By folder of filters: its source files, by their paths relative to it, with values that can be compared.
Contents = Mapping[str, Mapping[str, object]]
#: Reads the sources of the filters in these files. What is missing or unreadable is part of the result, and no exception.
Reader = Callable[[Collection[str]], Contents]


class Kind(NamedTuple):
    """What is watched: its name, the server's key for the interval, and whether modules beside the files belong to it."""

    noun: str
    interval_key: str
    has_modules: bool


FILTERS: Final = Kind("filters", "watch_filters_interval", True)
CERTIFICATES: Final = Kind("certificates", "watch_certificates_interval", False)


class SourceWatch:
    """Watches the sources of some filters, or other files, in the thread that calls `run`, until `end`."""

    def __init__(
        self,
        paths: Collection[str],
        interval: float,
        read: Reader,
        last_read: Callable[[], Contents | None],
        inotify: Callable[[], Inotify] = Inotify,
        kind: Kind = FILTERS,
    ) -> None:
        """`interval`: seconds between comparisons of attributes, without notifications; 0: with notifications.

        `last_read` returns what the process has read last in order to load it; None: unknown; then it has read what
        was there at the first check, and at each report.
        """
        #: Called in the thread: with the names of the files that differ, and with a warning. To be set before `run`.
        self.on_edit: Callable[[list[str]], None] = lambda names: None
        self.on_warning: Callable[[str], None] = lambda text: None
        self._paths = sorted(paths)
        self._folders = sorted({os.path.dirname(path) for path in paths})
        self._interval = interval
        self._read = read
        self._last_read = last_read
        self._inotify = inotify
        self._kind = kind
        self._warned: set[str] = set()
        # Closing one end of a pipe wakes the thread, whatever it waits for.
        self._ended, self._end = os.pipe()
        # What the process has read last, if `last_read` does not know it.
        self._base: Contents | None = None
        self._reported: tuple[Contents, Contents] | None = None
        # The source files, as far as they are known; they and their folders; the attributes of these before the last check.
        self._files = set(paths)
        self._compared: set[str] = set()
        self._attributes: dict[str, Attributes | None] = {}
        self._is_fresh = False

    def end(self) -> None:
        """Ends the thread, if nothing blocks it. To be called once."""
        os.close(self._end)

    def run(self) -> None:
        """Watches until `end`; errors do not end it."""
        try:
            while True:
                try:
                    self._watch()
                except _Ended:
                    return
                except Exception as error:
                    self._warn(
                        f"looking for edits of {self._kind.noun} failed, and is tried again each second: {describe(error)}"
                    )
                    if wait(REFUSED_INTERVAL, self._ended):
                        return
        finally:
            os.close(self._ended)

    def _watch(self) -> None:
        """Watches the folders that matter now, and checks after each hint, until other folders matter."""
        plan = self._plan()
        with _Hints(None if self._interval else self._inotify, plan, self._ended) as hints:
            if hints.refusal:
                text = f"edits of {self._kind.noun} are looked for each second; the system refuses notifications"
                self._warn(f"{text}: {hints.refusal}")
            self._warn_of_mounts(plan)
            while True:
                self._look(hints)
                if hints.is_lost or self._plan() != plan:
                    return
                self._wait(hints, self._interval or (REFUSED_INTERVAL if hints.is_incomplete else CHECK_INTERVAL))

    def _plan(self) -> Plan:
        return plan_for(self._paths, self._files, self._kind.has_modules)

    def _wait(self, hints: _Hints, interval: float) -> None:
        """Returns when the sources may have changed."""
        while not (hints.wait(interval) or self._is_fresh or attributes(self._compared) != self._attributes):
            pass

    def _look(self, hints: _Hints) -> None:
        """Reads the sources until they stop changing, and reports those that the process has not read."""
        give_up = time.monotonic() + SETTLE_TIME
        while True:
            known, now = self._known_and_now()
            names = sorted(_differences(known, now))
            # Once only, because the process may not have read it yet.
            if not names or self._reported == (known, now):
                return
            if time.monotonic() > give_up or self._is_quiet(hints):
                self._reported = known, now
                self._base = now
                self.on_edit(names)
                return
            while hints.wait(QUIET_TIME) and time.monotonic() < give_up:
                pass

    def _is_quiet(self, hints: _Hints) -> bool:
        """Whether the files remain as they were read for some time, so that no edit is in progress."""
        before = {path: self._attributes[path] for path in self._files}
        return not hints.wait(QUIET_TIME) and attributes(self._files) == before

    def _known_and_now(self) -> tuple[Contents, Contents]:
        """What the process has read last, and what there is now."""
        while True:
            known = self._last_read()
            now = self._own_part(self._read_all())
            if self._last_read() == known:
                break  # else the process has read them at the same time, maybe later
        if self._base is None:
            self._base = now
        return self._own_part(self._base if known is None else known), now

    def _own_part(self, sources: Contents) -> Contents:
        return {folder: sources.get(folder, {}) for folder in self._folders}

    def _read_all(self) -> Contents:
        while True:
            # Attributes first: what changes after that is noticed at the next comparison.
            self._attributes = attributes(self._compared)
            sources = self._read(self._paths)
            self._files = {os.path.join(folder, name) for folder, names in sources.items() for name in names}
            self._files.update(self._paths)
            compared = self._files.union(*map(package_folders, self._folders if self._kind.has_modules else ()))
            if compared == self._compared:
                newest = max((of.changed for of in self._attributes.values() if of is not None), default=0.0)
                self._is_fresh = time.time() - newest < TIME_RESOLUTION
                return sources
            self._compared = compared

    def _warn_of_mounts(self, plan: Plan) -> None:
        with contextlib.suppress(OSError):
            for mount in [] if self._interval else remote_mounts(plan, Path("/proc/self/mountinfo").read_text()):
                self._warn(
                    f"{self._kind.noun} are on {mount}, which does not report the edits of other machines: they are active "
                    f"after some seconds; `{self._kind.interval_key}` of the server makes that faster"
                )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.on_warning(text)


class _Hints:
    """The notifications of one plan. `inotify`: None for none at all."""

    def __init__(self, inotify: Callable[[], Inotify] | None, plan: Plan, ended: int) -> None:
        #: Why the system refuses notifications of a file or folder, or of all; empty if it does not.
        self.refusal = ""
        #: Whether something is not watched, because that is refused, or because it is gone already.
        self.is_incomplete = False
        #: Whether something watched has been deleted, moved or unmounted.
        self.is_lost = False
        self._ended = ended
        self._inotify: Inotify | None = None
        self._watched: dict[int, list[Watched]] = {}
        if inotify is not None:
            try:
                self._inotify = inotify()
            except OSError as error:
                self._refuse(error)
        if self._inotify is not None:
            for path, watched in plan.items():
                self._add(self._inotify, path, watched)

    def _add(self, inotify: Inotify, path: str, watched: Watched) -> None:
        try:
            # What has several paths (hard links, bind mounts) is one for inotify.
            self._watched.setdefault(inotify.watch(path, watched.mask), []).append(watched)
        except OSError as error:
            self._refuse(error)

    def _refuse(self, error: OSError) -> None:
        self.is_incomplete = True
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # it is just being replaced
            self.refusal = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def wait(self, seconds: float) -> bool:
        """Whether a hint arrives within that time. Raises _Ended."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0.0:
            ready = wait(left, self._ended, *([] if self._inotify is None else [self._inotify.descriptor]))
            if self._ended in ready:
                raise _Ended
            # All of them, because any of them may say that a watch is lost.
            hints = [self._matters(event) for event in self._inotify.read()] if self._inotify is not None else []
            if any(hints):
                return True
        return False

    def _matters(self, event: Event) -> bool:
        is_lost = event.mask & (IGNORED | UNMOUNT | DELETE_SELF | MOVE_SELF) != 0
        if is_lost:
            self.is_lost = True
        # Not everything that follows a loss: other entries of a busy folder, such as /tmp, would delay the end of an edit.
        if is_lost or event.mask & Q_OVERFLOW:
            return True
        return any(watched.matters(event.mask, event.name) for watched in self._watched.get(event.watch, ()))


class _Ended(Exception):
    """`SourceWatch.end` was called."""


def _differences(before: Contents, after: Contents) -> set[str]:
    """The names of files that were edited, added or removed."""
    found: set[str] = set()
    for folder, files in after.items():
        old = before.get(folder, {})
        found |= {name for name in {*old, *files} if old.get(name) != files.get(name)}
    return found
