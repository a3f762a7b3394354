"""Metrics over generations: counters and histograms never go back, gauges end with their generation."""

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymosn.config.schema import Cluster, Host, Listener, MosnConfig, Server
from pymosn.config.schema.cluster import ClusterManager
from pymosn.core.counters import GroupData, Metrics
from pymosn.core.histograms import BUCKET_BOUNDS, Histogram
from pymosn.observe.totals import labels_of, sum_of
from pymosn.server.upgrade import totals as module
from pymosn.server.upgrade.totals import CHUNK, GenerationTotals, Stats, is_counted

NAMED = "listener", "in"


def group(kind: str = "downstream", *labels: tuple[str, str], gauge: int = 0, **counters: int) -> GroupData:
    gauges = {"active": gauge} if gauge else {}
    return {"type": kind, "labels": list(labels or (NAMED,)), "counters": counters, "gauges": gauges, "histograms": {}}


class Generation:
    """The totals of a generation with workers that report what a test says."""

    def __init__(self, workers: int = 2) -> None:
        self.workers: list[Stats] = [{} for _ in range(workers)]
        self.totals = GenerationTotals()
        self.totals.follow(lambda: self.workers)

    def report(self, worker: int, *groups: GroupData) -> None:
        keys = [(found["type"], labels_of(found["labels"])) for found in groups]
        self.workers[worker].update(zip(keys, groups, strict=True))
        self.totals.note(keys)

    def end(self, worker: int) -> None:
        self.totals.retire(self.workers[worker])
        self.workers[worker] = {}

    def send(self, successor: "Generation") -> int:
        """Reports to the next generation; returns the number of groups."""
        contents = list(self.totals.export())
        for content in contents:
            successor.totals.adopt(content)
        return sum(len(msgspec.msgpack.decode(content)) for content in contents)

    def shown(self) -> dict[str, Any]:
        """Counters and gauges of the listener."""
        for found in sum_of(self.totals.all()):
            if found["type"] == "downstream":
                return {**found["counters"], **found["gauges"]}
        return {}


def test_a_successor_adds_what_it_inherits_and_gauges_until_the_end() -> None:
    old, new = Generation(), Generation()
    old.report(0, group(n=3, gauge=2))
    old.report(1, group(n=4, gauge=1))
    old.totals.begin()
    assert old.send(new) == 1
    new.report(0, group(n=1, gauge=5))
    assert new.shown() == {"n": 8, "active": 8}
    old.report(1, group(n=6))
    assert old.send(new) == 1
    assert new.shown() == {"n": 10, "active": 7}
    old.end(0)
    assert old.send(new) == 1
    assert new.shown() == {"n": 10, "active": 5}
    assert old.send(new) == 0  # nothing has changed


def test_gauges_of_a_predecessor_that_was_killed_end_with_it() -> None:
    old, new = Generation(), Generation()
    old.report(0, group(n=3, gauge=2))
    old.totals.begin()
    old.send(new)
    asyncio.run(new.totals.end_inherited(config()))
    assert new.shown() == {"n": 3}


def test_the_third_generation_has_the_counts_of_both_while_all_are_there() -> None:
    first, second, third = Generation(), Generation(), Generation()
    first.report(0, group(n=1, gauge=1))
    first.totals.begin()
    first.send(second)
    second.report(0, group(n=10, gauge=10))
    second.totals.begin()
    second.send(third)
    third.report(1, group(n=100, gauge=100))
    assert third.shown() == {"n": 111, "active": 111}
    # The first one still drains, and reports to the second one, which reports it to the third one.
    first.report(0, group(n=2, gauge=1))
    first.send(second)
    second.send(third)
    assert third.shown() == {"n": 112, "active": 111}
    asyncio.run(second.totals.end_inherited(config()))
    second.send(third)
    assert third.shown() == {"n": 112, "active": 110}


def test_an_upgrade_that_failed_leaves_the_next_one_a_whole_report() -> None:
    old, failed, new = Generation(), Generation(), Generation()
    old.report(0, group(n=3))
    old.totals.begin()
    old.send(failed)
    old.report(0, group("upstream", ("cluster", "c"), n=1))
    old.totals.begin()
    assert old.send(new) == 2


def test_nothing_is_noted_without_an_upgrade() -> None:
    old = Generation()
    old.report(0, group(n=3))
    assert list(old.totals.export()) == []


def test_many_groups_are_sent_in_parts() -> None:
    old, new = Generation(1), Generation(1)
    old.report(0, *(group("upstream", ("cluster", str(i)), n=1) for i in range(CHUNK * 2 + 1)))
    old.totals.begin()
    assert [len(msgspec.msgpack.decode(content)) for content in old.totals.export()] == [CHUNK, CHUNK, 1]
    old.totals.begin()
    old.send(new)
    assert len(sum_of(new.totals.all())) == CHUNK * 2 + 1


def test_metrics_of_the_process_are_counted_without_their_gauges() -> None:
    old, new = Generation(), Generation()
    checks = Metrics()
    checks.group("healthcheck", ("service", "s")).counter("attempt").value = 3
    checks.group("healthcheck", ("service", "s")).gauge("healty").value = 2
    old.totals.others = checks.snapshot
    old.totals.begin()
    assert old.send(new) == 1
    (found,) = sum_of(new.totals.all())
    assert found["counters"] == {"attempt": 3}
    assert found["gauges"] == {}
    assert old.send(new) == 0
    checks.group("healthcheck", ("service", "s")).counter("attempt").value = 4
    assert old.send(new) == 1


def histogram(*seconds: float) -> Histogram:
    made = Histogram()
    for one in seconds:
        made.record(one)
    return made


def timed(made: Histogram) -> GroupData:
    return {**group(), "histograms": {"time": made.data()}}


def test_histograms_are_added() -> None:
    old, new = Generation(), Generation()
    old.report(0, timed(histogram(0.1, 0.2)))
    old.totals.begin()
    old.send(new)
    new.report(0, timed(histogram(0.001)))
    (found,) = sum_of(new.totals.all())
    assert found["histograms"]["time"] == histogram(0.1, 0.2, 0.001).data() | {"sum": pytest.approx(0.301)}


@pytest.mark.parametrize(
    ("buckets", "bounds"),
    [([1] * (len(BUCKET_BOUNDS) + 2), []), ([1, 1], [1.0, 2.0]), ([], [])],
    ids=["other standard buckets", "other own buckets", "none"],
)
def test_a_histogram_that_this_version_cannot_add_begins_anew(buckets: list[int], bounds: list[float]) -> None:
    new = Generation()
    sent = {"count": 1, "sum": 1.0, "min": 1.0, "max": 1.0, "buckets": buckets, "bounds": bounds}
    new.totals.adopt(msgspec.msgpack.encode([{**group(n=1), "histograms": {"time": sent}}]))
    new.report(0, timed(histogram(0.001)))
    (found,) = sum_of(new.totals.all())
    assert found["counters"] == {"n": 1}
    assert found["histograms"]["time"] == histogram(0.001).data()


def test_a_histogram_whose_buckets_were_changed_by_a_filter_begins_anew() -> None:
    new = Generation()
    sent = {"count": 1, "sum": 1.0, "min": 1.0, "max": 1.0, "buckets": [1, 0], "bounds": [9.0]}
    new.totals.adopt(msgspec.msgpack.encode([{**group(), "histograms": {"time": sent}}]))
    new.report(0, timed(histogram(0.001)))
    (found,) = sum_of(new.totals.all())
    assert found["histograms"]["time"] == histogram(0.001).data()


@pytest.mark.parametrize("content", [b"", b"\x93", msgspec.msgpack.encode([{"type": "downstream"}])])
def test_an_invalid_report_changes_nothing(content: bytes) -> None:
    new = Generation()
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        new.totals.adopt(content)
    assert new.shown() == {}


def config() -> MosnConfig:
    hosts = [Host(address="10.0.0.1:80")]
    clusters = [Cluster(name="c", hosts=hosts), Cluster(name="o", type="ORIGINAL_DST")]
    return MosnConfig(servers=[Server(listeners=[Listener(name="in")])], cluster_manager=ClusterManager(clusters=clusters))


@pytest.mark.parametrize(
    ("kind", "labels", "kept"),
    [
        ("downstream", (NAMED,), True),
        ("downstream", (("listener", "gone"),), False),
        ("upstream", (("cluster", "c"),), True),
        ("upstream", (("cluster", "gone"),), False),
        ("upstream", (("cluster", "c"), ("host", "10.0.0.1:80")), True),
        ("upstream", (("cluster", "c"), ("host", "10.0.0.2:80")), False),
        ("upstream", (("cluster", "o"),), True),
        ("upstream", (("cluster", "o"), ("host", "10.0.0.2:80")), False),
        ("istio_requests_total", (("source", "x"),), True),
    ],
)
def test_what_is_not_configured_any_more_is_forgotten(kind: str, labels: tuple[tuple[str, str], ...], kept: bool) -> None:
    assert is_counted(config())(group(kind, *labels)) == kept
    new = Generation()
    new.totals.adopt(msgspec.msgpack.encode([group(kind, *labels, n=1)]))
    asyncio.run(new.totals.end_inherited(config()))
    assert (len(sum_of(new.totals.all())) == 1) == kept


def test_groups_that_nothing_limits_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FREE_GROUPS", 2)
    new = Generation()
    free = [group("istio", ("source", str(i)), n=1) for i in range(3)]
    new.totals.adopt(msgspec.msgpack.encode([*free, group(n=1), group("upstream", ("cluster", "c"), n=1)]))
    assert len(sum_of(new.totals.all())) == 4
    new.totals.adopt(msgspec.msgpack.encode([group("istio", ("source", "1"), n=7)]))  # a known one is replaced
    assert sum(found["counters"]["n"] for found in sum_of(new.totals.all()) if found["type"] == "istio") == 8


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 9)), max_size=40))
def test_no_counter_goes_back_over_any_number_of_upgrades(steps: list[tuple[int, int, int]]) -> None:
    """Steps: an upgrade, the end of a worker (which is replaced), a report to the successor, or more requests."""
    chain = [Generation()]
    counted = [[0, 0]]
    shown = total = 0
    for what, worker, amount in steps:
        if what == 0:
            chain[-1].totals.begin()
            chain.append(Generation())
            counted.append([0, 0])
        elif what == 1:
            chain[-1].end(worker)
            counted[-1][worker] = 0
        elif what == 2 and len(chain) > 1:
            # An older generation still counts.
            counted[-2][worker] += amount
            total += amount
            chain[-2].report(worker, group(n=counted[-2][worker]))
        else:
            counted[-1][worker] += amount
            total += amount
            chain[-1].report(worker, group(n=counted[-1][worker]))
        for old, new in pairwise(chain):
            old.send(new)
        now = chain[-1].shown().get("n", 0)
        assert now >= shown
        shown = now
    assert shown == total
