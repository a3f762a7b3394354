"""What the shows share. Each runs small in `make test`, and in full numbers, marked `show`, in `make shows`."""

import asyncio
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops


def sized(name: str, small: Any, full: Any, limit: float = 400) -> pytest.MarkDecorator:
    """Parametrizes a show with the number of `make test` and that of the issue, which may take `limit` seconds."""
    marks = [pytest.mark.show, pytest.mark.timeout(limit)]
    return pytest.mark.parametrize(name, [small, pytest.param(full, marks=marks)])


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs a show on an event loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def tell(what: str, **figures: object) -> None:
    """Prints the figures of a show; seen with `-s`, as `make shows` does, or when the show fails."""
    print(f"\n  {what}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))


async def serving(start: Start, hops: TwoHops, *arguments: str) -> Pymosn:
    """Starts the program and waits until it serves."""
    proxy = start(hops.config, *arguments)
    await asyncio.to_thread(proxy.wait_for, READY)
    return proxy


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def mib(size: float) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def clients_of(pid: int, port: int) -> set[int]:
    """Client ports of the connections that the process has accepted on `port`."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and int(fields[1][9:], 16) == port and fields[3] == "01":
            found.add(int(fields[2][9:], 16))
    return found


class BlackHole:
    """A port whose queue is full: who connects gets no answer, not even a refusal."""

    def __enter__(self) -> "BlackHole":
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers = [socket.socket() for _ in range(4)]
        for filler in self._fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
        return self

    def __exit__(self, *error: object) -> None:
        for sock in (*self._fillers, self._listener):
            sock.close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"
