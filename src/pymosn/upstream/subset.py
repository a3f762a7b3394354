"""Subsets of a cluster by host metadata (key reference section 8.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pymosn.api.upstream import Balancer, Criteria, Host, Selection
from pymosn.core.counters import Counter
from pymosn.upstream.balancers import BalancerMaker, make_balancer, unbuilt_balancer
from pymosn.upstream.plan import SubsetPlan
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions

#: `SubsetPlan.fallback`: the host of a request whose criteria match no subset; none for any other value.
ANY_HOST: Final = 1
DEFAULT_SUBSET: Final = 2
#: Hosts from which on the balancer of a subset is built in advance, because its first request would block the worker.
MANY: Final = 1000


class SubsetBalancer(Balancer):
    """Uses the balancer of the subset that matches the request's criteria; without criteria, that of the whole cluster."""

    def __init__(
        self,
        plan: SubsetPlan,
        maker: BalancerMaker,
        hosts: list[Host],
        options: BalancerOptions,
        fallen_back: Counter | None = None,
    ) -> None:
        """`fallen_back`: counts the requests whose criteria match no subset."""
        super().__init__(hosts)
        self._fallen_back = Counter() if fallen_back is None else fallen_back
        self._maker = maker
        self._options = options
        self._plan = plan
        self._policy = plan.fallback
        self._groups: dict[Criteria, list[Host]] = {}
        self._default: list[Host] = []
        self._whole = unbuilt_balancer(maker, hosts, options)
        # Small ones are created on demand: the table of a subset may be large, and many subsets are never requested.
        self._balancers: dict[Criteria, Balancer] = {}
        self._default_balancer: Balancer | None = None

    def build(self) -> Iterator[None]:
        for order, host in enumerate(self.hosts):
            metadata = self._options.metadata(host)
            for selector in self._plan.selectors:
                key = _key(selector, metadata)
                if key is not None:
                    self._groups.setdefault(key, []).append(host)
            if _contains(metadata, self._plan.default):
                self._default.append(host)
            if order % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        yield from self._whole.build()
        # With priorities, this is only known once their balancers have been made.
        self.uses_hash = self._whole.uses_hash
        self.follows_envoy = self._whole.follows_envoy
        for key, group in self._groups.items():
            if len(group) >= MANY:
                self._balancers[key] = balancer = unbuilt_balancer(self._maker, group, self._options)
                yield from balancer.build()
        if self._policy == DEFAULT_SUBSET and len(self._default) >= MANY:
            self._default_balancer = unbuilt_balancer(self._maker, self._default, self._options)
            yield from self._default_balancer.build()

    def parts(self) -> list[object]:
        found = [*self._whole.parts(), *self._groups.items()]
        for balancer in self._balancers.values():
            found += balancer.parts()
        return found if self._default_balancer is None else [*found, *self._default_balancer.parts()]

    def choose(self, selection: Selection) -> Host | None:
        criteria = selection.subset
        if not criteria:
            return self._fall_back(selection) if self._plan.is_strict else self._whole.choose(selection)
        balancer = self._balancers.get(criteria)
        if balancer is None:
            group = self._groups.get(criteria)
            if group is None:
                return self._fall_back(selection)
            balancer = make_balancer(self._maker, group, self._options)
            self._balancers[criteria] = balancer
        return balancer.choose(selection)

    def subset_count(self) -> int:
        """The number of subsets."""
        return len(self._groups)

    def _fall_back(self, selection: Selection) -> Host | None:
        self._fallen_back.value += 1
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
    return _contains(host.metadata, criteria)


def _contains(metadata: dict[str, str], criteria: Criteria) -> bool:
    return all(metadata.get(key) == value for key, value in criteria)


def _key(selector: tuple[str, ...], metadata: dict[str, str]) -> Criteria | None:
    """The subset of `selector` that a host with `metadata` belongs to; None if it lacks one of the keys."""
    if not all(key in metadata for key in selector):
        return None
    return tuple((key, metadata[key]) for key in selector)
