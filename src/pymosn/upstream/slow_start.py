"""Gradual traffic increase for hosts that have become healthy (key reference section 8.3)."""

from __future__ import annotations

import math

from pymosn.api.upstream import Host
from pymosn.upstream.plan import SlowStartPlan


class SlowStart:
    """Raises a host's weight from a small share to its full value within `duration` seconds after it became healthy."""

    def __init__(self, plan: SlowStartPlan) -> None:
        self._duration = plan.duration
        self._exponent = 1.0 / plan.aggression if plan.aggression > 0.0 else 1.0
        self._least = plan.min_weight_percent

    def factor(self, host: Host, now: float) -> float:
        """The share of its weight that `host` has at `now`, above 0.0 and up to 1.0."""
        elapsed = now - host.healthy_since
        if elapsed >= self._duration:
            return 1.0
        share = max(0.0, elapsed / self._duration)
        # A zero weight would never be scheduled again.
        return max(self._least, math.pow(share, self._exponent), 0.001)
