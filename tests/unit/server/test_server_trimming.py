"""When a worker returns memory to the system, by measurements that the test invents."""

import pytest

from pymosn.server.trimming import EXCESS, GROWTH, LEAST_GAP, MOST_GAP, SETTLED, TrimPolicy

MIB = 1 << 20


class Worker:
    """Measures once a second; a trim leaves `in_use` bytes."""

    def __init__(self, start: int) -> None:
        self.policy = TrimPolicy()
        self.rss = self.in_use = start
        self.second = 0
        self.trims: list[int] = []

    def passes(self, seconds: int, growth: int = 0) -> None:
        """`growth`: in bytes per second."""
        for _ in range(seconds):
            self.rss += growth
            if self.policy.is_due(self.rss):
                self.trims.append(self.second)
                self.rss = min(self.rss, self.in_use)
                self.policy.on_trimmed(self.rss)
            self.second += 1


def test_memory_that_does_not_change_is_left_alone() -> None:
    worker = Worker(50 * MIB)
    worker.passes(3 * MOST_GAP)
    worker.rss += EXCESS - 1
    worker.passes(3 * MOST_GAP)
    assert worker.trims == []


def test_after_a_peak_it_trims_once() -> None:
    worker = Worker(50 * MIB)
    worker.passes(100)
    worker.rss = 200 * MIB
    worker.passes(1000)
    assert worker.trims == [100 + SETTLED]
    assert worker.rss == 50 * MIB


def test_it_waits_until_memory_has_stopped_growing() -> None:
    worker = Worker(50 * MIB)
    worker.passes(LEAST_GAP)
    worker.passes(60, GROWTH)
    assert worker.trims == []
    worker.passes(SETTLED)
    assert worker.trims == [LEAST_GAP + 60 + SETTLED - 1]


def test_growth_by_a_few_pages_does_not_delay_it() -> None:
    worker = Worker(50 * MIB)
    worker.rss += 20 * MIB
    worker.policy.on_trimmed(50 * MIB)
    worker.passes(LEAST_GAP + SETTLED, 4096)
    assert len(worker.trims) == 1


def test_steady_load_is_trimmed_seldom() -> None:
    worker = Worker(50 * MIB)
    for _ in range(100):
        worker.rss = 100 * MIB
        worker.passes(5)
        worker.rss = 80 * MIB
        worker.passes(5)
    gaps = [later - earlier for earlier, later in zip(worker.trims, worker.trims[1:], strict=False)]
    assert gaps
    assert min(gaps) >= LEAST_GAP
    assert max(gaps) <= LEAST_GAP + 2 * SETTLED


def test_steady_growth_is_trimmed_at_last() -> None:
    worker = Worker(50 * MIB)
    worker.passes(MOST_GAP + 1, GROWTH)
    assert worker.trims == [MOST_GAP]


def test_memory_in_use_is_not_trimmed_again_and_again() -> None:
    worker = Worker(50 * MIB)
    worker.in_use = worker.rss = 300 * MIB
    worker.policy.is_due(50 * MIB)
    worker.passes(LEAST_GAP + 2 * MOST_GAP)
    assert len(worker.trims) == 3, "the first time, and then as seldom as possible"


def test_what_was_in_use_at_the_first_trim_is_returned_later() -> None:
    worker = Worker(50 * MIB)
    worker.passes(1)
    worker.in_use = worker.rss = 300 * MIB
    worker.passes(LEAST_GAP)
    assert (len(worker.trims), worker.rss) == (1, 300 * MIB)
    worker.in_use = 55 * MIB
    worker.passes(MOST_GAP)
    assert (len(worker.trims), worker.rss) == (2, 55 * MIB)
    worker.passes(3 * MOST_GAP)
    assert len(worker.trims) == 2


@pytest.mark.parametrize(("low", "expected"), [(50, 2), (100, 1)])
def test_the_margin_is_above_the_least_since_the_last_trim(low: int, expected: int) -> None:
    worker = Worker(50 * MIB)
    worker.passes(1)
    worker.in_use = worker.rss = 100 * MIB
    worker.passes(LEAST_GAP)
    assert len(worker.trims) == 1
    worker.rss = low * MIB
    worker.passes(LEAST_GAP)
    worker.rss = 100 * MIB
    worker.passes(2 * SETTLED)
    assert len(worker.trims) == expected
