"""The host with the fewest requests or connections or the lowest expected latency: the best of a few, or by turns."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import Host, LatencyAverage, Selection
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, draw, scan_host
from pymosn.upstream.weighted import EarliestDeadline

#: Cost of a second request at a host without measurements: one is enough to measure it.
UNKNOWN: Final[float] = 1e9
#: Load of a host that is left out of this choice; it is selected only if all are.
SITTING_OUT: Final[float] = 1e18


class LeastLoaded(EarliestDeadline):
    """Base of balancers that select the host with the least load of `choice_count` random healthy ones."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._choices: i64 = max(1, options.plan.choice_count)
        self._bias = options.plan.active_request_bias

    def load(self, host: Host) -> float:
        """The load of `host`."""
        raise NotImplementedError

    def best_of_few(self, selection: Selection) -> Host | None:
        """The host with the least load of `choice_count` distinct random hosts that are eligible."""
        hosts = self.hosts
        choices = self._choices
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
                load = self.load(host)
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
        self._takes_turns = options.slow_start is not None

    def build(self) -> Iterator[None]:
        first: i64 = self._options.weight(self.hosts[0]) if self.hosts else 0
        for order, host in enumerate(self.hosts):
            if self._options.weight(host) != first:
                self._takes_turns = True
            if order % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        if self._takes_turns:
            yield from self.fill()

    def load(self, host: Host) -> float:
        return float(host.active_requests)

    def weight(self, host: Host) -> float:
        return super().weight(host) / math.pow(self.load(host) + 1.0, self._bias)

    def choose(self, selection: Selection) -> Host | None:
        if self._takes_turns:
            return super().choose(selection)
        return self.best_of_few(selection)


class LeastConnection(LeastRequest):
    """The same by open connections."""

    def load(self, host: Host) -> float:
        return float(host.active_connections)


class PeakEwma(LeastLoaded):
    """By latency x (active + 1) ** bias / (share of success x weight), with recent latencies.

    A host in slow start takes part in a growing share of the choices.
    """

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._client_bias = options.plan.client_error_bias
        self._server_bias = options.plan.server_error_bias

    def build(self) -> Iterator[None]:
        for order, host in enumerate(self.hosts):
            if host.latency is None:
                host.latency = LatencyAverage()
            if order % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield

    def choose(self, selection: Selection) -> Host | None:
        return self.best_of_few(selection)

    def load(self, host: Host) -> float:
        slow_start = self._slow_start
        if slow_start is not None:
            share = slow_start.factor(host, self._clock.now)
            if share < 1.0 and random.random() >= share:
                return SITTING_OUT
        average = host.latency
        if average is None or average.seconds == 0.0:
            return UNKNOWN * float(host.active_requests)
        success = 1.0 - average.client_errors * self._client_bias - average.server_errors * self._server_bias
        load = average.seconds * math.pow(float(host.active_requests) + 1.0, self._bias)
        return load / (max(0.1, success) * float(host.weight))
