"""CPU time and memory of processes, as counted by the kernel (proc(5))."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Cpu:
    """CPU seconds. `total` is measured by the scheduler in nanoseconds; user and system, in clock ticks, give its split."""

    total: float
    user: float
    system: float

    def since(self, before: "Cpu") -> "Cpu":
        """The CPU time used between `before` and this reading, with user and system scaled to add up to the total."""
        total = self.total - before.total
        user, system = self.user - before.user, self.system - before.system
        ticks = user + system
        share = user / ticks if ticks > 0 else 0.0
        return Cpu(total, total * share, total * (1 - share))


@dataclass(frozen=True)
class Memory:
    """Bytes resident. `pss` counts a page shared by n processes as 1/n of a page."""

    rss: int
    pss: int


def read_cpu(pids: Iterable[int], proc: Path = PROC) -> Cpu:
    """The CPU time that these processes, with all their threads, have used so far."""
    total, user, system = 0, 0, 0
    tick = os.sysconf("SC_CLK_TCK")
    for pid in pids:
        # The schedstat of a process covers only its first thread.
        for thread in (proc / str(pid) / "task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
        fields = stat_fields((proc / str(pid) / "stat").read_text())
        user += int(fields[11])
        system += int(fields[12])
    return Cpu(total / 1e9, user / tick, system / tick)


def read_memory(pid: int, proc: Path = PROC) -> Memory:
    """The memory of one process. Raises PermissionError for a process of another user."""
    sizes = {}
    for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        sizes[name] = int(value.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"])


def stolen_seconds(core: int, proc: Path = PROC) -> float:
    """The time for which the hypervisor withheld `core` so far: noise, because CPU times include it."""
    for line in (proc / "stat").read_text().splitlines():
        fields = line.split()
        if fields[0] == f"cpu{core}":
            return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def children(pid: int, proc: Path = PROC) -> list[int]:
    """The direct children of a process, oldest first."""
    found = []
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(stat_fields((entry / "stat").read_text())[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == pid:
                found.append(int(entry.name))
    return sorted(found)


def command_line(pid: int, proc: Path = PROC) -> str:
    """The arguments of a process, joined by spaces; empty if it is gone."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def stat_fields(text: str) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the second, the name, may contain spaces and parentheses."""
    return text.rpartition(")")[2].split()
