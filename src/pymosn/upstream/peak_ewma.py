"""The host with the lowest expected latency: recent latency times active requests."""

from __future__ import annotations

import math
import random
from typing import Final

from pymosn.api.upstream import Host, LatencyAverage, Selection
from pymosn.upstream.least_loaded import LeastLoaded, best_of
from pymosn.upstream.selection import BalancerOptions

#: Cost of a second request at a host without measurements: one is enough to measure it.
UNKNOWN: Final[float] = 1e9
#: Load of a host that is left out of this choice; it is selected only if all are.
SITTING_OUT: Final[float] = 1e18


class PeakEwma(LeastLoaded):
    """Selects the best of `choice_count` hosts by latency x (active + 1) ** bias / (share of success x weight).

    A host in slow start takes part in a growing share of the choices.
    """

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._client_bias = options.plan.client_error_bias
        self._server_bias = options.plan.server_error_bias
        for host in hosts:
            if host.latency is None:
                host.latency = LatencyAverage()

    def choose(self, selection: Selection) -> Host | None:
        return best_of(self, self.hosts, self._choices, selection)

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
