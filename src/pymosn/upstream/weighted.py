"""Weighted round robin by earliest deadline first."""

from __future__ import annotations

import heapq
from typing import Final

from mypy_extensions import i64

from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.upstream.selection import BalancerOptions, draw

#: Picks that are made in advance, at most, so that workers do not all begin with the heaviest host.
MAX_OFFSET: Final[i64] = 256


class _Entry:
    """A host's place in the schedule: its n-th turn since `_start` is due at `_start` + n / weight.

    Counting turns, not adding up fractions, makes the turns of one cycle exactly as many as the weights say.
    """

    def __init__(self, host: Host, order: i64) -> None:
        self.host = host
        self.order: i64 = order
        self.due: float = 0.0
        self._start: float = 0.0
        self._turns: i64 = 0
        self._weight: float = 0.0

    def advance(self, weight: float) -> None:
        """Its turn is over; the next one comes by `weight`."""
        if weight != self._weight:
            self._start = self.due
            self._turns = 0
            self._weight = weight
        self._turns += 1
        if float(self._turns) >= weight and weight >= 1.0:
            self._start += float(self._turns) / weight
            self._turns = 0
            self.due = self._start
        else:
            self.due = self._start + float(self._turns) / weight

    def skip_to(self, now: float) -> None:
        """The turn is lost; the next one comes as if this one had been taken at `now`."""
        self.due = now
        weight = self._weight
        self._weight = 0.0
        self.advance(weight)


class EarliestDeadline(Balancer):
    """Base of balancers that give each host turns in proportion to a weight, spread as evenly as possible."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self._clock = options.clock
        self._slow_start = options.slow_start
        self._heap: list[tuple[float, int, _Entry]] = []

    def fill(self) -> None:
        """Puts all hosts into the schedule, and goes some way into it."""
        total: i64 = 0
        for order, host in enumerate(self.hosts):
            entry = _Entry(host, order)
            entry.advance(self.weight(host))
            self._heap.append((entry.due, order, entry))
            total += host.weight
        heapq.heapify(self._heap)
        for _ in range(int(draw(min(total, MAX_OFFSET)))):
            self.choose(NO_CONSTRAINTS)

    def weight(self, host: Host) -> float:
        """What `host` weighs now."""
        slow_start = self._slow_start
        if slow_start is None:
            return float(host.weight)
        return float(host.weight) * slow_start.factor(host, self._clock.now)

    def choose(self, selection: Selection) -> Host | None:
        heap = self._heap
        if not heap:
            return None
        entry = heap[0][2]
        host = entry.host
        if selection.allows(host):
            entry.advance(self.weight(host))
            heapq.heapreplace(heap, (entry.due, int(entry.order), entry))
            return host
        return self._choose_later(selection)

    def _choose_later(self, selection: Selection) -> Host | None:
        """The host whose turn it is will not do: the next one that will."""
        heap = self._heap
        passed: list[_Entry] = []
        chosen: _Entry | None = None
        while heap and chosen is None:
            entry = heapq.heappop(heap)[2]
            if selection.allows(entry.host):
                chosen = entry
            else:
                passed.append(entry)
        if chosen is None:
            chosen = self._second_choice(passed, selection)
        for entry in passed:
            # A sick host's turn is lost, or it would get all of them at once later. One that was tried keeps its turn.
            if chosen is not None and not selection.can_use(entry.host):
                entry.skip_to(chosen.due)
            heapq.heappush(heap, (entry.due, int(entry.order), entry))
        if chosen is None:
            return None
        chosen.advance(self.weight(chosen.host))
        heapq.heappush(heap, (chosen.due, int(chosen.order), chosen))
        return chosen.host

    def _second_choice(self, passed: list[_Entry], selection: Selection) -> _Entry | None:
        """Of the hosts that were tried the one whose turn it is, but the one tried last only when it is alone."""
        second: i64 = -1
        for place, entry in enumerate(passed):
            if selection.can_use(entry.host):
                if not selection.was_last(entry.host):
                    return passed.pop(place)
                second = place
        return passed.pop(second) if second >= 0 else None


class WeightedRoundRobin(EarliestDeadline):
    """Turns in proportion to the hosts' weights: exactly so within each cycle while all are healthy."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self.fill()
