"""All processes of a program: their memory, their descriptors, and what they are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """One process. `kind`: of pymosn's processes. `pss`: bytes, with its share of what several processes have."""

    pid: int
    kind: str
    pss: int
    descriptors: int


def processes(mark: str) -> list[Process]:
    """All processes with a text in their environment, wherever they were adopted, and those that descend from them."""
    parents: dict[int, list[int]] = {}
    waiting = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
            if mark.encode() in (entry / "environ").read_bytes():
                waiting.append(int(entry.name))
    found: dict[int, Process] = {}
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, [])
        with contextlib.suppress(OSError):
            found[pid] = _process(pid)
    return sorted(found.values())


def _process(pid: int) -> Process:
    folder = Path(f"/proc/{pid}")
    command = (folder / "cmdline").read_bytes().decode().split("\0")
    kind = next(
        (
            kind
            for kind in ("pymosn.server.worker", "keeper", "reaper", "start", "upgrade")
            if any(kind in word for word in command)
        ),
        command[0],
    )
    lines = (folder / "smaps_rollup").read_text().splitlines() if command[0] else []
    pss = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return Process(pid, kind or "zombie", pss, len(os.listdir(folder / "fd")) if command[0] else 0)


def kinds(found: list[Process]) -> list[str]:
    """The kinds of processes, each as often as there is one."""
    return sorted(process.kind for process in found)


def descriptors(found: list[Process]) -> dict[str, int]:
    """The most descriptors of one process of each kind."""
    most: dict[str, int] = {}
    for process in found:
        most[process.kind] = max(most.get(process.kind, 0), process.descriptors)
    return most


def files_below(*folders: Path) -> set[str]:
    """All files, sockets included, in these folders."""
    return {str(path) for folder in folders for path in folder.rglob("*") if not path.is_dir()}
