"""What a cluster's configuration comes to as a plan."""

import msgspec
import pytest

from pymosn.assembly.clusters import plan_cluster
from pymosn.assembly.listeners import original_dst
from pymosn.assembly.share import WorkerShare
from pymosn.config.schema import Cluster, Listener
from pymosn.upstream.plan import (
    AllowedPlan,
    BalancingPlan,
    ClusterPlan,
    EjectionPlan,
    HostPlan,
    LimitPlan,
    OriginalPlan,
    SlowStartPlan,
    SubsetPlan,
)


def plan(**keys: object) -> ClusterPlan:
    return plan_cluster(msgspec.convert({"name": "c", **keys}, Cluster), WorkerShare(2, 0))


def test_defaults() -> None:
    assert plan() == ClusterPlan("c")


def test_hosts() -> None:
    labels = {"filter_metadata": {"mosn.lb": {"v": 2, "a": "x"}}}
    made = plan(
        hosts=[{"address": "a:1", "weight": 500, "metadata": labels}, {"address": "a:1"}, {"address": "b:1", "weight": 0}]
    )
    assert made.hosts == (HostPlan("a:1", "", 128, (("a", "x"), ("v", "2"))), HostPlan("b:1", "", 1, ()))


def test_limits_are_this_workers_share() -> None:
    breaker = {"max_connections": 5, "max_pending_requests": 1, "max_requests": 100}
    assert plan(circuit_breakers=[breaker, {"max_retries": 9}]).limits == LimitPlan(3, 1, 50, 0)
    made = plan(max_request_per_conn=7, conn_buffer_limit_bytes=9000)
    assert (made.max_requests_per_connection, made.buffer_limit) == (7, 9000)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"lb_type": "LB_NONSENSE"}, BalancingPlan()),
        ({"lb_type": "LB_MAGLEV", "panic_threshold": 40}, BalancingPlan("LB_MAGLEV", panic_threshold=40.0)),
        (
            {"lbconfig": {"choice_count": 3, "active_request_bias": 0.5}},
            BalancingPlan(choice_count=3, active_request_bias=0.5),
        ),
        ({"slow_start": {"mode": "duration", "slow_start_duration": 9.0}}, BalancingPlan(slow_start=SlowStartPlan(9.0))),
        ({"slow_start": {"slow_start_duration": 9.0}}, BalancingPlan()),
        (
            {
                "lb_subset_config": {
                    "fall_back_policy": 2,
                    "subset_selectors": [["b", "a"]],
                    "default_subset": {"z": "1", "a": "2"},
                }
            },
            BalancingPlan(subset=SubsetPlan((("a", "b"),), 2, (("a", "2"), ("z", "1")))),
        ),
    ],
)
def test_balancing(keys: dict[str, object], expected: BalancingPlan) -> None:
    assert plan(**keys).balancing == expected


def test_ejection() -> None:
    assert plan().ejection is None
    assert plan(outlier_detection={}).ejection == EjectionPlan()
    assert plan(outlier_detection={"consecutive_errors": 0, "error_rate": 20, "interval": 3.0}).ejection == EjectionPlan(
        0, error_rate=20.0, interval=3.0
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"type": "ORIGINAL_DST"}, OriginalPlan()),
        ({"lb_type": "LB_ORIGINAL_DST"}, OriginalPlan()),
        ({"type": "ORIGINAL_DST", "original_dst_lb_config": {"header_name": "X-To"}}, OriginalPlan()),
        ({"type": "ORIGINAL_DST", "original_dst_lb_config": {"use_header": True}}, OriginalPlan("host")),
        (
            {
                "type": "ORIGINAL_DST",
                "original_dst_lb_config": {"use_header": True, "header_name": "X-To", "replace_local": True},
            },
            OriginalPlan("x-to", True),
        ),
        (
            {
                "type": "ORIGINAL_DST",
                "original_dst_lb_config": {"allowed_destinations": [{"network": "10.0.0.0/8", "ports": "80,90-91"}]},
            },
            OriginalPlan("", False, (AllowedPlan("10.0.0.0/8", ((80, 80), (90, 91))),)),
        ),
        ({"type": "STRICT_DNS", "original_dst_lb_config": {"use_header": True}}, None),
    ],
)
def test_where_clients_want_to_go(keys: dict[str, object], expected: OriginalPlan | None) -> None:
    made = plan(hosts=[{"address": "a:1"}], outlier_detection={}, **keys)
    assert made.original == expected
    assert (made.hosts == (), made.ejection is None) == (expected is not None, expected is not None)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"use_original_dst": "redir"}, None),
        ({"listener_filters": [{"type": "original_dst"}]}, None),
        ({"use_original_dst": "redirect"}, (False, False)),
        ({"use_original_dst": "tproxy"}, (True, False)),
        # The filter decides how, as in MOSN.
        ({"use_original_dst": "tproxy", "listener_filters": [{"type": "original_dst"}]}, (False, False)),
        (
            {
                "use_original_dst": "redirect",
                "listener_filters": [{"type": "original_dst", "config": {"type": "tproxy", "fallback_to_local": True}}],
            },
            (True, True),
        ),
    ],
)
def test_how_a_listener_finds_where(keys: dict[str, object], expected: tuple[bool, bool] | None) -> None:
    made = original_dst(msgspec.convert(keys, Listener))
    assert (made and (made.is_transparent, made.fallback_to_local)) == expected
