"""inotify(7): notifications of changes of files and folders.

Called directly, because a wrapper that gathers events for a while delays an edit if there is other activity in the same
folders, and does not report that the kernel's queue has overflowed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from typing import Final, NamedTuple

# From linux/inotify.h.
MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
UNMOUNT: Final = 0x2000
Q_OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
#: The entry is a folder.
ISDIR: Final = 0x40000000
_MASK_ADD: Final = 0x20000000

#: Entries that appear or disappear, or become accessible, and the folder itself.
ENTRIES: Final = ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
#: Files that are written to.
CONTENTS: Final = MODIFY | CLOSE_WRITE

_HEAD: Final = struct.Struct("iIII")
_BUFFER: Final = 64 * 1024


class Event(NamedTuple):
    """`watch`: the number from `Inotify.watch`, -1 for an overflow; `name`: the entry, empty for what is watched itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify instance."""

    def __init__(self) -> None:
        """OSError if the system refuses it: EMFILE is the limit of instances per user."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "inotify_init1"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self.descriptor: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise _error()

    def close(self) -> None:
        os.close(self.descriptor)

    def watch(self, path: str, mask: int) -> int:
        """The number of the watch of a file or folder. What is watched already keeps its number, and both masks count.

        OSError if it cannot be watched: ENOSPC is the limit of watches per user, EACCES means that it cannot be read.
        """
        number: int = self._libc.inotify_add_watch(self.descriptor, os.fsencode(path), mask | _MASK_ADD)
        if number < 0:
            raise _error(path)
        return number

    def read(self) -> list[Event]:
        """The events that have arrived; does not wait."""
        found: list[Event] = []
        try:
            data = os.read(self.descriptor, _BUFFER)
        except BlockingIOError:
            return found
        at = 0
        while at < len(data):
            watch, mask, _, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size + size
            found.append(Event(watch, mask, os.fsdecode(data[at - size : at].rstrip(b"\0"))))
        return found


def wait(seconds: float, *descriptors: int) -> set[int]:
    """Those of the descriptors that are readable or closed at the other end, after at most `seconds`, and at most a day."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(min(seconds, 86_400.0) * 1000.0)}


def _error(path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
