"""Which host? What a balancer and a discovery may implement."""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from pymosn.api.stream import ConnectionPool, Upstream


@mypyc_attr(allow_interpreted_subclasses=True)
class Host(Upstream):
    """One host of a cluster, as one worker knows it."""

    def __init__(
        self,
        address: str,
        hostname: str,
        weight: i64,
        connect_timeout: float,
        idle_timeout: float,
        max_connections: i64,
    ) -> None:
        super().__init__(address, connect_timeout, idle_timeout, max_connections)
        self.hostname = hostname
        self.weight: i64 = weight
        self.is_healthy: bool = True

    def pool(self, protocol: str) -> ConnectionPool:
        """The pool of connections of that protocol. Raises KeyError for a protocol that is not built."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Balancer:
    """Chooses among the hosts of a cluster. Built anew for each snapshot of hosts."""

    def __init__(self, hosts: list[Host]) -> None:
        self.hosts = hosts

    def choose(self, tried: Host | None) -> Host | None:
        """A healthy host, if it can be not `tried`; None when there is no healthy one."""
        raise NotImplementedError
