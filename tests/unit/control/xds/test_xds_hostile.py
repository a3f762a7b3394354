"""Resources of a careless or hostile control plane that were accepted, or raised, once."""

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as Any_
from tests.kit.xds_messages import message_of, view_of
from xds.type.v3.typed_struct_pb2 import TypedStruct

from pymosn.control.xds.convert.clusters import convert_cluster
from pymosn.control.xds.convert.filters import convert_http_filter, guards
from pymosn.control.xds.convert.messages import UnknownTypeError, unpack
from pymosn.control.xds.convert.route_filters import filter_settings
from pymosn.control.xds.convert.routes import convert_routes
from pymosn.control.xds.convert.view import Report, View

HTTP = "type.googleapis.com/envoy.extensions.filters.http."


def test_rules_of_a_route_are_not_replaced_by_an_exemption_under_another_name() -> None:
    """Each belongs to the filter of its name."""
    deny = {"action": "DENY", "policies": {"p": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}
    rules = {"@type": f"{HTTP}rbac.v3.RBACPerRoute", "rbac": {"rules": deny}}
    exemption = {"@type": f"{HTTP}rbac.v3.RBACPerRoute"}
    config = {"name": "r", "typed_per_filter_config": {"a": rules, "z": exemption}}
    view, report = view_of("envoy.config.route.v3.RouteConfiguration", config)
    with view:
        view.value("name")
        made = filter_settings(view, "typed_per_filter_config")
    assert not report.faults
    assert made == {"/a": {}, "rbac/a": {"rules": deny}, "/z": {}, "rbac/z": {}}


@pytest.mark.parametrize("address", [{"pipe": {"path": "/run/dns"}}, {"socket_address": {"address": "10.0.0.1"}}])
def test_a_name_server_is_an_address_with_a_port(address: dict[str, Any]) -> None:
    cares = "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
    config = {"name": "c", "typed_config": {"@type": cares, "resolvers": [address]}}
    view, report = view_of(
        "envoy.config.cluster.v3.Cluster", {"name": "a", "type": "STRICT_DNS", "typed_dns_resolver_config": config}
    )
    convert_cluster(view)
    assert any(fault.path.startswith("typed_dns_resolver_config.typed_config.resolvers[0]") for fault in report.faults)


@pytest.mark.parametrize(
    "name",
    [
        "envoy.extensions.filters.http.rate_limit_quota.v3.RateLimitQuotaFilterConfig",
        "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "envoy.extensions.filters.http.gcp_authn.v3.GcpAuthnFilterConfig",
        "envoy.extensions.filters.http.composite.v3.Composite",
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    ],
)
def test_an_optional_filter_that_may_guard_is_not_left_out(name: str) -> None:
    assert guards(name)


def test_a_number_that_json_does_not_have() -> None:
    message = message_of("pymosn.python.v1.Filter", {"class": "msgspec.json:Decoder", "config": {"a": 1}})
    message.config.fields["a"].number_value = float("nan")  # type: ignore[attr-defined]
    report = Report()
    convert_http_filter(View(message, "", report))
    assert [fault.text() for fault in report.faults] == ["config: has a number that is not finite"]


def test_a_number_that_json_does_not_have_in_a_typed_struct() -> None:
    inner = {"type_url": f"{HTTP}fault.v3.HTTPFault", "value": {"a": 1}}
    struct = json_format.ParseDict(inner, TypedStruct())
    struct.value.fields["a"].number_value = float("inf")
    packed = Any_()
    packed.Pack(struct)
    with pytest.raises(UnknownTypeError, match=r"^invalid envoy"):
        unpack(packed)


@pytest.mark.parametrize("key", ["host_redirect", "path_redirect", "prefix_rewrite"])
def test_a_redirect_splits_no_head(key: str) -> None:
    host = {"name": "a", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "redirect": {key: "/a\r\nx: y"}}]}
    view, report = view_of("envoy.config.route.v3.RouteConfiguration", {"name": "t", "virtual_hosts": [host]})
    convert_routes(view, "t")
    where = f"virtual_hosts[0].routes[0].redirect.{key}"
    assert f"{where}: must not contain CR, LF or NUL" in [fault.text() for fault in report.faults]
