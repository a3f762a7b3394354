from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

from pymosn.core.counters import DownstreamStats, GroupData, Metrics, UpstreamStats
from pymosn.core.histograms import Histogram
from pymosn.observe.families import Fact
from pymosn.observe.prometheus import Series, Settings, exposition
from pymosn.observe.stats import percentile, stats_glob, stats_json
from pymosn.observe.totals import Totals, with_global


def worker(requests: int, *seconds: float) -> list[GroupData]:
    metrics = Metrics()
    for name in ("a", "b"):
        stats = DownstreamStats(metrics.group("downstream", ("listener", name)))
        stats.request_total.value = requests
        stats.request_active.value = 1
        for value in seconds:
            stats.request_time.record(value)
    UpstreamStats(metrics.group("upstream", ("cluster", "c"), ("host", "10.0.0.1:80"))).request_total.value = requests
    return metrics.snapshot()


def summed(*snapshots: list[GroupData]) -> list[GroupData]:
    totals = Totals()
    for snapshot in snapshots:
        totals.add(snapshot)
    return with_global(totals.groups())


def test_workers_and_listeners_add_up_in_mosns_shape() -> None:
    stats = stats_json(summed(worker(10, 0.5), worker(5, 0.001)))
    assert stats is not None
    assert list(stats) == ["downstream", "upstream"]
    assert list(stats["downstream"]) == ["proxy.global", "listener.a", "listener.b"]
    assert stats["downstream"]["listener.a"]["request_total"] == "15"
    assert stats["downstream"]["proxy.global"]["request_total"] == "30"
    assert stats["downstream"]["proxy.global"]["request_active"] == "4"
    assert stats["upstream"]["cluster.c.host.10.0.0.1:80"]["request_total"] == "15"
    listener = stats["downstream"]["listener.a"]
    assert (listener["request_time_min"], listener["request_time_max"]) == ("1000000", "500000000")
    assert (listener["request_time_total"], listener["request_time_count"]) == ("501000000", "2")
    assert all(isinstance(value, str) for group in stats["downstream"].values() for value in group.values())


def test_a_dead_workers_gauges_do_not_count() -> None:
    totals = Totals()
    totals.add(worker(10), gauges=False)
    totals.add(worker(1))
    (group,) = [group for group in totals.groups() if group["labels"] == [("listener", "a")]]
    assert (group["counters"]["request_total"], group["gauges"]["request_active"]) == (11, 1)


def test_one_key() -> None:
    groups = summed(worker(3))
    one = stats_json(groups, "upstream.cluster.c.host.10.0.0.1:80")
    assert one is not None
    assert [list(one), list(one["upstream"])] == [["upstream"], ["cluster.c.host.10.0.0.1:80"]]
    assert stats_json(groups, "upstream.cluster.c") is None
    assert stats_json([], "") == {}


def test_glob_lines() -> None:
    lines = stats_glob(summed(worker(3))).splitlines()
    assert "request_total:6" in lines
    assert stats_glob([]) == ""


@pytest.mark.parametrize("seconds", [0.0001, 0.003, 0.25, 500.0])
def test_a_percentile_of_equal_values_is_that_value(seconds: float) -> None:
    histogram = Histogram()
    for _ in range(10):
        histogram.record(seconds)
    assert percentile(histogram.data(), 50) == seconds
    assert percentile(Histogram().data(), 99) == 0.0


def test_percentiles_are_ordered_and_near() -> None:
    histogram = Histogram()
    for number in range(1, 1001):
        histogram.record(number / 1000.0)
    data = histogram.data()
    p50, p95, p99 = (percentile(data, percent) for percent in (50, 95, 99))
    assert 0.25 < p50 < 0.75
    assert p50 < p95 < p99 <= 1.0


def totals_of(*snapshots: list[GroupData]) -> list[GroupData]:
    totals = Totals()
    for snapshot in snapshots:
        totals.add(snapshot)
    return totals.groups()


def families_in(groups: list[GroupData], series: Series | None = None, **settings: Any) -> dict[str, Any]:
    text = exposition(groups, "", (), series, Settings(**settings))[0].decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Any, label: str) -> dict[str, float]:
    """Those that are not 0, by a label."""
    return {sample.labels[label]: sample.value for sample in family.samples if sample.value}


def test_prometheus_can_read_what_it_scrapes() -> None:
    text, content_type = exposition(totals_of(worker(10, 0.5, 0.001), worker(5)), "")
    assert content_type.startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert families["pymosn_requests_received"].type == "counter"
    assert values(families["pymosn_requests_received"], "listener") == {"a": 15.0, "b": 15.0}
    times = families["pymosn_request_duration_seconds"]
    assert times.type == "histogram"
    of_a = [sample for sample in times.samples if sample.labels.get("listener") == "a"]
    buckets = [sample.value for sample in of_a if sample.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2.0
    assert [sample.value for sample in of_a if sample.name.endswith("_sum")] == [0.501]
    assert families["pymosn_upstream_host_requests_active"].type == "gauge"
    assert all(family.documentation for family in families.values())


def test_each_event_is_counted_once() -> None:
    metrics = Metrics()
    stats = DownstreamStats(metrics.group("downstream", ("listener", "a")))
    for status in (200, 200, 401, 418, 418, 999, 1000, 7):
        stats.count_status(status)
    for _ in range(2):
        stats.count_failure("no_route")
    for reason in ("no_route", "overloaded"):
        stats.count_reason(reason)
    families = families_in(metrics.snapshot())
    counted = {"200": 2.0, "401": 1.0, "418": 2.0, "999": 1.0, "0": 2.0}
    assert values(families["pymosn_requests"], "code") == counted
    assert values(families["pymosn_request_failures"], "reason") == {"no_route": 2.0}
    assert values(families["pymosn_connection_failures"], "reason") == {"no_route": 1.0, "overloaded": 1.0}
    stats_of_mosn = stats_json(metrics.snapshot())
    assert stats_of_mosn is not None
    of_mosn = stats_of_mosn["downstream"]["listener.a"]
    assert (of_mosn["request_200_total"], of_mosn["request_other_code"], of_mosn["request_failed"]) == ("2", "6", "2")


def hosts(*numbers: int) -> list[GroupData]:
    metrics = Metrics()
    for number in numbers:
        group = metrics.group("upstream", ("cluster", "c"), ("host", f"h{number}"))
        group.counter("request_total").value = 10**number
    return metrics.snapshot()


def test_hosts_beyond_the_limit_are_counted_together() -> None:
    series = Series()
    for numbers, expected in (
        ((0, 1), {"h0": 1, "h1": 10}),
        ((2, 3, 0, 1), {"h0": 1, "h1": 10, "other": 1100}),  # what has had samples keeps them
        ((2, 3, 1, 4), {"h1": 10, "h4": 10000, "other": 1100}),  # what was counted with others stays there
        ((1, 3), {"h1": 10, "other": 1100}),  # and what is gone, so that the counter does not go back
        ((1, 2), {"h1": 10, "h2": 100}),
    ):
        families = families_in(hosts(*numbers), series, max_series=2)
        assert values(families["pymosn_upstream_host_requests"], "host") == expected


def test_what_workers_have_counted_as_other_is_added() -> None:
    metrics = Metrics()
    for route in ("a", "b", "other"):
        group = metrics.group("route", ("route", route), ("router", route), ("virtual_host", route))
        group.counter("hits").value = len(route)
    families = families_in(metrics.snapshot(), max_series=2)
    assert values(families["pymosn_route_requests"], "route") == {"a": 1, "b": 1, "other": 5}
    assert values(families_in(metrics.snapshot(), max_series=1)["pymosn_route_requests"], "route") == {"a": 1, "other": 6}


def test_what_is_not_shown() -> None:
    groups = [*worker(1), *hosts(1)]
    assert "pymosn_upstream_host_requests" in families_in(groups)
    assert "pymosn_upstream_host_requests" not in families_in(groups, per_host=False)
    assert "pymosn_upstream_host_requests" not in families_in(groups, exclusion_labels=["host"])
    assert "pymosn_requests" not in families_in(groups, exclusion_labels=["listener"])
    assert families_in(groups, reject_all=True) == {}


def test_own_metrics_keep_appearing() -> None:
    metrics = Metrics()
    own = metrics.group("filter", ("filter", "mine"))
    own.counter("hits").value = 3
    own.gauge("in-use").value = 2
    own.counter("calls").value = 9
    metrics.group("shop", ("department", 'a"b')).counter("sold_total").value = 4
    families = families_in(metrics.snapshot())
    assert values(families["pymosn_filter_hits"], "filter") == {"mine": 3}
    assert values(families["pymosn_filter_in_use"], "filter") == {"mine": 2}
    assert values(families["pymosn_filter_calls"], "filter") == {"mine": 9}
    assert values(families["shop_sold"], "department") == {'a"b': 4}


def test_names_of_own_metrics_become_valid() -> None:
    metrics = Metrics()
    metrics.group("9 shops", ("1-a", "x\\y\nz"), ("zone", "\udcff")).counter("sold").value = 4
    for accept in ("", "application/openmetrics-text"):
        text, kind = exposition(metrics.snapshot(), accept)
        found = (open_families if accept else text_string_to_metric_families)(text.decode())
        (family,) = [family for family in found if family.name == "_9_shops_sold"]
        assert family.samples[0].labels == {"_1_a": "x\\y\nz", "zone": "\\udcff"}
        assert kind.startswith(accept or "text/plain")


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3,*/*;q=0.1", True),
        ("text/plain, application/openmetrics-text;q=0", False),
        ("*/*", False),
        (";;,", False),
    ],
)
def test_accept_chooses_the_format(accept: str, is_open: bool) -> None:
    text, kind = exposition([], accept, [Fact("pymosn_build", (("version", "1"),), 1)])
    head = "# HELP pymosn_build{0} The version that runs, of pymosn and Python, and whether it is compiled.\n"
    lines = head + '# TYPE pymosn_build{0} {1}\npymosn_build_info{{version="1"}} 1.0\n{2}'
    assert text.decode() == (lines.format("", "info", "# EOF\n") if is_open else lines.format("_info", "gauge", ""))
    assert kind.startswith("application/openmetrics-text") == is_open


def test_exemplars_are_the_last_traces() -> None:
    def one(trace: str, at: float) -> list[GroupData]:
        metrics = Metrics()
        time = DownstreamStats(metrics.group("downstream", ("listener", "a"))).request_time
        for value in (0.0005, 0.3):
            time.record(value)
        time.note_trace(0.3, trace, at)
        return metrics.snapshot()

    groups = totals_of(one("late", 9.0), one("early", 1.0))
    assert "late" not in exposition(groups, "")[0].decode()
    text = exposition(groups, "application/openmetrics-text; version=1.0.0")[0].decode()
    families = {family.name: family for family in open_families(text)}
    samples = families["pymosn_request_duration_seconds"].samples
    (found,) = [sample for sample in samples if sample.exemplar is not None]
    assert (found.labels["le"], found.exemplar.labels, found.exemplar.value) == ("0.524288", {"trace_id": "late"}, 0.3)
    long = exposition(one("x" * 500, 1.0), "application/openmetrics-text; version=1.0.0")[0].decode()
    assert f'{{trace_id="{"x" * 120}"}}' in long


def test_open_metrics_is_sent_on_request() -> None:
    text, content_type = exposition(summed(worker(1)), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_distributions_have_bounds_and_units_of_their_own() -> None:
    def worker_of(*values: float) -> list[GroupData]:
        metrics = Metrics()
        group = metrics.group("istio", ("reporter", "source"))
        group.counter("requests_total").value = len(values)
        for value in values:
            group.distribution("request_duration_milliseconds", [0.5, 100.0, 3600000.0]).record(value)
        return metrics.snapshot()

    groups = summed(worker_of(0.5, 7.0), worker_of(200.0, 4e6))
    text = exposition(groups, "")[0].decode()
    assert 'istio_requests_total{reporter="source"} 4.0' in text
    lines = [line for line in text.splitlines() if line.startswith("istio_request_duration_milliseconds")]
    assert lines == [
        'istio_request_duration_milliseconds_bucket{le="0.5",reporter="source"} 1.0',
        'istio_request_duration_milliseconds_bucket{le="100",reporter="source"} 2.0',
        'istio_request_duration_milliseconds_bucket{le="3600000",reporter="source"} 3.0',
        'istio_request_duration_milliseconds_bucket{le="+Inf",reporter="source"} 4.0',
        'istio_request_duration_milliseconds_count{reporter="source"} 4.0',
        'istio_request_duration_milliseconds_sum{reporter="source"} 4000207.5',
    ]
    stats = stats_json(groups)
    assert stats is not None
    shown = stats["istio"]["reporter.source"]
    assert (shown["request_duration_milliseconds_max"], shown["request_duration_milliseconds_min"]) == ("4000000", "0.5")
    assert 0.5 < float(shown["request_duration_milliseconds_p50"]) <= 100.0
