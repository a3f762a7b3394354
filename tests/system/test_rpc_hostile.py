"""Issue 5, shows 2: hostile clients and servers of every RPC protocol against the running program.

A bad frame ends its connection and its reason is counted; everybody else is served meanwhile, and memory stays bounded.
"""

import asyncio
import contextlib
import json
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hostile_rpc import CONTENT, MIB, Answer, Attack, answers, attacks
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, eventually, free_ports, get
from tests.kit.rpc_wires import WIRES, Consumer, Provider, Wire, carried

pytestmark = pytest.mark.once

#: Bytes that the worker may have grown by: the calls of one client (32 MiB), each as its frame and as its payload, and some.
GROWTH = 96 * MIB
#: Seconds after which a proxy that takes no byte is not only slow.
STILL = 4.0


class Evil:
    """A server that answers each call as the test wishes."""

    def __init__(self, wire: Wire) -> None:
        self.answer: Answer | None = None
        self.port = 0
        self.frames: list[bytes] = []
        #: Cleared, it takes nothing.
        self.reads = asyncio.Event()
        self.reads.set()
        self._wire = wire
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Evil":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.reads.wait()
                frames, rest = self._wire.cut(rest + data)
                for frame in frames:
                    if self._wire.content(frame) and self._wire.wants_reply(frame):
                        self.frames.append(frame)
                        if self.answer is not None:
                            writer.write(self.answer.make(self._wire.request_id(frame)))
                            await writer.drain()
                            if self.answer.closes:
                                writer.close()
        writer.close()


class World:
    """One listener in front of a good server and one in front of an evil one, in one worker."""

    def __init__(self, wire: Wire, good: int, evil: int) -> None:
        self.wire = wire
        self.port, self.evil_port, self.admin_port = free_ports(3)
        self._listeners = [self._listener("good", self.port), self._listener("evil", self.evil_port)]
        self.config: dict[str, Any] = {
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin_port}}},
            "servers": [
                {
                    "default_log_path": "stdout",
                    "processor": 1,
                    "routers": [self._table("good"), self._table("evil")],
                    "listeners": self._listeners,
                }
            ],
            "cluster_manager": {"clusters": [self._cluster("good", good), self._cluster("evil", evil)]},
        }
        self.proxy: Pymosn

    def _listener(self, name: str, port: int) -> dict[str, Any]:
        config = {"downstream_protocol": self.wire.name, "router_config_name": name}
        chain = {"filters": [{"type": "proxy", "config": config}]}
        return {"name": name, "address": f"127.0.0.1:{port}", "bind_port": True, "filter_chains": [chain]}

    def _table(self, name: str) -> dict[str, Any]:
        match = {"headers": [{"name": "service", "value": ".*"}]}
        routes = [{"match": match, "route": {"cluster_name": name, "timeout": "20s"}}]
        return {"router_config_name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routers": routes}]}

    def _cluster(self, name: str, port: int) -> dict[str, Any]:
        return {"name": name, "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{port}"}]}

    def counters(self, listener: str = "good") -> dict[str, int]:
        found = json.loads(get(self.admin_port, "/api/v1/stats")[1])["downstream"][f"listener.{listener}"]
        return {key: int(value) for key, value in found.items()}

    async def counts(self, key: str, least: int, listener: str = "good", what: str = "") -> dict[str, int]:
        """The counters, once that one is `least` or more."""
        is_so = await asyncio.to_thread(eventually, lambda: self.counters(listener).get(key, 0) >= least)
        found = await asyncio.to_thread(self.counters, listener)
        assert is_so, f"{what}: {key} is not {least}: {found}"
        return found

    def resident(self) -> int:
        """Bytes of the worker's memory."""
        [pid] = self.proxy.worker_pids()
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def attack(port: int, wire: Wire, case: Attack) -> None:
    """Sends it, with an end behind it, and reads until the proxy closes, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
    got = b""
    with contextlib.suppress(ConnectionError):
        writer.write(case.data)
        if case.replies == 0:
            with contextlib.suppress(OSError):  # ENOTCONN, when the proxy has reset the connection by then
                writer.write_eof()
        while True:
            data = await asyncio.wait_for(reader.read(MIB), PATIENCE)
            if not data:
                break
            got += data
            if case.replies and len(wire.cut(got)[0]) >= case.replies:
                break
    writer.close()
    frames, rest = wire.cut(got)
    assert rest == b"", case.name
    if case.replies:
        assert len(frames) == case.replies, case.name


def shown(start: Start, wire: Wire, scenario: Callable[[World, Provider, Evil], Awaitable[None]]) -> None:
    """Runs a scenario while good clients call without end: all of them must be served."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            provider = await stack.enter_async_context(Provider(wire))
            evil = await stack.enter_async_context(Evil(wire))
            world = World(wire, provider.port, evil.port)
            world.proxy = start(world.config)
            await asyncio.to_thread(world.proxy.wait_for, READY)
            consumer = Consumer(wire, world.port, random.Random(3))
            await consumer.call(100, 8)
            before = world.resident()
            stop = False

            async def be_good() -> None:
                while not stop:
                    await consumer.call(50, 4)
                    await asyncio.sleep(0.02)

            good = asyncio.ensure_future(be_good())
            try:
                await scenario(world, provider, evil)
            finally:
                stop = True
            await good
            assert consumer.failed == 0
            assert consumer.ok > 100
            grown = world.resident() - before
            assert grown < GROWTH, f"{grown >> 20} MiB"

    asyncio.run(run())


@pytest.mark.parametrize("name", WIRES)
def test_hostile_clients(start: Start, name: str) -> None:
    wire = WIRES[name]

    async def scenario(world: World, _: Provider, __: Evil) -> None:
        for case in attacks(wire):
            before = await asyncio.to_thread(world.counters)
            await attack(world.port, wire, case)
            key = f"reason_{case.reason}"
            if case.reason:
                await world.counts(key, before.get(key, 0) + 1, what=case.name)
            else:
                after = await asyncio.to_thread(world.counters)
                assert not [key for key in changed(before, after) if key.startswith("reason_")], case.name
        assert await asyncio.to_thread(eventually, lambda: world.counters()["request_active"] <= 4)

    shown(start, wire, scenario)


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The counters that went up."""
    return {key: value - before.get(key, 0) for key, value in after.items() if value > before.get(key, 0)}


async def reuse_an_id(world: World, evil: Evil) -> None:
    """A client sends an id that is still at work: each request gets a reply, as in MOSN."""
    wire = world.wire
    evil.answer = Answer("good", lambda number: wire.reply(number, CONTENT), True)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.evil_port)
    writer.write(wire.request(5, CONTENT) + wire.request(6, CONTENT) + wire.request(5, CONTENT))
    frames: list[bytes] = []
    data = b""
    while len(frames) < 3:
        piece = await asyncio.wait_for(reader.read(MIB), PATIENCE)
        assert piece
        found, data = wire.cut(data + piece)
        frames += found
    assert sorted(wire.request_id(frame) for frame in frames) == [5, 5, 6]
    writer.close()


@pytest.mark.parametrize("name", WIRES)
def test_hostile_servers(start: Start, name: str) -> None:
    wire = WIRES[name]

    async def scenario(world: World, _: Provider, evil: Evil) -> None:
        await reuse_an_id(world, evil)
        for answer in answers(wire):
            evil.answer = answer
            reader, writer = await asyncio.open_connection("127.0.0.1", world.evil_port, limit=MIB)
            writer.write(wire.request(77, CONTENT))
            data = b""
            while not 0 < wire.size(data) <= len(data):
                piece = await asyncio.wait_for(reader.read(MIB), PATIENCE)
                assert piece, f"{answer.name}: the client was cut off"
                data += piece
            [frame], rest = wire.cut(data)
            assert rest == b"", answer.name
            assert wire.request_id(frame) == 77
            assert wire.is_good(frame) == answer.good, answer.name
            writer.close()
        await world.counts("reason_bad_response", 4, "evil")
        await world.counts("reason_reset_before_response", 3, "evil")

    shown(start, wire, scenario)


async def pour(port: int, block: bytes, most: int) -> int:
    """Sends `block` again and again until nothing is taken for a while; how many bytes were taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < most:
            writer.write(block)
            await asyncio.wait_for(writer.drain(), STILL)
            sent += len(block)
    writer.transport.abort()
    return sent


@pytest.mark.parametrize("name", ["bolt", "dubbo"])
def test_one_way_calls_for_a_server_that_takes_nothing(start: Start, name: str) -> None:
    wire = WIRES[name]
    block = wire.request(1, carried("x" * 30_000), one_way=True) * 8

    async def scenario(world: World, _: Provider, evil: Evil) -> None:
        evil.reads.clear()
        sent = await pour(world.evil_port, block, 80 * MIB)
        assert 32 * MIB < sent < 60 * MIB  # what one client may have at work, and what is in sockets
        evil.reads.set()

    shown(start, wire, scenario)


def test_heartbeats_of_a_client_that_takes_no_answer(start: Start) -> None:
    wire = WIRES["bolt"]

    async def scenario(world: World, _: Provider, __: Evil) -> None:
        assert await pour(world.port, wire.heartbeat(1) * 2000, 64 * MIB) < 16 * MIB

    shown(start, wire, scenario)
