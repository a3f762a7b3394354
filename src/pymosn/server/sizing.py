"""The number of workers and of open files."""

import contextlib
import os
import resource

from pymosn.config.schema.server import positive_count


def available_cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def worker_count(option: int | None, gomaxprocs: str | None, processor: int | float | str, cpus: int) -> int:
    """Workers to run: `option` of the command line, else GOMAXPROCS, else the key `processor`, else `cpus`.

    As in MOSN, a value that is not a number or below 1 counts as absent.
    """
    return positive_count(option) or positive_count(gomaxprocs) or positive_count(processor) or max(1, cpus)


def raise_open_file_limit() -> None:
    """Raises the soft limit of open files to the hard one, as Go does: the usual 1024 is for programs that use select().

    Child processes inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
