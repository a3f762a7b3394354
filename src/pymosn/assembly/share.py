"""One worker's share of limits that apply to the whole process, and of the process's file descriptors."""

from __future__ import annotations

import resource

import msgspec

from pymosn.upstream.limits import worker_share


class WorkerShare(msgspec.Struct, frozen=True):
    """One of `count` workers. `index`: from 0; -1 for a worker that does not know it."""

    count: int = 1
    index: int = 0

    def of(self, limit: int) -> int:
        """This worker's share of `limit`; 0 is no limit."""
        return worker_share(limit, self.count, self.index)


def descriptor_ceiling(reserve: int) -> int:
    """Descriptors for clients if `reserve` (0: a quarter) are kept for everything else; 0 is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 0
    return limit - min(reserve or limit // 4, limit * 3 // 4)
