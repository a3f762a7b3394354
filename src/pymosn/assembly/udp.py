"""Builds the UDP listeners of one worker from the configuration."""

from __future__ import annotations

from typing import Final, NamedTuple

from pymosn.assembly.share import WorkerShare
from pymosn.config.schema import Listener as ListenerConfig
from pymosn.config.schema.network_filters import StreamProxyConfig
from pymosn.core.counters import DatagramStats, DownstreamStats, MetricGroup
from pymosn.network.admission import Admission
from pymosn.network.destinations import OwnAddresses
from pymosn.network.listener import ConnectionIds
from pymosn.network.udp import DatagramListener
from pymosn.proxy.runtime import Runtime
from pymosn.proxy.tcp_options import TcpOptions
from pymosn.proxy.udp_proxy import UdpProxy

#: Sessions of a listener, if not configured: of all clients together, and of one IP address.
MAX_SESSIONS: Final = 65536
MAX_SESSIONS_PER_CLIENT: Final = 1024


class DatagramNetwork:
    """What the UDP listeners of one worker share: their own addresses, and who reads each socket."""

    def __init__(self) -> None:
        self.own = OwnAddresses()
        self.readers: dict[int, DatagramListener] = {}


class BuiltUdp(NamedTuple):
    """A UDP listener, not started, and what makes its sessions."""

    listener: DatagramListener
    sessions: UdpProxy


def build_udp(
    config: ListenerConfig,
    udp: StreamProxyConfig,
    options: TcpOptions,
    group: MetricGroup,
    runtime: Runtime,
    ids: ConnectionIds,
    admission: Admission,
    shared: DatagramNetwork,
    share: WorkerShare,
) -> BuiltUdp:
    """`options`: those of the `udp_proxy`. `group`: the metrics of the listener."""
    sessions = UdpProxy(
        runtime,
        options,
        share.of(udp.max_sessions or MAX_SESSIONS),
        udp.max_sessions_per_client or MAX_SESSIONS_PER_CLIENT,
        udp.max_reply_ratio,
    )
    listener = DatagramListener(
        config.known_name(),
        config.address,
        DownstreamStats(group),
        DatagramStats(group),
        ids,
        runtime.clock,
        runtime.wheel,
        admission,
        shared.own,
        shared.readers,
        sessions,
    )
    return BuiltUdp(listener, sessions)
