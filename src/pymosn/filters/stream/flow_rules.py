"""Sentinel's flow rules: how many requests for a resource pass in a time, and what becomes of the others."""

from __future__ import annotations

from typing import Any, Final

from pymosn.filters.stream.problems import Problems

#: `tokenCalculateStrategy`.
DIRECT: Final = 0
WARM_UP: Final = 1
#: `controlBehavior`.
REJECT: Final = 0
THROTTLE: Final = 1
#: `relationStrategy`.
ASSOCIATED: Final = 1
#: Answer of `Rule.wait`: the request does not pass.
BLOCKED: Final = -1.0

BUCKETS: Final = 10


class Window:
    """Counts what happened in the last `interval` seconds, in tenths of it that move on with the time."""

    def __init__(self, interval: float) -> None:
        self._width = interval / BUCKETS
        self._counts = [0] * BUCKETS
        self._last = -1

    def add(self, now: float) -> None:
        """One more."""
        self._move(now)
        self._counts[self._last % BUCKETS] += 1

    def total(self, now: float) -> int:
        """How many."""
        self._move(now)
        return sum(self._counts)

    def _move(self, now: float) -> None:
        current = int(now / self._width)
        if current <= self._last:
            return
        for number in range(max(self._last + 1, current - BUCKETS + 1), current + 1):
            self._counts[number % BUCKETS] = 0
        self._last = current


class Windows:
    """The windows of all resources that a set of rules counts."""

    def __init__(self) -> None:
        self._of: dict[bytes, dict[float, Window]] = {}

    def window(self, resource: bytes, interval: float) -> Window:
        """The window of a resource, made when absent."""
        return self._of.setdefault(resource, {}).setdefault(interval, Window(interval))

    def count(self, resource: bytes, now: float) -> None:
        """A request for `resource` passes."""
        for window in self._of.get(resource, {}).values():
            window.add(now)


class WarmUp:
    """How much may pass while what is behind is cold: a part at first, all of it when it has been in use for a while.

    Sentinel's reckoning, which is Guava's: tokens gather while little passes; the more there are, the slower it goes.
    """

    def __init__(self, threshold: float, period: float, cold_factor: int) -> None:
        self._threshold = threshold
        self._cold_rate = threshold / cold_factor
        self._warning = period * threshold / (cold_factor - 1)
        self._most = self._warning + 2.0 * period * threshold / (1.0 + cold_factor)
        self._slope = (cold_factor - 1.0) / threshold / (self._most - self._warning)
        self._stored = self._most
        self._filled = -1

    def allowed(self, passed: float, now: float) -> float:
        """How many may pass in a second; `passed`: how many did in the last one."""
        second = int(now)
        if second > self._filled:
            if self._filled >= 0:
                if self._stored < self._warning or passed < self._cold_rate:
                    self._stored = min(self._most, self._stored + (second - self._filled) * self._threshold)
                self._stored = max(0.0, self._stored - passed)
            self._filled = second
        if self._stored < self._warning:
            return self._threshold
        return 1.0 / ((self._stored - self._warning) * self._slope + 1.0 / self._threshold)


class Rule:
    """One rule, with one worker's part of its threshold."""

    def __init__(self, config: Any, resource: bytes, counted: bytes, threshold: float, windows: Windows) -> None:
        """`counted`: the resource whose requests are counted, which may be another one."""
        self._threshold = threshold
        self._interval: float = (config.statIntervalInMs or 1000) / 1000.0
        self._throttles: bool = config.controlBehavior == THROTTLE
        self._most_wait: float = config.maxQueueingTimeMs / 1000.0
        self._window = windows.window(counted, self._interval)
        self._warm_up: WarmUp | None = None
        if config.tokenCalculateStrategy == WARM_UP and threshold > 0:
            self._warm_up = WarmUp(threshold, config.warmUpPeriodSec, config.warmUpColdFactor or 3)
            self._per_second = windows.window(resource, 1.0)
        # When the last request that was let through may go on.
        self._last = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds that a request must wait, or BLOCKED. Whoever waits has got its place."""
        allowed = self._threshold
        if self._warm_up is not None:
            allowed = self._warm_up.allowed(self._per_second.total(now), now)
        if allowed <= 0:
            return BLOCKED
        if not self._throttles:
            return BLOCKED if self._window.total(now) + 1 > allowed else 0.0
        turn = max(now, self._last + self._interval / allowed)
        if turn - now > self._most_wait:
            return BLOCKED
        self._last = turn
        return turn - now


def check_rule(rule: Any, path: str, problems: Problems) -> None:
    """Adds what is wrong with a rule of the configuration, and what of Sentinel is not built."""
    if not rule.resource:
        problems.add(f"{path}.resource", "a rule needs a resource")
    if rule.threshold < 0:
        problems.add(f"{path}.threshold", "must be 0 or more")
    if rule.tokenCalculateStrategy not in (DIRECT, WARM_UP):
        problems.add(f"{path}.tokenCalculateStrategy", "only 0 (direct) and 1 (warm-up) are built")
    if rule.controlBehavior not in (REJECT, THROTTLE):
        problems.add(f"{path}.controlBehavior", "must be 0 (reject) or 1 (throttling)")
    if rule.relationStrategy not in (0, ASSOCIATED):
        problems.add(f"{path}.relationStrategy", "must be 0 (the resource itself) or 1 (refResource)")
    if rule.relationStrategy == ASSOCIATED and not rule.refResource:
        problems.add(f"{path}.refResource", "relationStrategy 1 needs it")
    if rule.tokenCalculateStrategy == WARM_UP:
        if rule.warmUpPeriodSec <= 0:
            problems.add(f"{path}.warmUpPeriodSec", "warm-up needs more than 0 seconds")
        if rule.warmUpColdFactor in (1,) or rule.warmUpColdFactor < 0:
            problems.add(f"{path}.warmUpColdFactor", "must be 2 or more, or 0 for 3")
