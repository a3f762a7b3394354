"""The limits that a container's cgroups set: memory and CPU time. Versions 1 and 2, alone or mixed."""

import contextlib
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")

#: A cgroup of version 1 without a memory limit reports a number near 2^63.
_UNLIMITED: Final = 1 << 60


def memory_limit(root: Path = ROOT, own: Path = OWN) -> int:
    """The memory limit of the cgroups of this process in bytes; 0 for no limit."""
    # Above memory.high processes are slowed down so much that they hardly serve.
    files = ("memory.max", "memory.high", "memory.limit_in_bytes")
    found = [limit for file in files for limit in _each(root, own, "memory", partial(_number, file))]
    return int(min((limit for limit in found if 0 <= limit < _UNLIMITED), default=0))


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float:
    """The CPUs whose time the cgroups of this process may use together, such as 1.5; 0.0 for no limit."""
    found = _each(root, own, "cpu", _quota_v2) + _each(root, own, "cpu", _quota_v1)
    return min((quota for quota in found if quota > 0.0), default=0.0)


class Cpus(NamedTuple):
    """The CPUs that this process can use, and the limit that decides their number."""

    number: int
    limit: str


def cpus(root: Path = ROOT, own: Path = OWN) -> Cpus:
    """The CPUs of the affinity mask, but not more than the quota of the cgroups, rounded up."""
    available, machine = len(os.sched_getaffinity(0)), os.cpu_count() or 0
    quota = cpu_quota(root, own)
    if 0.0 < quota <= available:
        return Cpus(math.ceil(quota), f"the CPU quota of the cgroup, {quota:g} CPUs")
    if available < machine:
        return Cpus(available, f"the CPU affinity, {available} of {machine} CPUs")
    return Cpus(available, f"the machine's {available} CPUs")


def _each(root: Path, own: Path, controller: str, read: Callable[[Path], float]) -> list[float]:
    """What `read` finds in the groups of this process that may limit it, and in their ancestors.

    `read` raises OSError or ValueError where there is no limit.
    """
    try:
        lines = own.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found: list[float] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            hierarchies = {root, root / "unified"}  # version 2, alone or beside version 1
        elif controller in controllers.split(","):
            hierarchies = {root / controller, root / controllers}
        else:
            continue
        for hierarchy in hierarchies:
            found += _chain(hierarchy, path, read)
    return found


def _chain(hierarchy: Path, path: str, read: Callable[[Path], float]) -> list[float]:
    """`read` for a group and its ancestors, as far as they can be seen.

    A container may see a group of its host at `hierarchy`, although `path` begins at the host's root: then only the end of
    `path` is there, or nothing of it.
    """
    found = []
    names = [name for name in path.split("/") if name]
    starts = range(len(names)) if ".." not in names else ()
    group = next((one for one in (hierarchy.joinpath(*names[i:]) for i in starts) if one.is_dir()), hierarchy)
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, ValueError, ArithmeticError):
            found.append(read(folder))
        if folder == hierarchy:
            break
    return found


def _number(file: str, group: Path) -> float:
    return int((group / file).read_text())


def _quota_v2(group: Path) -> float:
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota) / int(period)  # "max": no limit


def _quota_v1(group: Path) -> float:
    return _number("cpu.cfs_quota_us", group) / _number("cpu.cfs_period_us", group)  # -1: no limit
