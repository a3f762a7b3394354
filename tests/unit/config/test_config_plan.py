"""What a cluster's configuration comes to as a plan."""

import msgspec
import pytest

from pymosn.config.build_upstream import plan_cluster
from pymosn.config.schema import Cluster
from pymosn.upstream.plan import BalancingPlan, ClusterPlan, EjectionPlan, LimitPlan, SlowStartPlan, SubsetPlan


def plan(**keys: object) -> ClusterPlan:
    return plan_cluster(msgspec.convert({"name": "c", **keys}, Cluster), 2, 0)


def test_nothing_said() -> None:
    assert plan() == ClusterPlan("c")


def test_hosts() -> None:
    labels = {"filter_metadata": {"mosn.lb": {"v": 2, "a": "x"}}}
    made = plan(
        hosts=[{"address": "a:1", "weight": 500, "metadata": labels}, {"address": "a:1"}, {"address": "b:1", "weight": 0}]
    )
    assert [tuple(host) for host in made.hosts] == [("a:1", "", 128, (("a", "x"), ("v", "2"))), ("b:1", "", 1, ())]


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
