"""Clusters and tables of tens of thousands of entries: a worker never handles all of them in one piece."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pymosn.api.upstream import NO_CONSTRAINTS, Host
from pymosn.assembly.packed_config import PackedConfig
from pymosn.assembly.packer import pack
from pymosn.assembly.steps import Steps
from pymosn.assembly.worker import WorkerRuntime
from pymosn.config.schema import MosnConfig
from pymosn.observe.logs import LogSet
from pymosn.upstream.cluster import Cluster

HOSTS = 3000
#: Hosts, or routes, that one step may handle.
PER_STEP = 600
BALANCERS = [
    "LB_ROUNDROBIN",
    "LB_RANDOM",
    "LB_WEIGHTED_ROUNDROBIN",
    "LB_LEAST_REQUEST",
    "LB_LEAST_CONNECTION",
    "LB_MAGLEV",
    "LB_RING_HASH",
    "LB_REQUEST_ROUNDROBIN",
    "LB_PEAK_EWMA",
]


def host(number: int, **keys: Any) -> dict[str, Any]:
    return {"address": f"10.0.{number // 250}.{number % 250}:80", **keys}


def packed(hosts: list[dict[str, Any]], **keys: Any) -> PackedConfig:
    cluster = {"name": "c", "hosts": hosts, **keys}
    return pack(msgspec.convert({"servers": [{}], "cluster_manager": {"clusters": [cluster]}}, MosnConfig))


class Worker:
    """A worker's runtime that counts the steps of each change."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.runtime = WorkerRuntime(1, 0, self.loop, LogSet(str(folder / "log")))

    def change(self, config: PackedConfig) -> int:
        """Activates a configuration; returns the number of steps."""
        steps, made = count(self.runtime.prepare(config, "", ""))
        self.runtime.activate(made)
        more, _ = count(self.runtime.clean_up())
        return steps + more

    @property
    def cluster(self) -> Cluster:
        found = self.runtime.runtime.clusters.get("c")
        assert found is not None
        return found


def count(steps: Steps[Any]) -> tuple[int, Any]:
    taken = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return taken, done.value
        taken += 1


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path)
    yield worker
    worker.loop.close()


@pytest.mark.parametrize("lb_type", BALANCERS)
@pytest.mark.parametrize("subset", [None, {"subset_selectors": [["v"]]}], ids=["plain", "subsets"])
def test_a_large_cluster_is_built_in_steps(worker: Worker, lb_type: str, subset: dict[str, Any] | None) -> None:
    labels = [{"filter_metadata": {"mosn.lb": {"v": str(number % 2)}}} for number in range(2)]
    hosts = [host(number, weight=1 + number % 3, metadata=labels[number % 2]) for number in range(HOSTS)]
    keys = {} if subset is None else {"lb_subset_config": subset}
    assert worker.change(packed(hosts, lb_type=lb_type, **keys)) >= HOSTS / PER_STEP
    chosen = worker.cluster.balancer.choose(NO_CONSTRAINTS)
    assert chosen is not None
    assert len(worker.cluster.hosts) == HOSTS


def test_one_host_more_is_one_part_more_and_keeps_all_others(worker: Worker) -> None:
    hosts = [host(number) for number in range(HOSTS)]
    before = packed(hosts)
    worker.change(before)
    old = worker.cluster
    after = packed([host(HOSTS), *hosts])
    assert len(after.parts.keys() - before.parts.keys()) == 1, "the part with the new host"
    worker.change(after)
    new = worker.cluster
    assert [one.address for one in new.hosts[:2]] == [host(HOSTS)["address"], hosts[0]["address"]]
    assert all(one is other for one, other in zip(new.hosts[1:], old.hosts, strict=True))


def test_a_change_elsewhere_leaves_a_large_cluster_alone(worker: Worker) -> None:
    hosts = [host(number) for number in range(HOSTS)]
    config = packed(hosts)
    worker.change(config)
    before = worker.cluster
    other = msgspec.structs.replace(config, rest=msgspec.structs.replace(config.rest, pid="other"))
    assert worker.change(other) <= 3
    assert worker.cluster is before


def counted_hosts(worker: Worker) -> list[str | None]:
    """The hosts that have counters; None for those of the cluster."""
    groups = worker.runtime.metrics.snapshot()
    return [dict(group["labels"]).get("host") for group in groups if group["type"] == "upstream"]


def test_hosts_that_are_gone_are_closed_in_steps_and_their_counters_removed(worker: Worker) -> None:
    worker.change(packed([host(number) for number in range(HOSTS)]))
    gone = worker.cluster.hosts[7]
    gone.stats.request_total.value += 1
    kept = worker.cluster.hosts[1]
    kept.stats.request_total.value += 1
    assert worker.change(packed([host(1)])) >= HOSTS / PER_STEP
    assert counted_hosts(worker) == [None, kept.address]
    gone.stats.request_total.value += 1
    assert len(counted_hosts(worker)) == 2, "counts of the last requests of a host that is gone are not kept"


def test_weights_and_labels_change_only_with_the_activation(worker: Worker) -> None:
    worker.change(packed([host(1, weight=5), host(2, weight=5)], lb_type="LB_WEIGHTED_ROUNDROBIN"))
    one, two = worker.cluster.hosts
    wanted = packed([host(1, weight=5), host(2, weight=1)], lb_type="LB_WEIGHTED_ROUNDROBIN")
    _, made = count(worker.runtime.prepare(wanted, "", ""))
    assert [one.weight, two.weight] == [5, 5]
    worker.runtime.activate(made)
    assert worker.cluster.hosts == [one, two]
    assert [one.weight, two.weight] == [5, 1]
    chosen = [worker.cluster.balancer.choose(NO_CONSTRAINTS) for _ in range(600)]
    assert abs(chosen.count(two) - 100) <= 2, "the balancer was built with the new weights"


@pytest.mark.parametrize("lb_type", ["LB_MAGLEV", "LB_RING_HASH"])
def test_tables_have_the_new_weights(worker: Worker, lb_type: str) -> None:
    worker.change(packed([host(1, weight=1), host(2, weight=1)], lb_type=lb_type))
    two = worker.cluster.hosts[1]
    worker.change(packed([host(1, weight=1), host(2, weight=9)], lb_type=lb_type))
    chosen: list[Host | None] = [worker.cluster.balancer.choose(NO_CONSTRAINTS) for _ in range(2000)]
    assert chosen.count(two) > 1500


def test_health_of_every_host_costs_one_look_each(worker: Worker) -> None:
    worker.change(packed([host(number) for number in range(HOSTS)]))
    addresses = [one.address for one in worker.cluster.hosts]
    for address in addresses:
        worker.runtime.set_health("c", {address: False})
    assert worker.cluster.stats.failed_active_check.value == HOSTS
    assert worker.cluster.balancer.choose(NO_CONSTRAINTS) is None
    for address in random.sample(addresses, HOSTS):
        worker.runtime.set_health("c", {address: True})
    assert worker.cluster.stats.failed_active_check.value == 0


def test_failed_checks_hold_for_hosts_that_are_added_later_and_are_forgotten_with_them(worker: Worker) -> None:
    worker.change(packed([host(1)]))
    worker.runtime.set_health("c", {host(2)["address"]: False})
    worker.change(packed([host(1), host(2)]))
    assert [one.is_healthy for one in worker.cluster.hosts] == [True, False]
    worker.change(packed([host(1)]))
    worker.change(packed([host(1), host(2)]))
    assert [one.is_healthy for one in worker.cluster.hosts] == [True, True]


def test_new_addresses_of_a_cluster_are_built_in_steps(worker: Worker) -> None:
    worker.change(packed([host(1)]))
    kept = worker.cluster.hosts[0]
    later = packed([host(number) for number in range(HOSTS)])
    taken, _ = count(worker.runtime.set_hosts("c", later.clusters["c"], later.parts))
    assert taken >= HOSTS / PER_STEP
    assert len(worker.cluster.hosts) == HOSTS
    assert worker.cluster.hosts[1] is kept


def test_a_configuration_that_is_not_activated_is_freed_in_steps(worker: Worker) -> None:
    worker.change(packed([host(1)]))
    _, made = count(worker.runtime.prepare(packed([host(number) for number in range(HOSTS)]), "", ""))
    taken, _ = count(worker.runtime.discard(made))
    assert taken >= HOSTS / PER_STEP
    assert len(worker.cluster.hosts) == 1


@pytest.mark.parametrize(("hosts", "routes"), [(1, HOSTS), (HOSTS, 1), (30, HOSTS // 30)])
def test_a_large_table_is_built_and_replaced_in_steps(worker: Worker, hosts: int, routes: int) -> None:
    def table(status: int) -> PackedConfig:
        virtual_hosts = [
            {
                "domains": [f"h{number}.example"],
                "routers": [
                    {"match": {"prefix": f"/{route}/"}, "direct_response": {"status": status}} for route in range(routes)
                ],
            }
            for number in range(hosts)
        ]
        config = {"servers": [{"routers": [{"router_config_name": "t", "virtual_hosts": virtual_hosts}]}]}
        return pack(msgspec.convert(config, MosnConfig))

    first = table(200)
    assert max(len(part) for part in first.parts.values()) < 64 * 1024
    assert worker.change(first) >= HOSTS / PER_STEP
    assert worker.change(table(404)) >= 2 * HOSTS / PER_STEP
    slot = worker.runtime._slots["t"].table
    assert slot is not None
    assert [len(slot.virtual_hosts), len(slot.virtual_hosts[-1].routes)] == [hosts, routes]
    assert slot.virtual_hosts[0].routes[-1].name == f"t/virtual_hosts[0]/{routes - 1}"


def test_facts_of_the_control_plane_reach_the_worker_and_cost_one_part(worker: Worker) -> None:
    keys = {
        "localities": [{"locality": "a", "weight": 1}],
        "tls_matches": [{"labels": {"tls": "off"}}],
        "bind_address": "127.0.0.6",
    }
    hosts = [host(number, locality="a") for number in range(HOSTS)]
    before = packed(hosts, **keys)
    hosts[700] |= {"priority": 1, "health": "draining", "tls_labels": {"tls": "off", "x": "y"}}
    after = packed(hosts, **keys)
    parts = [set(config.clusters["c"].hosts) for config in (before, after)]
    assert len(parts[1] - parts[0]) == 1
    worker.change(before)
    worker.change(after)
    found = worker.cluster.hosts[700]
    assert (found.priority, found.locality, found.plan.transport, found.peer.bind) == (1, "a", 1, "127.0.0.6")
    assert found.health_words() == ["reported_unhealthy"]
    assert type(worker.cluster.balancer).__name__ == "Priorities"


def test_ejections_hold_for_hosts_that_are_added_soon(worker: Worker) -> None:
    rule = {"consecutive_errors": 5, "max_ejection_percent": 100, "base_ejection_time": 30.0}
    worker.change(packed([host(1)], outlier_detection=rule))
    names = [host(number)["address"] for number in (1, 2, 3)]
    worker.runtime.restore_ejections(
        [("c", name, 30.0, 1, 0.0, "") for name in names] + [("other", names[0], 30.0, 1, 0.0, "")]
    )
    assert [one.is_healthy for one in worker.cluster.hosts] == [False]
    worker.runtime.clock.now += 10.0
    worker.change(packed([host(1), host(2)], outlier_detection=rule))
    assert [one.is_healthy for one in worker.cluster.hosts] == [False, False]
    left = {address: round(seconds) for _, address, seconds, *_ in worker.runtime.ejections.all()}
    assert left == {names[0]: 20, names[1]: 20}
    worker.runtime.clock.now += 300.0
    worker.change(packed([host(1), host(2), host(3)], outlier_detection=rule))
    assert worker.cluster.hosts[2].is_healthy, "too late"
