"""How much memory this process uses, how much it may, and giving back what it does not need."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: What is left of a container's limit for the supervisor.
SUPERVISOR: Final = 64 << 20
#: A cgroup of version 1 without a limit shows a number near 2^63.
NO_LIMIT: Final = 1 << 60


class Statm:
    """The resident memory of this process, from /proc; 0 where there is none."""

    def __init__(self, path: str = "/proc/self/statm") -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def rss(self) -> int:
        """Bytes."""
        if self._descriptor < 0:
            return 0
        return int(os.pread(self._descriptor, 128, 0).split()[1]) * PAGE


def cgroup_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The memory that the cgroups of this process allow it, in bytes; 0 for no limit."""
    found: list[int] = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(root / "memory", path, "memory.limit_in_bytes")
    return min((limit for limit in found if limit < NO_LIMIT), default=0)


def _limits(root: Path, path: str, name: str) -> list[int]:
    """The limits of a group and of those around it. A container may see its own group at `root`, whatever `path` says."""
    found = []
    group = root / path.strip("/")
    for place in (group, *group.parents):
        try:
            text = (place / name).read_text().strip()
        except OSError:
            text = ""
        if text.isascii() and text.isdecimal():
            found.append(int(text))
        if place == root:
            break
    return found


def share_of(limit: int, workers: int) -> int:
    """One worker's part of the limit of a container."""
    return max(limit - SUPERVISOR, limit // 2) // max(1, workers)


def give_back() -> None:
    """Collects garbage and returns free memory to the system; takes milliseconds."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def descriptor_count() -> int:
    """Open descriptors of this process; 0 where /proc does not tell."""
    try:
        # Linux tells the number as the directory's size since 6.2; counting thousands each second would cost.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0
