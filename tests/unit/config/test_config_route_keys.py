"""The checks of keys of routes that MOSN does not have."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pymosn.config.check.routes import check_table
from pymosn.config.diagnostics import Diagnostics
from pymosn.config.schema import RouterConfiguration

HEADER = {"name": "x"}
REGEX = {"pattern": {"regex": "("}, "substitution": ""}


def faults(route: dict[str, Any], **table: Any) -> list[tuple[str, str, str]]:
    """Severity, path within the route, and message of what is found."""
    host = {"name": "v", "domains": table.pop("domains", ["*"]), "routers": [{"route": {"cluster_name": "c"}, **route}]}
    source = {"router_config_name": "t", "virtual_hosts": [host], **table}
    report = Diagnostics()
    check_table(msgspec.convert(source, RouterConfiguration), "", report, ["c"])
    return [(item.severity, item.path.removeprefix(".virtual_hosts[0].routers[0]."), item.message) for item in report.items]


@pytest.mark.parametrize(
    ("match", "path", "message"),
    [
        ({"headers": [{**HEADER, "string_match": {}}]}, "headers[0]", "needs exactly one of exact"),
        ({"headers": [{**HEADER, "string_match": {"exact": "", "prefix": "b"}}]}, "headers[0]", "has prefix, exact"),
        ({"headers": [{**HEADER, "string_match": {"regex": "("}}]}, "headers[0].value", "not a regular expression"),
        (
            {"headers": [{**HEADER, "string_match": {"regex": "a", "ignore_case": True}}]},
            "headers[0]",
            "ignore_case is not valid",
        ),
        ({"headers": [{**HEADER, "value": "a", "present_match": True}]}, "headers[0]", "value is not valid together with"),
        ({"headers": [{**HEADER, "present_match": True, "range_match": {}}]}, "headers[0]", "present_match is not valid"),
        ({"headers": [{**HEADER, "value": "a", "invert_match": True}]}, "headers[0]", "invert_match needs one of"),
        ({"headers": [{"name": ":status", "present_match": True}]}, "headers[0]", "':status' is neither a header"),
        ({"headers": [{"name": "te", "present_match": True}]}, "headers[0]", "routes do not see te"),
        ({"query_parameters": [{**HEADER, "range_match": {}}]}, "query_parameters[0]", "range_match is for headers only"),
        ({"path_regex": "("}, "path_regex", "not a regular expression"),
        ({"path_separated_prefix": "/a/"}, "path_separated_prefix", "must not end with a slash"),
    ],
)
def test_invalid_conditions(match: dict[str, Any], path: str, message: str) -> None:
    (found,) = faults({"match": match})
    assert found[:2] == ("error", f"match.{path}")
    assert message in found[2]


@pytest.mark.parametrize(
    ("action", "path", "message"),
    [
        ({"cluster_not_found_response_code": 402}, "cluster_not_found_response_code", "must be one of 404, 500, 503"),
        (
            {"retry_policy": {"retry_back_off": {"base_interval": 0.0}}},
            "retry_policy.retry_back_off.base_interval",
            "positive",
        ),
        (
            {"retry_policy": {"retry_back_off": {"base_interval": 2.0, "max_interval": 1.0}}},
            "retry_policy.retry_back_off.max_interval",
            "less than base_interval",
        ),
        ({"host_rewrite_path_regex": REGEX}, "host_rewrite_path_regex", "cannot be used"),
        ({"hash_policy": [{"query_parameter": {}}]}, "hash_policy[0].query_parameter.name", "missing parameter name"),
        (
            {"weighted_clusters": [{"cluster": {"name": "c", "weight": 1, "host_rewrite": "a b"}}], "cluster_name": ""},
            "weighted_clusters[0].cluster.host_rewrite",
            "not a host",
        ),
        (
            {"request_headers_to_add": [{"header": {"key": "a b"}, "append_action": "ADD_IF_ABSENT"}]},
            "request_headers_to_add[0].header",
            "not a header name",
        ),
    ],
)
def test_invalid_actions(action: dict[str, Any], path: str, message: str) -> None:
    (found,) = faults({"route": {"cluster_name": "c", **action}})
    assert found[:2] == ("error", f"route.{path}")
    assert message in found[2]


@pytest.mark.parametrize(
    ("route", "path", "message"),
    [
        ({"match": {"prefix": "/", "path_regex": "a"}}, "match.path_regex", "no effect together with prefix"),
        ({"match": {"case_sensitive": False}}, "match.case_sensitive", "has no effect without prefix"),
        ({"redirect": {"prefix_rewrite": "/a"}}, "redirect.prefix_rewrite", "no effect on a route without prefix"),
        ({"redirect": {"path_redirect": "/a", "regex_rewrite": {}}}, "redirect.regex_rewrite", "no effect together with"),
    ],
)
def test_keys_without_effect(route: dict[str, Any], path: str, message: str) -> None:
    found = [row for row in faults(route) if row[1] == path]
    assert [row[0] for row in found] == ["warning"]
    assert message in found[0][2]


def test_domains() -> None:
    assert faults({}, domains=["*.a", "b.*", "c:80", "*"], envoy_domains="with_port") == []
    (found,) = faults({}, domains=["a*b"], envoy_domains="any_port")
    assert found[2] == "`*` is only allowed at the start or at the end of a domain"
    (found,) = faults({}, domains=["b.*"])
    assert found[2] == "`*` is only allowed at the start of a domain"


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"/n": {"disabled": 1}}, "per_filter_config./n", "expected an object with `disabled`, got {'disabled': 1}"),
        ({"/n": {"enabled": True}}, "per_filter_config./n", "expected an object with `disabled`"),
        ({"/n": True}, "per_filter_config./n", "expected an object with `disabled`, got True"),
        ({"rbac/n": {"rules": {"action": "X"}}}, "per_filter_config.rbac/n.rules.action", ""),
        ({"gzip/n": {}}, "per_filter_config.gzip/n", "has no effect: this filter has no settings per route"),
    ],
)
def test_settings_of_filters_with_names(settings: dict[str, Any], path: str, message: str) -> None:
    ((_, where, text),) = faults({"per_filter_config": settings})
    assert where == path
    assert message in text


def test_switches_of_filters_are_valid() -> None:
    assert faults({"per_filter_config": {"/a": {}, "/b": {"disabled": True}, "rbac/a": {}, "mine/a": 1}}) == []
