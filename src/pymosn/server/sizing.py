"""The number of workers and of open files."""

import contextlib
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


def raise_open_file_limit() -> None:
    """Raises the soft limit of open files to the hard one, as Go does: the usual 1024 is for programs that use select().

    Child processes inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
