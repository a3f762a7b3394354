"""CPU time, memory and descriptors of the processes of one pymosn, read from /proc."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import NamedTuple


class ProcessUse(NamedTuple):
    """What one process uses: seconds of CPU, bytes of memory, open descriptors."""

    cpu: float
    resident: int
    virtual: int
    descriptors: int


def use_of(pid: int) -> ProcessUse | None:
    """What a process uses now; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is the name in parentheses, which may contain anything.
            fields = file.read().rpartition(b")")[2].split()
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return ProcessUse((int(fields[11]) + int(fields[12])) / ticks, resident, int(fields[20]), descriptors)


def total_use(pids: Iterable[int]) -> ProcessUse:
    """What this process and `pids`, its children, use together; the CPU time includes that of children that have ended."""
    found = [use for pid in (os.getpid(), *pids) if (use := use_of(pid)) is not None]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ProcessUse(
        sum(use.cpu for use in found) + ended.ru_utime + ended.ru_stime,
        sum(use.resident for use in found),
        sum(use.virtual for use in found),
        sum(use.descriptors for use in found),
    )


class ProcessLimits(NamedTuple):
    """What one process may use: open descriptors, bytes of virtual memory (2**64 - 1: no limit)."""

    descriptors: int
    memory: int


def process_limits() -> ProcessLimits:
    """The limits of this process."""
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    return ProcessLimits(resource.getrlimit(resource.RLIMIT_NOFILE)[0], memory % 2**64)
