"""Issue 15, show 5: attacks on HTTP/2 at the highest rate of one core do not disturb other clients.

The worker has a core of its own. The attack has the other, where the clients and their upstream come first, since what they
wait for is not the proxy's slowness. What is attacked has an upstream of its own.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from process_fixtures import Start
from pymosn_process import TwoHops
from showing import mib, resident, run, serving, tell

from h2_attacker import ATTACKS
from show_upstream import ShowUpstream

FOLDER = Path(__file__).parent.parent
SECONDS = 10.0
RATE = 100
#: What a worker may gain, in bytes, and the others' 99th percentile as a multiple of that without an attack.
MEMORY, SLOWER = 50 << 20, 2.0
#: Milliseconds; below it, the 99th percentile is the machine's.
NOISE = 5.0
#: Not an attack on the protocol but a load: the core is busy, so that others must wait in turn. Its host keeps up.
LOAD: Final = "requests"
#: For attacks that do nothing but wait, instead of the default of five minutes.
IDLE: Final = "3s"
#: The words of the log, one of which must come.
WORDS = {
    "rapid_reset": ("reset_flood",),
    "made_you_reset": ("reset_flood",),
    "data_after_end": ("reset_flood",),
    "malformed": ("reset_flood",),
    "continuation": ("continuation_flood",),
    "hpack_bomb": ("header_bomb",),
    "empty_continuation": ("continuation_flood",),
    "settings": ("settings_flood",),
    "ping": ("ping_flood",),
    "priority": ("priority_flood",),
    "empty_data": ("empty_data_flood",),
    "window_update": ("window_update_flood",),
    "padding": ("empty_data_flood",),
    "requests": ("reset_flood",),
    "unknown_frames": ("priority_flood",),
    "zero_window": ("stream_idle_timeout",),
    "unread": ("stream_idle_timeout",),
}


@pytest.fixture
def cores() -> Iterator[tuple[int, int]]:
    """The core of the proxy, and that of all else, this process included; skips the test without two."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two cores")
    proxy, rest, *_ = sorted(before)
    os.sched_setaffinity(0, {rest})
    yield proxy, rest
    os.sched_setaffinity(0, before)


def h2_hop(upstream: ShowUpstream, attacked_port: int) -> TwoHops:
    """One hop of any protocol to a host that speaks HTTP/1.1, and to another one for what is attacked."""
    hops = TwoHops(upstream.port)
    proxy = hops.server["listeners"][1]["filter_chains"][0]["filters"][0]["config"]
    proxy["downstream_protocol"] = "Auto"
    proxy["extend_config"] = {"Http1": {"stream_idle_timeout": IDLE}}
    routes = hops.server["routers"][1]["virtual_hosts"][0]["routers"]
    routes[0]["route"]["upstream_protocol"] = "Http1"
    routes[0]["match"] = {"path": "/"}
    attacked = {"cluster_name": "attacked", "upstream_protocol": "Http1"}
    routes.append({"match": {"prefix": "/"}, "route": attacked})
    cluster = {"name": "attacked", "lb_type": "LB_RANDOM", "hosts": [{"address": f"127.0.0.1:{attacked_port}"}]}
    hops.config["cluster_manager"]["clusters"].append(cluster)
    hops.server["processor"] = 1
    return hops


async def program(name: str, *arguments: object, nice: int = 0) -> asyncio.subprocess.Process:
    """Starts a program of the folder `tests`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*filter(None, sys.path)])}
    command = [sys.executable, str(FOLDER / name), *map(str, arguments)]
    return await asyncio.create_subprocess_exec(
        *(["nice", "-n", str(nice)] if nice else []), *command, env=environment, stdout=asyncio.subprocess.PIPE
    )


async def result(process: asyncio.subprocess.Process) -> dict[str, Any]:
    """What a program printed."""
    output, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(output)
    return found


async def most_memory(pid: int, until: "asyncio.Future[Any]") -> int:
    """The most bytes that a process had resident."""
    most = resident(pid)
    while not until.done():
        await asyncio.wait([until], timeout=0.05)
        most = max(most, resident(pid))
    return most


def test_two_of_the_attacks(start: Start, cores: tuple[int, int]) -> None:
    """Until the log tells of it, without the others' latency, which means nothing while `make test` runs."""
    for attack in ("continuation", "settings"):
        attacked(start, cores, attack, 0.5, at_most=60.0)
        start.end()


@pytest.mark.show
@pytest.mark.timeout(120)
@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_others_do_not_notice(start: Start, cores: tuple[int, int], attack: str) -> None:
    quiet, found = attacked(start, cores, attack, SECONDS)
    assert attack == LOAD or found["p99"] < SLOWER * max(quiet["p99"], NOISE)


def attacked(
    start: Start, cores: tuple[int, int], attack: str, seconds: float, at_most: float = 0.0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the others observed for `seconds` before an attack, and for as long during it.

    With `at_most` the attack ends only when the log has told of it, at most after so many seconds: on a busy machine
    it may begin late.
    """
    observed: list[dict[str, Any]] = []

    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            target = await program("show_upstream.py", nice=0 if attack == LOAD else 19)
            assert target.stdout is not None
            hops = h2_hop(upstream, int(await target.stdout.readline()))
            proxy = await serving(start, hops, "--workers", "1")
            (worker,) = proxy.worker_pids()
            for pid in (worker, proxy.process.pid):
                os.sched_setaffinity(pid, {cores[0]})
            port = hops.server_port
            quiet = await result(await program("steady_client.py", port, seconds, RATE))
            before = resident(worker)
            attacker = await program("h2_attacker.py", attack, port, max(seconds, at_most), nice=19)
            steady = asyncio.ensure_future(result(await program("steady_client.py", port, seconds, RATE)))
            most = await most_memory(worker, steady)
            found = await steady
            if at_most:
                await asyncio.to_thread(proxy.wait_for, "|".join(WORDS[attack]), at_most)
                attacker.terminate()
            sent = await result(attacker)
            target.kill()
            await target.wait()
            words = [word for word in WORDS[attack] if word in proxy.output]
            tell(f"{attack}, {seconds:g} s", p99_ms=f"{found['p99']:.2f}", without=f"{quiet['p99']:.2f}",
                 memory=mib(most - before), attack=f"{sent['bytes'] / sent['seconds'] / 1e6:.0f} MB/s",
                 connections=sent["connections"], ended=sent["ended"], codes=sent["codes"], words=words,
                 others=found["statuses"])  # fmt: skip
            assert set(found["statuses"]) - {"unanswered", "lost"} == {"200"}, found
            assert found["statuses"]["200"] == seconds * RATE, found
            assert worker in proxy.worker_pids()
            assert most - before < MEMORY
            assert words
            observed.extend((quiet, found))

    run(scenario())
    return observed[0], observed[1]
