"""What slow and idle clients do to everybody else: 10,000 idle connections and the four modes of slowhttptest.

`make slow`, or `python -m tests.load.slow`; two minutes. While each of them goes on, well-behaved clients are measured, and
once more while the same attack goes to another server: the attacker uses more CPU than the attacked, and on a small machine
that alone slows everybody down. Each figure is the best of a few short rounds: what else the machine does is in none.
"""

import asyncio
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.load.soak import configuration
from tests.load.traffic import get
from tests.load.upstreams import read_body
from tests.system import pymosn_process
from tests.system.pymosn_process import Pymosn, eventually, free_ports

IDLE: Final = 10_000
#: Attacking connections, how many come per second, and the attack's seconds.
CONNECTIONS: Final = 1000
RATE: Final = 250
LENGTH: Final = 16
ROUNDS: Final = 3
ROUND_TIME: Final = 2.0
#: Well-behaved clients at once, half of them with a new connection for each request, and the pause between two requests.
CLIENTS: Final = 4
PAUSE: Final = 0.01

MODES: Final = {
    "slow headers": ["-H", "-i", "2"],
    "slow body": ["-B", "-i", "2", "-s", "100000"],
    "slow read": ["-X", "-w", "512", "-y", "1024", "-n", "3", "-z", "32", "-k", "2"],
    "range": ["-R", "-c", "4000"],  # each is answered at once: they must still be coming when others are measured
}


class Bench:
    """A proxy with default limits before one upstream."""

    def __init__(self, directory: Path, decoy: int) -> None:
        """`decoy`: the port of the other server."""
        self.decoy = decoy
        self.port, self.admin = free_ports(2)
        self.baseline = 0.0
        self.pid = 0
        self.faults: list[str] = []
        self._directory = directory

    async def start(self, upstream: int) -> Pymosn:
        """Starts the proxy before the upstream on a port."""
        config = configuration(self.port, self.admin, [upstream], self._directory / "access.log")
        listener = config["servers"][0]["listeners"][0]
        for key in ("connection_idle_timeout", "write_timeout"):
            del listener[key]
        del listener["filter_chains"][0]["filters"][0]["config"]["extend_config"]
        path = self._directory / "mosn.json"
        path.write_text(json.dumps(config))
        proxy = Pymosn(["-c", str(path)], self._directory, {})
        if not await asyncio.to_thread(eventually, self._serves, 20.0):
            proxy.end()
            raise RuntimeError(f"pymosn does not start:\n{proxy.output}")
        (self.pid,) = proxy.worker_pids()
        return proxy

    def _serves(self) -> bool:
        try:
            return pymosn_process.get(self.admin, "/api/v1/states")[1].endswith("state=6\n")
        except OSError:
            return False

    async def worker(self) -> dict[str, int]:
        """The worker's own figures, at most a second old."""
        await asyncio.sleep(1.1)
        text = (await asyncio.to_thread(pymosn_process.get, self.admin, "/api/v1/stats"))[1]
        return {key: int(value) for key, value in json.loads(text)["worker"]["worker.all"].items()}

    async def measure(self) -> float:
        """The p99 of well-behaved clients in milliseconds: the best of some rounds."""
        return min([await self._round() for _ in range(ROUNDS)])

    async def _round(self) -> float:
        times: list[float] = []
        await asyncio.gather(*[self._client(times, number % 2 == 0) for number in range(CLIENTS)])
        times.sort()
        return times[len(times) * 99 // 100] * 1000

    async def _client(self, times: list[float], keeps: bool) -> None:
        until = time.monotonic() + ROUND_TIME
        writer: asyncio.StreamWriter | None = None
        while time.monotonic() < until:
            began = time.perf_counter()
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(get())
            head = await reader.readuntil(b"\r\n\r\n")
            await read_body(head, reader)
            times.append(time.perf_counter() - began)
            if not head.startswith(b"HTTP/1.1 200 "):
                self.faults.append(f"a well-behaved client got {head[:40]!r}")
            if not keeps:
                writer.close()
                writer = None
            await asyncio.sleep(PAUSE)
        if writer is not None:
            writer.close()

    def compare(self, name: str, p99: float, figures: dict[str, Any]) -> None:
        """Notes how a figure compares with the one without the attack."""
        ratio = p99 / self.baseline
        print(f"{name:14} p99 {p99:6.2f} ms, {ratio:4.2f} of {self.baseline:.2f} ms   {figures}", flush=True)
        if ratio >= 2.0:
            self.faults.append(f"{name}: p99 is {ratio:.2f} times what it was")


async def idle_connections(bench: Bench) -> None:
    """Opens them, has one request served on each, and leaves them idle."""
    bench.baseline = await bench.measure()
    before = await bench.worker()
    with ExitStack() as stack:
        for _ in range(IDLE // 100):
            batch = [stack.enter_context(socket.create_connection(("127.0.0.1", bench.port), 10)) for _ in range(100)]
            await asyncio.gather(*[asyncio.to_thread(serve_one, sock) for sock in batch])
        after = await bench.worker()
        if after["connections"] != IDLE:
            bench.faults.append(f"{after['connections']} connections are open, not {IDLE}")
        each = (after["memory_rss"] - before["memory_rss"]) / IDLE
        bench.compare(f"{IDLE} idle", await bench.measure(), {"bytes per connection": round(each)})


def serve_one(sock: socket.socket) -> None:
    """One request and its reply."""
    sock.sendall(get())
    reply = b""
    while not reply.endswith(b"x" * 2000):
        data = sock.recv(65536)
        if not data:
            raise RuntimeError("an idle connection was closed before it was idle")
        reply += data


class Server:
    """An upstream, or a decoy, as a process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.load.upstreams"], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def cpu_time(pid: int) -> float:
    """Seconds of CPU that a process has used; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def attacker(mode: str, port: int) -> AsyncIterator[int]:
    """slowhttptest at work on a port; its pid."""
    path = "big" if mode == "slow read" else "small"
    command = ["nice", "-n", "19", "slowhttptest", "-c", str(CONNECTIONS), *MODES[mode], "-r", str(RATE), "-l", str(LENGTH)]
    quiet = asyncio.subprocess.DEVNULL
    url = f"http://127.0.0.1:{port}/{path}"
    process = await asyncio.create_subprocess_exec(*command, "-u", url, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        await asyncio.sleep(CONNECTIONS / RATE + 1)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def attack(mode: str) -> Callable[[Bench], Awaitable[None]]:
    """One mode of slowhttptest, first on the other server."""

    async def run(bench: Bench) -> None:
        async with attacker(mode, bench.decoy):
            bench.baseline = await bench.measure()
        async with attacker(mode, bench.port) as pid:
            worker = await bench.worker()
            began, cpu = time.monotonic(), cpu_time(bench.pid)
            attackers = cpu_time(pid)
            p99 = await bench.measure()
            seconds = time.monotonic() - began
            used = (
                f"worker {(cpu_time(bench.pid) - cpu) / seconds:.0%}, attacker {(cpu_time(pid) - attackers) / seconds:.0%}"
            )
            figures = {"connections": worker["connections"], "rss MiB": worker["memory_rss"] >> 20, "CPU": used}
            bench.compare(mode, p99, figures)

    return run


async def main() -> int:
    """Runs everything and prints the figures; 1 when service for others was hurt."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < IDLE + 1000:
        print(f"SKIPPED: this process may have {hard} descriptors, and {IDLE} connections need more")
        return 0
    parts: list[Callable[[Bench], Awaitable[None]]] = [idle_connections]
    if shutil.which("slowhttptest") is None:
        print("SKIPPED: slowhttptest is not installed (apt-get install slowhttptest); only idle connections are measured")
    else:
        parts += [attack(mode) for mode in MODES]
    with tempfile.TemporaryDirectory() as directory:
        # In processes of their own: what they do for attackers must not slow down the clients that are measured here.
        servers = [Server(), Server()]
        bench = Bench(Path(directory), servers[1].port)
        proxy = await bench.start(servers[0].port)
        try:
            await bench.measure()  # the first requests are slower
            for part in parts:
                await part(bench)
            if proxy.worker_pids() != [bench.pid]:
                bench.faults.append("the worker is gone")
        finally:
            proxy.end()
            for server in servers:
                server.end()
    for fault in dict.fromkeys(bench.faults):
        print(f"FAULT: {fault}")
    return 1 if bench.faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
