"""Issue 5, shows 1, with peers in Python: hosts are added, removed and killed under 64 calls at a time, and no reply is lost
or mixed up. What may fail is what the route's policy says: without one the calls that were at work at a host that died,
with one nothing.
"""

import asyncio
import copy
import json
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import Pymosn, TwoHops
from showing import run, serving, sized, tell
from tests.kit.rpc_wires import WIRES, Consumer, Provider

CONNECTIONS, IN_FLIGHT = 8, 8
RETRIES = {"retry_on": True, "num_retries": 3}


class Fleet:
    """A running program with providers behind it, and what is done to them meanwhile."""

    def __init__(self, proxy: Pymosn, hops: TwoHops, path: Path, providers: list[Provider]) -> None:
        """Of the four providers the last is not known to the program at first."""
        self._proxy = proxy
        self._hops = hops
        self._path = path
        self.providers = providers

    async def add(self) -> None:
        """The last provider, by the admin API."""
        await self._hosts("add", self.providers[3])

    async def remove(self) -> None:
        """The first one, by the admin API; it goes on answering what it has."""
        await self._hosts("remove", self.providers[0])
        self.providers[0].stop()

    async def kill(self) -> None:
        """The second one dies while the program knows it and it has calls at work."""
        self.providers[1].answers.clear()
        while self.providers[1].pending == 0:
            await asyncio.sleep(0.001)
        self.providers[1].die()

    async def reload(self) -> None:
        """The first one is back, the dead one is not in the file any more."""
        await self.providers[0].start()
        config = copy.deepcopy(self._hops.config)
        hosts = [{"address": self.providers[place].address} for place in (0, 2, 3)]
        config["cluster_manager"]["clusters"][1]["hosts"] = hosts
        self._path.write_text(json.dumps(config))
        attempt = (await self._last_change())["attempt"]
        self._proxy.send(signal.SIGHUP)
        while (found := await self._last_change())["attempt"] == attempt:
            await asyncio.sleep(0.01)
        assert found["applied"], found

    async def _hosts(self, action: str, provider: Provider) -> None:
        config = {"cluster": "server", "hosts": [{"address": provider.address}]}
        await asyncio.to_thread(self._proxy.post, "/api/v1/update_hosts", {"type": action, "config": config})

    async def _last_change(self) -> dict[str, Any]:
        return await self._ask("/api/v1/last_change")

    async def _ask(self, path: str) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._hops.admin_port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        reply = await reader.read()
        writer.close()
        assert reply.split(b" ", 2)[1] in (b"200", b"400"), reply
        found: dict[str, Any] = json.loads(reply.partition(b"\r\n\r\n")[2] or b"{}")
        return found

    async def counters(self) -> dict[str, int]:
        """Of the cluster of the providers."""
        found = (await self._ask("/api/v1/stats"))["upstream"]["cluster.server"]
        return {key: int(value) for key, value in found.items() if str(value).isdigit()}


def speaking(hops: TwoHops, wire: str, policy: dict[str, Any] | None, providers: list[Provider]) -> None:
    """Both hops speak that protocol; the second has the policy and the first three providers."""
    for listener, table in zip(hops.server["listeners"], hops.server["routers"], strict=True):
        listener["filter_chains"][0]["filters"][0]["config"]["downstream_protocol"] = wire
        [route] = table["virtual_hosts"][0]["routers"]
        route["match"] = {"headers": [{"name": "service", "value": ".*"}]}
    if policy is not None:
        route["route"]["retry_policy"] = policy
    hosts = [{"address": provider.address} for provider in providers[:3]]
    hops.config["cluster_manager"]["clusters"][1]["hosts"] = hosts


@pytest.mark.parametrize("policy", [None, RETRIES], ids=["no policy", "retries"])
@pytest.mark.parametrize("wire", ["bolt", "dubbo"])
@sized("calls", 2_500, 100_000)
def test_calls_while_hosts_come_and_go(
    start: Start, tmp_path: Path, wire: str, policy: dict[str, Any] | None, calls: int
) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            spoken = WIRES[wire]
            providers = [await stack.enter_async_context(Provider(spoken)) for _ in range(4)]
            hops = TwoHops(providers[0].port)
            speaking(hops, wire, policy, providers)
            proxy = await serving(start, hops, "--workers", "1")
            fleet = Fleet(proxy, hops, tmp_path / "conf" / "mosn.json", providers)
            done, gate = 0, asyncio.Event()

            def progress() -> None:
                nonlocal done
                done += 1
                gate.set()

            async def reaches(share: float) -> None:
                while done < share * calls:
                    gate.clear()
                    await gate.wait()

            consumers = [Consumer(spoken, hops.client_port, random.Random(seed)) for seed in range(CONNECTIONS)]
            each = calls // CONNECTIONS
            calling = asyncio.gather(*(consumer.call(each, IN_FLIGHT, progress) for consumer in consumers))
            steps: list[Callable[[], Awaitable[None]]] = [fleet.add, fleet.remove, fleet.kill, fleet.reload]
            for number, step in enumerate(steps):
                await reaches(0.1 + 0.2 * number)
                await step()
            await calling
            ok, failed = sum(one.ok for one in consumers), sum(one.failed for one in consumers)
            counters = await fleet.counters()
            tell(
                f"{calls} calls in {wire}, {'no policy' if policy is None else 'retries'}",
                ok=ok,
                failed=failed,
                retries=counters["request_retry"],
                strays=counters["response_stray"],
                by_provider=[provider.calls for provider in providers],
            )
            assert ok + failed == each * CONNECTIONS
            if policy is None:
                assert 1 <= failed <= CONNECTIONS * IN_FLIGHT
            else:
                assert failed == 0
            assert counters["response_stray"] == 0
            assert all(provider.calls > calls // 50 for provider in providers)
            if policy is None:
                # Nothing ran twice: whatever a provider has counted was one call.
                assert sum(provider.calls for provider in providers) <= each * CONNECTIONS

    run(scenario())
