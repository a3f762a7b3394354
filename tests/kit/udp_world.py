"""A UDP listener with `udp_proxy`, with a clock that stands still; hosts and clients are real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from tests.kit.fakes import FakeClock, Lines, Outcomes
from tests.kit.options import tcp_options

from pymosn.core.counters import DatagramStats, DownstreamStats, Metrics
from pymosn.core.timers import TimerWheel
from pymosn.network.admission import Admission
from pymosn.network.destinations import OwnAddresses
from pymosn.network.dialer import TcpDialer
from pymosn.network.listener import ConnectionIds
from pymosn.network.udp import DatagramListener
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.udp_proxy import UdpProxy
from pymosn.stream.registry import protocols
from pymosn.upstream.balancers import balancers
from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import PoolMaker
from pymosn.upstream.clusters import Clusters
from pymosn.upstream.plan import ClusterPlan, HostPlan


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    return sock


class UdpWorld:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.wheel = TimerWheel(self.clock)
        self.metrics = Metrics()
        self.log = Lines()
        self.runtime = Runtime(self.clock, self.wheel, self.metrics, self.log, protocols(), Clusters())
        self.outcomes = Outcomes()
        group = self.metrics.group("downstream", ("listener", "u"))
        stats = DownstreamStats(group)
        options = tcp_options(cluster="c", stats=stats, access_logs=[self.outcomes], idle_timeout=5.0)
        self.proxy = UdpProxy(self.runtime, options, 0, 0)
        self.admission = Admission(self.wheel, self.log)
        self.readers: dict[int, DatagramListener] = {}
        self.listener = DatagramListener(
            "u",
            "",
            stats,
            DatagramStats(group),
            ConnectionIds(),
            self.clock,
            self.wheel,
            self.admission,
            OwnAddresses(),
            self.readers,
            self.proxy,
        )
        self.hosts = [udp_socket(), udp_socket()]
        self.sock = udp_socket()
        self.client = udp_socket()
        self.client.connect(self.sock.getsockname())

    def use(self, *addresses: str, **settings: Any) -> Cluster:
        """The cluster has these hosts from now on."""
        plan = ClusterPlan("c", tuple(HostPlan(address) for address in addresses), **settings)
        kind = balancers().get("LB_ROUNDROBIN")
        assert kind is not None
        dialer = TcpDialer(ConnectionIds(), self.clock, self.wheel)
        before = self.runtime.clusters.get("c")
        cluster = Cluster(plan, kind, PoolMaker(self.runtime.protocols, dialer, self.wheel), self.metrics, before)
        for _ in cluster.build():
            pass
        self.runtime.clusters.activate({"c": cluster})
        for host in cluster.dropped:
            host.close()
        return cluster

    def address(self, index: int) -> str:
        ip, port = self.hosts[index].getsockname()
        return f"{ip}:{port}"

    async def at(self, index: int) -> bytes:
        got: bytes = (await asyncio.wait_for(asyncio.get_running_loop().sock_recvfrom(self.hosts[index], 999), 10))[0]
        return got

    def counter(self, key: str) -> int:
        group = next(group for group in self.metrics.snapshot() if group["type"] == "downstream")
        return {**group["counters"], **group["gauges"]}.get(key, 0)

    async def until(self, is_there: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_there():
                await asyncio.sleep(0)

    def close(self) -> None:
        self.listener.abort_all()
        for sock in (*self.hosts, self.sock, self.client):
            sock.close()
        assert (self.listener.connection_count, len(self.wheel), self.admission.open) == (0, 0, 0)
