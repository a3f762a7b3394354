"""A soak: mixed traffic over upstreams that break in turn; at the end everything must be as it was at the beginning.

`make soak`, or `python -m tests.load.soak`; SOAK_SECONDS (default 600).
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from tests.kit import certificates
from tests.load.traffic import NAME, Traffic
from tests.load.upstreams import MoodyUpstream
from tests.system.pymosn_process import Pymosn, eventually, free_ports, get

#: Talks at once.
ACTORS: Final = 24
#: Seconds of traffic before the first measurement, at least, and as a share: what a worker makes once is made then.
WARM_UP: Final = 4.0
WARM_UP_SHARE: Final = 0.05
#: Seconds after the traffic in which everything must come to rest; more than any timeout of the configuration.
REST: Final = 30.0

#: Bytes by which the mean of a worker's memory may grow from the second quarter of the traffic to the last one, if it lasts
#: LONG seconds at least. Without a leak it is up to 2 MiB, with live blocks of malloc that do not grow at all.
GROWTH: Final = 4 << 20
LONG: Final = 60.0

#: What must be nothing when nobody talks, by type of group.
NOTHING_LEFT: Final = {
    "downstream": ("connection_active", "request_active", "tls_handshake_active"),
    "upstream": ("connection_active", "request_active"),
    "worker": ("connections", "head_bytes", "timers"),
}


def configuration(
    port: int,
    secure: int,
    inner: int,
    admin: int,
    upstreams: list[int],
    access_log: Path,
    h2_ports: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """One listener without TLS, and one with it whose requests take a second hop over TLS.

    With `h2_ports` also two of HTTP/2, without and with TLS; requests for /hop take a second hop over HTTP/2.

    All timeouts are within a few seconds, so that a soak meets each of them often.
    """
    http1 = {"header_timeout": "1s", "body_timeout": "1s", "body_min_rate": 1000, "stream_idle_timeout": "3s"}
    proxy = {"downstream_protocol": "Http1", "router_config_name": "r", "extend_config": http1}
    route = {"match": {"prefix": "/"}, "route": {"cluster_name": "c", "timeout": "1s"}}
    hop = {"match": {"prefix": "/"}, "route": {"cluster_name": "hop", "timeout": "2s"}}
    own = certificates.server()
    tls = {"status": True, "cert_chain": own.certificate.decode(), "private_key": own.key.decode()}
    trust = {"status": True, "ca_cert": certificates.ca().certificate.decode(), "server_name": NAME}
    chain = {"filters": [{"type": "proxy", "config": proxy}]}
    to_hop = {"filters": [{"type": "proxy", "config": {**proxy, "router_config_name": "hop"}}], "tls_context": tls}

    def listener(name: str, at: int, chain: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "address": f"127.0.0.1:{at}",
            "bind_port": True,
            "connection_idle_timeout": "2s",
            "write_timeout": "2s",
            "tls_handshake_timeout": "1s",
            "access_logs": [{"log_path": str(access_log), "log_format": "%reason% %response_code%"}],
            "filter_chains": [chain],
        }

    listeners = [
        listener("soak", port, chain),
        listener("secure", secure, to_hop),
        listener("inner", inner, {**chain, "tls_context": tls}),
    ]
    to_h2: dict[str, Any] = {
        "match": {"prefix": "/hop/"},
        "route": {"cluster_name": "h2", "prefix_rewrite": "/", "timeout": "2s"},
    }
    clusters: list[dict[str, Any]] = []
    if h2_ports is not None:
        chain_h2 = {"filters": [{"type": "proxy", "config": {**proxy, "downstream_protocol": "Http2"}}]}
        chain_h2["filters"][0]["config"]["router_config_name"] = "h2"
        listeners += [
            listener("h2", h2_ports[0], chain_h2),
            listener("secure h2", h2_ports[1], {**chain_h2, "tls_context": tls}),
        ]
        clusters.append(
            {
                "name": "h2",
                "type": "SIMPLE",
                "lb_type": "LB_RANDOM",
                "hosts": [{"address": f"127.0.0.1:{h2_ports[0]}"}],
                "idle_timeout": "2s",
                "upstream_protocol": "Http2",
            }
        )
    hop_cluster = {
        "name": "hop",
        "type": "SIMPLE",
        "lb_type": "LB_RANDOM",
        "hosts": [{"address": f"127.0.0.1:{inner}"}],
        "idle_timeout": "2s",
        "tls_context": trust,
    }
    hosts = [{"address": f"127.0.0.1:{upstream}"} for upstream in upstreams]
    cluster = {"name": "c", "type": "SIMPLE", "lb_type": "LB_RANDOM", "hosts": hosts, "idle_timeout": "2s"}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}, "socket": "admin.sock"},
        "servers": [
            {
                "default_log_path": "stdout",
                "default_log_level": "ERROR",
                "processor": 1,
                "routers": [
                    {
                        "router_config_name": name,
                        "virtual_hosts": [{"name": "v", "domains": ["*"], "routers": routes}],
                    }
                    for name, routes in (("r", [route]), ("hop", [hop]), ("h2", [to_h2, route]))
                ],
                "listeners": listeners,
            }
        ],
        "cluster_manager": {"clusters": [cluster, hop_cluster, *clusters]},
    }


class Soak:
    """One run. `faults` says what is not as it should be."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.faults: list[str] = []
        self.figures: dict[str, Any] = {}
        #: Of the worker during the traffic, about once a second, in bytes.
        self._memory: list[int] = []
        self._directory = directory
        self._seed = seed
        self._upstreams = [MoodyUpstream(0), MoodyUpstream(1)]
        self._access_log = directory / "access.log"
        self._port, self._secure, self._inner, self._admin, *h2_ports = free_ports(6)
        self._h2_ports = (h2_ports[0], h2_ports[1])

    def run(self, seconds: float) -> None:
        """Soaks for that time."""
        asyncio.run(self._run(seconds))

    async def _run(self, seconds: float) -> None:
        for upstream in self._upstreams:
            await upstream.open()
        ports = [upstream.port for upstream in self._upstreams]
        path = self._directory / "mosn.json"
        made = configuration(self._port, self._secure, self._inner, self._admin, ports, self._access_log, self._h2_ports)
        path.write_text(json.dumps(made))
        proxy = Pymosn(["-c", str(path)], self._directory, {})
        try:
            if not await asyncio.to_thread(eventually, self._serves):
                raise RuntimeError(f"pymosn does not start:\n{proxy.output}")
            workers = proxy.worker_pids()
            warm_up = max(WARM_UP, seconds * WARM_UP_SHARE)
            await self._traffic(warm_up, warm_up / 10)
            before = await self._at_rest(1 << 20)
            watch = asyncio.create_task(self._watch_memory(workers[0]))
            outcomes = await self._traffic(seconds, min(10.0, seconds / 10))
            watch.cancel()
            after = await self._at_rest(before["descriptors"])
            if proxy.worker_pids() != workers:
                self.faults.append("a worker was replaced")
            if errors := [line for line in proxy.lines if "[ERROR]" in line]:
                self.faults.append(f"{len(errors)} errors in the log, the first: {errors[0]}")
        finally:
            proxy.end()
            for upstream in self._upstreams:
                await upstream.close()
        self._judge(before, after, outcomes)
        self.figures["memory by quarters"] = quarters(self._memory)
        if fault := memory_fault(self._memory):
            self.faults.append(fault)

    async def _watch_memory(self, worker: int) -> None:
        statm = Path(f"/proc/{worker}/statm")
        with contextlib.suppress(OSError):  # the worker is gone, which is found later
            while True:
                self._memory.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
                await asyncio.sleep(1.0)

    def _serves(self) -> bool:
        try:
            return get(self._admin, "/api/v1/states")[1].endswith("state=6\n")
        except OSError:
            return False

    async def _traffic(self, seconds: float, period: float) -> Counter[str]:
        traffic = Traffic(self._port, self._seed, self._secure, self._h2_ports)
        moods = asyncio.create_task(self._change_moods(period))
        await traffic.run(seconds, ACTORS)
        moods.cancel()
        for upstream in self._upstreams:
            await upstream.set_mode("well")
        return traffic.outcomes

    async def _change_moods(self, period: float) -> None:
        while True:
            for upstream in self._upstreams:
                await asyncio.sleep(period / 2)
                await upstream.turn()

    async def _at_rest(self, descriptors: int) -> dict[str, int]:
        """The state when nothing is left of the traffic and a worker has as few descriptors, or as it is after REST.

        A worker counts its descriptors once a second: connections that it has closed since are among them still.
        """
        deadline = time.monotonic() + REST
        while True:
            await asyncio.sleep(1.1)  # workers measure once a second
            stats = json.loads((await asyncio.to_thread(get, self._admin, "/api/v1/stats"))[1])
            found = {
                f"{kind}.{key}": sum(int(group.get(key, 0)) for group in stats[kind].values())
                for kind, keys in NOTHING_LEFT.items()
                for key in keys
            }
            worker = stats["worker"]["worker.all"]
            is_at_rest = not any(found.values()) and int(worker["descriptors"]) <= descriptors
            if is_at_rest or time.monotonic() > deadline:
                break
        return {**found, "descriptors": int(worker["descriptors"]), "rss": int(worker["memory_rss"])}

    def _judge(self, before: dict[str, int], after: dict[str, int], outcomes: Counter[str]) -> None:
        lines = Counter(self._access_log.read_text().splitlines())
        self.figures = {"before": before, "after": after, "outcomes": dict(outcomes), "access log": dict(lines)}
        for name, value in after.items():
            if name not in ("rss", "descriptors") and value:
                self.faults.append(f"{name} is {value} at the end")
        if after["descriptors"] > before["descriptors"]:
            self.faults.append(f"descriptors grew from {before['descriptors']} to {after['descriptors']}")
        # What the allocator keeps for the next burst is not lost; a leak of a kilobyte per request would be far more.
        if after["rss"] > before["rss"] * 1.15 + (4 << 20):
            self.faults.append(f"memory grew from {before['rss']} to {after['rss']}")
        for status in ("200", "400", "408", "502", "504", "with TLS", "resumed", "h2 200", "h2 502", "h2 504"):
            if not outcomes[status]:
                self.faults.append(f"no client ever got a {status}: the soak did not reach what it is for")
        self.faults += [f"{count} times {name}" for name, count in outcomes.items() if name.endswith("hangs")]
        if outcomes["no connection"]:
            self.faults.append(f"{outcomes['no connection']} connections were refused")


def quarters(memory: list[int]) -> list[int]:
    """The means of the four quarters of what was measured once a second; empty if that was not for LONG seconds."""
    size = len(memory) // 4
    return [round(fmean(memory[size * at : size * (at + 1)])) for at in range(4)] if size >= LONG / 4 else []


def memory_fault(memory: list[int]) -> str:
    """What is wrong with a worker's memory in bytes, measured once a second; empty if nothing is.

    The first quarter takes what a busy worker needs, and single values depend on what is in flight.
    """
    means = quarters(memory)
    if not means or means[3] <= means[1] + GROWTH:
        return ""
    return f"memory grew from {means[1]} in the second quarter to {means[3]} in the last one"


def main() -> int:
    """Soaks and prints the figures; 1 when something is not as it was."""
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a connection that the proxy has ended
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory))
        soak.run(seconds)
    print(json.dumps(soak.figures, indent=1))
    for fault in soak.faults:
        print(f"FAULT: {fault}")
    return 1 if soak.faults else 0


if __name__ == "__main__":
    sys.exit(main())
