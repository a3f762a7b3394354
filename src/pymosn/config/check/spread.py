"""Checks what distributes requests among the hosts of a cluster: priorities, localities, TLS of some hosts, table sizes."""

from __future__ import annotations

from typing import Final

from pymosn.config.check.addresses import is_ip
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import Cluster

#: The highest number of a priority, as in Envoy.
MAX_PRIORITY: Final = 127
#: The largest table of LB_MAGLEV and ring of LB_RING_HASH: their memory is per worker and cluster.
MAX_TABLE: Final = 5_000_011
MAX_RING: Final = 8 * 1024 * 1024
#: The largest weight of a host for `hash_function`.
MAX_HASH_WEIGHT: Final = 2**32 - 1
MILLION: Final = 1_000_000


def check_spread(cluster: Cluster, path: str, report: Diagnostics) -> None:
    """Check the keys of a cluster that distribute its requests."""
    if cluster.bind_address and not is_ip(cluster.bind_address):
        report.error(f"{path}.bind_address", "not an IP address", cluster.bind_address)
    if cluster.overprovisioning_factor == 0:
        report.error(f"{path}.overprovisioning_factor", "must be at least 1", cluster.overprovisioning_factor)
    for i, host in enumerate(cluster.hosts):
        if host.priority > MAX_PRIORITY:
            report.error(f"{path}.hosts[{i}].priority", f"must be at most {MAX_PRIORITY}", host.priority)
        if host.hash_weight > MAX_HASH_WEIGHT:
            report.error(f"{path}.hosts[{i}].hash_weight", f"must be at most {MAX_HASH_WEIGHT}", host.hash_weight)
    for i, drop in enumerate(cluster.drop_overload):
        if drop.per_million > MILLION:
            report.error(f"{path}.drop_overload[{i}].per_million", f"must be at most {MILLION}", drop.per_million)
    if cluster.fail_in_panic and not cluster.panic_threshold:
        report.warning(f"{path}.fail_in_panic", "has no effect without panic_threshold")
    _check_localities(cluster, path, report)
    _check_sizes(cluster, path, report)


def _check_localities(cluster: Cluster, path: str, report: Diagnostics) -> None:
    seen: set[tuple[str, int]] = set()
    for i, entry in enumerate(cluster.localities):
        key = (entry.locality, entry.priority)
        if key in seen:
            report.warning(f"{path}.localities[{i}].locality", "duplicate: the last weight of it counts", entry.locality)
        seen.add(key)


def _check_sizes(cluster: Cluster, path: str, report: Diagnostics) -> None:
    block = cluster.lbconfig
    if block is None:
        return
    inner = f"{path}.lbconfig"
    if block.hash_function and cluster.lb_type not in ("LB_RING_HASH", "LB_MAGLEV"):
        report.warning(f"{inner}.hash_function", "has no effect without LB_RING_HASH or LB_MAGLEV", block.hash_function)
    if block.hashes_hostnames and not block.hash_function:
        report.warning(f"{inner}.hashes_hostnames", "has no effect without hash_function")
    if block.table_size and not (block.table_size <= MAX_TABLE and is_prime(block.table_size)):
        report.error(f"{inner}.table_size", f"must be a prime number up to {MAX_TABLE}", block.table_size)
    for key in ("minimum_ring_size", "maximum_ring_size"):
        if getattr(block, key) > MAX_RING:
            report.error(f"{inner}.{key}", f"must be at most {MAX_RING}", getattr(block, key))
    if 0 < block.maximum_ring_size < block.minimum_ring_size:
        report.error(f"{inner}.maximum_ring_size", "must not be less than minimum_ring_size", block.maximum_ring_size)


def is_prime(number: int) -> bool:
    """Whether a number is prime."""
    if number < 3:
        return False  # two slots would not do
    return number % 2 != 0 and all(number % divisor for divisor in range(3, int(number**0.5) + 1, 2))
