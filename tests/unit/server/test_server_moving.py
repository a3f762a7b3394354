"""Open connections move between two workers' run-time objects, over real sockets and queues, on either event loop."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from tests.kit import bolt_frames as bolt
from tests.kit.moving_workers import REQUEST, SLOW, Client, World

from pymosn.api.network import Passage
from pymosn.config.schema import Listener
from pymosn.server import messages
from pymosn.server.resources import raise_open_file_limit
from pymosn.server.upgrade.messages import SessionsMoved
from pymosn.server.upgrade.moving import SendingQueues, key_of, message_of


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


async def the_successor_shuts_down(world: World) -> None:
    """Silent clients are not waited for then, and busy ones are asked to go."""
    await world.start()
    idle, busy, frames = await world.connect(), await world.connect(), await world.connect("b")
    await idle.asks()
    busy.writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    while not world.waiting:
        await asyncio.sleep(0.01)
    leaving = world.depart(60.0, {})
    while not world.reports.sent:
        await asyncio.sleep(0.01)
    world.departure.finish()
    assert await asyncio.wait_for(idle.reader.read(), 20) == b""
    assert await asyncio.wait_for(frames.reader.read(), 20) == b""
    assert not leaving.done()
    world.go_on.set()
    assert b"connection: close" in await busy.reader.readuntil(b"\r\n\r\n")
    busy.writer.close()
    await asyncio.wait_for(leaving, 20)


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


async def an_address_that_nobody_serves_any_more(world: World) -> None:
    """What waits in the backlog of its socket is served, new clients are refused, and others' sockets are left alone."""
    await world.start()
    address, other = world.sockets["h"].getsockname(), world.sockets["b"].getsockname()
    waiting = [socket.create_connection(address) for _ in range(50)]  # the old worker has no turn to accept them
    leaving = world.depart(dropped=["h"])
    world.receive()
    clients = [Client(*await asyncio.open_connection(sock=sock)) for sock in waiting]
    await asyncio.gather(*[client.asks() for client in clients])
    await asyncio.wait_for(leaving, 20)
    assert world.old.counts("h")["connection_total"] == 50
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    # A socket with a filter for new clients would not answer.
    await asyncio.to_thread(socket.create_connection, other, 10)


async def a_udp_address_that_nobody_serves_any_more(world: World) -> None:
    """Its sessions go on until they are idle or the time is over; no others begin."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host, contextlib.ExitStack() as stack:
        host.bind(("127.0.0.1", 0))
        host.settimeout(10)
        await world.start(udp=host.getsockname()[1])
        client, stranger = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for sock in (client, stranger):
            sock.connect(world.sockets["u"].getsockname())
        client.send(b"one")
        data, source = await asyncio.to_thread(host.recvfrom, 99)
        assert data == b"one"
        listener = next(listener for listener in world.old.runtime.listeners if listener.name == "u")
        leaving = world.depart(dropped=["u"])
        world.receive()
        client.send(b"two")
        while not listener.is_draining:
            await asyncio.sleep(0)
        stranger.send(b"no")
        client.send(b"three")
        for expected in (b"two", b"three"):
            assert await asyncio.to_thread(host.recvfrom, 99) == (expected, source)
        assert world.old.counts("u")["connection_active"] == 1
        assert "connection_active" not in world.new.counts("u")
        assert not leaving.done()
        listener.abort_all()
        await asyncio.wait_for(leaving, 20)
        client.send(b"four")
        client.settimeout(10)
        with pytest.raises(ConnectionRefusedError):
            client.recv(99)


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
    the_successor_shuts_down,
    bolt_that_is_never_idle,
    a_long_call_does_not_stop_the_others,
    held_for_good_in_the_second_half,
    an_address_that_nobody_serves_any_more,
    a_udp_address_that_nobody_serves_any_more,
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
