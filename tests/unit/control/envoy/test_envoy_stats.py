"""Metrics with Envoy's names."""

from pymosn.config.schema import Listener
from pymosn.control.envoy.facts import Facts, Updates
from pymosn.control.envoy.stats import Process, as_lines, as_prometheus, envoy_stats, selected
from pymosn.core.counters import DownstreamStats, GroupData, Metrics, UpstreamStats

PROCESS = Process(0, 60, 2, True)
LISTENERS = [Listener(name="in", address="0.0.0.0:15006"), Listener(name="six", address="[::]:80")]


def groups() -> list[GroupData]:
    metrics = Metrics()
    for name, count in (("in", 3), ("six", 1), ("gone", 9)):
        stats = DownstreamStats(metrics.group("downstream", ("listener", name)))
        stats.connection_active.value = stats.connection_total.value = count
    cluster = UpstreamStats(metrics.group("upstream", ("cluster", "outbound|80||a")))
    cluster.request_total.value = 7
    cluster.connection_failed.value = 2
    host = UpstreamStats(metrics.group("upstream", ("cluster", "outbound|80||a"), ("host", "10.0.0.1:80")))
    host.request_total.value = 7
    return metrics.snapshot()


def lines(pattern: str, used_only: bool = False) -> list[str]:
    stats = envoy_stats(PROCESS, Facts(), groups(), [], LISTENERS)
    return as_lines(selected(stats, pattern, used_only)).splitlines()


def test_what_the_agent_counts_until_no_connection_is_left() -> None:
    assert lines("downstream_cx_active$", True) == [
        "listener.0.0.0.0_15006.downstream_cx_active: 3",
        "listener.[__]_80.downstream_cx_active: 1",
    ]


def test_clusters_are_counted_once_and_unused_counters_are_left_out() -> None:
    assert lines(r"^cluster\.outbound", True) == [
        "cluster.outbound|80||a.upstream_cx_active: 0",
        "cluster.outbound|80||a.upstream_cx_connect_fail: 2",
        "cluster.outbound|80||a.upstream_rq_active: 0",
        "cluster.outbound|80||a.upstream_rq_total: 7",
    ]
    assert "cluster.outbound|80||a.upstream_rq_timeout: 0" in lines("timeout")


def test_responses_of_several_streams_are_added() -> None:
    updates = [
        Updates("cds", "7", 2, 1, 4, 0, False),
        Updates("cds", "", 3, 0, 3, 1, True),
        Updates("sds", "1", 9, 9, 9, 9, True),
    ]
    found = envoy_stats(PROCESS, Facts([], updates, True), [], [], [])
    assert as_lines(selected(found, "cds|control_plane", False)).splitlines() == [
        "cluster_manager.cds.init_fetch_timeout: 1",
        "cluster_manager.cds.update_attempt: 7",
        "cluster_manager.cds.update_rejected: 1",
        "cluster_manager.cds.update_success: 5",
        'cluster_manager.cds.version_text: "7"',
        "control_plane.connected_state: 1",
    ]


def test_labels_for_prometheus_are_escaped() -> None:
    metrics = Metrics()
    UpstreamStats(metrics.group("upstream", ("cluster", 'a"\\\n'))).request_total.value = 1
    text = as_prometheus(selected(envoy_stats(PROCESS, Facts(), metrics.snapshot(), [], []), "rq_total", False))
    assert text == (
        "# TYPE envoy_cluster_upstream_rq_total counter\n"
        'envoy_cluster_upstream_rq_total{envoy_cluster_name="a\\"\\\\\\n"} 1\n'
    )
