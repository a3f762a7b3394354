"""What filters chose about the way of a request, in place of what its route says."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange, RouteOverrides
from pymosn.api.routing import Route, RouteMatcher
from pymosn.api.upstream import criteria
from pymosn.routing.actions import DEFAULT_TIMEOUT, Forward, Target
from pymosn.routing.table import VirtualHost
from pymosn.upstream.cluster import Cluster, ClusterHost
from pymosn.upstream.limits import Limits

#: The route of a request that matches none, and whose cluster a filter has chosen.
NO_ROUTE_NEEDED: Final = "chosen by a filter"


class PendingAttempt:
    """An attempt that waits until filters have seen its host."""

    def __init__(self, cluster: Cluster, host: ClusterHost, fresh: bool, retries: Limits | None, pause: float) -> None:
        """As `ProxyExchange` hands them on; `retries`: where a retry was taken from."""
        self.cluster = cluster
        self.host = host
        self.fresh = fresh
        self.retries = retries
        self.pause = pause

    def give_back(self) -> None:
        """It will not be made."""
        if self.retries is not None:
            self.retries.end_retry()
            self.retries = None


def override_route(exchange: Exchange, choices: RouteOverrides, host: VirtualHost) -> Route | None:
    """The route that a filter named, else the one that matches, else one to the cluster that a filter named."""
    if choices.route is not None:
        for route in host.routes:
            if route.name == choices.route:
                return route
        return None
    found = host.find(exchange)
    if found is None and choices.cluster is not None:
        return Route(NO_ROUTE_NEEDED, RouteMatcher(), Forward(choices.cluster, DEFAULT_TIMEOUT))
    return found


def override_target(choices: RouteOverrides, target: Target | None) -> Target | None:
    """Cluster and labels, as filters chose them and else as the route did."""
    subset = choices.subset
    cluster = choices.cluster
    if cluster is None:
        if target is None or subset is None:
            return target
        cluster = target.cluster
    if target is not None and target.subset is not None:
        subset = criteria({**dict(target.subset), **dict(subset or ())})
    return Target(cluster, subset)
