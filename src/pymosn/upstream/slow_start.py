"""Gradual traffic increase for hosts that have become healthy (key reference section 8.3)."""

from __future__ import annotations

import math

from pymosn.api.upstream import Host


class SlowStart:
    """Raises a host's weight from a small share to its full value within `duration` seconds after it became healthy."""

    def __init__(self, duration: float, aggression: float, min_weight_percent: float) -> None:
        """`aggression`: 1 is linear, more grows faster at first. `min_weight_percent`: initial share, 0.1 is 10 %."""
        self.duration = duration
        self._exponent = 1.0 / aggression if aggression > 0.0 else 1.0
        self._least = min_weight_percent

    def factor(self, host: Host, now: float) -> float:
        """The share of its weight that `host` has at `now`, above 0.0 and up to 1.0."""
        elapsed = now - host.healthy_since
        if elapsed >= self.duration:
            return 1.0
        share = max(0.0, elapsed / self.duration)
        # A zero weight would never be scheduled again.
        return max(self._least, math.pow(share, self._exponent), 0.001)
