"""Issue "Trust", show 4: 50,000 hosts; a change, a scrape and a reload delay no request by more than 20 ms."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import uvloop
from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops
from showing import mib, resident, run, serving, sized, tell

CLIENT: Final = Path(__file__).parent.parent / "latency_client.py"
#: Milliseconds by which the longest request of a phase may exceed that of an idle instance.
ALLOWANCE: Final = 20.0
#: Milliseconds of CPU time of the longest iteration of a worker's event loop.
LONGEST_PIECE: Final = 15.0
#: Times that a phase is measured, each with an idle one before; the best counts, because other load on the machine is not
#: the proxy's.
ATTEMPTS: Final = 3

PROBE: Final = '''
import asyncio
import json
import time

from pymosn.api import Reply, StreamFilter


class Probe(StreamFilter):
    """Measures the CPU time between two callbacks of a timer: that of the longest piece of work on the event loop."""

    longest = 0.0
    last = 0.0

    async def start(self):
        Probe.last = time.thread_time()
        self._tick()

    def _tick(self):
        now = time.thread_time()
        Probe.longest = max(Probe.longest, now - Probe.last)
        Probe.last = now
        asyncio.get_running_loop().call_later(0.001, self._tick)

    def on_request(self, exchange):
        if exchange.request.path == "/probe":
            longest, Probe.longest = Probe.longest, 0.0
            return Reply(200, json.dumps(longest * 1000.0))
'''


class Answers(asyncio.Protocol):
    """An upstream that answers each request at once, at every address of the loopback network."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class Scene:
    """A running program with one large cluster, whose hosts are never used, and one of a single host, which is."""

    def __init__(self, folder: Path, port: int, hosts: int) -> None:
        self.folder = folder
        self.port = port
        self.hops = TwoHops(port)
        server = self.hops.server
        server["processor"] = 1
        (folder / "conf").mkdir(exist_ok=True)
        (folder / "conf" / "probe.py").write_text(PROBE)
        server["listeners"] = server["listeners"][:1]
        server["listeners"][0]["stream_filters"] = [{"type": "python", "config": {"path": "probe.py", "class": "Probe"}}]
        live, big = self.hops.config["cluster_manager"]["clusters"]
        live["hosts"] = [self.host(0)]
        big["hosts"] = [self.host(number) for number in range(1, hosts + 1)]
        self.proxy: Pymosn | None = None

    def host(self, number: int) -> dict[str, Any]:
        return {"address": f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}:{self.port}"}

    async def admin(self, path: str) -> str:
        """The response of the admin API."""
        return await asyncio.to_thread(self.hops.admin, path)

    async def add_host(self, cluster: str, number: int) -> None:
        update = {"type": "add", "config": {"cluster": cluster, "hosts": [self.host(100_000 + number)]}}
        assert self.proxy is not None
        _, result = await asyncio.to_thread(self.proxy.post, "/api/v1/update_hosts", update)
        assert result["applied"], result

    async def reload(self, number: int) -> None:
        """Replaces one host in the file, and the connect timeout of all."""
        big = self.hops.config["cluster_manager"]["clusters"][1]
        big["hosts"][0] = self.host(200_000 + number)
        big["connect_timeout"] = f"{number + 1}s"
        (self.folder / "conf" / "mosn.json").write_text(json.dumps(self.hops.config))
        before = json.loads(await self.admin("/api/v1/last_change"))["attempt"]
        assert self.proxy is not None
        self.proxy.send(signal.SIGHUP)
        while (last := json.loads(await self.admin("/api/v1/last_change")))["attempt"] == before:
            await asyncio.sleep(0.05)
        assert last["applied"], last

    async def measure(self, count: int, action: Callable[[int], Awaitable[None]] | None) -> tuple[dict[str, Any], float]:
        """The latencies of `count` requests, while `action` is repeated, and the longest piece of work, in milliseconds."""
        await self.probe()
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CLIENT), str(self.hops.client_port), "/", str(count), "4", stdout=asyncio.subprocess.PIPE
        )
        ends = asyncio.ensure_future(child.communicate())
        number = 0
        while action is not None and (not ends.done() or number == 0):
            await action(number)
            number += 1
        output, _ = await ends
        found = json.loads(output)
        assert found["statuses"] == {"200": count}
        return found, await self.probe()

    async def probe(self) -> float:
        return float((await asyncio.to_thread(self.hops.get, "/probe"))[1])


@sized("size", (2000, 1000), (50_000, 20_000))  # hosts, requests of each phase
def test_changes_of_a_large_cluster_delay_no_request(start: Start, tmp_path: Path, size: tuple[int, int]) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, uvloop.Loop)
        # Any address of 127.0.0.0/8 must answer, which only the wildcard address can receive.
        upstream = await loop.create_server(Answers, "0.0.0.0", 0)
        hosts, requests = size
        scene = Scene(tmp_path, upstream.sockets[0].getsockname()[1], hosts)
        scene.proxy = await serving(start, scene.hops)
        await asyncio.to_thread(scene.proxy.wait_for, READY)
        pids = scene.proxy.worker_pids()
        tell("memory", supervisor=mib(resident(scene.proxy.process.pid)), worker=mib(resident(pids[0])))

        async def scrape(number: int) -> None:
            assert "pymosn_upstream_host_requests_total" in await scene.admin("/metrics")

        phases: dict[str, Callable[[int], Awaitable[None]]] = {
            "a host more elsewhere": lambda number: scene.add_host("client", number),
            "a host more in the large cluster": lambda number: scene.add_host("server", number),
            "a scrape": scrape,
            "a reload": scene.reload,
        }
        is_full = requests >= 20_000
        for name, action in phases.items():
            results: list[tuple[float, float]] = []
            for _ in range(ATTEMPTS):
                idle, _ = await scene.measure(requests, None)
                began = time.perf_counter()
                busy, piece = await scene.measure(requests, action)
                results.append((busy["max"] - idle["max"], piece))
                tell(
                    name,
                    seconds=round(time.perf_counter() - began, 1),
                    idle_max_ms=round(idle["max"], 1),
                    max_ms=round(busy["max"], 1),
                    p99_ms=round(busy["p99"], 2),
                    longest_piece_cpu_ms=round(piece, 1),
                )
                if results[-1][0] <= ALLOWANCE and piece <= LONGEST_PIECE:
                    break
            assert min(piece for _, piece in results) <= LONGEST_PIECE, name
            assert not is_full or min(more for more, _ in results) <= ALLOWANCE, name
        assert scene.proxy.worker_pids() == pids, "no worker was replaced"
        tell("memory", supervisor=mib(resident(scene.proxy.process.pid)), worker=mib(resident(pids[0])))
        upstream.close()

    run(scenario())
