"""Memory of this process: its use, its limit, and returning free memory to the system."""

import contextlib
import ctypes
import gc
import os
from pathlib import Path
from typing import Final

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
#: Memory reserved for the supervisor.
SUPERVISOR: Final = 64 << 20
#: A cgroup of version 1 without a limit reports a number near 2^63.
NO_LIMIT: Final = 1 << 60


class Statm:
    """The resident memory of this process, from /proc; 0 where /proc is not available."""

    def __init__(self, path: str = "/proc/self/statm") -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def rss(self) -> int:
        """The resident set size in bytes."""
        if self._descriptor < 0:
            return 0
        return int(os.pread(self._descriptor, 128, 0).split()[1]) * PAGE


def cgroup_limit(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The memory limit of the cgroups of this process in bytes; 0 for no limit."""
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
    """The limits of a group and its ancestors. A container may see its own group at `root`, whatever its `path`."""
    found = []
    group = root / path.strip("/")
    for folder in (group, *group.parents):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            text = ""
        if text.isascii() and text.isdecimal():
            found.append(int(text))
        if folder == root:
            break
    return found


def share_of(limit: int, workers: int) -> int:
    """One worker's share of a container's limit."""
    return max(limit - SUPERVISOR, limit // 2) // max(1, workers)


def give_back() -> None:
    """Collects garbage and returns free memory to the system, which takes milliseconds."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def descriptor_count() -> int:
    """Number of open descriptors of this process; 0 where /proc is not available."""
    try:
        # Since 6.2, Linux reports the number as the directory's size; counting thousands each second would be expensive.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0
