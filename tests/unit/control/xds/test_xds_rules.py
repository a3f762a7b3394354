"""The rules of fields that Envoy's messages have (protoc-gen-validate), enforced with the path of the field."""

from typing import Any

import pytest
from tests.kit.xds_messages import view_of

from pymosn.control.xds.convert.clusters import convert_cluster
from pymosn.control.xds.convert.routes import convert_routes

CLUSTER = "envoy.config.cluster.v3.Cluster"
TABLE = "envoy.config.route.v3.RouteConfiguration"


def of_cluster(**fields: Any) -> list[str]:
    view, report = view_of(CLUSTER, {"name": "c", "type": "STATIC", **fields})
    convert_cluster(view)
    return [fault.text() for fault in report.faults]


def of_route(action: dict[str, Any], **match: Any) -> list[str]:
    route = {"match": {"prefix": "/", **match}, "route": {"cluster": "c", **action}}
    view, report = view_of(TABLE, {"name": "t", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]})
    convert_routes(view, "t")
    return [fault.text().removeprefix("virtual_hosts[0].routes[0].") for fault in report.faults]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (
            {"ring_hash_lb_config": {"minimum_ring_size": 8388609}},
            "ring_hash_lb_config.minimum_ring_size: must be at most 8388608",
        ),
        ({"connect_timeout": "0s"}, "connect_timeout: must be above 0"),
        ({"max_requests_per_connection": 0}, ""),
        ({"health_checks": [{"timeout": "0s"}]}, "health_checks[0].timeout: must be above 0"),
        (
            {"outlier_detection": {"max_ejection_percent": 101}},
            "outlier_detection.max_ejection_percent: not a percentage",
        ),
        ({"cleanup_interval": "0s"}, "cleanup_interval: must be above 0"),
        ({"common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": 99}}}, "must be at least 100"),
    ],
)
def test_ranges_of_clusters(fields: dict[str, Any], fault: str) -> None:
    lb = {"lb_policy": "RING_HASH"} if "ring_hash_lb_config" in fields else {}
    found = of_cluster(**lb, **fields)
    assert any(fault in each for each in found) if fault else not found


@pytest.mark.parametrize("name", ["x\n", "x\0", "x\r\ny: z"])
def test_names_of_headers(name: str) -> None:
    [fault] = of_route({"hash_policy": [{"header": {"header_name": name}}]})
    assert fault == "route.hash_policy[0].header.header_name: must not contain CR, LF or NUL"


def test_sizes_of_texts_and_lists() -> None:
    regex = {"string_match": {"safe_regex": {"regex": "a"}}}
    assert of_route({}, headers=[{"name": "x", **regex}]) == []
    assert of_route({}, query_parameters=[{"name": "x" * 1025}]) == [
        "match.query_parameters[0].name: must have at most 1024 bytes"
    ]


def test_a_field_has_one_fault() -> None:
    """That of the converter, if it has found one."""
    found = of_cluster(lb_policy="LEAST_REQUEST", least_request_lb_config={"choice_count": 1})
    assert [each.partition(":")[0] for each in found] == ["least_request_lb_config.choice_count"]
