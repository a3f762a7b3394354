"""The client with a fake transport: when it connects again, and what loading it takes."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from tests.kit.xds_server import packed

from pymosn.control.xds.client import Options, XdsClient
from pymosn.control.xds.pacing import Backoff
from pymosn.control.xds.transport import Server, Stream, StreamEnded, Transport
from pymosn.control.xds.types import CLUSTER, Rejected, Update
from pymosn.core.log import Log


class Pauses(Backoff):
    """Notes the steps instead of waiting."""

    def __init__(self) -> None:
        super().__init__(lambda: 1.0)
        self.noted: list[float] = []

    def next(self, is_failure: bool = True) -> float:
        self.noted.append(super().next(is_failure))
        return 0.0


class FakeStream(Stream):
    """Sends one response if there is one, waits for its answer, and ends."""

    def __init__(self, body: str, is_normal: bool) -> None:
        self.body = body
        self.is_normal = is_normal
        self.requests = 0
        self.asked = asyncio.Event()
        self.answered = asyncio.Event()
        self.is_sent = False

    async def send(self, message: bytes) -> None:
        self.requests += 1
        self.asked.set()
        if self.requests == 2:
            self.answered.set()

    async def read(self) -> bytes:
        if self.body and not self.is_sent:
            self.is_sent = True
            await self.asked.wait()
            pack = packed(cluster_pb2.Cluster(name="a", alt_stat_name=self.body))
            response = discovery_pb2.DiscoveryResponse(type_url=CLUSTER, nonce="n", version_info="1", resources=[pack])
            return bytes(response.SerializeToString())
        if self.body:
            await self.answered.wait()
        raise StreamEnded("it is over", is_normal=self.is_normal)

    async def close(self) -> None: ...


class FakeTransport(Transport):
    def __init__(self, script: list[tuple[str, bool] | None]) -> None:
        self.script = script
        self.opened: list[str] = []
        self.done = asyncio.Event()

    async def open(self, server: Server, method: str) -> Stream:
        self.opened.append(server.address)
        if not self.script:
            self.done.set()
            await asyncio.Event().wait()
        step = self.script.pop(0)
        if step is None:
            raise StreamEnded("refused")
        return FakeStream(*step)


class Store:
    async def accept(self, update: Update) -> Rejected:
        return {one.name: "bad" for one in update.resources if b"bad" in one.body}


def play(*script: tuple[str, bool] | None) -> tuple[list[float], list[str]]:
    async def scenario() -> tuple[list[float], list[str]]:
        pauses, transport = Pauses(), FakeTransport(list(script))
        client = XdsClient("x", [Server("one"), Server("two")], Options(), transport, Store(), Log(), backoff=pauses)
        client.want(CLUSTER, {"*": 0.0})
        client.start()
        async with asyncio.timeout(20):
            await transport.done.wait()
        await client.stop()
        return pauses.noted, transport.opened

    return asyncio.run(scenario())


def test_row_11_only_an_accepted_response_ends_the_back_off() -> None:
    pauses, _ = play(None, None, ("", True), ("bad", True), ("good", False), None)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 1.0, 2.0]


def test_row_11_an_orderly_end_is_no_step_and_keeps_the_server() -> None:
    pauses, opened = play(("good", True), ("good", True), None)
    assert pauses == [1.0, 1.0, 1.0]
    assert opened == ["one", "one", "one", "two"]


def test_row_32_the_client_and_its_types_need_no_descriptors_until_it_reads() -> None:
    code = (
        "import sys, pymosn.control.xds.client, pymosn.control.xds.node\n"
        "found = [m for m in sys.modules if m.split('.')[0] in ('grpc', 'google', 'envoy')]\n"
        "assert not found, found\n"
        "import pymosn.control.xds.wire, google.rpc.status_pb2, google.protobuf.struct_pb2\n"
        "import envoy.config.listener.v3.listener_pb2, envoy.service.discovery.v3.ads_pb2\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
