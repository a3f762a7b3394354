"""Subsets of a cluster by host metadata (key reference section 8.5)."""

from __future__ import annotations

from typing import Final

from pymosn.api.upstream import Balancer, Criteria, Host, Selection
from pymosn.upstream.balancers import BalancerMaker, make_balancer
from pymosn.upstream.plan import SubsetPlan
from pymosn.upstream.selection import BalancerOptions

#: `SubsetPlan.fallback`: the host of a request whose criteria match no subset; none for any other value.
ANY_HOST: Final = 1
DEFAULT_SUBSET: Final = 2


class SubsetBalancer(Balancer):
    """Uses the balancer of the subset that matches the request's criteria; without criteria, that of the whole cluster."""

    def __init__(self, plan: SubsetPlan, maker: BalancerMaker, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self._maker = maker
        self._options = options
        self._policy = plan.fallback
        self._groups: dict[Criteria, list[Host]] = {}
        for selector in plan.selectors:
            for host in hosts:
                key = _key(selector, host)
                if key is not None:
                    self._groups.setdefault(key, []).append(host)
        self._default = [host for host in hosts if has_metadata(host, plan.default)]
        self._whole = make_balancer(maker, hosts, options)
        self.uses_hash = self._whole.uses_hash
        # Created on demand: the table of a subset may be large, and many subsets are never requested.
        self._balancers: dict[Criteria, Balancer] = {}
        self._default_balancer: Balancer | None = None

    def choose(self, selection: Selection) -> Host | None:
        criteria = selection.subset
        if not criteria:
            return self._whole.choose(selection)
        balancer = self._balancers.get(criteria)
        if balancer is None:
            group = self._groups.get(criteria)
            if group is None:
                return self._fall_back(selection)
            balancer = make_balancer(self._maker, group, self._options)
            self._balancers[criteria] = balancer
        return balancer.choose(selection)

    def _fall_back(self, selection: Selection) -> Host | None:
        if self._policy == ANY_HOST:
            return self._whole.choose(selection)
        if self._policy != DEFAULT_SUBSET:
            return None
        balancer = self._default_balancer
        if balancer is None:
            balancer = self._default_balancer = make_balancer(self._maker, self._default, self._options)
        return balancer.choose(selection)


def has_metadata(host: Host, criteria: Criteria) -> bool:
    """Whether the host's metadata contains all of `criteria`."""
    return all(host.metadata.get(key) == value for key, value in criteria)


def _key(selector: tuple[str, ...], host: Host) -> Criteria | None:
    """The subset of `selector` that `host` belongs to; None if it lacks one of the keys."""
    if not all(key in host.metadata for key in selector):
        return None
    return tuple((key, host.metadata[key]) for key in selector)
