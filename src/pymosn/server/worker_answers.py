"""What several workers have answered to the same command."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pymosn.config.diagnostics import Diagnostic
from pymosn.control.plane import ExchangesView
from pymosn.server.messages import Allocations, Exchanges
from pymosn.server.worker_process import WorkerHandle


def errors_of(
    asked: Iterable[WorkerHandle], answered: Callable[[WorkerHandle], int], change: int, timeout: float
) -> list[Diagnostic]:
    """The errors that live workers found in a change, and those that have not `answered` it in `timeout` seconds."""
    errors: list[Diagnostic] = []
    for worker in asked:
        if worker.has_exited:
            continue
        if answered(worker) < change:
            errors.append(Diagnostic(message=f"worker {worker.worker_id} did not answer within {timeout:g} s"))
        else:
            errors += [error for error in worker.errors if error not in errors]
    return errors


def sum_of_allocations(answers: Iterable[Allocations]) -> list[tuple[str, int, int]]:
    """The allocations of all: `file:line`, bytes, blocks; those with the most bytes first."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for answer in answers:
        for line, size, count in answer.lines:
            sizes[line] += size
            counts[line] += count
    return [(line, size, counts[line]) for line, size in sizes.most_common()]


def joined_stories(answers: Iterable[tuple[int, Exchanges]], limit: int) -> ExchangesView:
    """The stories of exchanges of several workers, by their ids, as one; at most `limit` of each kind."""
    failed: list[dict[str, Any]] = []
    slow: list[dict[str, Any]] = []
    missed = 0
    for worker_id, answer in answers:
        failed += [{"worker": worker_id, **story} for story in answer.failed]
        slow += [{"worker": worker_id, **story} for story in answer.slow]
        missed += answer.missed
    failed.sort(key=lambda story: story["time"], reverse=True)
    slow.sort(key=lambda story: story["duration"], reverse=True)
    return {"failed": failed[:limit], "slow": slow[:limit], "missed": missed}


def crashes(asked: Sequence[WorkerHandle]) -> list[Diagnostic]:
    """The errors if all of these workers have died; none if one lives: it has passed the same change."""
    dead = [worker.worker_id for worker in asked if worker.has_exited]
    if len(dead) < len(asked):
        return []
    return [Diagnostic(message=f"worker {worker_id} died while building the configuration") for worker_id in dead]
