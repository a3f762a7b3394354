"""Upgrades of a program while clients of every kind, in a process of their own, make requests; and what the clients say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
from process_tree import Process, processes
from pymosn_process import PATIENCE, Pymosn, get
from tests.kit import certificates
from tests.load.tally import Cut, Failed, Tally
from tests.load.upgrade_clients import Places
from tests.load.upgrade_world import World

from pymosn.server.worker_process import worker_environment

ROOT: Final = Path(__file__).parents[2]
#: Seconds by which a stream may end before `graceful_timeout` is over: processes read their clocks at different moments.
TOLERANCE: Final = 0.3
#: Seconds after a takeover in which a worker of the predecessor may still accept: it learns of its departure a moment later.
LATE: Final = 1.0
#: Kinds whose connections go on in the next generation, so that each client has one throughout.
MOVED: Final = ("keep-alive", "pipelined", "idle", "halves", "download", "chunked download", "upload", "bolt", "dubbo")


class Timeline:
    """What happened when: the phases of the upgrades."""

    def __init__(self) -> None:
        self.phases: list[tuple[float, str]] = [(time.monotonic(), "the start")]
        #: When each new generation had taken over, at least and at most.
        self.taken: list[tuple[float, float]] = []

    def note(self, phase: str) -> None:
        """A phase begins."""
        self.phases.append((time.monotonic(), phase))

    def at(self, moment: float) -> str:
        """The phase of a moment."""
        began, phase = max((entry for entry in self.phases if entry[0] <= moment), default=self.phases[0])
        return f"{moment - began:.3f} s after {phase}"

    def is_due(self, began: float, ended: float, graceful_timeout: float) -> bool:
        """Whether a stream began before a generation took over, and lasted until `graceful_timeout` after that."""
        seconds = graceful_timeout - TOLERANCE
        return any(began <= latest + LATE and ended >= earliest + seconds for earliest, latest in self.taken)

    def due_cuts(self, tally: Tally, graceful_timeout: float) -> list[Cut]:
        """The long streams and silent connections that ended when they had to.

        A silent client of HTTP/2 is asked to leave at once, and has lost nothing when its connection ends soon after that.
        """
        return [
            cut
            for cut in tally.cuts
            if self.is_due(cut.since, cut.at, 0.0 if cut.how.startswith("GOAWAY") else graceful_timeout)
        ]

    def late(self, tally: Tally, graceful_timeout: float) -> list[Failed]:
        """Requests that outlived `graceful_timeout`, as they may on a busy machine."""
        return [each for each in tally.failures if each.began and self.is_due(each.began, each.at, graceful_timeout)]


class Upgrader:
    """Upgrades a running program by command, by the admin API and by SIGUSR2 in turn."""

    def __init__(self, proxy: Pymosn, world: World, path: Path, mark: str) -> None:
        """`path`: of the configuration. `mark`: what all processes have in their environment."""
        self.mark = mark
        self.proxy = proxy
        self.timeline = Timeline()
        #: Seconds that each took.
        self.times: list[float] = []
        self.world = world
        self._path = path
        self._workers = 2

    @property
    def generation(self) -> int:
        """The number of the process that serves; the first is 1."""
        return len(self.times) + 1

    def processes(self) -> list[Process]:
        """All processes of all generations."""
        return processes(self.mark)

    def end(self) -> None:
        """Ends what a failed test has left."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    async def upgrade(self, workers: int) -> None:
        """The next generation has taken over afterwards; with so many workers, unless the way has no number of them."""
        number = self.generation + 1
        ways = (self._by_command, self._by_admin, self._by_signal)
        way = ways[number % 3]
        before = time.monotonic()
        self.timeline.note(f"the beginning of the upgrade to {number} {way.__name__[1:]}")
        await way(workers)
        after = time.monotonic()
        self.timeline.taken.append((before, after))
        self.timeline.note(f"{number} has taken over with {self._workers} workers")
        self.times.append(after - before)

    async def _by_command(self, workers: int) -> None:
        self._workers = workers
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pymosn", "upgrade", "-c", str(self._path), "--workers", str(workers),
            env=worker_environment(os.environ), cwd=self._path.parent.parent,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await child.communicate()
        assert child.returncode == 0, f"{output.decode()}\n{self.proxy.output}"

    async def _by_admin(self, workers: int) -> None:
        self._workers = workers
        reader, writer = await asyncio.open_unix_connection(self.proxy.admin_socket)
        body = json.dumps({"workers": workers}).encode()
        head = (
            f"POST /api/v1/upgrade HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await asyncio.wait_for(reader.read(), PATIENCE)).decode()
        writer.close()
        assert "has taken over" in answer, f"{answer}\n{self.proxy.output}"

    async def _by_signal(self, workers: int) -> None:
        before = self._takeovers()
        self.proxy.send(signal.SIGUSR2)
        deadline = time.monotonic() + PATIENCE
        while self._takeovers() == before:
            assert time.monotonic() < deadline, self.proxy.output
            await asyncio.sleep(0.01)

    def _takeovers(self) -> int:
        return sum("upgrade from SIGUSR2" in line and "has taken over" in line for line in list(self.proxy.lines))

    async def only_one_is_left(self) -> None:
        """Waits until the generations before have ended."""
        deadline = time.monotonic() + self.world.graceful_timeout + PATIENCE
        while sum(process.kind == "start" for process in self.processes()) > 1:
            assert time.monotonic() < deadline, f"{self.processes()}\n{self.proxy.output}"
            await asyncio.sleep(0.05)
        self.timeline.note(f"{self.generation} is the only one")

    async def stats(self) -> dict[str, dict[str, dict[str, str]]]:
        """What the stats API says."""
        text = (await asyncio.to_thread(get, self.world.admin_port, "/api/v1/stats"))[1]
        found: dict[str, dict[str, dict[str, str]]] = json.loads(text)
        return found

    async def counted(self) -> dict[str, int]:
        """How many requests each listener has counted, or connections where there are no requests."""
        groups = (await self.stats())["downstream"]
        return {
            name: int(groups[f"listener.{name}"]["connection_total" if name in ("tcp", "udp") else "request_total"])
            for name in self.world.listeners
        }

    async def connections(self) -> int:
        """How many connections are open, on both sides."""
        stats = await self.stats()
        groups = [*stats["downstream"].values(), *stats["upstream"].values()]
        return sum(int(group.get("connection_active", 0)) for group in groups)


class ClientProcess:
    """The clients. `kinds`: which of them; none for all."""

    def __init__(self, world: World, kinds: list[str] | None = None) -> None:
        self._places = Places(world.ports, world.unix_path, certificates.ca().certificate.decode(), kinds or [])
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> ClientProcess:
        """Starts them; each kind has asked once afterwards."""
        paths = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "system"), *filter(None, sys.path)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.load.upgrade_clients",
            cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(self._places) + b"\n")
        said = await self._line()
        assert said == b"running\n", said
        return self

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return await asyncio.wait_for(self._process.stdout.readline(), 2 * PATIENCE)

    async def stop(self) -> list[Tally]:
        """Lets them finish what they are at, and gives what they have counted."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        said = await self._line()
        await self._process.wait()
        return msgspec.json.decode(said, type=list[Tally])

    async def __aexit__(self, *error: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def lines(tallies: list[Tally], timeline: Timeline, graceful_timeout: float) -> list[str]:
    """One line for each kind, and one for each of its failures."""
    found = []
    for tally in tallies:
        due = len(timeline.due_cuts(tally, graceful_timeout))
        found.append(
            f"  {tally.kind:18} ok {tally.ok}, failed {tally.failed}, repeated {tally.repeated}, connections "
            f"{tally.connections}, told to leave {tally.told}, ended when due {due}, too early {len(tally.cuts) - due}, "
            f"longest {tally.longest * 1000:.0f} ms, {timeline.at(tally.longest_at)}"
        )
        found += [f"      {described(failure, timeline)}" for failure in tally.failures]
    return found


def described(failure: Failed, timeline: Timeline) -> str:
    """A failure with the phase in which it happened."""
    since = f"; the connection was opened {timeline.at(failure.since)}" if failure.since else ""
    return f"{timeline.at(failure.at)}: {failure.cause}: {failure.detail}{since}"


def check(tallies: list[Tally], timeline: Timeline, graceful_timeout: float) -> None:
    """Fails if there is anything in `faults`."""
    found = faults(tallies, timeline, graceful_timeout)
    assert not found, "\n".join(found)


def faults(tallies: list[Tally], timeline: Timeline, graceful_timeout: float) -> list[str]:
    """Everything that must not be: failures, connections that were not moved, streams that were cut before they were due."""
    found = []
    for tally in tallies:
        late = timeline.late(tally, graceful_timeout)
        causes = Counter(failure.cause for failure in tally.failures if failure not in late)
        if tally.failed > len(late):
            found.append(f"{tally.kind}: {tally.failed} failed, {len(late)} when due, others by {dict(causes)}")
        if tally.kind in MOVED and tally.connections > tally.clients + len(late):
            found.append(f"{tally.kind}: {tally.connections} connections of {tally.clients} clients: not all were moved")
        due = timeline.due_cuts(tally, graceful_timeout)
        early = [cut for cut in tally.cuts if cut not in due]
        found += [f"{tally.kind}: {cut.how} {timeline.at(cut.at)}, begun {timeline.at(cut.since)}" for cut in early[:5]]
    return found


def asked(tallies: list[Tally], timeline: Timeline, world: World) -> dict[str, int]:
    """How many requests, or connections where there are none, each listener must have counted."""
    found: Counter[str] = Counter(dict.fromkeys(world.listeners, 0))
    for tally in tallies:
        found[tally.listener] += tally.asked
        if tally.listener == "http1":  # others are counted when they begin
            found[tally.listener] += len(timeline.late(tally, world.graceful_timeout))
    return dict(found)
