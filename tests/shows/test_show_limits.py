"""Issue 3, shows 4: the limits of a cluster hold over all workers, and what is above them is refused at once."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

from pymosn_process import TwoHops
from showing import BlackHole, Start, run, serving, sized, tell

from load_client import Asked, Client, bad, percentile, summary
from show_upstream import ShowUpstream

#: Seconds within which a refusal must be there, however many come at once on a busy machine.
AT_ONCE = 1.0


def limited(address: str, breaker: dict[str, int], route: dict[str, Any] | None = None) -> TwoHops:
    """One hop to one host under those limits; two workers."""
    hops = TwoHops(1)
    listener = hops.server["listeners"][1]
    listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": {"reason_header": True}}
    hops.server["routers"][1]["virtual_hosts"][0]["routers"][0]["route"] |= route or {}
    hops.config["cluster_manager"]["clusters"][1] |= {
        "hosts": [{"address": address}],
        "connect_timeout": "2s",
        "circuit_breakers": [breaker],
    }
    return hops


class Crowd:
    """Clients that each have a connection, and ask all at once."""

    def __init__(self, port: int, size: int) -> None:
        self._clients = [Client(port) for _ in range(size)]

    async def ask(self) -> list[Asked]:
        return await asyncio.gather(*(client.ask() for client in self._clients))

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))


def check_refusals(asked: list[Asked]) -> None:
    """Those above the limit heard so at once."""
    refused = [one for one in asked if f"{one.status} {one.reason}" == "503 overflow"]
    assert refused
    assert percentile(refused, 1.0) < AT_ONCE * 1000


@sized("waves", 1, 10)
def test_max_requests(start: Start, waves: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream(delay=1.2) as upstream:
            hops = limited(upstream.address, {"max_requests": 100})
            await serving(start, hops, "--workers", "2")
            crowd = Crowd(hops.server_port, 500)
            for _ in range(waves):
                asked = await crowd.ask()
                assert set(summary(asked)) == {"200", "503 overflow"}
                check_refusals(asked)
                # Each worker has 50, and with 500 clients more than 50 of them.
                assert len(asked) - len(bad(asked)) == 100
            tell("max_requests 100, 500 at once", most=upstream.most, last_wave=summary(asked),
                 refused_within_ms=round(percentile(bad(asked), 1.0)))  # fmt: skip
            assert upstream.most == 100
            await crowd.close()

    run(scenario())


@sized("waves", 1, 10)
def test_max_connections(start: Start, waves: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream(delay=0.5) as upstream:
            hops = limited(upstream.address, {"max_connections": 31})
            await serving(start, hops, "--workers", "2")
            crowd = Crowd(hops.server_port, 200)
            for _ in range(waves):
                asked = await crowd.ask()
                assert set(summary(asked)) == {"200", "503 overflow"}
                check_refusals(asked)
            tell("max_connections 31, 200 at once", most=upstream.most_connections, last_wave=summary(asked))
            assert upstream.most_connections == 31
            await crowd.close()

    run(scenario())


@sized("waves", 1, 5)
def test_max_pending_requests(start: Start, waves: int) -> None:
    async def scenario() -> None:
        with BlackHole() as hole:
            hops = limited(hole.address, {"max_pending_requests": 20}, {"retry_policy": {"retry_on": False}})
            await serving(start, hops, "--workers", "2")
            crowd = Crowd(hops.server_port, 200)
            for _ in range(waves):
                asked = await crowd.ask()
                assert summary(asked) == {"502 connect_timeout": 20, "503 overflow": 180}
                check_refusals(asked)
            tell("max_pending_requests 20, 200 at once", last_wave=summary(asked))
            await crowd.close()

    run(scenario())


@sized("waves", 1, 5)
def test_max_retries(start: Start, waves: int) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(ShowUpstream(delay=0.6, mode="drop"))
            retry = {"retry_policy": {"retry_on": True, "num_retries": 1}}
            hops = limited(upstream.address, {"max_retries": 10}, retry)
            await serving(start, hops, "--workers", "2")
            crowd = Crowd(hops.server_port, 200)
            for _ in range(waves):
                before = upstream.requests
                asked = await crowd.ask()
                # All fail together, and ten of them may try once more.
                assert summary(asked) == {"502 reset_before_response": 200}
                assert upstream.requests - before == 210
            stats = json.loads(await asyncio.to_thread(hops.admin, "/api/v1/stats?key=upstream.cluster.server"))
            tell("max_retries 10, 200 fail at once", retried=upstream.requests - before - 200)
            assert stats["upstream"]["cluster.server"]["request_retry_overflow"] == str(190 * waves)
            await crowd.close()

    run(scenario())
