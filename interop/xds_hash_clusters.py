"""Clusters whose balancers hash: rings and tables of several sizes, with weights, localities, priorities and health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from interop.xds_groups import Json
from interop.xds_places import host, locality

#: Makes the localities of a cluster of the ports of the hosts.
Places = Callable[[Sequence[int]], list[Json]]

_POLICIES = "type.googleapis.com/envoy.extensions.load_balancing_policies"


class HashCluster(NamedTuple):
    """A cluster. `fields`: of the Cluster."""

    name: str
    fields: Json
    places: Places = lambda ports: [locality(ports)]


def _policy(kind: str, **fields: object) -> Json:
    """A balancer as an extension, such as `ring_hash.v3.RingHash`."""
    typed = {"name": kind, "typed_config": {"@type": f"{_POLICIES}.{kind}", **fields}}
    return {"load_balancing_policy": {"policies": [{"typed_extension_config": typed}]}}


def _ring(**numbers: object) -> Json:
    return {"lb_policy": "RING_HASH", "ring_hash_lb_config": numbers}


def _weighted(*weights: int) -> Places:
    return lambda ports: [{"lb_endpoints": [host(port, weight) for port, weight in zip(ports, weights, strict=True)]}]


def _localities(ports: Sequence[int]) -> list[Json]:
    return [
        locality(ports[:2], locality={"region": "r", "zone": "one"}, load_balancing_weight=3),
        locality(ports[2:], locality={"region": "r", "zone": "two"}, load_balancing_weight=1),
    ]


def _half_sick(ports: Sequence[int]) -> list[Json]:
    return [{"lb_endpoints": [host(port, health="UNHEALTHY" if i in (1, 3) else "") for i, port in enumerate(ports)]}]


def _priorities(ports: Sequence[int]) -> list[Json]:
    """Half of the hosts of the first priority are sick, so that 30 % of the hashes belong to the second."""
    return [{"lb_endpoints": [host(ports[0]), host(ports[1], health="UNHEALTHY")]}, locality(ports[2:], priority=1)]


def _named(ports: Sequence[int]) -> list[Json]:
    return [{"lb_endpoints": [host(port, name=f"host-{i}.test") for i, port in enumerate(ports)]}]


def _keyed(ports: Sequence[int]) -> list[Json]:
    keys = [{"metadata": {"filter_metadata": {"envoy.lb": {"hash_key": f"shard-{i}"}}}} for i in range(len(ports))]
    return [{"lb_endpoints": [host(port, **key) for port, key in zip(ports, keys, strict=True)]}]


_WEIGHS = {"common_lb_config": {"locality_weighted_lb_config": {}}}
_NAMES = {"consistent_hashing_lb_config": {"use_hostname_for_hashing": True}}
_WEIGHTS = _weighted(1, 2, 3, 50, 7)

HASH_CLUSTERS = [
    HashCluster("h-ring", {"lb_policy": "RING_HASH"}),
    HashCluster("h-ring-one", {"lb_policy": "RING_HASH"}, lambda ports: [locality(ports[:1])]),
    HashCluster("h-ring-large", _ring(minimum_ring_size=50_000)),
    HashCluster("h-ring-small", _ring(minimum_ring_size=1, maximum_ring_size=7)),
    HashCluster("h-ring-murmur", _ring(hash_function="MURMUR_HASH_2")),
    HashCluster("h-ring-weights", {"lb_policy": "RING_HASH"}, _WEIGHTS),
    HashCluster("h-ring-heavy", {"lb_policy": "RING_HASH"}, _weighted(100, 2000, 3000, 777, 10)),
    HashCluster("h-ring-tight", _ring(minimum_ring_size=10, maximum_ring_size=33), _WEIGHTS),
    HashCluster("h-ring-localities", {"lb_policy": "RING_HASH", **_WEIGHS}, _localities),
    HashCluster("h-ring-sick", {"lb_policy": "RING_HASH"}, _half_sick),
    HashCluster("h-ring-priorities", {"lb_policy": "RING_HASH"}, _priorities),
    HashCluster("h-ring-names", _policy("ring_hash.v3.RingHash", **_NAMES), _named),
    HashCluster("h-ring-keys", {"lb_policy": "RING_HASH"}, _keyed),
    HashCluster("h-ring-typed", _policy("ring_hash.v3.RingHash", hash_function="MURMUR_HASH_2", minimum_ring_size=100)),
    HashCluster("h-maglev", {"lb_policy": "MAGLEV"}),
    HashCluster("h-maglev-small", {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 11}}),
    HashCluster("h-maglev-weights", {"lb_policy": "MAGLEV"}, _WEIGHTS),
    HashCluster("h-maglev-heavy", {"lb_policy": "MAGLEV"}, _weighted(100, 2000, 3000, 777, 10)),
    HashCluster("h-maglev-localities", {"lb_policy": "MAGLEV", **_WEIGHS}, _localities),
    HashCluster("h-maglev-sick", {"lb_policy": "MAGLEV"}, _half_sick),
    HashCluster("h-maglev-priorities", {"lb_policy": "MAGLEV"}, _priorities),
    HashCluster("h-maglev-typed", _policy("maglev.v3.Maglev", table_size=5003)),
]
