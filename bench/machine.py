"""The machine: its cores, free ports, limits, and the facts to print with the figures."""

import contextlib
import fcntl
import functools
import os
import platform
import random
import resource
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: The ports that `free_port` has returned.
_given: set[int] = set()
#: A byte of this file for each port is locked by the process that was given the port: others run beside it.
_LOCKS: Final = Path(tempfile.gettempdir()) / f"pymosn-ports-{os.getuid()}"


@dataclass(frozen=True)
class Cores:
    """The core of the proxy, and the one that load generator and upstream share."""

    proxy: int
    load: int


def choose_cores() -> Cores:
    """The first two cores that this process may use; the same one twice if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1] if len(allowed) > 1 else allowed[0])


def free_port() -> int:
    """A TCP port that is free on all addresses, below the ephemeral range: no outgoing connection can take it.

    It is not returned again in this process, even if nothing listens on it, nor in others while this one runs.
    """
    locks = _locks()
    for _ in range(1000):
        port = random.randrange(12000, 32000)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("", port))
            _given.add(port)
            return port
    raise OSError("no free port between 12000 and 32000")


@functools.cache
def _locks() -> int:
    return os.open(_LOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def raise_file_limit(wanted: int = 20000) -> int:
    """Raises the soft limit of open files, which children inherit, towards `wanted`; returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    best = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < best:
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
    return max(soft, best)


def facts() -> dict[str, str]:
    """The facts that a reader needs for comparing two runs."""
    return {
        "cpu": _first_value(Path("/proc/cpuinfo"), "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "virtual": "yes" if "hypervisor" in _first_value(Path("/proc/cpuinfo"), "flags") else "no",
        "memory": _first_value(Path("/proc/meminfo"), "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _first_value(path: Path, key: str) -> str:
    for line in path.read_text().splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return "unknown"
