"""Memory and CPU of a process, from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """`memory`: resident bytes; `cpu`: seconds so far; `share`: of one core since an earlier reading, None without one."""

    memory: int
    cpu: float
    threads: int
    taken: float
    share: float | None


def process_of(pid: int, now: float, before: Process | None, proc: Path = Path("/proc")) -> Process | None:
    """The figures of a process; None if it is gone, or this system has no /proc. `now`: on the monotonic clock."""
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / _TICK
        threads, memory = int(fields[17]), int(fields[21]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None
    share = None
    if before is not None and now > before.taken:
        share = max(0.0, cpu - before.cpu) / (now - before.taken)
    return Process(memory, cpu, threads, now, share)
