"""Issue 5, shows 4: clients of every protocol at once on one `Auto` port, what each sends and gets cut at random."""

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import READY, TwoHops
from tests.kit.rpc_wires import WIRES, Chop, Consumer, Provider, carried, chopper, send

EXCHANGES = 400


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP server: each reply names its request's path and the size of its body, in pieces."""
    chop = chopper(random.Random(23))
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()
            return
        fields = dict(line.lower().split(b": ") for line in head.split(b"\r\n")[1:-2])
        body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        text = head.split(b" ")[1] + b" with %d" % len(body)
        await send(writer, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text, chop)


def routed(two_hops: TwoHops, providers: dict[str, Provider]) -> dict[str, Any]:
    """The first listener speaks `Auto`; services go to the provider of that name, paths to the HTTP server."""
    [chain] = two_hops.server["listeners"][0]["filter_chains"]
    chain["filters"][0]["config"]["downstream_protocol"] = "Auto"
    for name, provider in providers.items():
        route = {"match": {"headers": [{"name": "service", "value": name}]}, "route": {"cluster_name": name}}
        two_hops.server["routers"][0]["virtual_hosts"][0]["routers"].insert(0, route)
        cluster = {"name": name, "lb_type": "LB_ROUNDROBIN", "hosts": [{"address": provider.address}]}
        two_hops.config["cluster_manager"]["clusters"].append(cluster)
    return two_hops.config


async def browse(port: int, count: int, dice: random.Random) -> None:
    """`count` requests on a few connections, each in pieces, some with a body."""
    chop = chopper(dice)
    left = count
    while left:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(min(left, dice.randrange(1, 60))):
            left -= 1
            path = f"/{left}-{dice.randrange(1 << 30)}"
            body = b"x" * dice.randrange(300) if dice.random() < 0.5 else b""
            method = "POST" if body else "GET"
            head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            await send(writer, head.encode() + body, chop)
            reply = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert reply.startswith(b"HTTP/1.1 200 "), reply
            expected = f"{path} with {len(body)}".encode()
            assert await reader.readexactly(len(expected)) == expected
        writer.close()


async def hesitate(port: int, wire_name: str, dice: random.Random) -> None:
    """One call whose first bytes come one by one, with pauses that keep them apart."""
    wire = WIRES[wire_name]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = carried(str(dice.randrange(1 << 30)))
    raw = wire.request(7, content)
    for place in range(10):
        writer.write(raw[place : place + 1])
        await asyncio.sleep(0.005)
    writer.write(raw[10:])
    data = b""
    while not 0 < wire.size(data) <= len(data):
        piece = await asyncio.wait_for(reader.read(1000), 30)
        assert piece
        data += piece
    assert wire.request_id(data) == 7
    assert wire.content(data) == content
    writer.close()


@pytest.mark.timeout(120)
def test_every_protocol_at_once_cut_at_random(start: Start) -> None:
    async def scenario() -> None:
        dice = random.Random(20)
        async with AsyncExitStack() as stack:
            chop: Chop = chopper(random.Random(21))
            providers = {name: await stack.enter_async_context(Provider(wire, chop)) for name, wire in WIRES.items()}
            web = await stack.enter_async_context(await asyncio.start_server(page, "127.0.0.1", 0))
            two_hops = TwoHops(web.sockets[0].getsockname()[1])
            proxy = start(routed(two_hops, providers))
            await asyncio.to_thread(proxy.wait_for, READY)
            port = two_hops.client_port
            consumers = [
                Consumer(wire, port, random.Random(seed), chopper(random.Random(seed)))
                for seed, wire in enumerate([*WIRES.values()] * 2)
            ]
            calls = [consumer.call(EXCHANGES // 2, 16) for consumer in consumers]
            hesitant = [hesitate(port, name, dice) for name in [*WIRES] * 3]
            await asyncio.gather(*calls, *hesitant, browse(port, EXCHANGES, random.Random(22)))
            assert [(consumer.ok, consumer.failed) for consumer in consumers] == [(EXCHANGES // 2, 0)] * len(consumers)
            for name, provider in providers.items():
                assert provider.calls == EXCHANGES // 2 * 2 + 3, name

    asyncio.run(scenario())
