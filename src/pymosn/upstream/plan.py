"""Settings of a cluster as plain values, which compare equal if nothing has changed. Created by the assembly."""

from __future__ import annotations

from typing import NamedTuple

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import TcpKeepalive
from pymosn.api.upstream import Criteria
from pymosn.network.tls.settings import ClientSettings


@mypyc_attr(acyclic=True)
class HostPlan:
    """One host. `weight`: 1 to 128; `metadata`: the criteria of subset balancing, sorted by key. Immutable.

    `tls_disable`: connections without TLS, although the cluster has it.

    Not a named tuple: tens of thousands of these would slow the garbage collection down.
    """

    def __init__(
        self, address: str, hostname: str = "", weight: int = 1, metadata: Criteria = (), tls_disable: bool = False
    ) -> None:
        self.address = address
        self.hostname = hostname
        self.weight: i64 = weight
        self.metadata = metadata
        self.tls_disable = tls_disable

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HostPlan):
            return False
        same = self.address == other.address and self.hostname == other.hostname
        same = same and self.weight == other.weight and self.metadata == other.metadata
        return same and self.tls_disable == other.tls_disable

    def __hash__(self) -> int:
        return hash(self.address)


class LimitPlan(NamedTuple):
    """One worker's share of a cluster's limits; 0 means unlimited."""

    connections: int = 0
    pending: int = 0
    requests: int = 0
    retries: int = 0


class SubsetPlan(NamedTuple):
    """Subset balancing; the keys of each selector and `default` are sorted. `fallback`: 0 none, 1 any host, 2 `default`."""

    selectors: tuple[tuple[str, ...], ...]
    fallback: int = 0
    default: Criteria = ()


class SlowStartPlan(NamedTuple):
    """`duration`: seconds. `aggression`: 1 is linear, more grows faster at first. `min_weight_percent`: 0.1 is 10 %."""

    duration: float
    aggression: float = 1.0
    min_weight_percent: float = 0.1


class BalancingPlan(NamedTuple):
    """How a host is selected. `panic_threshold` in percent."""

    lb_type: str = "LB_ROUNDROBIN"
    choice_count: int = 2
    active_request_bias: float = 1.0
    client_error_bias: float = 0.0
    server_error_bias: float = 0.0
    panic_threshold: float = 0.0
    slow_start: SlowStartPlan | None = None
    subset: SubsetPlan | None = None


class EjectionPlan(NamedTuple):
    """When a host is ejected for its failing requests. Times in seconds, rates in percent; 0 disables a rule."""

    consecutive_errors: int = 5
    error_rate: float = 0.0
    minimum_requests: int = 20
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_percent: float = 10.0


class AllowedPlan(NamedTuple):
    """Destinations that clients may choose. `network`: `10.0.0.0/8`; `ports`: ranges, all if empty."""

    network: str
    ports: tuple[tuple[int, int], ...] = ()


class OriginalPlan(NamedTuple):
    """A cluster whose hosts are the clients' original destinations (key reference section 8.7).

    `header`: request header (lower case) that overrides the connection's destination; empty for none. `replace_local`:
    connect to this machine, at the destination's port. `allowed`: if not empty, all other destinations are refused.
    """

    header: str = ""
    replace_local: bool = False
    allowed: tuple[AllowedPlan, ...] = ()


class HeartbeatPlan(NamedTuple):
    """Heartbeats on multiplexed connections, in seconds; `failures` in a row close one, 0 disables that.

    `pings`: the interval for protocols whose peers expect none, 0 for none.
    """

    interval: float = 15.0
    timeout: float = 1.0
    failures: int = 6
    pings: float = 0.0


class ClusterPlan(NamedTuple):
    """A complete cluster. `tls`: None for plain connections. `upstream_protocol`: empty for no choice of its own.

    `max_connection_age`: seconds, 0 for no limit. `keepalive`: of TCP, None: no probes. Windows: of HTTP/2, bytes.
    """

    name: str
    hosts: tuple[HostPlan, ...] = ()
    balancing: BalancingPlan = BalancingPlan()
    limits: LimitPlan = LimitPlan()
    ejection: EjectionPlan | None = None
    connect_timeout: float = 10.0
    idle_timeout: float = 0.0
    max_requests_per_connection: int = 0
    buffer_limit: int = 0
    original: OriginalPlan | None = None
    heartbeats: HeartbeatPlan = HeartbeatPlan()
    proxy_protocol: str = ""
    mark: int = 0
    tls: ClientSettings | None = None
    upstream_protocol: str = ""
    max_connection_age: float = 0.0
    keepalive: TcpKeepalive | None = None
    stream_window: int = 256 * 1024
    connection_window: int = 1024 * 1024
