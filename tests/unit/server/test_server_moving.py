"""Open connections move between two workers' run-time objects, over real sockets and queues, on either event loop."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import uvloop
from tests.kit import bolt_frames as bolt

from pymosn.api.network import Passage
from pymosn.assembly.packer import pack
from pymosn.assembly.steps import run_whole
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import Listener, MosnConfig
from pymosn.observe.logs import LogSet
from pymosn.server import messages
from pymosn.server.channel import Channel
from pymosn.server.resources import raise_open_file_limit
from pymosn.server.upgrade.arriving import receive_connections
from pymosn.server.upgrade.departure import Departure
from pymosn.server.upgrade.messages import SessionsMoved
from pymosn.server.upgrade.moving import SendingQueues, key_of, message_of

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def config_of(http: int, frames: int) -> MosnConfig:
    """`http`, `frames`: the ports of the hosts."""

    def listener(name: str, protocol: str) -> dict[str, Any]:
        proxy = {"type": "proxy", "config": {"downstream_protocol": protocol, "router_config_name": name}}
        return {"name": name, "address": "127.0.0.1:1", "bind_port": True, "filter_chains": [{"filters": [proxy]}]}

    def router(name: str) -> dict[str, Any]:
        routes = [{"match": {"prefix": "/"}, "route": {"cluster_name": name}}]
        if name == "b":
            routes = [
                {"match": {"headers": [{"name": "service", "value": ".*", "regex": True}]}, "route": {"cluster_name": "b"}}
            ]
        return {"router_config_name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routers": routes}]}

    ports = {"h": http, "b": frames}
    clusters = [
        {"name": name, "type": "SIMPLE", "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": f"127.0.0.1:{port}"}]}
        for name, port in ports.items()
    ]
    servers = [{"listeners": [listener("h", "Http1"), listener("b", "bolt")], "routers": [router("h"), router("b")]}]
    return msgspec.convert({"servers": servers, "cluster_manager": {"clusters": clusters}}, MosnConfig)


class Worker:
    """The run-time objects of one worker."""

    def __init__(self, folder: Path, config: MosnConfig) -> None:
        self.loop = asyncio.get_running_loop()
        self.runtime = WorkerRuntime(1, 0, self.loop, LogSet(str(folder / "log")))
        self.runtime.activate(run_whole(self.runtime.prepare(pack(config), str(folder), str(folder))))

    async def listen(self, sockets: dict[str, socket.socket]) -> None:
        for listener in self.runtime.listeners:
            await listener.start(sockets[listener.name].dup())

    def counts(self, name: str) -> dict[str, int]:
        data = self.runtime.metrics.group("downstream", ("listener", name)).data()
        return {key: value for key, value in {**data["counters"], **data["gauges"]}.items() if value}

    def moved(self, name: str) -> int:
        return int(self.runtime.metrics.group("worker", ("worker", "all")).counter(f"connections_{name}").value)


class Reports:
    """The channel to the supervisor."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


class World:
    """Two workers, the hosts, and the clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go_on = asyncio.Event()
        self.waiting = 0
        self.reports = Reports()
        self.queues: list[tuple[socket.socket, socket.socket]] = []
        self.sockets: dict[str, socket.socket] = {}

    async def start(self, queues: int = 2, *, is_unix: bool = False) -> None:
        """`is_unix`: clients of HTTP come over a unix socket."""
        http = await asyncio.start_server(self._serve_http, "127.0.0.1", 0)
        frames = await asyncio.start_server(self._serve_bolt, "127.0.0.1", 0)
        self.servers = [http, frames]
        ports = [int(server.sockets[0].getsockname()[1]) for server in self.servers]
        for name in ("h", "b"):
            self.sockets[name] = socket.create_server(("127.0.0.1", 0))
        if is_unix:
            self.sockets["h"] = socket.socket(socket.AF_UNIX)
            self.sockets["h"].bind(str(self.folder / "h.sock"))
        self.old = Worker(self.folder, config_of(*ports))
        self.new = Worker(self.folder, config_of(*ports))
        self.queues = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(queues)]
        await self.old.listen(self.sockets)

    def receive(self) -> None:
        """The successor's worker takes connections from now on."""
        for _, receiving in self.queues:
            receive_connections(self.new.loop, self.new.runtime, [receiving.dup().detach()])

    def depart(self, seconds: float = 20.0, keys: dict[str, str] | None = None) -> asyncio.Task[None]:
        """The predecessor's worker leaves."""
        if keys is None:
            keys = {built.name: key_of(built.config) for built in self.new.runtime.active.listeners}
        command = messages.Depart(seconds, keys)
        descriptors = [sending.detach() for sending, _ in self.queues]
        self.departure = Departure(self.old.loop, self.old.runtime, cast("Channel[Any]", self.reports))
        return asyncio.create_task(self.departure.run(command, descriptors))

    async def connect(self, name: str = "h") -> "Client":
        sock = self.sockets[name]
        if sock.family == socket.AF_UNIX:
            return Client(*await asyncio.open_unix_connection(sock.getsockname()))
        return Client(*await asyncio.open_connection(*sock.getsockname()))

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            if head.startswith(b"GET /slow"):
                self.waiting += 1
                await self.go_on.wait()
            writer.write(RESPONSE)
        writer.close()

    async def _serve_bolt(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while part := await reader.read(65536):
            data += part
            while True:
                frame, data = bolt.parse(data)
                if frame is None:
                    break
                if frame.content == b"slow":
                    await self.go_on.wait()
                writer.write(bolt.response(frame.request_id, b"ok"))
        writer.close()

    async def close(self) -> None:
        for server in self.servers:
            server.close()
        for worker in (self.old, self.new):
            for listener in worker.runtime.listeners:
                listener.abort_all()
                listener.release()
            await worker.runtime.aclose()


class Client:
    """A client of HTTP/1 or Bolt."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.rest = b""

    async def receives(self, expected: bytes) -> None:
        """A response with these last bytes, and without `connection: close`."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"close" not in head
        assert await self.reader.readexactly(len(expected)) == expected

    async def asks(self, request: bytes = REQUEST) -> None:
        self.writer.write(request)
        await self.receives(b"ok")


async def many_connections_in_every_state(world: World) -> None:
    """500 connections: new, idle, with part of a head, busy, and with pipelined requests."""
    await world.start()
    clients = [await world.connect() for _ in range(500)]
    new, idle, partial, busy, piped = (clients[at : at + 100] for at in range(0, 500, 100))
    await asyncio.gather(*[client.asks() for client in idle])
    for client in partial:
        client.writer.write(REQUEST[:20])
    for client in busy:
        client.writer.write(SLOW)
    for client in piped:
        client.writer.write(SLOW + REQUEST + REQUEST[:9])
    while world.waiting < 200 or world.old.counts("h")["connection_active"] < 500:
        await asyncio.sleep(0.01)
    leaving = world.depart()
    world.receive()
    while world.old.moved("moved_out") < 300:
        await asyncio.sleep(0.01)
    assert world.old.moved("moved_out") == 300
    world.go_on.set()
    await asyncio.wait_for(leaving, 20)
    for client in partial:
        client.writer.write(REQUEST[20:])
    for client in piped:
        client.writer.write(REQUEST[9:])
    for client in [*partial, *busy]:
        await client.receives(b"ok")
    for client in piped:
        for _ in range(3):
            await client.receives(b"ok")
    await asyncio.gather(*[client.asks() for client in clients])
    assert world.old.moved("moved_out") == world.new.moved("moved_in") == 500
    assert world.new.moved("moved_lost") == 0
    assert "connection_active" not in world.old.counts("h")
    assert world.old.counts("h")["connection_total"] == 500
    assert "connection_destroy" not in world.old.counts("h")
    assert world.new.counts("h")["connection_active"] == 500
    assert "connection_total" not in world.new.counts("h")
    total = sum(worker.counts("h").get("request_200_total", 0) for worker in (world.old, world.new))
    assert total == 100 + 100 + 100 + 300 + 500
    assert world.reports.sent[-1] == messages.Departing({})
    assert world.reports.sent[0] == messages.Departing({"http1": 200})
    del new


async def nothing_reaches_the_client_while_nobody_reads_the_queue(world: World) -> None:
    """The old worker's `abort` closes its copy: the peer gets neither FIN nor reset."""
    await world.start()
    client = await world.connect()
    await client.asks()
    await asyncio.wait_for(world.depart(), 20)
    assert world.old.moved("moved_out") == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.2)
    client.writer.write(REQUEST)
    world.receive()
    await client.receives(b"ok")


async def over_a_unix_socket(world: World) -> None:
    await world.start(is_unix=True)
    clients = [await world.connect() for _ in range(20)]
    await asyncio.gather(*[client.asks() for client in clients])
    world.receive()
    await asyncio.wait_for(world.depart(), 20)
    await asyncio.gather(*[client.asks() for client in clients])
    assert world.new.counts("h")["connection_active"] == 20
    assert {connection.direct_ip() for connection in world.new.runtime.listeners[0].connections()} == {""}


async def the_queues_are_full(world: World) -> None:
    """The connection is served here meanwhile, and moves when there is room."""
    await world.start(queues=1)
    client = await world.connect()
    await client.asks()
    sending, receiving = world.queues[0]
    fill(sending)
    leaving = world.depart()
    for _ in range(3):
        await client.asks()
    assert world.old.moved("moved_out") == 0
    receiving.setblocking(False)
    empty(receiving)
    world.receive()
    await asyncio.wait_for(leaving, 20)
    await client.asks()
    assert world.new.moved("moved_in") == 1


def fill(queue: socket.socket) -> None:
    queue.setblocking(False)
    size = 65536
    while size:
        try:
            queue.send(bytes(size))
        except OSError:
            size //= 2


def empty(queue: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            queue.recv(65536)


async def the_successor_is_gone(world: World) -> None:
    """The connection is drained: its next response ends it."""
    await world.start()
    client = await world.connect()
    await client.asks()
    for _, receiving in world.queues:
        receiving.close()
    leaving = world.depart()
    await asyncio.sleep(0)
    client.writer.write(REQUEST)
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"connection: close" in head
    client.writer.close()
    await asyncio.wait_for(leaving, 20)
    assert world.old.moved("moved_out") == 0


async def another_key(world: World) -> None:
    """A listener that has changed gets no connections, and silent ones are closed at the end."""
    await world.start()
    client = await world.connect()
    await client.asks()
    world.receive()
    leaving = world.depart(1.0, {"h": "other"})
    assert await client.reader.read() == b""
    await asyncio.wait_for(leaving, 20)
    assert world.new.moved("moved_in") == 0
    assert world.reports.sent[0] == messages.Departing({"http1": 1})


async def bolt_that_is_never_idle(world: World) -> None:
    """Clients with calls in flight all the time: every call is answered, and all connections move."""
    await world.start()
    clients = [await world.connect("b") for _ in range(10)]
    calls = [asyncio.create_task(call_on(client)) for client in clients]
    while world.old.counts("b").get("request_200_total", 0) < 200:
        await asyncio.sleep(0.01)
    leaving = world.depart()
    world.receive()
    await asyncio.wait_for(leaving, 20)
    before = world.new.counts("b").get("request_200_total", 0)
    while world.new.counts("b").get("request_200_total", 0) < before + 100:
        await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 10
    assert world.new.moved("moved_in") == 10
    for worker in (world.old, world.new):
        assert not [name for name in worker.counts("b") if name.startswith("reason_")]


async def call_on(client: Client) -> None:
    """Sends a call before the response to the one before it has been read: there is always one in flight."""
    data, number = b"", 1
    client.writer.write(bolt.request(number, b"a"))
    while True:
        number += 1
        client.writer.write(bolt.request(number, b"a"))
        frame = None
        while frame is None:
            part = await client.reader.read(65536)
            assert part, "the connection was closed"
            frame, data = bolt.parse(data + part)


async def a_long_call_does_not_stop_the_others(world: World) -> None:
    """The connection is held for a moment, and read again; it moves when the long call has ended."""
    await world.start()
    client = await world.connect("b")
    client.writer.write(bolt.request(1, b"slow"))
    while world.old.counts("b").get("request_active", 0) < 1:
        await asyncio.sleep(0.01)
    leaving = world.depart()
    world.receive()
    await held(world)
    client.writer.write(bolt.request(2, b"a") + bolt.heartbeat(3))
    assert (await next_frame(client)).request_id == 3
    assert world.new.moved("moved_in") == 0
    world.go_on.set()
    assert {(await next_frame(client)).request_id for _ in range(2)} == {1, 2}
    await asyncio.wait_for(leaving, 20)
    client.writer.write(bolt.request(4, b"a"))
    assert (await next_frame(client)).request_id == 4
    assert world.new.counts("b")["request_200_total"] == 1


async def held_for_good_in_the_second_half(world: World) -> None:
    await world.start()
    client = await world.connect("b")
    client.writer.write(bolt.request(1, b"slow"))
    while world.old.counts("b").get("request_active", 0) < 1:
        await asyncio.sleep(0.01)
    leaving = world.depart(3.0)
    world.receive()
    await held(world, is_final=True)
    client.writer.write(bolt.request(2, b"a"))
    world.go_on.set()
    assert (await next_frame(client)).request_id == 1
    assert (await next_frame(client)).request_id == 2
    await asyncio.wait_for(leaving, 20)
    assert world.new.counts("b")["request_200_total"] == 1


async def held(world: World, *, is_final: bool = False) -> None:
    """Returns when the only connection is held; `is_final`: until the end."""

    def is_done() -> bool:
        return any(each.is_held and (not is_final or each.until == end) for each in world.departure._leavers.values())

    end = world.departure._end
    while not is_done():
        await asyncio.sleep(0.01)
        end = world.departure._end


async def next_frame(client: Client) -> bolt.Parsed:
    """The next frame that the client receives."""
    frame = None
    while frame is None:
        frame, client.rest = bolt.parse(client.rest)
        if frame is None:
            part = await asyncio.wait_for(client.reader.read(65536), 20)
            assert part, "the connection was closed"
            client.rest += part
    return frame


async def messages_that_cannot_be_served(world: World) -> None:
    await world.start(queues=1)
    world.receive()
    sending, _ = world.queues[0]
    queue = SendingQueues([sending.dup().detach()])
    with socket.socketpair()[0] as other:
        assert queue.send(message_of("unknown", "", Passage("Http1")), other.fileno())
        assert queue.send(message_of("h", "another key", Passage("Http1")), other.fileno())
        assert queue.send({"type": "Nothing"}, other.fileno())
        assert queue.send(SessionsMoved("h", 0), other.fileno())
    sending.send(msgspec.msgpack.encode(message_of("h", "", Passage("Http1"))))
    while world.new.moved("moved_lost") < 5:
        await asyncio.sleep(0.01)
    assert world.new.moved("moved_in") == 0
    queue.close()


SCENARIOS = [
    many_connections_in_every_state,
    nothing_reaches_the_client_while_nobody_reads_the_queue,
    over_a_unix_socket,
    the_queues_are_full,
    the_successor_is_gone,
    another_key,
    bolt_that_is_never_idle,
    a_long_call_does_not_stop_the_others,
    held_for_good_in_the_second_half,
    messages_that_cannot_be_served,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_moving(
    tmp_path: Path,
    scenario: Callable[[World], Awaitable[None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    raise_open_file_limit()

    async def run() -> None:
        world = World(tmp_path)
        await scenario(world)
        await world.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def listener_of(**other: Any) -> Listener:
    chain = {"filters": [{"type": "proxy", "config": {"downstream_protocol": "Http1", **other.pop("proxy", {})}}]}
    return msgspec.convert({"name": "l", "filter_chains": [{**chain, **other.pop("chain", {})}], **other}, Listener)


@pytest.mark.parametrize(
    "other",
    [
        {"max_connections": 7},
        {"connection_idle_timeout": 5.0},
        {"proxy": {"router_config_name": "other"}},
        {"proxy": {"extend_config": {"Http1": {"header_timeout": 1.0, "max_header_size": 9000}}}},
        {"access_logs": [{"log_path": "/tmp/a"}]},
    ],
    ids=json.dumps,
)
def test_what_may_differ(other: dict[str, Any]) -> None:
    assert key_of(listener_of(**other)) == key_of(listener_of())


@pytest.mark.parametrize(
    "other",
    [
        {"network": "unix"},
        {"use_original_dst": "redirect"},
        {"inspector": True},
        {"proxy_protocol": {"trusted_prefixes": ["10.0.0.0/8"]}},
        {"proxy": {"downstream_protocol": "Http1,bolt"}},
        {"proxy": {"extend_config": {"Http1": {"profile": "compatible"}}}},
        {"proxy": {"extend_config": {"Http1": {"connect": "forward"}}}},
        {"chain": {"tls_context": {"status": True}}},
        {"chain": {"match": {"source_prefixes": ["10.0.0.0/8"]}}},
        {"chain": {"name": "other"}},
    ],
    ids=json.dumps,
)
def test_what_must_be_equal(other: dict[str, Any]) -> None:
    assert key_of(listener_of(**other)) != key_of(listener_of())
