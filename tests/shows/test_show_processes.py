"""Issue 2, shows 3: a worker is killed under load, and then the whole program drains."""

import asyncio
import os
import signal
import time

from process_fixtures import Start
from pymosn_process import Stopwatch, TwoHops, eventually, is_stopped
from showing import clients_of, run, serving, sized, tell

from load_client import Load, bad, percentile, summary
from show_upstream import ShowUpstream

CLIENTS = 64


@sized("count", 4_000, 100_000)
def test_only_requests_in_flight_on_a_killed_worker_fail(start: Start, count: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            hops = TwoHops(upstream.port)
            proxy = await serving(start, hops, "--workers", "2")
            load = Load(hops.client_port, CLIENTS)
            await load.reaches(count // 3)
            victim = proxy.worker_pids()[0]
            # Stopped first, so that what is in flight on it is known.
            os.kill(victim, signal.SIGSTOP)
            assert await asyncio.to_thread(eventually, lambda: is_stopped(victim))
            hit = clients_of(victim, hops.client_port)
            watch = Stopwatch([proxy.process.pid])
            killed = time.perf_counter()
            os.kill(victim, signal.SIGKILL)
            match = await asyncio.to_thread(proxy.wait_for, rf"pid {victim}\) was killed by SIGKILL; replaced by pid (\d+)")
            replaced = watch.seconds()
            await asyncio.to_thread(proxy.wait_for, rf"pid {match[1]}\) is ready")
            serves = time.perf_counter()
            await load.reaches(count)
            before_drain = len(load.asked)
            told = time.perf_counter()
            proxy.send(signal.SIGTERM)
            asked = await load.done()
            assert await asyncio.to_thread(proxy.exit_code) == 0
            refused = [one for one in asked if one.error == "connect"]
            failed = [one for one in bad(asked) if one.error != "connect"]
            tell(
                "killed and drained",
                requests=len(asked) - len(refused),
                in_the_drain=len(asked) - before_drain - len(refused),
                failed=summary(failed),
                connections_of_the_victim=len(hit),
                replaced_ms=round(replaced * 1000),
                serves_ms=round((serves - killed) * 1000),
                p99_ms=round(percentile(asked, 0.99), 1),
            )
            assert replaced < 1.0
            # Each was sent to the victim, or the other worker waited for the victim's hop with it when that was killed.
            on_victim = [one for one in failed if one.port in hit]
            assert len(on_victim) == len({one.port for one in on_victim})
            for one in failed:
                assert one in on_victim or one.began <= killed <= one.ended, one
            # Each client is refused once, when there is nobody to accept any more.
            assert len(refused) == CLIENTS
            assert all(one.began > told for one in refused)

    run(scenario())
