"""A large configuration from a scripted control plane, and the measurements of one change of it.

Everything is in proportion to `Size`. A few items more are changed and used: the cluster `live`, which the steady client
asks; the endpoints `swapped`, the cluster `changed` and the table `live`, each of which decides the answers to one path.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.xds_resources import ROUTES_PER_TABLE, cluster, endpoints, listener, table
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from process_fixtures import Start
from pymosn_process import READY, Pymosn, eventually, free_ports
from showing import clients_of
from tests.kit.xds_server import CLUSTER, ENDPOINTS, LISTENER, ROUTES, XdsServer
from tls_peers import config_of, listener_of, proxy_filter, table_of
from xds_peers import answered, eds, hosts, listens

FOLDER: Final = Path(__file__).parent.parent
WORKERS: Final = 2
#: Seconds for the first push.
PATIENCE: Final = 240.0

PROBE: Final = '''
import asyncio
import json
import time

from pymosn.api import Reply, StreamFilter


class Probe(StreamFilter):
    """Measures the CPU time between two callbacks of a timer, and that of the thread since the last request."""

    longest = 0.0
    last = 0.0
    began = 0.0

    async def start(self):
        Probe.last = Probe.began = time.thread_time()
        self._tick()

    def _tick(self):
        now = time.thread_time()
        Probe.longest = max(Probe.longest, now - Probe.last)
        Probe.last = now
        asyncio.get_running_loop().call_later(0.001, self._tick)

    def on_request(self, exchange):
        now = time.thread_time()
        found = Probe.longest * 1000.0, (now - Probe.began) * 1000.0
        Probe.longest, Probe.began = 0.0, now
        return Reply(200, json.dumps(found))
'''


class Size(NamedTuple):
    clusters: int
    #: Hosts of each cluster.
    hosts: int
    routes: int


class Answers(asyncio.Protocol):
    """An upstream that answers each request at once with a text."""

    def __init__(self, text: str) -> None:
        self._response = f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._response)


class Asking(asyncio.Protocol):
    """A connection of the test, which one worker has accepted."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[str] | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.port: int = transport.get_extra_info("sockname")[1]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head.lower())
        if end and self._answer is not None and len(body) >= (int(found[1]) if found else 0):
            self._buffer = b""
            self._answer.set_result(body.decode() if head[9:12] == b"200" else head[9:12].decode())

    async def ask(self, path: str) -> str:
        """The body of the response, or its status if that is not 200."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nhost: show\r\n\r\n".encode())
        return await self._answer


class Latencies(NamedTuple):
    """Milliseconds. `piece`: CPU of the longest iteration of a worker's event loop; `cpu`: of each worker, all in all."""

    max: float
    p99: float
    piece: float
    cpu: list[float]


class World:
    """A control plane with all resources, upstreams, and pymosn with two workers."""

    def __init__(self, start: Start, folder: Path, size: Size) -> None:
        self.size = size
        self.control = XdsServer()
        self.admin, self.probe_port, self.port = free_ports(3)
        self._start = start
        self._folder = folder
        self._steady = subprocess.Popen(
            [sys.executable, str(FOLDER / "show_upstream.py")], stdout=subprocess.PIPE, text=True
        )
        assert self._steady.stdout is not None
        self.steady_port = int(self._steady.stdout.readline())
        #: The ports of the upstreams that answer `0` and `1`.
        self.ports: list[int] = []
        self._asking: list[Asking] = []
        self._probes: list[Asking] = []

    async def start(self) -> float:
        """Starts everything; the seconds from the start of pymosn to the moment when all is active."""
        loop = asyncio.get_running_loop()
        for text in "01":
            server = await loop.create_server(lambda text=text: Answers(text), "127.0.0.1", 0)  # type: ignore[misc]
            self.ports.append(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(self.control.start)
        await asyncio.to_thread(self._fill)
        began = time.perf_counter()
        self.proxy: Pymosn = self._start(self._config())
        await asyncio.to_thread(self.proxy.wait_for, READY)
        assert await asyncio.to_thread(eventually, lambda: answered(self.port, "/") == 200, PATIENCE)
        took = time.perf_counter() - began
        self._asking = await self._one_of_each(self.port)
        self._probes = await self._one_of_each(self.probe_port)
        return took

    def stop(self) -> None:
        for one in (*self._asking, *self._probes):
            one.transport.abort()
        self.control.stop()
        self._steady.kill()
        self._steady.communicate()

    def _fill(self) -> None:
        clusters, per_cluster, routes = self.size
        self.control.set(*(cluster(i) for i in range(clusters)), eds("live"), eds("swapped"), self.cluster(0))
        self.control.set(
            *(endpoints(i, per_cluster) for i in range(clusters)),
            hosts("live", self.steady_port),
            hosts("swapped", self.ports[0]),
        )
        tables = range(max(1, routes // ROUTES_PER_TABLE) - 1)
        self.control.set(*(table(k, clusters) for k in tables), self.table(0))
        self.control.set(*(listener(k) for k in tables), listens("live", self.port, "live"))

    def cluster(self, number: int) -> Cluster:
        """The cluster `changed` with the upstream `number % 2`."""
        made = Cluster(name="changed", type=Cluster.STATIC)
        made.load_assignment.CopyFrom(hosts("changed", self.ports[number % 2]))
        made.connect_timeout.FromMilliseconds(1000 + number)
        return made

    def table(self, number: int) -> RouteConfiguration:
        """The table `live`, as large as the others, which answers `/table` with `number % 2`."""
        made = table(0, self.size.clusters)
        made.name = "live"
        host = made.virtual_hosts.add(name="live", domains=["*"])
        for prefix, name in (("/endpoint", "swapped"), ("/cluster", "changed")):
            route = host.routes.add()
            route.match.prefix, route.route.cluster = prefix, name
        route = host.routes.add()
        route.match.prefix, route.direct_response.status = "/table", 200
        route.direct_response.body.inline_string = str(number % 2)
        route = host.routes.add()
        route.match.prefix, route.route.cluster = "/", "live"
        return made

    def changes(self) -> dict[str, Callable[[int], None]]:
        """Path -> what the control plane does so that it is answered with `number % 2`."""
        return {
            "/endpoint": lambda number: self.control.set(hosts("swapped", self.ports[number % 2])),
            "/cluster": lambda number: self.control.set(self.cluster(number)),
            "/table": lambda number: self.control.set(self.table(number)),
        }

    def _config(self) -> dict[str, Any]:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.control.port}}
        static = {
            "name": "xds_cluster",
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": "xds_cluster",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }
        service = {"envoy_grpc": {"cluster_name": "xds_cluster"}}
        probe = listener_of("probe", self.probe_port, [{"filters": [proxy_filter("probe")]}])
        probe["stream_filters"] = [{"type": "python", "config": {"path": "probe.py", "class": "Probe"}}]
        (self._folder / "conf").mkdir(exist_ok=True)
        (self._folder / "conf" / "probe.py").write_text(PROBE)
        config = config_of([probe], [table_of("probe", cluster="mine")], {"mine": "127.0.0.1:1"})
        config["servers"][0]["processor"] = WORKERS
        return {
            **config,
            "dynamic_resources": {"ads_config": {"api_type": "DELTA_GRPC", "grpc_services": [service]}},
            "static_resources": {"clusters": [static]},
            "node": {"id": "node-1", "cluster": "test"},
            "admin": {"address": {"socket_address": {"port_value": self.admin}}},
            "xds_cache": "off",
        }

    async def _one_of_each(self, port: int) -> list[Asking]:
        """A connection to each worker."""
        loop = asyncio.get_running_loop()
        found: dict[int, Asking] = {}
        while len(found) < WORKERS:
            _, one = await loop.create_connection(Asking, "127.0.0.1", port)
            await one.ask("/")
            pids = [pid for pid in self.proxy.worker_pids() if one.port in clients_of(pid, port)]
            if not pids or pids[0] in found:
                one.transport.abort()
            else:
                found[pids[0]] = one
        return [found[pid] for pid in self.proxy.worker_pids()]

    async def served(self, path: str, number: int, change: Callable[[int], None]) -> float:
        """Makes a change; milliseconds until both workers answer accordingly."""
        wanted = str(number % 2)
        began = time.perf_counter()

        async def until(one: Asking) -> float:
            while await one.ask(path) != wanted:
                assert time.perf_counter() < began + PATIENCE
                await asyncio.sleep(0.001)
            return (time.perf_counter() - began) * 1e3

        change(number)
        return max(await asyncio.gather(*map(until, self._asking)))

    async def probe(self) -> list[tuple[float, float]]:
        """Of each worker since the last call: CPU of the longest iteration of its event loop, and its CPU, in ms."""
        return [json.loads(await one.ask("/")) for one in self._probes]

    async def measure(self, requests: int, path: str = "", pause: float = 0.1) -> tuple[Latencies, list[float]]:
        """The latencies of a steady client, and the times of the changes of `path` that were made meanwhile."""
        await self.probe()
        command = [sys.executable, str(FOLDER / "latency_client.py"), str(self.port), "/", str(requests), "4"]
        # Not by the event loop, which would fork: gRPC does not allow that.
        ends = asyncio.ensure_future(asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, check=True))
        times: list[float] = []
        while path and (not ends.done() or not times):
            times.append(await self.served(path, len(times) + 1, self.changes()[path]))
            await asyncio.sleep(pause)
        found = json.loads((await ends).stdout)
        assert found["statuses"] == {"200": requests}
        probed = await self.probe()
        if len(times) % 2:  # as it was before
            await self.served(path, 0, self.changes()[path])
        piece, cpu = max(one for one, _ in probed), [one for _, one in probed]
        return Latencies(found["max"], found["p99"], piece, cpu), times

    def pids(self) -> dict[str, int]:
        return {"supervisor": self.proxy.process.pid, "worker": self.proxy.worker_pids()[0]}

    def nacks(self) -> list[Any]:
        return [one for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES) for one in self.control.nacks(kind)]


def memory(pid: int) -> str:
    """Resident memory of a process, and its share of what several use, in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {key: int(re.search(rf"^{key}: +(\d+)", text, re.MULTILINE)[1]) / 1024 for key in ("Rss", "Pss")}  # type: ignore[index]
    return f"RSS {found['Rss']:.1f} PSS {found['Pss']:.1f} MiB"
