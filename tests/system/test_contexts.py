"""Context variables in the real program: two workers, many connections at a time, and only its own values in an exchange."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

from process_fixtures import Start
from pymosn_process import READY, Pymosn, TwoHops, eventually

from load_client import Client
from show_upstream import ShowUpstream

CONNECTIONS = 40
TURNS = 25
#: Kinds of requests, by the start of their path.
KINDS = ("plain", "waits", "streams", "drips", "asks", "thread")

#: Each filter's file is imported for it; what two filters share is in a neighbour.
NEIGHBOUR = """
from contextvars import ContextVar

OWN = ContextVar("own")
OWN.set("module")
TOKEN = ContextVar("token")
"""

FILTERS = """
import asyncio, decimal
from own_values import OWN, TOKEN
from pymosn.api import Reply, StreamFilter

class Base(StreamFilter):
    def kind(self, exchange):
        return exchange.request.path.split("/")[1]

    def check(self, exchange, wanted):
        self.context.counter("checks").value += 1
        found = OWN.get(None)
        if found != wanted:
            self.context.counter("leaks").value += 1
            raise ValueError(f"{exchange.request.path}: {found} instead of {wanted}")

    def same(self, exchange):
        self.check(exchange, exchange.request.path)

class Marks(Base):
    async def start(self):
        OWN.set("start")
        self.context.create_task(self.watch())

    async def watch(self):
        while True:
            await asyncio.sleep(0.001)
            self.context.counter("leaks").value += OWN.get(None) != "start"
            self.context.counter("watched").value += 1

    def on_request(self, exchange):
        self.check(exchange, None)
        if decimal.getcontext().prec != 28:
            raise ValueError("precision")
        decimal.getcontext().prec = 3
        TOKEN.set(OWN.set(exchange.request.path))

    def on_route(self, exchange):
        self.same(exchange)
        if self.kind(exchange) == "streams":
            return Reply(200, self.stream(exchange))
        if self.kind(exchange) == "drips":
            return Reply(200, self.drip(exchange))

    def stream(self, exchange):
        for _ in range(3):
            self.same(exchange)
            yield b"x"

    async def drip(self, exchange):
        for _ in range(3):
            self.same(exchange)
            yield b"x"
            await asyncio.sleep(0)

    def on_host(self, exchange):
        self.same(exchange)

    def on_request_body(self, exchange, data, last):
        self.same(exchange)

    def on_response(self, exchange):
        self.same(exchange)

    def on_response_body(self, exchange, data, last):
        self.same(exchange)

    def on_complete(self, exchange):
        self.same(exchange)
        if decimal.getcontext().prec != 3:
            raise ValueError("precision")
        OWN.reset(TOKEN.get())
        self.check(exchange, None)

class Waits(Base):
    async def on_request(self, exchange):
        kind = self.kind(exchange)
        self.same(exchange)
        if kind == "waits":
            await asyncio.sleep(0.001)
        elif kind == "asks":
            await self.clusters["server"].get("/other")
        elif kind == "thread":
            assert await asyncio.to_thread(OWN.get, None) == exchange.request.path
        self.same(exchange)

    async def on_response(self, exchange):
        self.same(exchange)
        if self.kind(exchange) == "waits":
            await asyncio.sleep(0)
        self.same(exchange)
"""


def test_each_exchange_sees_only_its_own_values(start: Start, tmp_path: Path) -> None:
    async def talk(proxy: Pymosn, port: int, number: int) -> None:
        client = Client(port)
        for turn in range(TURNS):
            kind = KINDS[(number + turn) % len(KINDS)]
            method, body = ("POST", b"data") if turn % 3 == 0 else ("GET", b"")
            asked = await client.ask(f"/{kind}/{number}/{turn}", method, body=body)
            assert asked.is_good, (asked, proxy.output)
        await client.close()

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(ShowUpstream())
            hops = configured(upstream, tmp_path)
            proxy = start(hops.config, "--workers", "2")
            await asyncio.to_thread(proxy.wait_for, READY)
            await asyncio.gather(*(talk(proxy, hops.client_port, number) for number in range(CONNECTIONS)))

            def counters() -> dict[str, dict[str, int]]:
                return {view["name"]: view["counters"] for view in json.loads(hops.admin("/api/v1/filters"))["filters"]}

            def is_complete() -> bool:  # `on_complete` of the last ones may follow their responses
                found = counters()
                return found["Marks"]["checks"] >= 6 * CONNECTIONS * TURNS and found["Marks"]["watched"] > 0

            assert await asyncio.to_thread(eventually, is_complete), counters()
            found = await asyncio.to_thread(counters)
            assert found["Marks"]["errors"] == found["Waits"]["errors"] == 0, proxy.output
            assert found["Marks"].get("leaks", 0) == found["Waits"].get("leaks", 0) == 0

    asyncio.run(scenario())


def configured(upstream: ShowUpstream, tmp_path: Path) -> TwoHops:
    """One hop with both filters."""
    (tmp_path / "own_values.py").write_text(NEIGHBOUR)
    (tmp_path / "filters.py").write_text(FILTERS)
    hops = TwoHops(upstream.port)
    listener = hops.server["listeners"][0]
    listener["stream_filters"] = [
        {"type": "python", "config": {"path": str(tmp_path / "filters.py"), "class": name}} for name in ("Marks", "Waits")
    ]
    listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "server_router"
    return hops
