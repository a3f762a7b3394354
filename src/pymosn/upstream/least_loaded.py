"""The least loaded host: power of a few choices, or weighted turns if weights differ."""

from __future__ import annotations

import math

from mypy_extensions import i64

from pymosn.api.upstream import Host, Selection
from pymosn.upstream.selection import BalancerOptions, draw, scan_host
from pymosn.upstream.weighted import EarliestDeadline


class LeastLoaded(EarliestDeadline):
    """Base of balancers that select the host with the least load of `choice_count` random healthy ones."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._choices: i64 = max(1, options.plan.choice_count)
        self._bias = options.plan.active_request_bias

    def load(self, host: Host) -> float:
        """The load of `host`."""
        raise NotImplementedError


def best_of(balancer: LeastLoaded, hosts: list[Host], choices: i64, selection: Selection) -> Host | None:
    """The host with the least `balancer.load` of `choices` distinct random hosts that are eligible."""
    count: i64 = len(hosts)
    if count == 0:
        return None
    best: Host | None = None
    least = 0.0
    at = draw(count)
    checked: i64 = 0
    seen: i64 = 0
    # With few hosts all are checked in turn; otherwise unhealthy ones are redrawn a few times.
    checks_all = count <= choices
    bound = count if checks_all else choices + 6
    while checked < bound and seen < choices:
        host = hosts[at]
        if selection.allows(host):
            load = balancer.load(host)
            if best is None or load < least:
                best = host
                least = load
            seen += 1
        at += 1 if checks_all else 1 + draw(count - 1)
        if at >= count:
            at -= count
        checked += 1
    return scan_host(hosts, at, selection) if best is None else best


class LeastRequest(LeastLoaded):
    """By active requests.

    With different weights, or during slow start, hosts get turns in proportion to weight / (load + 1) ** bias.
    """

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._takes_turns = options.slow_start is not None or any(host.weight != hosts[0].weight for host in hosts)
        if self._takes_turns:
            self.fill()

    def load(self, host: Host) -> float:
        return float(host.active_requests)

    def weight(self, host: Host) -> float:
        return super().weight(host) / math.pow(self.load(host) + 1.0, self._bias)

    def choose(self, selection: Selection) -> Host | None:
        if self._takes_turns:
            return super().choose(selection)
        return best_of(self, self.hosts, self._choices, selection)


class LeastConnection(LeastRequest):
    """The same by open connections."""

    def load(self, host: Host) -> float:
        return float(host.active_connections)
