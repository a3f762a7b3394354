"""Issue 6, shows 4: whatever a filter does, with two workers and under load, those who do not meet it see nothing of it.

Two programs run: one in which filters do wrong, call by call, and one in which they hold up and end their worker.
"""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import PATIENCE, READY, Pymosn, TwoHops

from load_client import Asked, Client, Load, bad, summary
from show_upstream import ShowUpstream

pytestmark = pytest.mark.once

FILTERS = """
import asyncio, ctypes, os, sys, time
from pymosn.api import Reply, StreamFilter

kept = []

def wrong(kind, exchange):
    if kind == "raise":
        raise ValueError("wrong")
    if kind == "type":
        return "no reply"
    if kind == "line-break":
        exchange.request.headers["x-text"] = "a\\r\\nx-other: b"
    if kind == "framing":
        exchange.request.headers["content-length"] = "3"
    if kind == "reply":
        return Reply(200, "", {"x-text": "a\\nb"})
    if kind == "exit":
        sys.exit(4)
    if kind == "leak":
        kept.append(bytearray(100_000))
        exchange.state["leaks"] = True

class Wrong(StreamFilter):
    def act(self, phase, exchange):
        wanted, _, kind = exchange.request.path[1:].partition("/")
        if wanted == phase:
            return wrong(kind, exchange)
        if wanted == f"waiting-{phase}":
            return self.wait(kind, exchange)

    async def wait(self, kind, exchange):
        await asyncio.sleep(0.001)
        return wrong(kind, exchange)

    def on_request(self, exchange):
        return self.act("on_request", exchange)

    def on_route(self, exchange):
        return self.act("on_route", exchange)

    def on_host(self, exchange):
        return self.act("on_host", exchange)

    def on_request_body(self, exchange, data, last):
        return self.act("on_request_body", exchange)

    def on_response(self, exchange):
        return self.act("on_response", exchange)

    def on_response_body(self, exchange, data, last):
        return self.act("on_response_body", exchange)

    def on_complete(self, exchange):
        if "leaks" in exchange.state:
            self.context.counter("leaked").value += 1
        return self.act("on_complete", exchange)

class Skipped(Wrong):
    on_error = "skip"

class Ends(StreamFilter):
    def on_request(self, exchange):
        path = exchange.request.path
        if path == "/pid":
            return Reply(200, str(os.getpid()))
        if path == "/block":
            time.sleep(1.3)
        if path == "/hang":
            time.sleep(60)
        if path == "/sys-exit":
            sys.exit(4)
        if path == "/os-exit":
            os._exit(3)
        if path == "/crash":
            ctypes.string_at(0)

    async def on_route(self, exchange):
        if exchange.request.path == "/late-sys-exit":
            await asyncio.sleep(0)
            sys.exit(4)
"""


def line_of(code: str) -> int:
    """The number of the line of FILTERS that holds `code`."""
    return next(number for number, line in enumerate(FILTERS.splitlines(), 1) if code in line)


def configured(upstream: ShowUpstream, tmp_path: Path, *names: str) -> TwoHops:
    """One hop, with a listener for each of the filters: the first on the client's port, the second on the server's."""
    (tmp_path / "filters.py").write_text(FILTERS)
    hops = TwoHops(upstream.port)
    for listener, name in zip(hops.server["listeners"], names, strict=False):
        entry = {"type": "python", "config": {"path": str(tmp_path / "filters.py"), "class": name}}
        listener["stream_filters"] = [entry]
        listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "server_router"
    return hops


async def ask_text(port: int, path: str) -> str:
    client, answer = Client(port), bytearray()

    async def keep(piece: bytes) -> None:
        answer.extend(piece)

    await client.send(path, [f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()], keep)
    await client.close()
    return answer.decode()


async def ask_json(port: int, path: str) -> Any:
    return json.loads(await ask_text(port, path))


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for something of another process that no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.02)


# ---- wrong, call by call

HEADS = ["on_request", "on_route", "on_host", "on_response"]
BODIES = ["on_request_body", "on_response_body"]
KINDS = {
    "raise": "ValueError: wrong",
    "line-break": "HeaderError: header x-text: control character in value",
    "framing": "HeaderError: header content-length is managed by the proxy",
    "exit": "SystemExit: 4",
}
NO_REPLY = "it returned str, not a Reply or None"
BAD_REPLY = "HeaderError: header x-text: control character in value"
#: Path, and what the log says.
ROWS = [
    *((f"/{phase}/{kind}", said) for phase in (*HEADS, *BODIES) for kind, said in KINDS.items()),
    *((f"/{phase}/type", NO_REPLY) for phase in HEADS),
    *((f"/{phase}/type", "it returned str, not bytes or None") for phase in BODIES),
    *((f"/{phase}/reply", BAD_REPLY) for phase in HEADS),
    *((f"/waiting-{phase}/{kind}", said) for phase in HEADS for kind, said in KINDS.items()),
    *((f"/waiting-{phase}/type", NO_REPLY) for phase in HEADS),
]


def test_filters_that_do_wrong(start: Start, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(ShowUpstream())
            hops = configured(upstream, tmp_path, "Wrong", "Skipped")
            proxy = start(hops.config, "--workers", "2")
            await asyncio.to_thread(proxy.wait_for, READY)
            pids = proxy.worker_pids()
            bystanders = [Load(port, 2) for port in (hops.client_port, hops.server_port)]
            for path, said in ROWS:
                assert await statuses(hops, path) == [500, 200], path
                line = await asyncio.to_thread(proxy.wait_for, rf"' failed: {re.escape(said)}")
                assert "filters.py:" in line.string
            # What comes when all is over does not change what was sent.
            for kind in ("raise", "exit"):
                assert await statuses(hops, f"/on_complete/{kind}") == [200, 200]
            await leaks(proxy, hops)
            shown = (await ask_json(hops.admin_port, "/api/v1/filters"))["filters"]
            views = {view["name"]: view["counters"] for view in shown}
            assert views["Wrong"]["errors"] == views["Skipped"]["errors"] == len(ROWS) + 2
            assert (views["Wrong"]["skipped"], views["Skipped"]["skipped"]) == (0, len(ROWS))
            (error,) = [view["last_error"] for view in shown if view["name"] == "Wrong"]
            assert (error["phase"], error["worker"] in (1, 2)) == ("on_complete", True)
            assert "filters.py:" in error["stack"][0]
            assert proxy.worker_pids() == pids
            await unhurt(bystanders)

    async def leaks(proxy: Pymosn, hops: TwoHops) -> None:
        tracing = asyncio.ensure_future(asyncio.to_thread(proxy.post, "/api/v1/filters/allocations", 1))
        client = Client(hops.client_port)
        asked = 0
        while not tracing.done():
            assert (await client.ask("/on_request/leak")).is_good
            asked += 1
        await client.close()
        lines = {found["line"]: found for found in (await tracing)[1]}
        (line,) = [text for text in lines if text.endswith(f"filters.py:{line_of('kept.append')}")]
        assert lines[line]["bytes"] >= 100_000
        assert lines[line]["blocks"] > 0
        (view,) = [one for one in (await ask_json(hops.admin_port, "/api/v1/filters"))["filters"] if one["name"] == "Wrong"]
        assert view["counters"]["leaked"] == asked

    async def statuses(hops: TwoHops, path: str) -> list[int]:
        found = []
        for port in (hops.client_port, hops.server_port):
            client = Client(port)
            asked = await client.ask(path, "POST", body=b"data")
            await client.close()
            assert asked.error == "", (path, asked)
            found.append(asked.status)
        return found

    asyncio.run(scenario())


async def unhurt(loads: list[Load]) -> None:
    """The bystanders were served all the time, and are still."""
    for load in loads:
        await load.reaches(len(load.asked) + 20)
        load.stop()
        asked = await load.done()
        assert len(asked) > 100
        assert bad(asked) == [], summary(asked)


# ---- held up, and ended


class Bystander:
    """A client of one worker, which it names."""

    def __init__(self, port: int) -> None:
        self.client = Client(port)
        self.statuses: list[int] = []
        self._stopped = False

    async def worker(self) -> int:
        answer = bytearray()

        async def keep(piece: bytes) -> None:
            answer.extend(piece)

        await self.client.send("/pid", [b"GET /pid HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"], keep)
        return int(answer)

    async def ask_on(self) -> None:
        while not self._stopped:
            asked = await self.client.ask()
            assert not asked.is_first, "its connection was lost"
            self.statuses.append(asked.status)

    def stop(self) -> None:
        self._stopped = True


@pytest.mark.parametrize("rows", [["/block", "/sys-exit", "/late-sys-exit", "/hang"], ["/os-exit", "/crash"]])
def test_filters_that_hold_up_and_end_their_worker(start: Start, tmp_path: Path, rows: list[str]) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(ShowUpstream())
            hops = configured(upstream, tmp_path, "Ends")
            hops.server["worker_hang_limit"] = "6s"  # far from the 1.3 s of /block, on a busy machine too
            proxy = start(hops.config, "--workers", "2")
            await asyncio.to_thread(proxy.wait_for, READY)
            for path in rows:
                await one(proxy, hops, path)

    async def one(proxy: Pymosn, hops: TwoHops, path: str) -> None:
        pids = proxy.worker_pids()
        hit, others = await placed(hops.client_port)
        tasks = [asyncio.ensure_future(other.ask_on()) for other in others]
        asked = await hit.client.ask(path)
        # A reply may be read before the worker that gave it is gone.
        kept = 2 if path in {"/block", "/sys-exit", "/late-sys-exit"} else 1
        await until(lambda: len(proxy.worker_pids()) == 2 and len(set(pids) & set(proxy.worker_pids())) <= kept)
        after = proxy.worker_pids()
        counts = [len(other.statuses) for other in others]
        await until(lambda: all(len(other.statuses) > count + 10 for other, count in zip(others, counts, strict=True)))
        for other in others:
            other.stop()
        await asyncio.gather(*tasks)
        assert {status for other in others for status in other.statuses} == {200}
        for client in (hit.client, *(other.client for other in others)):
            await client.close()
        await check(proxy, hops, path, asked, len(set(pids) & set(after)))
        # A new client is served, whoever accepts it.
        fresh = [await served(hops.client_port) for _ in range(6)]
        assert fresh == [200] * 6

    async def check(proxy: Pymosn, hops: TwoHops, path: str, asked: Asked, kept: int) -> None:
        status = asked.status
        if path == "/block":
            assert (status, kept) == (200, 2)
            where = f"filters.py:{line_of('time.sleep(1.3)')} in on_request"
            line = await asyncio.to_thread(proxy.wait_for, r"event loop blocked for about (\d+\.\d) s")
            # It is measured between two beats, half a second apart.
            assert 1.3 <= float(line[1]) <= asked.ended - asked.began + 1.0
            assert "in filter 'Ends': " in line.string
            assert where in line.string
            (view,) = (await ask_json(hops.admin_port, "/api/v1/filters"))["filters"]
            assert view["counters"]["blocked"] == 1
            assert view["last_block"]["stack"][0].endswith(where)
            text = await ask_text(hops.admin_port, "/api/v1/filters?format=text")
            assert f"blocked a worker for {view['last_block']['seconds']:g} s" in text
        elif path in {"/sys-exit", "/late-sys-exit"}:
            assert (status, kept) == (500, 2)
            assert "filter 'Ends' failed: SystemExit: 4 " in proxy.output
        else:
            assert (status, kept) == (0, 1)
            if path == "/hang":
                line = await asyncio.to_thread(proxy.wait_for, "has not responded for 6 s; killing it")
                assert f"filters.py:{line_of('time.sleep(60)')} in on_request" in line.string

    async def served(port: int) -> int:
        client = Client(port)
        asked = await client.ask()
        await client.close()
        return asked.status

    asyncio.run(scenario())


async def placed(port: int) -> tuple[Bystander, list[Bystander]]:
    """A client of one worker, and three of the other."""
    hit = Bystander(port)
    worker = await hit.worker()
    others: list[Bystander] = []
    async with asyncio.timeout(PATIENCE):
        while len(others) < 3:
            other = Bystander(port)
            if await other.worker() != worker:
                others.append(other)
            else:
                await other.client.close()
    return hit, others
