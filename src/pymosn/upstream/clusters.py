"""All clusters of one worker."""

from __future__ import annotations

from collections.abc import Iterator

from mypy_extensions import i64

from pymosn.upstream.cluster import Cluster
from pymosn.upstream.cluster_host import ClusterHost, HostContext
from pymosn.upstream.original_dst import OriginalHosts
from pymosn.upstream.selection import HOSTS_PER_STEP


class Clusters:
    """The active clusters by name. The dict is replaced as a whole, never changed."""

    def __init__(self) -> None:
        self.by_name: dict[str, Cluster] = {}
        # Hosts that are in no cluster any more and have not been closed yet.
        self._dropped: list[tuple[HostContext, list[ClusterHost]]] = []
        # What the replaced balancers consisted of.
        self._remains: list[object] = []

    def get(self, name: str) -> Cluster | None:
        """Returns the cluster of that name, or None."""
        return self.by_name.get(name)

    def activate(self, by_name: dict[str, Cluster]) -> None:
        """Activates another set of clusters, and closes the pools of hosts that are in none of them."""
        self.switch(by_name)
        for _ in self.close_dropped():
            pass

    def switch(self, by_name: dict[str, Cluster], changed: list[str] | None = None) -> None:
        """Activates another set of clusters; `close_dropped` must follow.

        `changed`: the names of all that differ; None if they are not known, which takes time in proportion to all.
        """
        old = self.by_name
        for name in list(by_name) if changed is None else changed:
            cluster, before = by_name[name], old.get(name)
            if before is not cluster:
                cluster.activate(before)
                self._drop(cluster, cluster.dropped)
                cluster.dropped = []
        self.by_name = by_name
        for name in list(old) if changed is None else changed:
            if name not in old:
                continue
            cluster = old[name]
            after = by_name.get(name)
            if after is cluster:
                continue
            balancer = cluster.balancer
            if after is None or after.balancer is not balancer:
                self._remains += balancer.parts()
            if isinstance(balancer, OriginalHosts) and (after is None or after.balancer is not balancer):
                balancer.forget_all()
            if after is None:
                self._drop(cluster, list(cluster.hosts))

    def _drop(self, cluster: Cluster, hosts: list[ClusterHost]) -> None:
        if hosts:
            self._dropped.append((cluster.context, hosts))

    def close_dropped(self) -> Iterator[None]:
        """Closes the hosts that are in no cluster any more, in steps, which usually also free their memory."""
        closed: i64 = 0
        while self._dropped:
            context, hosts = self._dropped.pop()
            while hosts:
                context.close_host(hosts.pop())
                closed += 1
                if closed % HOSTS_PER_STEP == 0:
                    yield
        while self._remains:
            del self._remains[-HOSTS_PER_STEP:]
            yield
