"""Hosts and host selection: the interface of balancers and their input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Peer
from pymosn.api.stream import PoolTarget

#: Reasons why a host is not used: bits of `Host.health_flags`, with MOSN's values. REPORTED: by the control plane. FAULTY:
#: ejected by `fault_tolerance`, which MOSN does not distinguish from EJECTED.
FAILED_ACTIVE_CHECK: Final = 1
EJECTED: Final = 2
REPORTED: Final = 4
FAULTY: Final = 8
#: Those of ejections, by the rules of the cluster and of listeners.
OUT: Final = EJECTED | FAULTY

#: Their names in the admin API and `explain`.
HEALTH_WORDS: Final = (
    (FAILED_ACTIVE_CHECK, "failed_active_check"),
    (EJECTED, "ejected"),
    (REPORTED, "reported_unhealthy"),
    (FAULTY, "fault_tolerance"),
)

#: `Host.healthy_since` of a host that has existed since the start.
LONG_AGO: Final[float] = -1e18

#: Keys and values that a host's metadata must have, sorted by key.
Criteria = tuple[tuple[str, str], ...]


def criteria(metadata: Mapping[str, str]) -> Criteria:
    """Converts required metadata to the form used by `Selection`."""
    return tuple(sorted(metadata.items()))


@mypyc_attr(acyclic=True)
class LatencyAverage:
    """Moving averages of a host's latency and error rates (shares from 0.0 to 1.0), for latency-aware balancers.

    `seconds` follows a slower response immediately and decays within about `DECAY` seconds (peak EWMA).
    """

    def __init__(self) -> None:
        self.seconds: float = 0.0
        self.client_errors: float = 0.0
        self.server_errors: float = 0.0
        self._updated: float = LONG_AGO

    def record(self, now: float, seconds: float, status: i64) -> None:
        """Records a response after `seconds`, negative if unknown; a `status` below 0 means no response."""
        # At most 0.95: each response has some weight, even if many arrive at the same time.
        kept = min(max(0.0, 1.0 - (now - self._updated) / DECAY), 0.95)
        if seconds > self.seconds:
            self.seconds = seconds
        elif seconds >= 0.0:
            self.seconds = self.seconds * kept + seconds * (1.0 - kept)
        is_client_error = 1.0 if 400 <= status < 500 else 0.0
        is_server_error = 1.0 if status < 0 or status >= 500 else 0.0
        self.client_errors = self.client_errors * kept + is_client_error * (1.0 - kept)
        self.server_errors = self.server_errors * kept + is_server_error * (1.0 - kept)
        self._updated = now


#: Decay time constant, in seconds.
DECAY: Final[float] = 10.0


class ServiceFacts(NamedTuple):
    """The service that a cluster represents, as Istio describes it; empty texts if unknown.

    `host`: its full name. `is_external`: outside the mesh. `hides_metadata`: hosts must not get the metadata of clients.
    """

    host: str = ""
    name: str = ""
    namespace: str = ""
    is_external: bool = False
    hides_metadata: bool = False


class FaultRule(NamedTuple):
    """When MOSN's `fault_tolerance` ejects a host. Times in seconds.

    `exceptions`: the statuses that count as such. `least_calls`: requests of a host in a `window`. `multiple`: of the
    average share of exceptions. `most_ejected`: hosts of a cluster at a time. `recovery`: the length of an ejection.
    """

    exceptions: frozenset[int]
    window: float
    least_calls: int
    multiple: float
    most_ejected: int
    recovery: float


#: The metadata of hosts without any; never changed.
NO_METADATA: Final[dict[str, str]] = {}


@mypyc_attr(allow_interpreted_subclasses=True, acyclic=True)
class Host(PoolTarget):
    """One host of a cluster, as seen by one worker."""

    def __init__(
        self, peer: Peer, hostname: str, weight: i64, connect_timeout: float, idle_timeout: float, max_connections: i64
    ) -> None:
        """`weight`: 1 to 128. Times in seconds; 0 means no limit."""
        super().__init__(peer, connect_timeout, idle_timeout, max_connections)
        self.hostname = hostname
        self.weight: i64 = weight
        #: The weight for balancers that follow Envoy; 0: `weight`.
        self.hash_weight: i64 = 0
        #: Metadata for subset balancing.
        self.metadata: dict[str, str] = NO_METADATA
        self.is_healthy: bool = True
        #: Healthy, but others are better, as the control plane reports.
        self.is_degraded: bool = False
        #: Hosts of a higher number are used when those of lower ones are unhealthy.
        self.priority: i64 = 0
        #: Only if the cluster balances by locality.
        self.locality: str = ""
        self.health_flags: i64 = 0
        #: The monotonic time when it was added or last became healthy.
        self.healthy_since: float = LONG_AGO
        self.active_requests: i64 = 0
        self.active_connections: i64 = 0
        #: Maintained only if a balancer uses it.
        self.latency: LatencyAverage | None = None

    def set_health_flag(self, flag: i64, on: bool, now: float) -> None:
        """Sets or clears one reason for not using the host, which is healthy without any."""
        flags = self.health_flags | flag if on else self.health_flags & ~flag
        if self.health_flags != 0 and flags == 0:
            self.healthy_since = now
        self.health_flags = flags
        self.is_healthy = flags == 0

    def health_words(self) -> list[str]:
        """The reasons why it is not used; empty if it is healthy."""
        return [word for flag, word in HEALTH_WORDS if self.health_flags & flag]


class Selection:
    """One request's input to the balancer. Requests without constraints share the immutable `NO_CONSTRAINTS`."""

    def __init__(self) -> None:
        self.has_hash: bool = False
        #: Hash according to the route's hash policies; valid only with `has_hash`.
        self.hash_value: i64 = 0
        #: Hosts that were tried before; selected again only if no other is eligible.
        self.tried: list[Host] | None = None
        #: Required host metadata; None if there are no requirements.
        self.subset: Criteria | None = None
        #: The client's destination, for clusters that create a host for it; empty if unknown.
        self.destination: str = ""
        #: Number of earlier attempts.
        self.attempt_index: i64 = 0
        #: Ignore host health.
        self.ignores_health: bool = False

    def add_tried(self, host: Host) -> None:
        """Records a failed attempt at `host`."""
        if self.tried is None:
            self.tried = [host]
        else:
            self.tried.append(host)
        self.attempt_index += 1

    def set_hash(self, value: i64) -> None:
        """Sets the hash for consistent balancing."""
        self.hash_value = value
        self.has_hash = True

    def was_last(self, host: Host) -> bool:
        """Whether `host` was tried last."""
        tried = self.tried
        return tried is not None and tried[-1] is host

    def can_use(self, host: Host) -> bool:
        """Whether `host` is eligible at all."""
        return host.is_healthy or self.ignores_health

    def allows(self, host: Host) -> bool:
        """Whether `host` is eligible and has not been tried."""
        if not host.is_healthy and not self.ignores_health:
            return False
        tried = self.tried
        return tried is None or host not in tried


#: The default selection: no constraints.
NO_CONSTRAINTS: Final = Selection()


@mypyc_attr(allow_interpreted_subclasses=True)
class Balancer:
    """Selects among the hosts of a cluster. Created for each snapshot of hosts."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts
        #: Whether it uses `Selection.hash_value`.
        self.uses_hash: bool = False
        #: Whether it selects the same hosts as Envoy, so that requests need Envoy's hashes.
        self.follows_envoy: bool = False

    def build(self) -> Iterator[None]:
        """Builds what depends on all hosts, in steps of at most a millisecond, before the first `choose`."""
        return iter(())

    def parts(self) -> list[object]:
        """The objects that it consists of besides hosts, if they are many: freeing them together would take too long."""
        return []

    def choose(self, selection: Selection) -> Host | None:
        """Returns an eligible host, preferably an untried one, or None. The host tried last only if there is no other."""
        raise NotImplementedError
