"""MOSN's metrics of clusters that no request writes: subsets, and pools that other TLS settings have replaced."""

from tests.unit.upstream.test_upstream_hosts import LABELLED, SUBSETS, Worker

from pymosn.network.tls.settings import ClientSettings, TlsSettings
from pymosn.upstream.plan import BalancingPlan

TLS = ClientSettings(TlsSettings(), is_verified=False)


def subsets(worker: Worker) -> int:
    return int(worker.clusters.by_name["c"].stats.subsets_created.value)


def test_the_number_of_subsets_follows_the_configuration() -> None:
    worker = Worker()
    worker.put(*LABELLED, balancing=BalancingPlan(subset=SUBSETS))
    found = {
        tuple(sorted((key, host.metadata[key]) for key in selector))
        for selector in SUBSETS.selectors
        for host in worker.clusters.by_name["c"].hosts
        if all(key in host.metadata for key in selector)
    }
    assert subsets(worker) == len(found) > 1
    worker.put(LABELLED[0], balancing=BalancingPlan(subset=SUBSETS))
    assert 0 < subsets(worker) < len(found)
    worker.put(*LABELLED)
    assert subsets(worker) == 0


def test_only_one_worker_reports_the_number_of_subsets() -> None:
    """The metrics of the workers are added."""
    worker = Worker()
    worker.maker.is_first_worker = False
    worker.put(*LABELLED, balancing=BalancingPlan(subset=SUBSETS))
    assert subsets(worker) == 0


def test_pools_are_counted_that_other_tls_replaces() -> None:
    worker = Worker()
    cluster = worker.put("a:1", "b:1", "c:1")
    for host in cluster.hosts[:2]:
        host.pool("P")
    worker.put("a:1", "b:1", "c:1")
    assert worker.maker.pools_changed.value == 0
    worker.put("a:1", "b:1", "c:1", tls=TLS)
    assert worker.maker.pools_changed.value == 2
    assert sorted(worker.closed) == ["a:1", "b:1"]
    worker.put("a:1", "b:1", "c:1", tls=TLS)
    assert worker.maker.pools_changed.value == 2
