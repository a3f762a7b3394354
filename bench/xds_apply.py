"""The supervisor's work for changes by xDS: `python -m bench.xds_apply [clusters] [hosts per cluster] [routes]`.

The control plane and the workers are replaced: responses begin as bytes of delta ADS, and commands end as bytes for a
channel. So this is all that the supervisor does, from a received message to what it sends to two workers: decoding, checks,
conversion, ACK, plan, packing, and services. The printed times are CPU of the process; `longest` is the longest time for
which the event loop did nothing else, in CPU of its thread.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from google.protobuf.message import Message

from bench.xds_resources import ROUTES_PER_TABLE, cluster, endpoints, listener, table
from pymosn.config.default import DEFAULT_CONFIG, DEFAULT_NAME
from pymosn.config.load import load_text
from pymosn.config.schema import MosnConfig
from pymosn.control.discovery import Discovery
from pymosn.control.health import HealthChecks
from pymosn.control.xds.client import Options, XdsClient
from pymosn.control.xds.convert.kinds import KINDS
from pymosn.control.xds.state import State, Wants
from pymosn.control.xds.transport import ADS, Server, Stream, Transport
from pymosn.control.xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Rejected, Update
from pymosn.core.clock import Clock
from pymosn.core.log import Log
from pymosn.server import messages
from pymosn.server.changes import Changes
from pymosn.server.filter_files import FilterFiles
from pymosn.server.fleet import Fleet
from pymosn.server.listeners import ListenerSockets
from pymosn.server.run_options import ConfigSource, RunOptions
from pymosn.server.services import Services
from pymosn.server.tls_files import TlsFiles
from pymosn.server.worker_process import WorkerHandle, WorkerReceiver

WORKERS: Final = 2
#: Seconds between two measurements of the event loop.
TICK: Final = 0.001


class Worker(WorkerHandle):
    """Encodes its commands, and reports success at once."""

    def __init__(self, worker_id: int, receiver: WorkerReceiver) -> None:
        super().__init__(worker_id, worker_id)
        self._receiver = receiver
        self.bytes = 0
        self.hosts = 0

    def send(self, command: messages.Command, descriptors: Sequence[int] = ()) -> None:
        self.bytes += len(msgspec.msgpack.encode(command))
        self.hosts += isinstance(command, messages.SetHosts)
        match command:
            case messages.Check():
                self._report(messages.Checked(command.change, []))
            case messages.Prepare():
                self._report(messages.Prepared(command.change, [], {}))
            case messages.Activate():
                self._report(messages.Activated(command.change, 0))

    def _report(self, report: messages.Report) -> None:
        asyncio.get_running_loop().call_soon(self._receiver.on_report, self, report)

    def take_stack(self) -> list[str]:
        return []

    def kill(self) -> None:
        raise AssertionError("killed")


class Plane(Stream, Transport):
    """A control plane of delta ADS that sends what it is told to."""

    def __init__(self) -> None:
        self._responses: asyncio.Queue[bytes] = asyncio.Queue()
        self._count = 0
        self.answers: dict[str, str] = {}
        self.asked: set[str] = set()

    async def open(self, server: Server, method: str) -> Stream:
        assert method == ADS[1]
        return self

    async def send(self, message: bytes) -> None:
        request = DeltaDiscoveryRequest.FromString(message)
        self.asked.add(request.type_url)
        if request.response_nonce:
            self.answers[request.response_nonce] = request.error_detail.message

    async def read(self) -> bytes:
        return await self._responses.get()

    async def close(self) -> None:
        pass

    def response(self, kind: str, resources: Sequence[Message]) -> tuple[str, bytes]:
        """A response and its nonce."""
        self._count += 1
        response = DeltaDiscoveryResponse(type_url=kind, nonce=str(self._count))
        for resource in resources:
            entry = response.resources.add(version=str(self._count))
            entry.name = getattr(resource, "cluster_name", "") or resource.name
            entry.resource.Pack(resource)
        return response.nonce, response.SerializeToString()

    def push(self, response: bytes) -> None:
        self._responses.put_nowait(response)


class Inbox:
    """The consumer of the client."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def accept(self, update: Update) -> Rejected:
        return await self._state.accept(update)


class Rig:
    """The supervisor's parts between a stream and the channels of workers."""

    def __init__(self, config: MosnConfig) -> None:
        loop = asyncio.get_running_loop()
        log = Log()
        clock = Clock()
        self.workers: list[Worker] = []
        self.fleet = Fleet(WORKERS, self._spawn, lambda worker: [], loop.call_later, clock, log)
        options = RunOptions(source=ConfigSource("f.json"), config=config, config_dir="/", base_dir="/")
        services = Services(log)
        self.changes = Changes(
            options,
            self.fleet,
            ListenerSockets(),
            FilterFiles("."),
            TlsFiles(config, "/"),
            Discovery(lambda cluster: None, log),
            services.follow,
            log,
        )
        self.services = services.running([self.changes, HealthChecks(lambda *_: None, clock, log)])
        self.state = State(self.changes, KINDS, log, pause=0.0)
        self.plane = Plane()
        options_of_client = Options(is_delta=True)
        self.client = XdsClient("ADS", [Server("x:1")], options_of_client, self.plane, Inbox(self.state), log)
        self.state.on_wants = self._subscribe

    def _spawn(self, worker_id: int, receiver: WorkerReceiver) -> WorkerHandle:
        worker = Worker(worker_id, receiver)
        self.workers.append(worker)
        return worker

    def _subscribe(self, wants: Wants) -> None:
        for kind, names in wants.get("ads", {}).items():
            self.client.want(kind, names)

    async def until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """TimeoutError if it takes too long."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(TICK)


class Loop:
    """Measures the longest time in which the event loop did not run `watch`."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now

    def take(self) -> float:
        """Milliseconds since the last call."""
        found, self.longest = self.longest * 1e3, 0.0
        return found


async def main(clusters: int, hosts: int, routes: int, rounds: int = 20) -> None:
    """Prints the costs of the first push, and those of changes of one endpoint, one cluster and one table."""
    config = load_text(DEFAULT_CONFIG, DEFAULT_NAME).config
    assert config is not None
    rig = Rig(config)
    rig.fleet.start()
    for worker in rig.workers:
        rig.fleet.on_report(worker, messages.Built())
        rig.fleet.on_report(worker, messages.Ready(0, {}))
    watch = Loop()
    watcher = asyncio.get_running_loop().create_task(watch.watch())
    tables = routes // ROUTES_PER_TABLE

    async def push(kind: str, resources: Sequence[Message]) -> str:
        await rig.until(lambda: kind in rig.plane.asked)
        nonce, response = rig.plane.response(kind, resources)
        rig.plane.push(response)
        await rig.until(lambda: nonce in rig.plane.answers)
        assert not rig.plane.answers[nonce], rig.plane.answers[nonce]
        return nonce

    def report(what: str, times: list[float], longest: float) -> None:
        print(f"{what}: median {statistics.median(times):.1f} ms, maximum {max(times):.1f} ms, longest {longest:.1f} ms")

    async def change(what: str, kind: str, make: Callable[[int], Message], done: Callable[[], int]) -> None:
        times = []
        watch.take()
        for i in range(rounds):
            _, response = rig.plane.response(kind, [make(i)])
            before = done()
            began = time.process_time()
            rig.plane.push(response)
            await rig.until(lambda before=before: done() > before)  # type: ignore[misc]
            times.append((time.process_time() - began) * 1e3)
            await asyncio.sleep(0.05)
        report(what, times, watch.take())

    async with rig.services:
        rig.state.start()
        rig.client.start()
        began, wall = time.process_time(), time.perf_counter()
        watch.take()
        for kind, resources in (
            (CLUSTER, [cluster(i) for i in range(clusters)]),
            (ENDPOINTS, [endpoints(i, hosts) for i in range(clusters)]),
            (LISTENER, [listener(k) for k in range(tables)]),
            (ROUTES, [table(k, clusters) for k in range(tables)]),
        ):
            await push(kind, resources)
        await rig.until(lambda: len(rig.changes.layer.tables) == tables and len(rig.changes.layer.clusters) == clusters)
        used, took = time.process_time() - began, time.perf_counter() - wall
        print(
            f"{clusters} clusters, {clusters * hosts} hosts, {routes} routes: {used:.1f} s CPU in {took:.1f} s, "
            f"longest {watch.take():.0f} ms"
        )
        await asyncio.sleep(1.0)
        worker = rig.workers[0]
        await change("one endpoint", ENDPOINTS, lambda i: endpoints(i * 7 % clusters, hosts, i + 1), lambda: worker.hosts)
        await change("one cluster", CLUSTER, lambda i: cluster(i * 7 % clusters, 2.0 + i), lambda: rig.changes.last.attempt)
        await change("one table", ROUTES, lambda i: table(i % tables, clusters, f"{i}/"), lambda: rig.changes.last.attempt)
        print(f"rejected: {rig.state.rejected}, faults: {rig.state.apply_fault or 'none'}")
        await rig.client.stop()
        await rig.state.stop()
    watcher.cancel()


if __name__ == "__main__":
    asyncio.run(main(*(int(text) for text in (sys.argv[1:] or ["10000", "10", "30000"]))))
