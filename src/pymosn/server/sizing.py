"""How many workers, how many open files."""

import os
import resource


def available_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def worker_count(option: int | None, gomaxprocs: str | None, processor: int | float | str, cpus: int) -> int:
    """Workers to run: the command line's `option`, or else GOMAXPROCS, or else the key `processor`, or else `cpus`.

    As in MOSN a value that is no number or below 1 counts as not given.
    """
    for wish in (option, gomaxprocs, processor):
        try:
            count = int(wish) if wish is not None else 0
        except (ValueError, OverflowError):
            continue
        if count >= 1:
            return count
    return max(1, cpus)


def raise_open_file_limit() -> int:
    """Raises the soft limit of open files to the hard one, as the Go runtime does, and returns it; children inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard
