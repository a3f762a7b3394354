"""One worker's limits on what a cluster uses at the same time (`circuit_breakers`, key reference section 8.2)."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.upstream.plan import LimitPlan


class Limit:
    """The maximum number of concurrent uses of a resource; a `limit` of 0 means unlimited."""

    def __init__(self, limit: i64) -> None:
        self.limit: i64 = limit
        self.active: i64 = 0

    def try_acquire(self) -> bool:
        """Acquires one use; returns False if the limit is reached."""
        if self.is_reached():
            return False
        self.active += 1
        return True

    def is_reached(self) -> bool:
        """Whether `try_acquire` would fail."""
        return 0 < self.limit <= self.active

    def release(self) -> None:
        """Releases one use that `try_acquire` granted."""
        self.active -= 1


class Limits:
    """The limits of one cluster. They outlive its snapshots, so that current uses stay counted when the limits change."""

    def __init__(self, plan: LimitPlan) -> None:
        self.connections = Limit(plan.connections)
        self.pending = Limit(plan.pending)
        self.requests = Limit(plan.requests)
        #: Requests in their second or later attempt.
        self.retries = Limit(plan.retries)

    def activate(self, plan: LimitPlan) -> None:
        """Applies new limits; uses that exceed them may finish."""
        self.connections.limit = plan.connections
        self.pending.limit = plan.pending
        self.requests.limit = plan.requests
        self.retries.limit = plan.retries


def worker_share(limit: int, workers: int, worker: int = -1) -> int:
    """One worker's share of a limit.

    The shares add up to the limit, or to one per worker if that is more. `worker`: index from 0; a worker without an index
    gets no part of the remainder.
    """
    if limit <= 0:
        return 0
    share, remainder = divmod(limit, max(1, workers))
    return max(1, share + (1 if 0 <= worker < remainder else 0))
