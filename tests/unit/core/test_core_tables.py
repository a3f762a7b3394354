"""The failure table, the registry, the counters, the message heads."""

import pytest

from pymosn.api.http import HttpRequest
from pymosn.core import failure
from pymosn.core.counters import DownstreamStats, Metrics, UpstreamStats
from pymosn.core.failure import Failure
from pymosn.core.headers import HeaderError, wire_lines
from pymosn.core.histograms import BUCKET_BOUNDS, Histogram
from pymosn.core.registry import Registry

FAILURES = {name: value for name, value in vars(failure).items() if isinstance(value, Failure)}


def test_reasons_are_unique_words() -> None:
    # Such as CLUSTER_UNKNOWN_503: the same failure with another status.
    reasons = [kind.reason for name, kind in FAILURES.items() if not name.endswith(f"_{kind.status}")]
    assert len(set(reasons)) == len(reasons)
    assert all(reason.replace("_", "").isalnum() and reason == reason.lower() for reason in reasons)


@pytest.mark.parametrize("name", FAILURES)
def test_each_failure_makes_sense(name: str) -> None:
    kind = FAILURES[name]
    assert kind.status == 0 or 400 <= kind.status <= 505
    assert kind.flag & (kind.flag - 1) == 0, "one bit"
    is_unprocessed = name in ("REFUSED_STREAM", "GOAWAY_UNPROCESSED", "HTTP1_HOST")
    assert not kind.may_retry or name.startswith("CONNECT_") or kind.reason.startswith("tls_") or is_unprocessed
    assert kind.reason in repr(kind)
    if 400 <= kind.status < 404 or kind.status in (408, 413, 414, 417, 431, 501, 505):
        assert not kind.may_retry, "no other host can help a bad request"


def test_registry() -> None:
    registry: Registry[int] = Registry("colour")
    registry.add("red", 1)
    registry.add("blue", 2)
    assert registry.get("red") == 1
    assert registry.get("green") is None
    assert registry.names() == ["red", "blue"]
    with pytest.raises(ValueError, match="already registered"):
        registry.add("red", 3)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.000016, 0), (0.0000161, 1), (0.000032, 1), (1.0, 16), (134.0, 23), (135.0, 24), (1e9, 24)],
)
def test_histogram_bucket(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.record(seconds)
    data = histogram.data()
    assert data["buckets"].index(1) == bucket
    assert len(data["buckets"]) == len(BUCKET_BOUNDS) + 1
    assert bucket == len(BUCKET_BOUNDS) or seconds <= BUCKET_BOUNDS[bucket] * 1.000001


def test_histogram_extremes() -> None:
    histogram = Histogram()
    for seconds in (0.5, 0.25, 2.0):
        histogram.record(seconds)
    data = histogram.data()
    assert (data["count"], data["sum"], data["min"], data["max"]) == (3, 2.75, 0.25, 2.0)


def test_groups_are_made_once_and_snapshots_are_plain() -> None:
    metrics = Metrics()
    group = metrics.group("downstream", ("listener", "l"))
    assert metrics.group("downstream", ("listener", "l")) is group
    assert metrics.group("downstream", ("listener", "m")) is not group
    stats = DownstreamStats(group)
    stats.request_total.value += 3
    stats.request_active.value += 1
    assert group.counter("request_total").value == 3
    snapshot = metrics.snapshot()
    assert snapshot[0]["counters"]["request_total"] == 3
    assert snapshot[0]["gauges"]["request_active"] == 1
    assert snapshot[0]["labels"] == [("listener", "l")]
    UpstreamStats(metrics.group("upstream", ("cluster", "c")))
    assert [entry["type"] for entry in metrics.snapshot()] == ["downstream", "downstream", "upstream"]


@pytest.mark.parametrize(
    ("status", "key"),
    [(200, "request_200_total"), (404, "request_404_total"), (499, "request_499_total"), (418, "request_other_code")],
)
def test_status_is_counted_by_mosns_keys(status: int, key: str) -> None:
    group = Metrics().group("downstream")
    stats = DownstreamStats(group)
    stats.count_status(status)
    stats.count_reason("no_route")
    stats.count_reason("no_route")
    counters = group.data()["counters"]
    own = {f"code_{status}"} if status == 418 else set()
    assert {name for name, value in counters.items() if value} == {key, "reason_no_route"} | own
    assert counters["reason_no_route"] == 2


def test_request_head_setters() -> None:
    head = HttpRequest()
    head.method, head.path, head.query, head.host = "DELETE", "/a%20b", "x=1", "Ex.AMPLE:8"
    assert (head.raw_method, head.raw_path, head.raw_query, head.raw_host) == (b"DELETE", b"/a%20b", b"x=1", b"ex.ample:8")
    assert wire_lines(head.headers) == b"Host: Ex.AMPLE:8\r\n"
    head.host = "b"
    assert head.headers.items() == [("host", "b")]
    head.query = ""
    assert head.raw_query is None


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("method", ""),
        ("method", "GE T"),
        ("path", "relative"),
        ("path", "/a b"),
        ("path", "/a\r\n"),
        ("path", "/a?b"),
        ("path", "/a#b"),
        ("query", "a b"),
        ("query", "a\r\nb"),
        ("host", ""),
        ("host", "a/b"),
        ("host", "a\r\nb"),
        ("host", "a@b"),
    ],
)
def test_request_head_refuses(attribute: str, value: str) -> None:
    head = HttpRequest()
    with pytest.raises(HeaderError):
        setattr(head, attribute, value)


def reported(metrics: Metrics) -> list[str]:
    """The groups in the next report, by their host."""
    return [dict(group["labels"])["host"] for groups in metrics.changes() for group in groups]


def test_only_groups_that_changed_are_reported_again() -> None:
    metrics = Metrics()
    groups = {name: UpstreamStats(metrics.group("upstream", ("host", name))) for name in ("a", "b", "c")}
    assert reported(metrics) == ["a", "b", "c"], "new ones, even without a count"
    assert reported(metrics) == []
    groups["a"].request_total.value += 1
    groups["b"].request_duration.record(0.0)
    groups["c"].request_active.value += 1
    assert reported(metrics) == ["a", "b", "c"], "a counter, a histogram, a gauge"
    groups["c"].request_active.value -= 1
    assert reported(metrics) == ["c"]
    metrics.group("upstream", ("host", "a")).gauge("late")
    assert reported(metrics) == ["a"], "a new key"
    metrics.drop("upstream", ("host", "a"))
    metrics.keep(lambda kind, labels: labels != (("host", "b"),))
    metrics.group("upstream", ("host", "b"))
    assert metrics.take_removed() == [("upstream", (("host", "a"),))], "b exists again"
    assert metrics.take_removed() == []
    assert reported(metrics) == ["b"]


def test_a_report_of_many_groups_has_many_steps() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.group("upstream", ("host", str(number))).counter("n")
    steps = list(metrics.changes())
    assert max(len(groups) for groups in steps) <= 20
    assert sum(len(groups) for groups in steps) == 1000
    assert 5 <= len(list(metrics.changes())) <= 7, "a look at two hundred in each step"
    assert 5 <= len(list(metrics.keep_in_steps(lambda kind, labels: False))) <= 7
    assert len(metrics) == 0


def test_a_bounded_type_has_so_many_groups() -> None:
    metrics = Metrics()
    first = metrics.bounded(2, "istio", ("a", "1"))
    assert metrics.bounded(2, "istio", ("a", "2")) is not None
    assert metrics.bounded(2, "istio", ("a", "3")) is None
    assert metrics.bounded(2, "istio", ("a", "1")) is first
    metrics.drop("istio", ("a", "1"))
    assert metrics.bounded(2, "istio", ("a", "3")) is not None


def test_the_histogram_of_other_units_is_reported_when_it_changes() -> None:
    metrics = Metrics()
    histogram = metrics.group("t").distribution("bytes", [1.0, 10.0])
    for value in (0.0, 1.0, 1.5, 10.0, 11.0):
        histogram.record(value)
    [[group]] = [found for found in metrics.changes() if found]
    data = group["histograms"]["bytes"]
    assert (data["buckets"], data["bounds"], data["min"], data["max"]) == ([2, 2, 1], [1.0, 10.0], 0.0, 11.0)
    assert list(metrics.changes()) == [[]]
    histogram.record(2.0)
    assert len(next(iter(metrics.changes()))) == 1
