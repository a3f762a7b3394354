"""The host with the least to do: power of a few choices, or weighted turns where weights differ."""

from __future__ import annotations

import math

from mypy_extensions import i64

from pymosn.api.upstream import Host, Selection
from pymosn.upstream.selection import BalancerOptions, draw, scan
from pymosn.upstream.weighted import EarliestDeadline


class LeastLoaded(EarliestDeadline):
    """Base of the balancers that look at how much each host has to do.

    With equal weights the best of `choice_count` random healthy hosts is taken. With different weights, or while hosts
    start slowly, each host gets turns by weight / (load + 1) ** bias.
    """

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._choices: i64 = options.choice_count
        self._bias = options.active_request_bias
        self._takes_turns = False

    def take_turns(self, options: BalancerOptions) -> None:
        """Goes by turns where hosts differ in weight, or may come to."""
        hosts = self.hosts
        self._takes_turns = options.slow_start is not None or any(host.weight != hosts[0].weight for host in hosts)
        if self._takes_turns:
            self.fill()

    def load(self, host: Host) -> float:
        """How much `host` has to do."""
        raise NotImplementedError

    def weight(self, host: Host) -> float:
        return super().weight(host) / math.pow(self.load(host) + 1.0, self._bias)

    def choose(self, selection: Selection) -> Host | None:
        if self._takes_turns:
            return super().choose(selection)
        return best_of(self, self.hosts, self._choices, selection)


def best_of(judge: LeastLoaded, hosts: list[Host], choices: i64, selection: Selection) -> Host | None:
    """The one with the least `judge.load` of `choices` different random hosts that will do."""
    count: i64 = len(hosts)
    if count == 0:
        return None
    best: Host | None = None
    least = 0.0
    at = draw(count)
    looks: i64 = 0
    seen: i64 = 0
    # With few hosts all are looked at in turn; otherwise sick ones are redrawn a few times.
    looks_at_all = count <= choices
    bound = count if looks_at_all else choices + 6
    while looks < bound and seen < choices:
        host = hosts[at]
        if selection.allows(host):
            load = judge.load(host)
            if best is None or load < least:
                best = host
                least = load
            seen += 1
        at += 1 if looks_at_all else 1 + draw(count - 1)
        if at >= count:
            at -= count
        looks += 1
    if best is None:
        at = scan(hosts, at, selection)
        if at >= 0:
            best = hosts[at]
    return best


class LeastRequest(LeastLoaded):
    """Goes by active requests."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self.take_turns(options)

    def load(self, host: Host) -> float:
        return float(host.active_requests)


class LeastConnection(LeastLoaded):
    """Goes by open connections."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self.take_turns(options)

    def load(self, host: Host) -> float:
        return float(host.active_connections)
