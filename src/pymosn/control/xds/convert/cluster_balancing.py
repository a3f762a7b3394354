"""Load balancing of a cluster: policies with their settings, panic threshold, localities and subsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pymosn.config.schema import Cluster
from pymosn.config.schema.cluster import BalancerConfig, SlowStart, SubsetConfig
from pymosn.control.xds.convert.labels import struct_texts
from pymosn.control.xds.convert.view import View

PANIC_THRESHOLD: Final = 50
MINIMUM_RING: Final = 1024
MAXIMUM_RING: Final = 8 * 1024 * 1024
TABLE_SIZE: Final = 65537
#: `lb_policy` -> `lb_type`. Round robin has weights in Envoy.
_POLICIES: Final[Mapping[str, str]] = {
    "ROUND_ROBIN": "LB_WEIGHTED_ROUNDROBIN",
    "LEAST_REQUEST": "LB_LEAST_REQUEST",
    "RANDOM": "LB_RANDOM",
    "RING_HASH": "LB_RING_HASH",
    "MAGLEV": "LB_MAGLEV",
}
_FALLBACKS: Final = ("NO_FALLBACK", "ANY_ENDPOINT", "DEFAULT_SUBSET")
_POLICY: Final = "envoy.extensions.load_balancing_policies."


def read_balancing(cluster: Cluster, view: View) -> bool:
    """Reads everything about load balancing. True if it weighs localities."""
    weighs = _read_common(cluster, view.inner("common_lb_config"))
    policy = view.enum("lb_policy")
    typed = view.inner("load_balancing_policy")
    for name, read in _LEGACY.items():
        inner = view.inner(name)
        if inner is not None and typed is None:  # else another policy is used
            read(cluster, inner)
    if typed is not None:
        weighs = _read_policies(cluster, typed) or weighs
    elif policy == "CLUSTER_PROVIDED":
        if cluster.type != "ORIGINAL_DST":
            view.fault("lb_policy", f"CLUSTER_PROVIDED is not for clusters of type {cluster.type}")
    elif policy in _POLICIES:
        cluster.lb_type = _POLICIES[policy]
        if policy in ("RING_HASH", "MAGLEV"):
            _hash_defaults(cluster)
    else:
        view.fault("lb_policy", f"{policy} is not supported")
    cluster.lb_subset_config = _subsets(view.inner("lb_subset_config"))
    return weighs


def _numbers(cluster: Cluster) -> BalancerConfig:
    if cluster.lbconfig is None:
        cluster.lbconfig = BalancerConfig()
    return cluster.lbconfig


def _hash_defaults(cluster: Cluster) -> None:
    numbers = _numbers(cluster)
    numbers.hash_function = numbers.hash_function or "XX_HASH"
    numbers.minimum_ring_size = numbers.minimum_ring_size or MINIMUM_RING
    numbers.maximum_ring_size = numbers.maximum_ring_size or MAXIMUM_RING
    numbers.table_size = numbers.table_size or TABLE_SIZE


def _read_common(cluster: Cluster, view: View | None) -> bool:
    cluster.panic_threshold = PANIC_THRESHOLD
    if view is None:
        return False
    with view:
        threshold = view.inner("healthy_panic_threshold")
        if threshold is not None:
            with threshold:
                cluster.panic_threshold = round(_percentage(threshold, "value"))
        weighs = view.has("locality_weighted_lb_config")
        if weighs:
            view.value("locality_weighted_lb_config")
        _read_zones(cluster, view.inner("zone_aware_lb_config"))
        _read_hashing(cluster, view.inner("consistent_hashing_lb_config"))
        if cluster.lbconfig is not None and cluster.lbconfig.hashes_hostnames and cluster.type != "STRICT_DNS":
            view.fault(
                "consistent_hashing_lb_config.use_hostname_for_hashing", f"is not for clusters of type {cluster.type}"
            )
        if view.value("ignore_new_hosts_until_first_hc"):
            view.warn(
                "ignore_new_hosts_until_first_hc", "has no effect: a new host is used until its health check has failed"
            )
        return weighs


def _percentage(view: View, name: str) -> float:
    value = float(view.value(name))
    if not 0.0 <= value <= 100.0:
        view.fault(name, f"not a percentage: {value:g}")
        return 0.0
    return value


def _read_zones(cluster: Cluster, view: View | None) -> None:
    """Reads zone-aware routing, which needs the zone of this process; only a preference is lost."""
    if view is None:
        return
    with view:
        cluster.fail_in_panic = bool(view.value("fail_traffic_on_panic"))
        for name in ("routing_enabled", "min_cluster_size", "force_locality_direct_routing", "force_local_zone"):
            if name in view.message.DESCRIPTOR.fields_by_name and view.has(name):
                view.value(name)
        if "locality_basis" in view.message.DESCRIPTOR.fields_by_name and view.has("locality_basis"):
            view.value("locality_basis")


def _read_hashing(cluster: Cluster, view: View | None) -> None:
    if view is None:
        return
    with view:
        view.refuse("hash_policy", "the policy of the route is used; one of the cluster is not supported")
        if view.value("use_hostname_for_hashing"):
            _numbers(cluster).hashes_hostnames = True
        if view.wrapped("hash_balance_factor"):
            view.warn("hash_balance_factor", "has no effect: the load of hosts is not bounded")


# ---- the settings of one policy


def _slow_start(cluster: Cluster, view: View | None) -> None:
    if view is None:
        return
    with view:
        window = view.seconds("slow_start_window") or 0.0
        aggression, inner = 1.0, view.inner("aggression")
        if inner is not None:
            with inner:
                aggression = float(inner.value("default_value"))
                inner.value("runtime_key")
                if aggression <= 0.0:
                    inner.fault("default_value", "must be above 0")
        share, percent = 0.1, view.inner("min_weight_percent")
        if percent is not None:
            with percent:
                share = _percentage(percent, "value") / 100.0
        if window > 0.0:
            cluster.slow_start = SlowStart(
                mode="duration", slow_start_duration=window, aggression=aggression, min_weight_percent=share
            )


def _least_request(cluster: Cluster, view: View) -> None:
    with view:
        count = view.wrapped("choice_count")
        if count is not None and count < 2:
            view.fault("choice_count", "must be at least 2")
        numbers = _numbers(cluster)
        numbers.choice_count = count or 2
        bias = view.inner("active_request_bias")
        if bias is not None:
            with bias:
                numbers.active_request_bias = float(bias.value("default_value"))
                bias.value("runtime_key")
        _slow_start(cluster, view.inner("slow_start_config"))
        if view.type_name.startswith(_POLICY):
            if view.wrapped("enable_full_scan") or view.enum("selection_method") == "FULL_SCAN":
                numbers.choice_count = 1_000_000_000
            if view.has("enable_full_scan"):
                view.value("enable_full_scan")


def _round_robin(cluster: Cluster, view: View) -> None:
    with view:
        _slow_start(cluster, view.inner("slow_start_config"))


def _random(cluster: Cluster, view: View) -> None:
    view.close()


def _ring_hash(cluster: Cluster, view: View) -> None:
    with view:
        function = view.enum("hash_function")
        numbers = _numbers(cluster)
        numbers.hash_function = "MURMUR_HASH_2" if function == "MURMUR_HASH_2" else "XX_HASH"
        for key in ("minimum_ring_size", "maximum_ring_size"):
            size = view.wrapped(key)
            if size is not None and size > MAXIMUM_RING:
                view.fault(key, f"must be at most {MAXIMUM_RING}")
            setattr(numbers, key, size or 0)
        _hash_defaults(cluster)
        if numbers.minimum_ring_size > numbers.maximum_ring_size:
            view.fault("minimum_ring_size", "must not be above maximum_ring_size")
        _read_own_hashing(cluster, view)


def _maglev(cluster: Cluster, view: View) -> None:
    with view:
        size = view.wrapped("table_size")
        if size is not None:
            if not 2 < size <= 5_000_011 or any(size % divisor == 0 for divisor in range(2, int(size**0.5) + 1)):
                view.fault("table_size", f"not a prime number up to 5000011: {size}")
            _numbers(cluster).table_size = size
        _hash_defaults(cluster)
        _read_own_hashing(cluster, view)


def _read_own_hashing(cluster: Cluster, view: View) -> None:
    if not view.type_name.startswith(_POLICY):
        return
    _read_hashing(cluster, view.inner("consistent_hashing_lb_config"))
    if view.has("use_hostname_for_hashing") and view.value("use_hostname_for_hashing"):
        _numbers(cluster).hashes_hostnames = True
    if view.has("hash_balance_factor"):
        view.value("hash_balance_factor")
        view.warn("hash_balance_factor", "has no effect: the load of hosts is not bounded")


#: The settings inside a cluster, of which only those of its policy are sent.
_LEGACY: Final[Mapping[str, Callable[[Cluster, View], None]]] = {
    "least_request_lb_config": _least_request,
    "round_robin_lb_config": _round_robin,
    "ring_hash_lb_config": _ring_hash,
    "maglev_lb_config": _maglev,
}

# ---- policies as extensions

_TYPED: Final[Mapping[str, tuple[str, Callable[[Cluster, View], None]]]] = {
    _POLICY + "round_robin.v3.RoundRobin": ("LB_WEIGHTED_ROUNDROBIN", _round_robin),
    _POLICY + "least_request.v3.LeastRequest": ("LB_LEAST_REQUEST", _least_request),
    _POLICY + "random.v3.Random": ("LB_RANDOM", _random),
    _POLICY + "ring_hash.v3.RingHash": ("LB_RING_HASH", _ring_hash),
    _POLICY + "maglev.v3.Maglev": ("LB_MAGLEV", _maglev),
}
_WRR_LOCALITY: Final = _POLICY + "wrr_locality.v3.WrrLocality"
_CLUSTER_PROVIDED: Final = _POLICY + "cluster_provided.v3.ClusterProvided"


def _read_policies(cluster: Cluster, view: View) -> bool:
    """Reads a `LoadBalancingPolicy`: the first policy that is known counts, as in Envoy. True if it weighs localities."""
    with view:
        policies = view.items("policies")
        for index, item in enumerate(policies):
            extension = item.inner("typed_extension_config")
            kind = "" if extension is None else extension.message.typed_config.type_url.rpartition("/")[2]
            if extension is not None and (kind in _TYPED or kind in (_WRR_LOCALITY, _CLUSTER_PROVIDED)):
                for skipped in policies[:index]:
                    skipped.warn("", "skipped: this policy is not known, and a later one is")
                with item, extension:
                    extension.value("name")
                    policy = extension.typed("typed_config")
                    return policy is not None and _read_policy(cluster, policy, kind)
        names = ", ".join(item.message.typed_extension_config.typed_config.type_url.rpartition("/")[2] for item in policies)
        view.fault("policies", f"none of the policies is supported: {names or 'none is given'}")
        return False


def _read_policy(cluster: Cluster, view: View, kind: str) -> bool:
    if kind == _CLUSTER_PROVIDED:
        if cluster.type != "ORIGINAL_DST":
            view.fault("", f"is not for clusters of type {cluster.type}")
        view.close()
        return False
    if kind == _WRR_LOCALITY:
        with view:
            inner = view.inner("endpoint_picking_policy")
            if inner is None:
                view.fault("endpoint_picking_policy", "missing")
            else:
                _read_policies(cluster, inner)
            return True
    cluster.lb_type, read = _TYPED[kind]
    weighs = _weighs_localities(cluster, view)
    read(cluster, view)
    return weighs


def _weighs_localities(cluster: Cluster, view: View) -> bool:
    """Reads what a policy does about localities."""
    fields = view.message.DESCRIPTOR.fields_by_name
    if "locality_weighted_lb_config" in fields and view.has("locality_weighted_lb_config"):
        view.value("locality_weighted_lb_config")
        return True
    inner = view.inner("locality_lb_config") if "locality_lb_config" in fields else None
    if inner is None:
        return False
    with inner:
        _read_zones(cluster, inner.inner("zone_aware_lb_config"))
        weighs = inner.has("locality_weighted_lb_config")
        if weighs:
            inner.value("locality_weighted_lb_config")
        return weighs


# ---- subsets


def _subsets(view: View | None) -> SubsetConfig | None:
    if view is None:
        return None
    with view:
        policy = view.enum("fallback_policy")
        if policy not in _FALLBACKS:
            view.fault("fallback_policy", f"unknown policy {policy}")
            policy = _FALLBACKS[0]
        default: dict[str, str] = {}
        if view.has("default_subset"):
            default = struct_texts(view.value("default_subset"), view, "default_subset")
        selectors = [_selector(item) for item in view.items("subset_selectors")]
        for name in ("list_as_any", "panic_mode_any"):
            if view.value(name):
                view.fault(name, "not supported")
        for name in ("locality_weight_aware", "scale_locality_weight"):
            if view.value(name):
                view.warn(name, "has no effect: the localities of a subset have their full weights")
        if view.enum("metadata_fallback_policy") == "FALLBACK_LIST":
            view.fault("metadata_fallback_policy", "FALLBACK_LIST is not supported")
        return SubsetConfig(
            fall_back_policy=_FALLBACKS.index(policy),
            default_subset=default,
            subset_selectors=selectors,
            falls_back_without_criteria=True,
        )


def _selector(view: View) -> list[str]:
    with view:
        policy = view.enum("fallback_policy")
        if policy != "NOT_DEFINED":
            view.fault("fallback_policy", f"{policy} of a selector is not supported; only that of the cluster")
        view.refuse("fallback_keys_subset", "not supported")
        view.value("single_host_per_subset")  # saves Envoy memory
        return [str(key) for key in view.values("keys")]
