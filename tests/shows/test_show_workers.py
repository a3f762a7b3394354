"""Issue 10, show 3: whatever happens to one of two workers under load, no new connection waits for it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from process_fixtures import Start
from pymosn_process import Pymosn, TwoHops, eventually
from showing import run, serving, sized, tell

from load_client import Load, bad, summary
from show_upstream import ShowUpstream

#: Milliseconds for which a new connection may wait for its first byte, on a machine that does nothing else.
LIMIT = 100.0
FILTER = """
import os, pathlib, time
from pymosn.api import Reply, StreamFilter

HERE = pathlib.Path(__file__).parent

class Ends(StreamFilter):
    async def start(self):
        if (HERE / "exits").exists():
            os._exit(3)

    def on_request(self, exchange):
        if exchange.request.path == "/hang":
            (HERE / "hung").touch()
            time.sleep(20)
        if exchange.request.path == "/pid":
            return Reply(200, str(os.getpid()))
"""
#: A process of its own measures: milliseconds from connecting to the first byte, for fresh connections one after the other.
PROBE = """
import socket, sys, time
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30) as client:
        client.sendall(b"GET /pid HTTP/1.1\\r\\nhost: h\\r\\n\\r\\n")
        assert client.recv(1)
    print((time.perf_counter() - began) * 1000)
"""


def killed(proxy: Pymosn, victim: int, folder: Path, port: int) -> None:
    os.kill(victim, signal.SIGKILL)


def stopped(proxy: Pymosn, victim: int, folder: Path, port: int) -> None:
    os.kill(victim, signal.SIGSTOP)


def hung(proxy: Pymosn, victim: int, folder: Path, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nhost: h\r\n\r\n")
        assert eventually((folder / "hung").exists)
    (folder / "hung").unlink()


def crash_loop(proxy: Pymosn, victim: int, folder: Path, port: int) -> None:
    (folder / "exits").touch()
    os.kill(victim, signal.SIGKILL)
    proxy.wait_for(rf"pid {victim}\) was killed by SIGKILL; (replaced|keeps)")


KINDS: list[Callable[[Pymosn, int, Path, int], None]] = [killed, hung, stopped, crash_loop]


async def probe(port: int, count: int) -> list[float]:
    """Milliseconds of so many fresh connections."""
    command = [sys.executable, "-c", PROBE, str(port), str(count)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=300)
    return [float(line) for line in done.stdout.split()]


@sized("rounds", 4, 20)
def test_no_new_connection_waits_for_a_worker_that_is_gone(start: Start, tmp_path: Path, rounds: int) -> None:
    async def scenario() -> None:
        async with ShowUpstream() as upstream:
            (tmp_path / "ends.py").write_text(FILTER)
            hops = TwoHops(upstream.port)
            listener = hops.server["listeners"][0]
            listener["filter_chains"][0]["filters"][0]["config"]["router_config_name"] = "server_router"
            listener["stream_filters"] = [{"type": "python", "config": {"path": str(tmp_path / "ends.py"), "class": "Ends"}}]
            hops.server["worker_hang_limit"] = "3s"
            proxy = await serving(start, hops, "--workers", "2")
            load = Load(hops.client_port, 8)
            await load.reaches(200)
            control = max(await probe(hops.client_port, 100))
            worst: dict[str, float] = {}
            for number in range(rounds):
                kind = KINDS[number % len(KINDS)]
                workers = set(proxy.worker_pids())
                victim = min(workers)
                await asyncio.to_thread(kind, proxy, victim, tmp_path, hops.client_port)
                times = await probe(hops.client_port, 100)
                worst[kind.__name__] = max(worst.get(kind.__name__, 0.0), max(times))
                (tmp_path / "exits").unlink(missing_ok=True)
                before = len(load.asked)
                await asyncio.to_thread(
                    eventually, lambda workers=workers: set(proxy.worker_pids()) - workers and all_ready(hops)
                )
                await load.reaches(before + 100)
            load.stop()
            asked = await load.done()
            failed = bad(asked)
            tell(
                "workers lost",
                rounds=rounds,
                control_ms=round(control, 1),
                failed=summary(failed),
                **{f"{kind}_ms": round(time, 1) for kind, time in worst.items()},
            )
            # Each client has one request at a time: only what the victim had accepted can fail.
            assert len(failed) <= 8 * rounds
            limit = LIMIT if rounds == 20 else 1000.0 + 10 * control
            assert max(worst.values()) <= limit

    run(scenario())


def all_ready(hops: TwoHops) -> bool:
    states = json.loads(hops.admin("/api/v1/workers"))
    return len(states) == 2 and all(worker["state"] == "running" for worker in states)
