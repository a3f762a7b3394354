"""Issue 3, shows 3: least request beats round robin when one of several hosts is ten times slower."""

from contextlib import AsyncExitStack

from process_fixtures import Start
from pymosn_process import TwoHops
from showing import run, serving, sized, tell

from load_client import Load, bad, percentile
from show_upstream import ShowUpstream

CLIENTS = 48
#: Seconds that a host works on one request, one after the other.
WORK = 0.002


@sized("count", 500, 5_000)
def test_least_request_beats_round_robin(start: Start, count: int) -> None:
    async def scenario() -> None:
        found: dict[str, float] = {}
        for kind in ("LB_ROUNDROBIN", "LB_LEAST_REQUEST"):
            async with AsyncExitStack() as stack:
                delays = [WORK, WORK, WORK, WORK, WORK * 10]
                hosts = [await stack.enter_async_context(ShowUpstream(delay=delay, lanes=1)) for delay in delays]
                hops = TwoHops(1)
                cluster = hops.config["cluster_manager"]["clusters"][1]
                cluster |= {"lb_type": kind, "hosts": [{"address": host.address} for host in hosts]}
                await serving(start, hops, "--workers", "2")
                asked = await Load(hops.server_port, CLIENTS, count).done()
                assert bad(asked) == []
                found[kind] = percentile(asked, 0.99)
                tell(kind, p50_ms=round(percentile(asked, 0.5)), p99_ms=round(found[kind]),
                     share_of_the_slow_one=f"{hosts[-1].requests / count:.1%}")  # fmt: skip
        assert found["LB_LEAST_REQUEST"] < found["LB_ROUNDROBIN"] / 2

    run(scenario())
