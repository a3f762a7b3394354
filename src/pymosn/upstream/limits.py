"""What a cluster may use at once, in one worker (`circuit_breakers`, key reference section 8.2)."""

from __future__ import annotations

from mypy_extensions import i64

from pymosn.upstream.plan import LimitPlan


class Limit:
    """How many of one thing there may be at once; a `limit` of 0 is none."""

    def __init__(self, limit: i64) -> None:
        self.limit: i64 = limit
        self.active: i64 = 0

    def try_take(self) -> bool:
        """Takes one; False when there is none left."""
        if self.limit > 0 and self.active >= self.limit:
            return False
        self.active += 1
        return True

    def give_back(self) -> None:
        """One that `try_take` gave is free again."""
        self.active -= 1


class Limits:
    """The limits of one cluster. They outlive its snapshots, so that what is in use stays counted when numbers change."""

    def __init__(self, plan: LimitPlan) -> None:
        self.connections = Limit(plan.connections)
        self.pending = Limit(plan.pending)
        self.requests = Limit(plan.requests)
        self.retries = Limit(plan.retries)

    def change(self, plan: LimitPlan) -> None:
        """Sets other numbers; what is in use beyond them is let finish."""
        self.connections.limit = plan.connections
        self.pending.limit = plan.pending
        self.requests.limit = plan.requests
        self.retries.limit = plan.retries

    def try_retry(self) -> bool:
        """Whether one more request may be on its second or later attempt; `end_retry` when it is not any more."""
        return self.retries.try_take()

    def end_retry(self) -> None:
        """A retried request is over."""
        self.retries.give_back()


def worker_share(limit: int, workers: int, worker: int = -1) -> int:
    """One worker's part of a limit.

    Together the parts are the limit, or one for each worker where there are more workers than that. `worker` is its number
    from 0; a worker that does not know its number leaves the remainder of the division to nobody.
    """
    if limit <= 0:
        return 0
    share, remainder = divmod(limit, max(1, workers))
    return max(1, share + (1 if 0 <= worker < remainder else 0))
