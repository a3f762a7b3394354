"""Weighted round robin by earliest deadline first."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from mypy_extensions import i64, mypyc_attr

from pymosn.api.upstream import NO_CONSTRAINTS, Balancer, Host, Selection
from pymosn.upstream.selection import HOSTS_PER_STEP, BalancerOptions, draw, scan, scan_host

#: Maximum initial picks, so that not all workers start with the heaviest host.
MAX_OFFSET: Final[i64] = 256
#: Entries of hosts that are not eligible that a choice passes over in the schedule, before it scans the list of hosts.
MAX_PASSED: Final = 64


@mypyc_attr(acyclic=True)
class _Entry:
    """A host's position in the schedule: its n-th turn since `_start` is due at `_start` + n / weight.

    Counting turns instead of adding fractions makes the number of turns in a cycle match the weights exactly.
    """

    def __init__(self, host: Host, order: i64) -> None:
        self.host = host
        self.order: i64 = order
        self.due: float = 0.0
        self._start: float = 0.0
        self._turns: i64 = 0
        self._weight: float = 0.0

    def advance(self, weight: float) -> None:
        """Ends the turn and schedules the next one according to `weight`."""
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
        """Skips the turn and schedules the next one as if this one had been taken at `now`."""
        self.due = now
        weight = self._weight
        self._weight = 0.0
        self.advance(weight)


class EarliestDeadline(Balancer):
    """Base of balancers that give each host turns in proportion to a weight, spread as evenly as possible."""

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts)
        self._options = options
        self._clock = options.clock
        self._slow_start = options.slow_start
        self._heap: list[tuple[float, int, _Entry]] = []

    def fill(self) -> Iterator[None]:
        """Schedules all hosts and advances by a random number of turns, in steps."""
        total: i64 = 0
        for order, host in enumerate(self.hosts):
            entry = _Entry(host, order)
            entry.advance(self.weight(host))
            # Not by `heapify`, which is one step.
            heapq.heappush(self._heap, (entry.due, order, entry))
            total += self._options.weight(host)
            if order % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        for _ in range(int(draw(min(total, MAX_OFFSET)))):
            self.choose(NO_CONSTRAINTS)

    def parts(self) -> list[object]:
        return list(self._heap)

    def weight(self, host: Host) -> float:
        """The current weight of `host`."""
        slow_start = self._slow_start
        weight = float(self._options.weight(host))
        if slow_start is None:
            return weight
        return weight * slow_start.factor(host, self._clock.now)

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
        """Returns the next eligible host in the schedule, when the first one is not eligible."""
        heap = self._heap
        passed: list[_Entry] = []
        chosen: _Entry | None = None
        while heap and chosen is None and len(passed) < MAX_PASSED:
            entry = heapq.heappop(heap)[2]
            if selection.allows(entry.host):
                chosen = entry
            else:
                passed.append(entry)
        if chosen is None and heap:
            return self._choose_by_scan(passed, selection)
        if chosen is None:
            chosen = self._second_choice(passed, selection)
        for entry in passed:
            # An unhealthy host loses its turn, or it would get them all at once later. A host that was tried keeps its turn.
            if chosen is not None and not selection.can_use(entry.host):
                entry.skip_to(chosen.due)
            heapq.heappush(heap, (entry.due, int(entry.order), entry))
        if chosen is None:
            return None
        chosen.advance(self.weight(chosen.host))
        heapq.heappush(heap, (chosen.due, int(chosen.order), chosen))
        return chosen.host

    def _choose_by_scan(self, passed: list[_Entry], selection: Selection) -> Host | None:
        """Any eligible host: with most hosts ineligible, a walk through the schedule would take too long."""
        due = passed[-1].due
        for entry in passed:
            if not selection.can_use(entry.host):
                entry.skip_to(due)
            heapq.heappush(self._heap, (entry.due, int(entry.order), entry))
        return scan_host(self.hosts, draw(len(self.hosts)), selection)

    def _second_choice(self, passed: list[_Entry], selection: Selection) -> _Entry | None:
        """Removes the next of the hosts that were tried; the one tried last only if it is the only one."""
        second: i64 = -1
        for index, entry in enumerate(passed):
            if selection.can_use(entry.host):
                if not selection.was_last(entry.host):
                    return passed.pop(index)
                second = index
        return passed.pop(second) if second >= 0 else None


class WeightedRoundRobin(EarliestDeadline):
    """Turns in proportion to the hosts' weights: exact within each cycle while all are healthy.

    Hosts of equal weight, without slow start, need no schedule: they get their turns in the order of the list.
    """

    def __init__(self, hosts: list[Host], options: BalancerOptions) -> None:
        super().__init__(hosts, options)
        self._is_scheduled = options.slow_start is not None
        self._next: i64 = 0

    def build(self) -> Iterator[None]:
        first: i64 = self._options.weight(self.hosts[0]) if self.hosts else 0
        for order, host in enumerate(self.hosts):
            if self._options.weight(host) != first:
                self._is_scheduled = True
                break
            if order % HOSTS_PER_STEP == HOSTS_PER_STEP - 1:
                yield
        self._next = draw(len(self.hosts))
        if self._is_scheduled:
            yield from self.fill()

    def choose(self, selection: Selection) -> Host | None:
        if self._is_scheduled:
            return super().choose(selection)
        at = scan(self.hosts, self._next, selection)
        if at < 0:
            return None
        self._next = at + 1
        return self.hosts[at]
