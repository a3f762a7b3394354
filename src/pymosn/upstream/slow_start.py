"""Growing weight for hosts that have just become healthy (key reference section 8.3)."""

from __future__ import annotations

import math

from pymosn.api.upstream import Host


class SlowStart:
    """Weights grow from a small share to the whole within `duration` seconds of a host's becoming healthy."""

    def __init__(self, duration: float, aggression: float, min_weight_percent: float) -> None:
        """`aggression`: 1 grows in a line, more grows faster at first. `min_weight_percent`: a share, 0.1 is 10 %."""
        self.duration = duration
        self._exponent = 1.0 / aggression if aggression > 0.0 else 1.0
        self._least = min_weight_percent

    def factor(self, host: Host, now: float) -> float:
        """What part of its weight `host` has at `now`, above 0.0 and up to 1.0."""
        elapsed = now - host.healthy_since
        if elapsed >= self.duration:
            return 1.0
        share = max(0.0, elapsed / self.duration)
        # A weight of nothing would never be looked at again.
        return max(self._least, math.pow(share, self._exponent), 0.001)
