"""Which host? What a balancer may implement, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.network import Peer
from pymosn.api.stream import ConnectionPool, PoolTarget

#: Why a host is not used: bits of `Host.health_flags`, with MOSN's values.
FAILED_ACTIVE_CHECK: Final = 1
EJECTED: Final = 2

#: The words for them, as the admin API and `explain` say them.
HEALTH_WORDS: Final = ((FAILED_ACTIVE_CHECK, "failed_active_check"), (EJECTED, "ejected"))

#: `Host.healthy_since` of a host that was there from the start.
LONG_AGO: Final[float] = -1e18

#: Keys and values that a host's metadata must have, sorted by key.
Criteria = tuple[tuple[str, str], ...]


def criteria(wanted: Mapping[str, str]) -> Criteria:
    """`wanted` in the form in which a `Selection` carries it."""
    return tuple(sorted(wanted.items()))


class LatencyAverage:
    """What a host's last replies were like, for balancers that look at it.

    `seconds` follows a slower reply at once and forgets it within some `DECAY` seconds: a moving average that knows peaks.
    `client_errors` and `server_errors` are shares, 0.0 to 1.0.
    """

    def __init__(self) -> None:
        self.seconds: float = 0.0
        self.client_errors: float = 0.0
        self.server_errors: float = 0.0
        self._updated: float = LONG_AGO

    def record(self, now: float, seconds: float, status: i64) -> None:
        """Adds a reply that took `seconds`; a `status` below 0 stands for none at all."""
        kept = max(0.0, 1.0 - (now - self._updated) / DECAY)
        # However many replies come at one moment, each has some say.
        kept = min(kept, 0.95)
        if seconds > self.seconds:
            self.seconds = seconds
        else:
            self.seconds = self.seconds * kept + seconds * (1.0 - kept)
        is_client_error = 1.0 if 400 <= status < 500 else 0.0
        is_server_error = 1.0 if status < 0 or status >= 500 else 0.0
        self.client_errors = self.client_errors * kept + is_client_error * (1.0 - kept)
        self.server_errors = self.server_errors * kept + is_server_error * (1.0 - kept)
        self._updated = now


#: Seconds after which an old reply has no say any more.
DECAY: Final[float] = 10.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Host(PoolTarget):
    """One host of a cluster, as one worker knows it."""

    def __init__(
        self,
        peer: Peer,
        hostname: str,
        weight: i64,
        connect_timeout: float,
        idle_timeout: float,
        max_connections: i64,
    ) -> None:
        """`weight`: 1 to 128. Times in seconds; 0 is no limit."""
        super().__init__(peer, connect_timeout, idle_timeout, max_connections)
        self.hostname = hostname
        self.weight: i64 = weight
        #: What subset balancing goes by.
        self.metadata: dict[str, str] = {}
        self.is_healthy: bool = True
        self.health_flags: i64 = 0
        #: When it was added or last became healthy, on the monotonic clock.
        self.healthy_since: float = LONG_AGO
        self.active_requests: i64 = 0
        self.active_connections: i64 = 0
        #: Kept only when a balancer asks for it.
        self.latency: LatencyAverage | None = None

    def pool(self, protocol: str) -> ConnectionPool:
        """The pool of connections of that protocol. Raises KeyError for a protocol that is not built."""
        raise NotImplementedError

    def set_health_flag(self, flag: i64, on: bool, now: float) -> None:
        """Sets or clears one reason for not being used; the host is healthy when none is left."""
        flags = self.health_flags | flag if on else self.health_flags & ~flag
        if self.health_flags != 0 and flags == 0:
            self.healthy_since = now
        self.health_flags = flags
        self.is_healthy = flags == 0

    def health_words(self) -> list[str]:
        """Why it is not used, empty when it is healthy."""
        return [word for flag, word in HEALTH_WORDS if self.health_flags & flag]


class Selection:
    """What one request asks of the balancer. Requests that ask nothing share `NO_CONSTRAINTS`, which nobody may change."""

    def __init__(self) -> None:
        self.has_hash: bool = False
        #: What the route's hash policies made of the request; only with `has_hash`.
        self.hash_value: i64 = 0
        #: Hosts that were tried already: not to be chosen again while another one will do.
        self.tried: list[Host] | None = None
        #: What the host's metadata must say; None is no wish.
        self.subset: Criteria | None = None
        #: Where the client wants to go, for clusters that make a host of it; empty when nothing tells.
        self.destination: str = ""
        #: How many attempts came before.
        self.attempt_index: i64 = 0
        #: Sick hosts are as good as healthy ones.
        self.ignores_health: bool = False

    def add_tried(self, host: Host) -> None:
        """`host` was tried without success."""
        if self.tried is None:
            self.tried = [host]
        else:
            self.tried.append(host)
        self.attempt_index += 1

    def set_hash(self, value: i64) -> None:
        """The request shall go where others with the same `value` go."""
        self.hash_value = value
        self.has_hash = True

    def was_last(self, host: Host) -> bool:
        """Whether `host` is the one that was tried last."""
        tried = self.tried
        return tried is not None and tried[-1] is host

    def can_use(self, host: Host) -> bool:
        """Whether `host` may be chosen at all."""
        return host.is_healthy or self.ignores_health

    def allows(self, host: Host) -> bool:
        """Whether `host` may be chosen, and was not tried yet."""
        if not host.is_healthy and not self.ignores_health:
            return False
        tried = self.tried
        return tried is None or host not in tried


#: A request without wishes.
NO_CONSTRAINTS: Final = Selection()


@mypyc_attr(allow_interpreted_subclasses=True)
class Balancer:
    """Chooses among the hosts of a cluster. Built anew for each snapshot of hosts."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts
        #: Whether it looks at `Selection.hash_value`.
        self.uses_hash: bool = False

    def choose(self, selection: Selection) -> Host | None:
        """A host that the selection allows, else one that was tried but is healthy, else None.

        Of several that were tried the one tried last is the last resort.
        """
        raise NotImplementedError
