"""Decides where a request goes: its route, its cluster, and how it is forwarded.

The exchange decides in steps, because filters may run after the first and override the others: `decide` finds the route,
`choose_target` the cluster and labels, `plan_forward` the timeouts, retries, hash and subset. `explain` calls the same
functions.
"""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.record import RouteOverrides
from pymosn.api.routing import Route, RouteMatcher
from pymosn.api.upstream import NO_CONSTRAINTS, Selection, criteria
from pymosn.core.failure import NO_ROUTE, NO_ROUTER, NO_VIRTUAL_HOST, REPEATED_FIELD, Failure
from pymosn.routing.actions import (
    AMBIGUOUS,
    DEFAULT_TIMEOUT,
    Forward,
    ForwardPlan,
    RetryPolicy,
    Target,
    asked_timeouts,
)
from pymosn.routing.hashing import select_by_hash
from pymosn.routing.table import RouteTable, VirtualHost
from pymosn.upstream.original_dst import destination
from pymosn.upstream.plan import OriginalPlan

#: The route's name if a request matches none, but a filter has chosen a cluster.
CHOSEN_BY_FILTER: Final = "chosen by a filter"


class Rejection:
    """Why a request cannot be routed or forwarded."""

    def __init__(self, failure: Failure, detail: str) -> None:
        self.failure = failure
        self.detail = detail


def decide(exchange: Exchange, table: RouteTable | None, router: str) -> Route | Rejection:
    """Finds the route of a request and records it in the exchange. `router`: the name of `table`."""
    if table is None:
        return Rejection(NO_ROUTER, router)
    host = table.find_virtual_host(exchange.request.raw_host)
    if host is None:
        return Rejection(NO_VIRTUAL_HOST, exchange.request.host)
    overrides = exchange.overrides
    route = host.find(exchange) if overrides is None else _overridden_route(exchange, overrides, host)
    if route is None:
        return Rejection(NO_ROUTE, host.name)
    exchange.route = route
    return route


def _overridden_route(exchange: Exchange, overrides: RouteOverrides, host: VirtualHost) -> Route | None:
    """The route that a filter named, else the one that matches, else one to the cluster that a filter named."""
    if overrides.route is not None:
        for route in host.routes:
            if route.name == overrides.route:
                return route
        return None
    found = host.find(exchange)
    if found is None and overrides.cluster is not None:
        return Route(CHOSEN_BY_FILTER, RouteMatcher(), Forward(overrides.cluster, DEFAULT_TIMEOUT))
    return found


def choose_target(exchange: Exchange, action: Forward, target: Target | None) -> Target | Rejection:
    """The final target of a forwarded request, after filter overrides; its cluster is recorded in the exchange.

    `target`: the result of `action.choose`, which is called once per request.
    """
    if exchange.overrides is not None:
        target = _overridden_target(exchange.overrides, target)
    if target is None:
        return Rejection(action.unknown_cluster, f"{action.text()}: no cluster name found")
    if target is AMBIGUOUS:
        return Rejection(REPEATED_FIELD, f"{action.text()}: the name is given more than once")
    exchange.cluster_name = target.cluster
    return target


def _overridden_target(overrides: RouteOverrides, target: Target | None) -> Target | None:
    """The cluster of filters, else of the route; the labels of both, those of filters take precedence."""
    subset = overrides.subset
    cluster = overrides.cluster
    if cluster is None:
        if target is None or target is AMBIGUOUS or subset is None:
            return target
        cluster = target.cluster
    if target is not None and target.subset is not None:
        subset = criteria({**dict(target.subset), **dict(subset or ())})
    return Target(cluster, subset)


def plan_forward(
    exchange: Exchange,
    action: Forward,
    target: Target,
    hashes_source: bool,
    original: OriginalPlan | None,
    reads_timeouts: bool,
) -> ForwardPlan:
    """Timeouts, retries and host constraints of a request. A plain request shares its route's plan.

    `hashes_source`: a request without hash policies gets the hash of its source. `original`: of the cluster.
    `reads_timeouts`: whether the request or a filter may set timeouts.
    """
    overrides = exchange.overrides
    is_plain = action.is_plain and target.subset is None and not hashes_source and original is None
    timeouts = asked_timeouts(action, exchange) if reads_timeouts else None
    if is_plain and overrides is None and (timeouts is None or timeouts.is_only(action.timeout)):
        return action.plain_plan
    plan = ForwardPlan(action.timeout)
    if not is_plain:
        plan.selection = _selection(exchange, action, target, hashes_source, original)
        plan.changes = action.changes
        plan.uses_host_name = action.uses_host_name
        policy = action.retry_policy
        if policy is not None:
            plan.retry_policy = policy
            plan.try_timeout = policy.per_try_timeout
    if timeouts is not None:
        plan.set_timeouts(timeouts)
    if overrides is not None:
        _override_times(plan, overrides)
    return plan


def _selection(
    exchange: Exchange, action: Forward, target: Target, hashes_source: bool, original: OriginalPlan | None
) -> Selection:
    """The constraints for the balancer."""
    selection = Selection()
    selection.subset = target.subset
    if action.hash_policies or hashes_source:
        select_by_hash(selection, action.hash_policies, exchange)
    if original is not None:
        selection.destination = destination(original, exchange)
    return selection


def _override_times(plan: ForwardPlan, overrides: RouteOverrides) -> None:
    """Timeouts and retries chosen by filters."""
    if overrides.timeout is not None:
        plan.timeout = overrides.timeout
        plan.has_clients_total = False
    if overrides.try_timeout is not None:
        plan.try_timeout = overrides.try_timeout
        plan.has_clients_try = False
    if overrides.retries is not None:
        plan.retry_policy = RetryPolicy(overrides.retries > 0, overrides.retries, plan.try_timeout)


def own_plan(plan: ForwardPlan) -> ForwardPlan:
    """A plan whose selection this request may change: `plan`, or a copy if it is shared."""
    if plan.selection is not NO_CONSTRAINTS:
        return plan
    own = ForwardPlan(plan.timeout)
    own.try_timeout = plan.try_timeout
    own.has_clients_total = plan.has_clients_total
    own.has_clients_try = plan.has_clients_try
    own.retry_policy = plan.retry_policy
    own.changes = plan.changes
    own.uses_host_name = plan.uses_host_name
    own.selection = Selection()
    return own


def wanted_protocol(exchange: Exchange, action: Forward) -> str:
    """The upstream protocol that a filter has chosen, else the route's; empty for none."""
    overrides = exchange.overrides
    chosen = None if overrides is None else overrides.protocol
    return action.upstream_protocol if chosen is None else chosen
