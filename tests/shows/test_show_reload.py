"""Issue 3, shows 5: a hundred reloads under load, in all three ways, fail no request and leave memory flat."""

import asyncio
import copy
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from process_fixtures import Start
from pymosn_process import Pymosn, TwoHops
from showing import mib, resident, run, serving, sized, tell

from load_client import Client, Load, bad, percentile, summary
from pymosn.server.worker_process import worker_environment
from show_upstream import ShowUpstream

CLIENTS = 64
#: Bytes that a process may have grown by between the two looks; they are taken at any moment of a second's work.
GROWTH_LIMIT = 3 << 20
#: Long replies that are in flight the whole time.
DRIPS = 6


class Reloader:
    """Changes hosts and routes of a running program, each time in another of the three ways."""

    def __init__(self, proxy: Pymosn, hops: TwoHops, path: Path, addresses: list[str]) -> None:
        self._proxy = proxy
        self._hops = hops
        self._path = path
        self._addresses = addresses

    async def turn(self, number: int) -> None:
        """The change with that number is in force afterwards."""
        ways: list[Callable[[dict[str, Any]], Awaitable[None]]] = [self._by_signal, self._by_command, self._by_admin]
        await ways[number % 3](self._config(number))

    def _config(self, number: int) -> dict[str, Any]:
        config = copy.deepcopy(self._hops.config)
        host = config["servers"][0]["routers"][0]["virtual_hosts"][0]
        answers = [("/turn", 200, f"turn {number}"), ("/drip", 410, "gone")]
        host["routers"][:0] = [
            {"match": {"prefix": prefix}, "direct_response": {"status": status, "body": body}}
            for prefix, status, body in answers
        ]
        hosts = [self._addresses[(number + offset) % 3] for offset in range(1 + number % 2)]
        config["cluster_manager"]["clusters"][1]["hosts"] = [{"address": address} for address in hosts]
        return config

    async def _last_attempt(self) -> dict[str, Any]:
        return await self._ask("/api/v1/last_change")

    async def _by_signal(self, config: dict[str, Any]) -> None:
        before = (await self._last_attempt())["attempt"]
        self._path.write_text(json.dumps(config))
        self._proxy.send(signal.SIGHUP)
        while (found := await self._last_attempt())["attempt"] == before:
            await asyncio.sleep(0.01)
        assert found["applied"], found

    async def _by_command(self, config: dict[str, Any]) -> None:
        self._path.write_text(json.dumps(config))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pymosn", "reload", "-c", str(self._path),
            env=worker_environment(os.environ), cwd=self._path.parent.parent, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await child.communicate()
        assert child.returncode == 0, output

    async def _by_admin(self, config: dict[str, Any]) -> None:
        table, cluster = config["servers"][0]["routers"][0], config["cluster_manager"]["clusters"][1]
        for kind, block in (("router", table), ("cluster", cluster)):
            change = {"type": kind, "config": block}
            assert (await asyncio.to_thread(self._proxy.post, "/api/v1/update_config", change))[1]["applied"]

    async def _ask(self, path: str) -> dict[str, Any]:
        answer = bytearray()

        async def keep(piece: bytes) -> None:
            answer.extend(piece)

        head = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        admin = Client(self._hops.admin_port)  # a new one: the admin API closes a connection that is idle for seconds
        asked = await admin.send(path, [head.encode()], keep)
        await admin.close()
        assert asked.status in (200, 400), asked
        found: dict[str, Any] = json.loads(answer)
        return found

    async def check(self, number: int) -> None:
        """New requests have the change."""
        client, answer = Client(self._hops.client_port), bytearray()

        async def keep(piece: bytes) -> None:
            answer.extend(piece)

        await client.send("/turn", [b"GET /turn HTTP/1.1\r\nhost: show\r\n\r\n"], keep)
        await client.close()
        assert answer.decode() == f"turn {number}"


@sized("turns", (3, 9), (20, 100))  # reloads before the first look at memory and after it
def test_reloads_under_load(start: Start, tmp_path: Path, turns: tuple[int, int]) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            upstreams = [await stack.enter_async_context(ShowUpstream()) for _ in range(3)]
            hops = TwoHops(upstreams[0].port)
            hops.config["cluster_manager"]["clusters"][1]["hosts"] = [{"address": one.address} for one in upstreams]
            proxy = await serving(start, hops, "--workers", "2")
            drips = [asyncio.ensure_future(Client(hops.client_port, 300).ask("/drip")) for _ in range(DRIPS)]
            while sum(one.requests for one in upstreams) < DRIPS:
                await asyncio.sleep(0.01)
            load = Load(hops.client_port, CLIENTS)
            await load.reaches(500)
            pids = [proxy.process.pid, *proxy.worker_pids()]
            reloader = Reloader(proxy, hops, tmp_path / "conf" / "mosn.json", [one.address for one in upstreams])
            sizes: list[list[int]] = []
            times: list[float] = []
            for number in range(sum(turns)):
                began = time.perf_counter()
                await reloader.turn(number)
                times.append(time.perf_counter() - began)
                await reloader.check(number)
                sizes.append([resident(pid) for pid in pids])
            await load.reaches(len(load.asked) + 200)
            load.stop()
            asked = await load.done()
            assert not any(drip.done() for drip in drips)
            for one in upstreams:
                one.release()
            dripped = await asyncio.gather(*drips)
            warm, last = sizes[turns[0] - 1], sizes[-1]
            growth = [after - before for before, after in zip(warm, last, strict=True)]
            tell(
                f"{sum(turns)} reloads",
                outcomes=summary(asked),
                p50_ms=round(percentile(asked, 0.5), 1),
                p99_ms=round(percentile(asked, 0.99), 1),
                longest_ms=round(percentile(asked, 1.0)),
                slowest_reload_ms=round(max(times) * 1000),
                size=[mib(size) for size in last],
                growth=[mib(size) for size in growth],
                drips=summary(dripped),
            )
            assert bad(asked) == []
            assert bad(dripped) == []
            assert min(drip.size for drip in dripped) > 100
            assert [proxy.process.pid, *proxy.worker_pids()] == pids
            assert max(growth) < GROWTH_LIMIT

    run(scenario())
