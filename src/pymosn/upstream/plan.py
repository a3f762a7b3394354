"""Settings of a cluster as plain values, which compare equal if nothing has changed. Created by the assembly."""

from __future__ import annotations

from typing import Final, NamedTuple

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import ATTEMPT_DELAY, TcpKeepalive
from pymosn.api.upstream import Criteria, ServiceFacts
from pymosn.network.tls.settings import ClientSettings

#: What the control plane reports about a host.
REPORTED_HEALTHY: Final = 0
REPORTED_UNHEALTHY: Final = 1
REPORTED_DEGRADED: Final = 2


@mypyc_attr(acyclic=True)
class HostPlan:
    """One host. `weight`: 1 to 128; `metadata`: the criteria of subset balancing, sorted by key. Immutable.

    `tls_disable`: connections without TLS, although the cluster has it. `priority`: 0 is used first. `health`: one of
    REPORTED_HEALTHY, REPORTED_UNHEALTHY and REPORTED_DEGRADED. `transport`: 0 for the cluster's TLS, n for the n-th of
    `ClusterPlan.host_tls`. `locality`: only if the cluster balances by locality. `hash_weight`: for balancers that follow
    Envoy; 0 for `weight`. `workload`: in Istio's form, `name;namespace;service;revision;cluster`.

    Not a named tuple: tens of thousands of these would slow the garbage collection down.
    """

    def __init__(
        self,
        address: str,
        hostname: str = "",
        weight: int = 1,
        metadata: Criteria = (),
        tls_disable: bool = False,
        priority: int = 0,
        health: int = 0,
        transport: int = 0,
        locality: str = "",
        hash_weight: int = 0,
        workload: str = "",
    ) -> None:
        self.address = address
        self.hostname = hostname
        self.weight: i64 = weight
        self.metadata = metadata
        self.tls_disable = tls_disable
        self.priority: i64 = priority
        self.health: i64 = health
        self.transport: i64 = transport
        self.locality = locality
        self.hash_weight: i64 = hash_weight
        self.workload = workload

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HostPlan):
            return False
        same = self.address == other.address and self.hostname == other.hostname
        same = same and self.weight == other.weight and self.metadata == other.metadata
        same = same and self.tls_disable == other.tls_disable and self.priority == other.priority
        same = same and self.health == other.health and self.transport == other.transport
        same = same and self.locality == other.locality and self.hash_weight == other.hash_weight
        return same and self.workload == other.workload

    def __hash__(self) -> int:
        return hash(self.address)


class LimitPlan(NamedTuple):
    """One worker's share of a cluster's limits; 0 means unlimited."""

    connections: int = 0
    pending: int = 0
    requests: int = 0
    retries: int = 0


class SubsetPlan(NamedTuple):
    """Subset balancing; the keys of each selector and `default` are sorted. `fallback`: 0 none, 1 any host, 2 `default`.

    `is_strict`: the fallback is also for requests without criteria.
    """

    selectors: tuple[tuple[str, ...], ...]
    fallback: int = 0
    default: Criteria = ()
    is_strict: bool = False


class LocalityPlan(NamedTuple):
    """The weight of a locality among those of one priority."""

    locality: str
    priority: int = 0
    weight: int = 0


class SlowStartPlan(NamedTuple):
    """`duration`: seconds. `aggression`: 1 is linear, more grows faster at first. `min_weight_percent`: 0.1 is 10 %."""

    duration: float
    aggression: float = 1.0
    min_weight_percent: float = 0.1


class BalancingPlan(NamedTuple):
    """How a host is selected. `panic_threshold` and `overprovisioning` in percent. Sizes of 0: the balancer's own."""

    lb_type: str = "LB_ROUNDROBIN"
    choice_count: int = 2
    active_request_bias: float = 1.0
    client_error_bias: float = 0.0
    server_error_bias: float = 0.0
    panic_threshold: float = 0.0
    slow_start: SlowStartPlan | None = None
    subset: SubsetPlan | None = None
    fails_in_panic: bool = False
    overprovisioning: int = 140
    localities: tuple[LocalityPlan, ...] = ()
    minimum_ring: int = 0
    maximum_ring: int = 0
    table_size: int = 0
    #: XX_HASH or MURMUR_HASH_2: hash balancers select the hosts that Envoy selects; empty: others.
    hash_function: str = ""
    hashes_hostnames: bool = False


class SuccessRatePlan(NamedTuple):
    """A rule that compares hosts. `stdev_factor`: thousandths of the standard deviation."""

    minimum_hosts: int = 5
    request_volume: int = 100
    stdev_factor: int = 1900


class FailurePercentagePlan(NamedTuple):
    """A rule about the percentage of failed requests."""

    threshold: float = 85.0
    minimum_hosts: int = 5
    request_volume: int = 50


class EnforcingPlan(NamedTuple):
    """In which percentage of the cases a rule ejects a host."""

    consecutive_errors: int = 100
    gateway_failures: int = 100
    local_failures: int = 100
    success_rate: int = 100
    local_success_rate: int = 0
    failure_percentage: int = 100
    local_failure_percentage: int = 0


class EjectionPlan(NamedTuple):
    """When a host is ejected for its failing requests. Times in seconds, rates in percent; 0 disables a rule."""

    consecutive_errors: int = 5
    error_rate: float = 0.0
    minimum_requests: int = 20
    interval: float = 10.0
    base_ejection_time: float = 30.0
    max_ejection_percent: float = 10.0
    always_ejects_one: bool = False
    max_ejection_time: float = 0.0
    max_ejection_jitter: float = 0.0
    gateway_failures: int = 0
    splits_local_origin: bool = False
    local_failures: int = 0
    success_rate: SuccessRatePlan | None = None
    failure_percentage: FailurePercentagePlan | None = None
    enforcing: EnforcingPlan = EnforcingPlan()


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
    `max_frame_size`: of RPC responses, bytes.
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
    max_frame_size: int = 16 * 1024 * 1024
    #: TLS of hosts whose plan refers to it; None: no TLS.
    host_tls: tuple[ClientSettings | None, ...] = ()
    #: Local address of connections; empty for the system's choice.
    bind: str = ""
    #: Category and requests of a million that are refused.
    drops: tuple[tuple[str, int], ...] = ()
    #: Whether connections offer what `tls` has by ALPN, whatever a listener's proxy offers.
    keeps_alpn: bool = False
    #: Whether harmless faults of responses are not tolerated.
    is_strict: bool = True
    #: The service that it represents; None if unknown.
    service: ServiceFacts | None = None
    #: Seconds before the next address of a host's name is tried as well.
    attempt_delay: float = ATTEMPT_DELAY


def all_tls(plan: ClusterPlan) -> tuple[ClientSettings | None, ...]:
    """The TLS of a cluster, then that of some hosts."""
    return (plan.tls, *plan.host_tls)
