"""How many workers, how many open files."""

import os
import resource

from pymosn.config.schema.server import count_of


def available_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def worker_count(option: int | None, gomaxprocs: str | None, processor: int | float | str, cpus: int) -> int:
    """Workers to run: the command line's `option`, or else GOMAXPROCS, or else the key `processor`, or else `cpus`.

    As in MOSN a value below 1 or not a number counts as not given.
    """
    return count_of(option) or count_of(gomaxprocs) or count_of(processor) or max(1, cpus)


def raise_open_file_limit() -> int:
    """Raises the soft limit of open files to the hard one, as the Go runtime does, and returns it; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard
