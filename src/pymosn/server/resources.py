"""Resources of this process: memory, garbage, open files."""

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
from collections.abc import Callable, Collection, Iterator
from typing import Final

from pymosn.core.errors import printable

#: Seconds between a change and the collection of the objects that it replaced.
GARBAGE_DELAY: Final = 1.0
#: glibc's numbers of these parameters, and their values: free memory that is kept, and the smallest block that is mapped.
_TRIM_THRESHOLD: Final = -1, 4 << 20
_MMAP_THRESHOLD: Final = -3, 1 << 20
#: Routes, used hosts and connections from which on a collection would take more than some milliseconds.
MANY: Final = 2000
#: Changes of a large configuration, of which one is followed by a full collection.
FULL_EACH: Final = 1000


class Statm:
    """The resident memory of this process, from /proc; 0 where /proc is not available."""

    def __init__(self, path: str = "/proc/self/statm") -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def rss(self) -> int:
        """The resident set size in bytes."""
        if self._descriptor < 0:
            return 0
        return int(os.pread(self._descriptor, 128, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def keep_freed() -> None:
    """Makes freed memory stay in this process, some megabytes at most.

    Bodies come in blocks of up to 256 KiB, which live for a moment. By default glibc returns 128 KiB of free memory at the
    end of the heap to the system at once: then each MiB of a body costs about a hundred page faults, a quarter of its CPU.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        library = ctypes.CDLL(None)
        for parameter, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            library.mallopt(parameter, value)


def give_back() -> None:
    """Collects garbage and returns free memory to the system, which takes milliseconds."""
    gc.collect()
    trim()


def trim() -> None:
    """Returns the memory of freed blocks to the system, which takes about 0.1 ms for each MiB. glibc only."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def descriptor_count() -> int:
    """Number of open descriptors of this process; 0 where /proc is not available."""
    try:
        # Since 6.2, Linux reports the number as the directory's size; counting thousands each second would be expensive.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0


def raise_open_file_limit() -> None:
    """Raises the soft limit of open files to the hard one, as Go does: the usual 1024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle() -> None:
    """Moves all objects made so far to the permanent generation and makes collections rare.

    A worker calls it before it builds its first configuration: these are the imported modules, whose traversal alone takes
    ten milliseconds. The objects of a request are freed by reference counting; cycles are few. The default of 700
    allocations would start a collection about every ten requests, and each would traverse the young objects of thousands of
    open connections.
    """
    gc.unfreeze()  # objects that an earlier call moved there may be garbage by now
    gc.collect()
    gc.freeze()
    # A collection of so many young objects takes a millisecond or two.
    gc.set_threshold(10_000, 50, 50)


@contextlib.contextmanager
def making_many() -> Iterator[None]:
    """Suspends collections while many objects are made that stay. Later ones do not traverse them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class LargeConfiguration:
    """Keeps the objects of a large configuration from being traversed by collections.

    They are in the permanent generation: blocks have no cycles, so that reference counting frees them. Others may have
    cycles, and would stay for ever: so one time in FULL_EACH everything is collected, which can take a second.
    """

    def __init__(self) -> None:
        self._times = 0

    def set_aside(self) -> None:
        """Moves all objects to the permanent generation; young garbage is collected before."""
        self._times += 1
        if self._times % FULL_EACH == 0:
            gc.unfreeze()
            gc.collect()
        else:
            gc.collect(1)
        gc.freeze()


class GarbageCollection:
    """Collects once after a burst of changes, because each collection blocks the worker for some milliseconds.

    It takes time in proportion to the objects that it traverses; hosts are not among them (`api.stream.PoolTarget`). While
    there are so many others that a request would be delayed, it moves them to the permanent generation instead, and makes
    up for it later. Until then only reference counting frees memory, which is almost all: what remains are replaced filters.
    """

    def __init__(
        self,
        call_later: Callable[..., object],
        size: Callable[[], int] = lambda: 0,
        collect: Callable[[], object] = gc.collect,
        settle: Callable[[], None] = settle,
        freeze: Callable[[], None] = gc.freeze,
    ) -> None:
        """`size`: roughly the number of routes, used hosts and connections."""
        self._call_later = call_later
        self._size = size
        self._collect = collect
        self._settle = settle
        self._freeze = freeze
        self._is_due = False
        self._was_skipped = False

    def after_change(self) -> None:
        """Schedules a collection, because objects have been replaced."""
        if not self._is_due:
            self._is_due = True
            self._call_later(GARBAGE_DELAY, self._run)

    def _run(self) -> None:
        self._is_due = False
        if self._size() > MANY:
            self._was_skipped = True
            self._freeze()
        elif self._was_skipped:
            self._was_skipped = False
            self._settle()
        else:
            self._collect()


async def trace_allocations(seconds: float, files: Collection[str]) -> list[tuple[str, int, int]]:
    """Traces for `seconds`; returns `file:line`, bytes and blocks allocated in `files` meanwhile and still in use."""
    import tracemalloc  # only on demand, as tracing is: it is expensive

    if tracemalloc.is_tracing():
        return []
    tracemalloc.start()
    try:
        await asyncio.sleep(seconds)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    snapshot = snapshot.filter_traces([tracemalloc.Filter(True, file) for file in files] or [tracemalloc.Filter(False, "*")])
    found = snapshot.statistics("lineno")[:20]  # those with the most bytes
    places = [f"{printable(line.traceback[0].filename)}:{line.traceback[0].lineno}" for line in found]
    return [(place, line.size, line.count) for place, line in zip(places, found, strict=True)]
