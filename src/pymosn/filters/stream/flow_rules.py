# ruff: noqa: N815 - attribute names are Sentinel's keys
"""Sentinel's flow rules: how many requests for a resource pass in an interval, and what happens to the others."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pymosn.filters.settings import Block, Unsigned, ignored, works
from pymosn.filters.stream.problems import Problems

WARM_UP: Final = 1  # a `tokenCalculateStrategy`
THROTTLE: Final = 1  # a `controlBehavior`
ASSOCIATED: Final = 1  # a `relationStrategy`
#: Result of `Rule.wait`: the request does not pass.
BLOCKED: Final = -1.0

BUCKETS: Final = 10
#: Lowest threshold above 0; calculations with much lower ones would divide by zero.
LOWEST: Final = 1e-6

_OF_MEMORY: Final = "of tokenCalculateStrategy 2, which is rejected"
_OLD_SENTINEL: Final = "of an older Sentinel; MOSN does not read it either"


class FlowRule(Block, kw_only=True):
    """Sentinel's flow rule. Keys of older versions of it are accepted without effect, as in MOSN."""

    id: Annotated[Any, ignored("a name for people")] = None
    resource: Annotated[str, works("the exact value of the request's `limit_key_type`")] = ""
    tokenCalculateStrategy: Annotated[int, works("0 direct, 1 warm-up; 2 (memory) is rejected")] = 0
    controlBehavior: Annotated[int, works("0 reject, 1 throttling")] = 0
    threshold: Annotated[float, works("requests in `statIntervalInMs`; each worker has its share")] = 0.0
    statIntervalInMs: Annotated[Unsigned, works("0: 1000")] = 0
    relationStrategy: Annotated[int, works("0: counts requests of the resource itself, 1: those of `refResource`")] = 0
    refResource: str = ""
    maxQueueingTimeMs: Annotated[Unsigned, works("the longest wait with throttling")] = 0
    warmUpPeriodSec: Unsigned = 0
    warmUpColdFactor: Annotated[Unsigned, works("0: 3")] = 0
    lowMemUsageThreshold: Annotated[Any, ignored(_OF_MEMORY)] = None
    highMemUsageThreshold: Annotated[Any, ignored(_OF_MEMORY)] = None
    memLowWaterMarkBytes: Annotated[Any, ignored(_OF_MEMORY)] = None
    memHighWaterMarkBytes: Annotated[Any, ignored(_OF_MEMORY)] = None
    limitApp: Annotated[Any, ignored(_OLD_SENTINEL)] = None
    grade: Annotated[Any, ignored(_OLD_SENTINEL)] = None
    strategy: Annotated[Any, ignored(_OLD_SENTINEL)] = None


class Window:
    """A sliding window: counts events of the last `interval` seconds, in ten buckets."""

    def __init__(self, interval: float) -> None:
        self._width = interval / BUCKETS
        self._counts = [0] * BUCKETS
        self._last = -1

    def add(self, now: float) -> None:
        """Counts one event."""
        self._move(now)
        self._counts[self._last % BUCKETS] += 1

    def total(self, now: float) -> int:
        """The number of events in the window."""
        self._move(now)
        return sum(self._counts)

    def _move(self, now: float) -> None:
        current = int(now / self._width)
        if current <= self._last:
            return
        for bucket in range(max(self._last + 1, current - BUCKETS + 1), current + 1):
            self._counts[bucket % BUCKETS] = 0
        self._last = current


class Windows:
    """The windows of all resources that a set of rules counts."""

    def __init__(self) -> None:
        self._of: dict[bytes, dict[float, Window]] = {}

    def window(self, resource: bytes, interval: float) -> Window:
        """The window of a resource, created on first use."""
        return self._of.setdefault(resource, {}).setdefault(interval, Window(interval))

    def count(self, resource: bytes, now: float) -> None:
        """Counts a request for `resource` that passes."""
        for window in self._of.get(resource, {}).values():
            window.add(now)


class WarmUp:
    """The limit while the upstream warms up: a fraction at first, the whole threshold after it has been in use for a while.

    Sentinel's algorithm, which is Guava's: tokens accumulate at low load; the more there are, the lower the limit.
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
        """The limit per second; `passed`: the requests of the last second."""
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
    """One rule, with one worker's share of its threshold."""

    def __init__(self, config: FlowRule, resource: bytes, counted: bytes, threshold: float, windows: Windows) -> None:
        """`counted`: the resource whose requests are counted; it may be another one than `resource`."""
        self._threshold = threshold
        self._interval = (config.statIntervalInMs or 1000) / 1000.0
        self._throttles = config.controlBehavior == THROTTLE
        self._longest_wait = config.maxQueueingTimeMs / 1000.0
        self._window = windows.window(counted, self._interval)
        self._warm_up: WarmUp | None = None
        if config.tokenCalculateStrategy == WARM_UP and threshold > 0:
            self._warm_up = WarmUp(threshold, config.warmUpPeriodSec, config.warmUpColdFactor or 3)
            self._per_second = windows.window(resource, 1.0)
        # The time at which the last accepted request continues.
        self._last = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds that a request must wait, or BLOCKED. A wait reserves the slot: the request will pass."""
        allowed = self._threshold
        if self._warm_up is not None:
            allowed = self._warm_up.allowed(self._per_second.total(now), now)
        if allowed <= 0:
            return BLOCKED
        if not self._throttles:
            return BLOCKED if self._window.total(now) + 1 > allowed else 0.0
        turn = max(now, self._last + self._interval / allowed)
        if turn - now > self._longest_wait:
            return BLOCKED
        self._last = turn
        return turn - now


def check_rule(rule: FlowRule, path: str, problems: Problems) -> None:
    """Reports invalid settings of a rule, and features of Sentinel that are not supported."""
    strategy, behavior, relation = rule.tokenCalculateStrategy, rule.controlBehavior, rule.relationStrategy
    warms_up = strategy == WARM_UP
    for is_valid, key, text in (
        (rule.resource != "", "resource", "a rule needs a resource"),
        (rule.threshold == 0 or rule.threshold >= LOWEST, "threshold", f"must be 0, or at least {LOWEST:g}"),
        (strategy in (0, WARM_UP), "tokenCalculateStrategy", "only 0 (direct) and 1 (warm-up) are supported"),
        (behavior in (0, THROTTLE), "controlBehavior", "must be 0 (reject) or 1 (throttling)"),
        (relation in (0, ASSOCIATED), "relationStrategy", "must be 0 (the resource itself) or 1 (refResource)"),
        (relation != ASSOCIATED or rule.refResource != "", "refResource", "relationStrategy 1 needs it"),
        (not warms_up or rule.warmUpPeriodSec > 0, "warmUpPeriodSec", "warm-up needs more than 0 seconds"),
        (not warms_up or rule.warmUpColdFactor != 1, "warmUpColdFactor", "must be 2 or more, or 0 for 3"),
    ):
        problems.require(is_valid, f"{path}.{key}", text)
