"""Rates and percentiles from the differences of counters and of buckets."""

import pytest

from pymosn.control.live import readings
from pymosn.control.live.readings import (
    differences,
    key_of,
    overview_of,
    percentile,
    point_between,
    rates_between,
    reading_of,
    readings_of,
)
from pymosn.core.counters import DownstreamStats, Metrics, UpstreamStats
from pymosn.core.histograms import BUCKET_BOUNDS


def listener(metrics: Metrics, name: str) -> DownstreamStats:
    return DownstreamStats(metrics.group("downstream", ("listener", name)))


def buckets(**counts: int) -> list[int]:
    found = [0] * (len(BUCKET_BOUNDS) + 1)
    for name, count in counts.items():
        found[int(name.removeprefix("b"))] = count
    return found


@pytest.mark.parametrize(
    ("given", "share", "expected"),
    [
        (buckets(), 0.5, None),
        (buckets(b0=10), 0.5, 0.000008),
        (buckets(b3=10), 0.0, 0.000064),
        (buckets(b3=10), 1.0, 0.000128),
        (buckets(b1=90, b10=10), 0.5, 0.000016 + 0.000016 * 50 / 90),
        (buckets(b1=90, b10=10), 0.99, 0.008192 + 0.008192 * 0.9),
        (buckets(b24=5), 0.5, BUCKET_BOUNDS[-1]),
    ],
)
def test_percentiles_are_interpolated_in_their_bucket(given: list[int], share: float, expected: float | None) -> None:
    found = percentile(given, share)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_percentile_is_near_the_real_one() -> None:
    stats = listener(Metrics(), "a")
    for number in range(1, 1001):
        stats.request_time.record(number / 1000.0)
    found = percentile(stats.request_time.data()["buckets"], 0.5)
    assert found is not None
    assert 0.25 <= found <= 1.0, "within a factor of two of 0.5"


def test_differences_begin_at_nothing_and_never_decrease() -> None:
    assert differences((), (1, 2)) == [1, 2]
    assert differences((1, 2), (3, 2)) == [2, 0]
    assert differences((5, 5), (1, 9)) == [0, 4]
    assert differences((1,), (1, 2)) == [], "a histogram with other buckets has no difference"


def test_rates_are_differences_over_the_seconds_between() -> None:
    metrics = Metrics()
    stats = listener(metrics, "a")
    stats.request_total.value = 10
    (before,) = readings_of(metrics.snapshot()).values()
    stats.request_total.value = 30
    stats.request_failed.value = 4
    stats.bytes_read.value = 1000
    for _ in range(4):
        stats.request_time.record(0.003)
    (after,) = readings_of(metrics.snapshot()).values()
    rates = rates_between(before, after, 2.0)
    assert (rates.requests, rates.failed, rates.read, rates.written) == (10.0, 2.0, 500.0, 0.0)
    assert rates.mean == pytest.approx(0.003)
    assert rates.p50 is not None
    assert 0.002048 <= rates.p50 <= 0.004096
    assert rates_between(after, before, 2.0).requests == 0.0, "a counter that was reset"
    assert rates_between(before, after, 0.0).requests == 0.0
    assert rates_between(None, after, 1.0).requests == 30.0, "a new group began at nothing"


def test_upstream_groups_have_keys_of_their_own() -> None:
    metrics = Metrics()
    stats = UpstreamStats(metrics.group("upstream", ("cluster", "c")))
    stats.response_failed.value, stats.bytes_written.value = 3, 7
    reading = reading_of(metrics.snapshot()[0])
    assert (reading.failed, reading.written) == (3, 7)


def test_the_number_of_readings_is_limited_and_hosts_are_left_out_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "MOST_READINGS", 3)
    metrics = Metrics()
    for index in range(5):
        UpstreamStats(metrics.group("upstream", ("cluster", "c"), ("host", f"h{index}")))
    listener(metrics, "a")
    metrics.group("unknown")
    found = readings_of(metrics.snapshot())
    assert len(found) == 3
    assert ("downstream", (("listener", "a"),)) in found


def test_labels_that_came_through_a_channel_are_lists() -> None:
    group = Metrics().group("route", ("table", "t")).data()
    group["labels"] = [["table", "t"]]  # type: ignore[list-item]
    assert key_of(group) == ("route", (("table", "t"),))


def test_the_overview_is_the_sum_of_the_listeners() -> None:
    metrics = Metrics()
    one, other = listener(metrics, "a"), listener(metrics, "b")
    for stats, status in ((one, 200), (one, 503), (other, 206), (other, 418), (other, 0)):
        stats.request_total.value += 1
        stats.count_status(status)
        stats.request_time.record(0.001)
    one.count_reason("no_route")
    one.count_reason("no_route")
    other.connection_active.value = 5
    other.request_active.value = 2
    metrics.group("downstream", ("proxy", "global")).counter("request_total").value = 99
    before = overview_of([])
    point = point_between(before, overview_of(metrics.snapshot()), 2.0, 1000.0)
    assert point["requests"] == 2.5
    assert point["status"] == {"2xx": 1.0, "3xx": 0.0, "4xx": 0.5, "5xx": 0.5, "other": 0.5}
    assert point["reasons"] == {"no_route": 1.0}
    assert (point["open"], point["active"], point["time"]) == (5, 2, 1000.0)
    first = point_between(None, overview_of(metrics.snapshot()), 0.0, 1000.0)
    assert first["requests"] == 0.0
    assert first["p50"] is None
