"""Issue 3, shows 4: the limits of a cluster hold over all workers, and what is above them is refused at once."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from process_fixtures import Start
from pymosn_process import TwoHops
from showing import BlackHole, run, serving, sized, tell

from load_client import PATIENCE, Asked, Client, bad, percentile, summary
from show_upstream import ShowUpstream


def limited(address: str, breaker: dict[str, int], route: dict[str, Any] | None = None) -> TwoHops:
    """One hop to one host under those limits; two workers."""
    hops = TwoHops(1)
    listener = hops.server["listeners"][1]
    listener["filter_chains"][0]["filters"][0]["config"]["extend_config"] = {"Http1": {"reason_header": True}}
    hops.server["routers"][1]["virtual_hosts"][0]["routers"][0]["route"] |= route or {}
    hops.config["cluster_manager"]["clusters"][1] |= {
        "hosts": [{"address": address}],
        "connect_timeout": "5s",  # longer than it takes until all have asked
        "circuit_breakers": [breaker],
    }
    return hops


class Crowd:
    """Clients that each have a connection, and ask all at once."""

    def __init__(self, port: int, size: int) -> None:
        self._clients = [Client(port) for _ in range(size)]
        self._over = 0

    async def ask(self, refused: int, upstream: ShowUpstream | None = None, held: int = 0) -> list[Asked]:
        """Lets all ask. `upstream` holds what it gets until it has got so many and so many others have been refused."""
        self._over = 0
        tasks = [asyncio.ensure_future(self._ask(client)) for client in self._clients]
        await until(lambda: self._over >= refused and (upstream is None or upstream.at_once >= held))
        if upstream is not None:
            upstream.release()
        return await asyncio.gather(*tasks)

    async def _ask(self, client: Client) -> Asked:
        asked = await client.ask()
        self._over += 1
        return asked

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something of this process that no event tells of."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("key", "limit", "clients"), [("max_requests", 100, 500), ("max_connections", 31, 200)])
@sized("waves", 1, 10)
def test_the_upstream_never_has_more_at_once(start: Start, waves: int, key: str, limit: int, clients: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            upstream.holds = True
            hops = limited(upstream.address, {key: limit})
            await serving(start, hops, "--workers", "2")
            crowd = Crowd(hops.server_port, clients)
            for _ in range(waves):
                # Nobody waits: the refusals are there while the upstream holds all that it has got.
                asked = await crowd.ask(clients - limit, upstream, limit)
                # With so many clients each worker has more of them than its share of the limit.
                assert summary(asked) == {"200": limit, "503 overflow": clients - limit}
            most = upstream.most if key == "max_requests" else upstream.most_connections
            tell(f"{key} {limit}, {clients} at once", most=most, last_wave=summary(asked),
                 refused_within_ms=round(percentile(bad(asked), 1.0)))  # fmt: skip
            assert most == limit
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
                asked = await crowd.ask(180)
                assert summary(asked) == {"502 connect_timeout": 20, "503 overflow": 180}
            tell("max_pending_requests 20, 200 at once", last_wave=summary(asked))
            await crowd.close()

    run(scenario())


@sized("waves", 1, 5)
def test_max_retries(start: Start, waves: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream(mode="drop") as upstream:
            upstream.holds = True
            retry = {"retry_policy": {"retry_on": True, "num_retries": 1}}
            hops = limited(upstream.address, {"max_retries": 10}, retry)
            await serving(start, hops, "--workers", "2")
            crowd = Crowd(hops.server_port, 200)
            for _ in range(waves):
                before = upstream.requests
                asking = asyncio.ensure_future(crowd.ask(190, upstream, 10))
                await until(lambda: upstream.at_once == 200)
                # All fail together, and ten of them try once more, which is held until the others have failed for good.
                upstream.release()
                assert summary(await asking) == {"502 reset_before_response": 200}
                assert upstream.requests - before == 210
            stats = json.loads(await asyncio.to_thread(hops.admin, "/api/v1/stats?key=upstream.cluster.server"))
            tell("max_retries 10, 200 fail at once", retried=upstream.requests - before - 200)
            assert stats["upstream"]["cluster.server"]["request_retry_overflow"] == str(190 * waves)
            await crowd.close()

    run(scenario())
