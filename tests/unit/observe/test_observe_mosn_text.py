"""MOSN's text of metrics: numbers, families, histograms, and what is left out."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pymosn.config.schema.observability import StatsMatcher
from pymosn.core.counters import DownstreamStats, Metrics
from pymosn.observe.mosn_text import client_float, go_float, meta_group, mosn_text, process_text, recorded, touched
from pymosn.observe.processes import process_limits, total_use


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (1.0, "1.0"),
        (-1.0, "-1.0"),
        (1.5, "1.5"),
        (0.25, "0.25"),
        (100000.0, "100000.0"),
        (999999.0, "999999.0"),
        (123456.5, "123456.5"),
        # Go's strconv.FormatFloat(value, 'g', -1, 64)
        (1e6, "1e+06"),
        (1234567.0, "1.234567e+06"),
        (1234567.5, "1.2345675e+06"),
        (12345678901.0, "1.2345678901e+10"),
        (1e20, "1e+20"),
        (1e21, "1e+21"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
    ],
)
def test_numbers_are_written_as_by_go(value: float, text: str) -> None:
    assert go_float(value) == text
    assert float(text) == value


def test_integers_of_gos_client_have_no_fraction() -> None:
    assert client_float(20.0) == "20"


def test_families() -> None:
    metrics = Metrics()
    for name in ("a", 'b"\\\n'):
        stats = DownstreamStats(metrics.group("downstream", ("listener", name)))
        stats.request_total.value = 3
        stats.request_active.value = 1
        stats.request_time.record(0.5)
    metrics.group("upstream", ("host", "h:1"), ("cluster", "c")).counter("request.total").value = 1
    text = mosn_text(metrics.snapshot(), [50, 95])
    lines = text.splitlines()
    assert lines.count("# TYPE downstream_request_total counter") == 1
    assert "# TYPE downstream_request_active counter" in lines, "as in MOSN"
    assert "HELP" not in text
    assert 'downstream_request_total{listener="a"} 3.0' in lines
    assert 'downstream_request_total{listener="b\\"\\\\\\n"} 3.0' in lines
    assert 'upstream_request_total{cluster="c",host="h:1"} 1.0' in lines
    for name in ("_min", "_max", "_total"):
        assert f'downstream_request_time{name}{{listener="a"}} 5e+08' in lines
    assert 'downstream_request_time{listener="a",percentile="P95"} 5e+08' in lines
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels["listener"] for sample in families["downstream_request"].samples} == {"a", 'b"\\\n'}


def test_what_is_not_recorded() -> None:
    metrics = Metrics()
    metrics.group("upstream", ("cluster", "c")).counter("request_total").value = 1
    metrics.group("upstream", ("cluster", "c"), ("host", "h")).counter("request_total").value = 1
    metrics.group("downstream", ("listener", "l")).histogram("request_time").record(1.0)
    groups = metrics.snapshot()
    assert recorded(groups, StatsMatcher()) == groups
    assert recorded(groups, StatsMatcher(reject_all=True)) == []
    assert len(recorded(groups, StatsMatcher(exclusion_labels=["host"]))) == 2
    left = mosn_text(recorded(groups, StatsMatcher(exclusion_keys=["request_time", "request_total"])), [50])
    assert left == ""
    assert groups[2]["histograms"], "what is counted stays"


def test_lazy_metrics_were_used() -> None:
    metrics = Metrics()
    used, unused = (metrics.group("t", ("n", name)) for name in ("used", "unused"))
    for group in (used, unused):
        group.counter("a"), group.counter("b"), group.gauge("g"), group.histogram("h")
    used.counter("a").value = 1
    assert mosn_text(touched(metrics.snapshot()), [50]) == (
        '# TYPE t_a counter\nt_a{n="used"} 1.0\n# TYPE t_g gauge\nt_g{n="used"} 0.0\n'
    )


def test_meta() -> None:
    text = mosn_text([meta_group("1.2", "3.11", ["127.0.0.1:80"], 6)], [])
    assert 'meta_listener_address:127_0_0_1:80{mosn="info"} 1.0' in text
    assert 'meta_go_version:python3_11{mosn="info"} 1.0' in text
    assert 'meta_mosn_state_code{mosn="info"} 6.0' in text


def test_processes() -> None:
    use = total_use([2**22 + 1])  # there is no such process
    assert use.resident > 10**6
    assert use.cpu > 0
    assert use.descriptors >= 3
    text = process_text(use, 1e9, process_limits())
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["process_cpu_seconds"].type == "counter"
    assert families["process_start_time_seconds"].samples[0].value == 1e9
    assert families["process_max_fds"].samples[0].value >= use.descriptors
