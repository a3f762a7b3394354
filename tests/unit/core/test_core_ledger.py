"""Counters that survive a crash: the memory that a worker shares, and what the supervisor reads of it."""

import mmap
import os
from collections.abc import Iterator

import pytest

from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.core.ledger import CELLS, NAMES_SIZE, SIZE, Ledger, ledger_name, read_ledger
from pymosn.server.worker_process import WorkerHandle

KEY = ("downstream", (("listener", "a"),))


class Page:
    def __init__(self) -> None:
        self._file = os.memfd_create("ledger")
        os.ftruncate(self._file, SIZE)
        self.memory = mmap.mmap(self._file, SIZE)

    def content(self) -> bytes:
        return os.pread(self._file, SIZE, 0)

    def close(self) -> None:
        os.close(self._file)


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page()
    yield made
    made.close()


def stats_on(page: Page) -> tuple[Metrics, DownstreamStats]:
    metrics = Metrics()
    metrics.ledger.attach(page.memory)
    return metrics, DownstreamStats(metrics.group("downstream", ("listener", "a")))


def test_every_value_can_be_read(page: Page) -> None:
    stats = stats_on(page)[1]
    for number in range(1, 700):
        stats.count_status(200)
        if number % 3 == 0:
            stats.count_status(401)
        found = read_ledger(page.content())[KEY]
        assert found["request_200_total"] == number
        assert found.get("code_401", 0) == number // 3


def test_an_unused_ledger_is_empty(page: Page) -> None:
    stats_on(page)
    assert read_ledger(page.content()) == {}
    DownstreamStats(Metrics().group("downstream", ("listener", "a"))).count_status(200)  # without a file


def test_more_counters_than_there_is_room_for(page: Page) -> None:
    ledger = Ledger()
    ledger.attach(page.memory)
    cells = {ledger.cell(f"t\0{number}") for number in range(CELLS + 10)}
    assert max(cells) == CELLS - 1
    assert len(read_ledger(page.content())[("t", ())]) == CELLS - 2
    assert ledger.cell("x" * NAMES_SIZE) == CELLS - 1


def test_a_damaged_record_ends_the_list(page: Page) -> None:
    stats = stats_on(page)[1]
    stats.count_status(200)
    stats.count_status(404)
    content = bytearray(page.content())
    content[0:4] = (NAMES_SIZE).to_bytes(4, "little")
    assert read_ledger(bytes(content)) == {}


def test_a_worker_that_is_killed_between_two_writes(page: Page) -> None:
    class Killed(Exception):
        pass

    class Cells:
        def __setitem__(self, at: int, value: int) -> None:
            raise Killed

    stats = stats_on(page)[1]
    stats._cells = Cells()  # type: ignore[assignment]
    for _ in range(127):
        stats.count_status(200)
    with pytest.raises(Killed):
        stats.count_status(200)
    assert read_ledger(page.content())[KEY]["request_200_total"] == 128


def test_a_page_of_another_size_and_other_separators_are_left_out(page: Page) -> None:
    metrics, stats = stats_on(page)
    DownstreamStats(metrics.group("downstream", ("listener", "a\0b"))).count_status(200)
    stats.count_status(404)
    assert read_ledger(page.content()) == {KEY: {"request_404_total": 1}}
    assert read_ledger(page.content()[:-1]) == {}


def test_a_listener_that_comes_back_begins_at_0(page: Page) -> None:
    metrics, stats = stats_on(page)
    for status in (200, 401):
        stats.count_status(status)
    metrics.drop("downstream", ("listener", "a"))
    stats.count_status(401)  # one that was in flight
    again = DownstreamStats(metrics.group("downstream", ("listener", "a")))
    again.count_status(200)
    found = read_ledger(page.content())[KEY]
    assert (found["request_200_total"], found["code_401"]) == (1, 0)


def test_labels_may_have_any_text() -> None:
    assert ledger_name("t", (("a", "x y"), ("b", "\udce4")), "k") == "t\0k\0a\0x y\0b\0\udce4"


def test_the_supervisor_adds_what_was_not_reported(page: Page) -> None:
    metrics, stats = stats_on(page)
    worker = WorkerHandle(1, 4711)
    for status in (200, 200, 401):
        stats.request_total.value += 1
        stats.count_status(status)
    stats.count_failure("no_route")
    stats.count_reason("no_route")  # a connection
    worker.add_stats(metrics.snapshot(), [])
    for status in (200, 429, 500):
        stats.request_total.value += 1
        stats.count_status(status)
    stats.count_failure("no_route")
    stats.count_failure("overload")
    before = worker.stats[KEY]
    worker.add_ledger(page.content())
    counters = worker.stats[KEY]["counters"]
    assert (counters["request_200_total"], counters["code_401"], counters["code_429"]) == (3, 1, 1)
    assert (counters["request_500_total"], counters["request_other_code"]) == (1, 2)
    assert (counters["request_total"], counters["request_failed"]) == (6, 3)
    assert (counters["failed_no_route"], counters["reason_no_route"]) == (2, 3)
    assert (counters["failed_overload"], counters["reason_overload"]) == (1, 1)
    assert before["counters"]["request_200_total"] == 2, "reports are never changed"


def test_a_worker_that_never_reported(page: Page) -> None:
    stats_on(page)[1].count_status(200)
    worker = WorkerHandle(1, 4711)
    worker.add_ledger(page.content())
    assert worker.stats[KEY]["counters"]["request_200_total"] == 1


def test_a_removed_listener_stays_removed(page: Page) -> None:
    metrics, stats = stats_on(page)
    stats.count_status(200)
    worker = WorkerHandle(1, 4711)
    worker.add_stats(metrics.snapshot(), [])
    worker.add_stats([], [KEY])
    worker.add_ledger(page.content())
    assert worker.stats == {}
