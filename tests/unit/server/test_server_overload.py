"""The ladder and the measuring, with memory that the test invents."""

import asyncio
import mmap
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit import Lines

from pymosn.assembly.share import descriptor_ceiling
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import Overload
from pymosn.observe.logs import LogSet
from pymosn.server.overload import OverloadManager
from pymosn.server.resources import Statm, descriptor_count
from pymosn.server.trimming import LEAST_GAP, MOST_GAP

MIB = 1 << 20
SHARE = "its share of the memory limit, which is"


class Bench:
    def __init__(self, container: int = 0, workers: int = 1, **keys: float) -> None:
        self.loop = asyncio.new_event_loop()
        self.runtime = WorkerRuntime(workers, 0, self.loop, LogSet("stdout", "FATAL"))
        self.runtime.log = self.log = Lines()
        self.runtime.active.overload = Overload(**keys)  # type: ignore[arg-type]
        self.used = 0
        self.freed = 0
        self.relieved = 0
        self.trims = 0
        self.vitals = OverloadManager(self.runtime, lambda: self.used, container, self.relieve, self.trim)

    def relieve(self) -> None:
        self.relieved += 1
        self.used -= self.freed

    def trim(self) -> None:
        self.trims += 1
        self.used -= self.freed

    def stage(self, used: int) -> int:
        self.used = used
        self.vitals.check()
        return int(self.runtime.runtime.overload.level)

    def shown(self, key: str) -> int:
        groups = {group["type"]: group for group in self.runtime.metrics.snapshot()}
        return {**groups["worker"]["gauges"], **groups["worker"]["counters"]}[key]


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.loop.close()


def test_up_and_down_the_ladder(benches: list[Bench]) -> None:
    bench = Bench(memory_limit=100 * MIB)
    benches.append(bench)
    steps = [
        (50, 0),
        (79, 0),
        (80, 1),
        (89, 1),
        (90, 2),
        (95, 3),
        (120, 3),
        (93, 3),
        (91, 2),
        (88, 2),
        (86, 1),
        (78, 1),
        (76, 0),
    ]
    assert [bench.stage(used * MIB) for used, _ in steps] == [stage for _, stage in steps]
    assert bench.runtime.admission.is_accepting
    assert bench.log.lines == [
        "memory 80 MiB of 100 MiB: disabling keep-alive",
        "memory 90 MiB of 100 MiB: rejecting requests with 503",
        "memory 95 MiB of 100 MiB: no longer accepting connections",
        "memory 91 MiB of 100 MiB: rejecting requests with 503",
        "memory 86 MiB of 100 MiB: disabling keep-alive",
        "memory 76 MiB of 100 MiB: normal operation resumed",
    ]
    assert bench.shown("overload_total") == 3
    assert bench.shown("accept_pauses") == 1


def test_a_jump_takes_all_steps_at_once(benches: list[Bench]) -> None:
    bench = Bench(memory_limit=100 * MIB)
    benches.append(bench)
    assert bench.stage(99 * MIB) == 3
    assert not bench.runtime.admission.is_accepting
    assert [bench.shown(f"overload_{step}") for step in ("no_keep_alive", "shed", "stop_accept")] == [1, 1, 1]
    assert bench.shown("memory_rss") == 99 * MIB
    assert bench.stage(10 * MIB) == 0
    assert [bench.shown(f"overload_{step}") for step in ("no_keep_alive", "shed", "stop_accept")] == [0, 0, 0]


def test_memory_is_released_before_requests_are_rejected(benches: list[Bench]) -> None:
    bench = Bench(memory_limit=100 * MIB)
    benches.append(bench)
    bench.freed = 30 * MIB
    assert bench.stage(95 * MIB) == 0
    assert bench.relieved == 1
    bench.freed = 0
    bench.stage(92 * MIB)
    for _ in range(10):
        bench.stage(92 * MIB)
    assert 3 <= bench.relieved <= 5, "not at every look"


def test_memory_is_returned_after_a_peak(benches: list[Bench]) -> None:
    bench = Bench()
    benches.append(bench)
    bench.freed = 150 * MIB
    for used in (50, *[200] * LEAST_GAP):
        assert bench.trims == 0
        bench.stage(used * MIB)
    assert bench.trims == 1
    assert bench.shown("memory_rss") == 50 * MIB
    assert bench.shown("memory_returned") == 150 * MIB
    assert not bench.log.lines, "nothing is wrong"
    for _ in range(2 * MOST_GAP):
        bench.stage(50 * MIB)
    assert bench.trims == 1


def test_memory_that_was_returned_because_it_was_short_counts_too(benches: list[Bench]) -> None:
    bench = Bench(memory_limit=100 * MIB)
    benches.append(bench)
    for _ in range(LEAST_GAP - 1):
        bench.stage(50 * MIB)
    bench.freed = 20 * MIB
    bench.stage(85 * MIB)
    assert bench.relieved == 1
    assert bench.shown("memory_returned") == 20 * MIB
    bench.freed = 0
    for _ in range(LEAST_GAP):
        bench.stage(65 * MIB)
    assert bench.trims == 0


@pytest.mark.parametrize(
    ("container", "configured", "expected"),
    [(0, 0, 0), (1024 * MIB, 0, 480 * MIB), (1024 * MIB, -1, 0), (1024 * MIB, 7 * MIB, 7 * MIB), (0, 7 * MIB, 7 * MIB)],
)
def test_where_the_limit_comes_from(benches: list[Bench], container: int, configured: int, expected: int) -> None:
    bench = Bench(container, workers=2, memory_limit=configured)
    benches.append(bench)
    assert bench.vitals.limit == expected
    assert bench.stage(1 << 40) == (3 if expected else 0)


@pytest.mark.parametrize(
    ("container", "keys", "used", "text"),
    [
        (
            256,
            {},
            90,
            f"{SHARE} 96 MiB: (256 MiB - 64 MiB for the supervisor) / 2 workers; 1 would have enough",
        ),
        (100, {}, 46, f"{SHARE} 25 MiB: (100 MiB - 50 MiB for the supervisor) / 2 workers"),
        (256, {"memory_limit": 20 * MIB}, 38, "servers[0].overload.memory_limit, which is 20 MiB"),
        (0, {"memory_limit": 41 * MIB}, 38, "servers[0].overload.memory_limit, which is 41 MiB"),
    ],
)
def test_a_worker_that_could_not_serve_is_explained(
    benches: list[Bench], container: int, keys: dict[str, int], used: int, text: str
) -> None:
    bench = Bench(container * MIB, workers=2, **keys)
    benches.append(bench)
    bench.used = used * MIB
    expected = f"a worker uses {used} MiB before its first request, too much for {text}"
    assert bench.vitals.shortage("before its first request") == expected
    bench.freed = 25 * MIB
    assert not bench.vitals.shortage("before its first request"), "collecting garbage helps"


def test_memory_that_traffic_uses_prevents_no_change(benches: list[Bench]) -> None:
    bench = Bench(memory_limit=100 * MIB)
    benches.append(bench)
    bench.used = 85 * MIB
    assert not bench.vitals.shortage("with this configuration"), "requests are still served"
    bench.used = 95 * MIB
    assert bench.vitals.shortage("with this configuration")
    assert bench.stage(95 * MIB) == 3
    assert not bench.vitals.shortage("with this configuration"), "the change is not the reason"


def test_measuring_this_process(tmp_path: Path) -> None:
    before = Statm().rss()
    assert before > 4 * MIB
    with mmap.mmap(-1, 32 * MIB) as ballast:  # the allocator may have as much at hand
        ballast.write(b"x" * (32 * MIB))
        assert Statm().rss() - before > 24 * MIB
    assert Statm(str(tmp_path / "missing")).rss() == 0
    count = descriptor_count()
    with socket.socket(), socket.socket():
        assert descriptor_count() == count + 2


def test_descriptors_kept_for_everything_else() -> None:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert descriptor_ceiling(0) == limit - limit // 4
    assert descriptor_ceiling(100) == limit - 100
    assert descriptor_ceiling(limit * 2) == limit - limit * 3 // 4
