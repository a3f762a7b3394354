"""Hosts as Envoy's hash balancers see them: the key that is hashed, and the share of each host.

The arithmetic is Envoy's, in the same order and with doubles, because one point more changes which hosts are selected. Hosts
that the control plane reports as unhealthy have no part in it, unless too few others are left.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import REPORTED, Host, Selection
from pymosn.core.hash64 import wrapped
from pymosn.upstream.hashing import MASK, mix
from pymosn.upstream.plan import REPORTED_UNHEALTHY
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, draw

#: The names of hash functions in `BalancingPlan.hash_function`.
XX_HASH: Final = "XX_HASH"
MURMUR_HASH_2: Final = "MURMUR_HASH_2"
#: Metadata that replaces the address of a host, in Envoy the key of `envoy.lb`.
HASH_KEY: Final = "hash_key"

#: The start of the address of a Unix socket.
UNIX: Final = "unix:"


class Shares:
    """Hosts with their shares of the whole, which is 1.0. `least` and `greatest`: of these shares."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.shares: list[float] = []
        self.least: float = 1.0
        self.greatest: float = 0.0

    def add(self, hosts: list[Host], part: float, options: BalancerOptions) -> Generator[None, None, None]:
        """Divides a part of the whole among some hosts, by their weights."""
        total: i64 = 0
        for index, host in enumerate(hosts):
            total += options.hash_weight(host)
            if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        for index, host in enumerate(hosts):
            share = float(options.hash_weight(host)) * part / float(total)
            self.hosts.append(host)
            self.shares.append(share)
            self.least = min(self.least, share)
            self.greatest = max(self.greatest, share)
            if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield


def shares_of(hosts: list[Host], options: BalancerOptions) -> Generator[None, None, Shares]:
    """The shares of the hosts of one priority; with weights of localities, first these are divided."""
    usable = yield from _usable(hosts, options)
    made = Shares()
    if not usable:
        return made
    plans = options.plan.localities
    if not plans:
        yield from made.add(usable, 1.0, options)
        return made
    priority = options.priority(usable[0])
    by_locality: dict[str, list[Host]] = {}
    for index, host in enumerate(usable):
        by_locality.setdefault(options.locality(host), []).append(host)
        if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
            yield
    weights = {plan.locality: plan.weight for plan in plans if plan.priority == priority and plan.weight > 0}
    # A locality has its weight, too, if none of its hosts is usable; its share is lost, as in Envoy.
    total = sum(weights.values())
    for name in sorted(by_locality):
        if name in weights:
            yield from made.add(by_locality[name], float(weights[name]) / float(total), options)
    return made


def _usable(hosts: list[Host], options: BalancerOptions) -> Generator[None, None, list[Host]]:
    """The hosts that are not reported as unhealthy; all if these are too few."""
    usable: list[Host] = []
    for index, host in enumerate(hosts):
        plan = options.upcoming.get(host.address)
        sick = host.health_flags & REPORTED != 0 if plan is None else plan.health == REPORTED_UNHEALTHY
        if not sick:
            usable.append(host)
        if index % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
            yield
    enough = float(len(usable)) * 100.0 >= options.plan.panic_threshold * float(len(hosts))
    return usable if usable and enough else hosts


def key_of(host: Host, options: BalancerOptions) -> str:
    """The text that is hashed for a host: its `hash_key`, its host name with `hashes_hostnames`, or its address."""
    own = options.metadata(host).get(HASH_KEY, "")
    if own:
        return own
    if options.plan.hashes_hostnames and host.hostname:
        return host.hostname
    address = host.address
    return address[len(UNIX) :] if address.startswith(UNIX) else address


def hash_of(selection: Selection) -> i64:
    """The hash of a request, unchanged; random if it has none."""
    return selection.hash_value if selection.has_hash else wrapped(mix(draw(MASK >> 10)) << 1)
