"""HTTP and network filters of xDS -> filters of ours, and what is rejected, with its path (rows 19 and 20 of xds-tests)."""

import json
from importlib import import_module
from typing import Any

import pytest
from tests.kit.xds_messages import message_of, view_of

from pymosn.config.schema.network_filters import PythonFilter
from pymosn.control.xds.convert.filters import LEFT_OUT, READERS, ROUTE_READERS, convert_http_filter
from pymosn.control.xds.convert.messages import MODULES, load_types
from pymosn.control.xds.convert.network_filters import READERS as NETWORK_READERS
from pymosn.control.xds.convert.network_filters import convert_network_filter
from pymosn.control.xds.convert.route_filters import filter_settings
from pymosn.control.xds.convert.view import Report

HTTP = "envoy.extensions.filters.http."
NETWORK = "envoy.extensions.filters.network."
ANY = {"permissions": [{"any": True}], "principals": [{"any": True}]}
GRPC = {"envoy_grpc": {"cluster_name": "auth"}, "timeout": "0.5s"}
KEYS = json.dumps({"keys": [{"kty": "oct", "kid": "k", "k": "c2VjcmV0"}]})
ALWAYS = {"default_value": {"numerator": 100}}


def http(name: str, value: dict[str, Any]) -> tuple[str, dict[str, Any], Report]:
    """The type and the settings of the stream filter for a message."""
    view, report = view_of(HTTP + name, value)
    made = convert_http_filter(view)
    return ("", {}, report) if made is None else (made.type, made.config, report)


def route(name: str, value: dict[str, Any]) -> tuple[str, dict[str, Any], Report]:
    view, report = view_of(HTTP + name, value)
    made = ROUTE_READERS[HTTP + name](view)
    assert made is not None
    return made.name, made.value, report


def faults(report: Report) -> list[str]:
    return [fault.text() for fault in report.faults]


def test_all_types_can_be_unpacked() -> None:
    for name in (*READERS, *LEFT_OUT, *ROUTE_READERS, *NETWORK_READERS):
        assert message_of(name, {}).DESCRIPTOR.full_name == name
        assert name in MODULES


@pytest.mark.parametrize(
    ("name", "value", "kind", "config"),
    [
        ("cors.v3.Cors", {}, "cors", {"only_routes": True}),
        ("grpc_web.v3.GrpcWeb", {}, "grpc_web", {}),
        ("buffer.v3.Buffer", {"max_request_bytes": 9}, "payload_limit", {"max_entity_size": 9}),
        (
            "fault.v3.HTTPFault",
            {
                "delay": {"fixed_delay": "2s", "percentage": {"numerator": 5000, "denominator": "MILLION"}},
                "abort": {"grpc_status": 14, "percentage": {"numerator": 1}},
            },
            "fault",
            {
                "upstream_cluster": "",
                "delay": {"percentage": 0.5, "fixed_delay": "2.000000s"},
                "abort": {"percentage": 1.0, "grpc_status": 14},
                "headers": [],
            },
        ),
        (
            "rbac.v3.RBAC",
            {"rules": {"action": "DENY", "policies": {"p": ANY}}, "shadow_rules_stat_prefix": "s_"},
            "rbac",
            {"rules": {"action": "DENY", "policies": {"p": ANY}}, "shadow_rules_stat_prefix": "s_", "after_routing": True},
        ),
        ("rbac.v3.RBAC", {"rules": {}}, "rbac", {"rules": {}, "after_routing": True}),
        (
            "compressor.v3.Compressor",
            {
                "compressor_library": {
                    "name": "z",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip",
                        "compression_level": "COMPRESSION_LEVEL_3",
                    },
                },
                "response_direction_config": {"common_config": {"content_type": ["text/a"], "min_content_length": 7}},
            },
            "gzip",
            {"content_length": 7, "content_types": ["text/a"], "encodings": ["gzip"], "gzip_level": 3},
        ),
        (
            "health_check.v3.HealthCheck",
            {"pass_through_mode": False, "headers": [{"name": ":path", "string_match": {"exact": "/ready"}}]},
            "health_check",
            {"headers": [{"name": ":path", "string_match": {"exact": "/ready"}}]},
        ),
        (
            "header_to_metadata.v3.Config",
            {"request_rules": [{"header": "x", "on_header_present": {"metadata_namespace": "envoy.lb", "key": "k"}}]},
            "header_to_metadata",
            {
                "request_rules": [
                    {"header": "x", "remove": False, "on_header_present": {"key": "k", "value": "", "namespace": "envoy.lb"}}
                ]
            },
        ),
        (
            "local_ratelimit.v3.LocalRateLimit",
            {"stat_prefix": "x", "token_bucket": {"max_tokens": 4, "fill_interval": "60s"}},
            "local_rate_limit",
            {"only_routes": True},  # not enabled, as in Envoy
        ),
        ("grpc_stats.v3.FilterConfig", {"emit_filter_state": True}, "", {}),
        ("router.v3.Router", {"suppress_envoy_headers": True}, "", {}),
    ],
)
def test_http_filters(name: str, value: dict[str, Any], kind: str, config: dict[str, Any]) -> None:
    made, settings, report = http(name, value)
    assert faults(report) == []
    assert (made, settings) == (kind, config)


def test_tokens() -> None:
    provider = {
        "issuer": "https://issuer.example",
        "local_jwks": {"inline_string": KEYS},
        "claim_to_headers": [{"header_name": "x-sub", "claim_name": "sub"}],
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]},
    }
    requires = {"requires_any": {"requirements": [{"provider_name": "a"}, {"allow_missing": {}}]}}
    rules = [{"match": {"prefix": "/"}, "requires": requires}]
    message = {"providers": {"a": provider}, "rules": rules, "bypass_cors_preflight": True}
    kind, config, report = http("jwt_authn.v3.JwtAuthentication", message)
    assert (kind, faults(report)) == ("jwt_authn", [])
    assert config == {**message, "before_routing": False}
    cleared = {**message, "providers": {"a": {**provider, "clear_route_cache": True}}}
    assert http("jwt_authn.v3.JwtAuthentication", cleared)[1] == {**message, "before_routing": True}
    fetched = {"http_uri": {"uri": "https://a.example/k", "cluster": "keys", "timeout": "5s"}, "async_fetch": {}}
    remote = {"providers": {"a": {"remote_jwks": fetched}}}
    _, config, report = http("jwt_authn.v3.JwtAuthentication", remote)
    assert faults(report) == []
    assert config["providers"]["a"]["remote_jwks"]["http_uri"]["timeout"] == "5.000000s"


def test_external_authorization() -> None:
    message = {
        "grpc_service": {**GRPC, "initial_metadata": [{"key": "x-a", "value": "b"}]},
        "transport_api_version": "V3",
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{"key": "k"}],
            "value": {"string_match": {"prefix": "p"}},
        },
        "with_request_body": {"max_request_bytes": 10},
        "status_on_error": {"code": "ServiceUnavailable"},
    }
    kind, config, report = http("ext_authz.v3.ExtAuthz", message)
    assert (kind, faults(report)) == ("external_authz", [])
    assert config["grpc"] == {"cluster": "auth", "authority": "", "metadata": {"x-a": "b"}}
    assert (config["timeout"], config["status_on_error"], config["max_request_bytes"]) == ("0.500000s", 503, 10)
    assert config["enabled_metadata"] == message["filter_enabled_metadata"]
    service = {
        "server_uri": {"uri": "http://a.example", "cluster": "auth", "timeout": "1s"},
        "path_prefix": "/check",
        "authorization_request": {"allowed_headers": {"patterns": [{"exact": "x-a"}]}},
        "authorization_response": {"allowed_upstream_headers": {"patterns": [{"prefix": "x-"}]}},
    }
    kind, config, report = http("ext_authz.v3.ExtAuthz", {"http_service": service})
    assert (kind, faults(report)) == ("external_authz", [])
    assert config["http"]["upstream_headers"] == [{"prefix": "x-"}]
    assert config["allowed_headers"] == [{"exact": "x-a"}]


def test_the_rate_limit_service() -> None:
    service = {"grpc_service": GRPC, "transport_api_version": "V3"}
    message = {"domain": "d", "failure_mode_deny": True, "rate_limit_service": service}
    kind, config, report = http("ratelimit.v3.RateLimit", message)
    assert (kind, faults(report)) == ("ratelimit", [])
    assert (config["domain"], config["failure_mode_deny"], config["timeout"]) == ("d", True, "0.500000s")


def test_local_rate_limits() -> None:
    bucket = {"max_tokens": 4, "tokens_per_fill": 2, "fill_interval": "60s"}
    message = {
        "stat_prefix": "x",
        "token_bucket": bucket,
        "filter_enabled": ALWAYS,
        "filter_enforced": ALWAYS,
        "descriptors": [{"entries": [{"key": "a", "value": "b"}], "token_bucket": bucket}],
        "response_headers_to_add": [{"header": {"key": "x-limited", "value": "true"}}],
    }
    _, config, report = http("local_ratelimit.v3.LocalRateLimit", message)
    assert faults(report) == []
    assert (config["requests"], config["per"], config["burst"]) == (2, "60.000000s", 4)
    assert config["descriptors"][0]["entries"] == [{"key": "a", "value": "b"}]
    assert config["response_headers"] == {"x-limited": "true"}


def test_settings_of_routes() -> None:
    policy = {
        "allow_origin_string_match": [{"exact": "https://a.example"}, {"safe_regex": {"regex": ".*\\.b\\.example"}}],
        "allow_methods": "GET,POST",
        "max_age": "86400",
        "allow_credentials": True,
        "filter_enabled": ALWAYS,
    }
    name, value, report = route("cors.v3.CorsPolicy", policy)
    assert (name, faults(report)) == ("cors", [])
    assert value["allow_origin_regexes"] == [r"https://a\.example", r".*\.b\.example"]
    assert (value["allow_methods"], value["max_age"]) == (["GET", "POST"], "86400s")
    assert route("cors.v3.CorsPolicy", {})[1] == {"enabled": False}
    assert route("rbac.v3.RBACPerRoute", {})[:2] == ("rbac", {})
    assert route("rbac.v3.RBACPerRoute", {"rbac": {"rules": {}}})[1] == {"rules": {}}
    assert route("ext_authz.v3.ExtAuthzPerRoute", {"disabled": True})[:2] == ("external_authz", {"disabled": True})
    assert route("jwt_authn.v3.PerRouteConfig", {"requirement_name": "r"})[:2] == ("jwt_authn", {"requirement_name": "r"})
    assert route("fault.v3.HTTPFault", {"abort": {"http_status": 418, "percentage": {"numerator": 1}}})[0] == "fault"
    assert route("buffer.v3.BufferPerRoute", {"disabled": True})[1] == {"max_entity_size": 0}
    assert route("local_ratelimit.v3.LocalRateLimit", {"stat_prefix": "x"})[1] == {"unlimited": True}


def of_table(configs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What becomes of `typed_per_filter_config`."""
    view, report = view_of("envoy.config.route.v3.RouteConfiguration", {"name": "r", "typed_per_filter_config": configs})
    with view:
        view.value("name")
        made = filter_settings(view, "typed_per_filter_config")
    return made, faults(report)


WRAPPER = "type.googleapis.com/envoy.config.route.v3.FilterConfig"
POLICY = {"@type": f"type.googleapis.com/{HTTP}cors.v3.CorsPolicy"}
OTHER = {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"}
STATS = {"@type": f"type.googleapis.com/{HTTP}grpc_stats.v3.FilterConfig"}


@pytest.mark.parametrize(
    ("config", "made"),
    [
        ({"@type": WRAPPER, "disabled": True}, {"/mine": {"disabled": True}}),
        ({"@type": WRAPPER, "config": {}}, {"/mine": {}}),
        ({"@type": WRAPPER, "config": POLICY}, {"/mine": {}, "cors/mine": {"enabled": False}}),
        (POLICY, {"/mine": {}, "cors/mine": {"enabled": False}}),
        ({"@type": WRAPPER, "is_optional": True, "config": STATS}, {}),
    ],
)
def test_filters_are_found_by_their_names(config: dict[str, Any], made: dict[str, Any]) -> None:
    assert of_table({"mine": config}) == (made, [])


def test_filters_of_one_type_have_settings_of_their_own() -> None:
    made, found = of_table({"one": POLICY, "two": POLICY})
    assert (list(made), found) == (["/one", "cors/one", "/two", "cors/two"], [])


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"@type": WRAPPER}, "typed_per_filter_config[mine].config: missing"),
        ({"@type": WRAPPER, "config": STATS}, "settings of type envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"),
        ({"@type": WRAPPER, "is_optional": True, "config": OTHER}, "ext_proc.v3.ExtProcPerRoute are not supported"),
    ],
)
def test_settings_that_are_rejected(config: dict[str, Any], fault: str) -> None:
    import_module("envoy.extensions.filters.http.ext_proc.v3.ext_proc_pb2")
    made, found = of_table({"mine": config})
    assert made == {}
    assert len(found) == 1
    assert fault in found[0]


def test_settings_of_routes_in_a_typed_struct() -> None:
    value = {"stat_prefix": "x", "token_bucket": {"max_tokens": 4, "fill_interval": "60s"}}
    value |= {"filter_enabled": ALWAYS, "filter_enforced": ALWAYS}
    wrapped = {"@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "value": value}
    wrapped["type_url"] = f"type.googleapis.com/{HTTP}local_ratelimit.v3.LocalRateLimit"
    load_types(wrapped)
    made, found = of_table({"mine": wrapped})
    assert (list(made), found) == (["/mine", "local_rate_limit/mine"], [])
    assert (made["local_rate_limit/mine"]["requests"], made["local_rate_limit/mine"]["burst"]) == (1, 4)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("fault.v3.HTTPFault", {"delay": {"header_delay": {}}}, "delay.header_delay: not supported"),
        ("fault.v3.HTTPFault", {"max_active_faults": 1}, "max_active_faults: not supported"),
        ("rbac.v3.RBAC", {"matcher": {}}, "matcher: not supported"),
        (
            "rbac.v3.RBAC",
            {
                "rules": {
                    "policies": {"p": {"permissions": [{"uri_template": {"name": "a"}}], "principals": [{"any": True}]}}
                }
            },
            "rules.policies[p].permissions[0].uri_template: not supported",
        ),
        (
            "rbac.v3.RBAC",
            {"rules": {"policies": {"p": {**ANY, "condition": {}}}}},
            "rules.policies[p].condition: not supported",
        ),
        (
            "rbac.v3.RBAC",
            {"rules": {"policies": {"p": {**ANY, "principals": [{"url_path": {"path": {"safe_regex": {"regex": "("}}}}]}}}},
            "rules.policies.p.principals[0].url_path.path.safe_regex.regex: not a regular expression",
        ),
        ("jwt_authn.v3.JwtAuthentication", {"providers": {"a": {"local_jwks": {}}}}, "providers.a.localJwks"),
        ("jwt_authn.v3.JwtAuthentication", {"filter_state_rules": {"name": "a"}}, "filter_state_rules: not supported"),
        (
            "jwt_authn.v3.JwtAuthentication",
            {"rules": [{"match": {"prefix": "/", "headers": [{"name": "a"}]}}]},
            "rules[0].match.headers: not supported",
        ),
        ("ext_authz.v3.ExtAuthz", {}, "expected grpc_service or http_service"),
        (
            "ext_authz.v3.ExtAuthz",
            {"grpc_service": GRPC, "transport_api_version": "V2"},
            "transport_api_version: V2 is not supported",
        ),
        (
            "ext_authz.v3.ExtAuthz",
            {"grpc_service": {"google_grpc": {"target_uri": "a", "stat_prefix": "b"}}, "transport_api_version": "V3"},
            "grpc_service.google_grpc: not supported",
        ),
        (
            "ext_authz.v3.ExtAuthz",
            {
                "grpc_service": GRPC,
                "transport_api_version": "V3",
                "with_request_body": {"max_request_bytes": 1, "allow_partial_message": True},
            },
            "with_request_body.allow_partial_message: not supported",
        ),
        ("ratelimit.v3.RateLimit", {"domain": "d"}, "rate_limit_service: missing"),
        (
            "local_ratelimit.v3.LocalRateLimit",
            {"filter_enabled": {"default_value": {"numerator": 50}}},
            "filter_enabled: only 0 % and 100 % are supported",
        ),
        ("compressor.v3.Compressor", {}, "compressor_library: missing"),
        ("health_check.v3.HealthCheck", {"pass_through_mode": False}, "headers: must not be empty"),
        ("grpc_json_transcoder.v3.GrpcJsonTranscoder", {"proto_descriptor": "/a"}, "proto_descriptor: files are not"),
        ("header_to_metadata.v3.Config", {"response_rules": [{"header": "a"}]}, "response_rules: not supported"),
        ("router.v3.Router", {"strict_check_headers": ["x-envoy-max-retries"]}, "strict_check_headers: not supported"),
    ],
)
def test_what_is_not_supported_is_rejected_with_its_path(name: str, value: dict[str, Any], text: str) -> None:
    _, _, report = http(name, value)
    assert [fault for fault in faults(report) if text in fault], faults(report)


def test_filters_in_python() -> None:
    name = "pymosn.python.v1.Filter"
    view, report = view_of(name, {"class": "msgspec.json:Decoder", "config": {"a": [1, 1.5, "b"]}})
    made = convert_http_filter(view)
    assert made is not None
    assert (made.type, made.config, faults(report)) == ("msgspec.json:Decoder", {"a": [1, 1.5, "b"]}, [])
    assert type(made.config["a"][0]) is int
    for value, text in (
        ({}, "needs either class or name"),
        ({"class": "a:B", "name": "c"}, "needs either class or name"),
        ({"class": "/tmp/filter.py:B"}, "class: expected package.module:Class, got '/tmp/filter.py:B'"),
        ({"class": "os:system"}, "class: no installed package has the module 'os'"),
        ({"name": "nowhere"}, "name: no installed package offers a stream filter 'nowhere'"),
    ):
        view, report = view_of(name, value)
        convert_http_filter(view)
        assert faults(report) == [text]


def test_network_filters() -> None:
    view, report = view_of(
        NETWORK + "rbac.v3.RBAC", {"rules": {"action": "DENY", "policies": {"p": ANY}}, "stat_prefix": "x"}
    )
    made = convert_network_filter(view)
    assert isinstance(made, PythonFilter)
    assert (made.config.name, made.config.config, faults(report)) == (
        "rbac",
        {"rules": {"action": "DENY", "policies": {"p": ANY}}},
        [],
    )
    view, report = view_of(NETWORK + "ext_authz.v3.ExtAuthz", {"grpc_service": GRPC, "transport_api_version": "V3"})
    made = convert_network_filter(view)
    assert isinstance(made, PythonFilter)
    assert (made.config.name, made.config.config["timeout"], faults(report)) == ("external_authz", 0.5, [])
    for value, text in (
        ({"matcher": {}}, "matcher: not supported"),
        ({"rules": {"policies": {"p": {"principals": [{"any": True}]}}}}, "rules.policies.p.permissions: must not be empty"),
    ):
        view, report = view_of(NETWORK + "rbac.v3.RBAC", value)
        convert_network_filter(view)
        assert [fault for fault in faults(report) if text in fault], faults(report)


def test_unknown_network_filters_are_rejected() -> None:
    view, report = view_of("envoy.config.cluster.v3.Cluster", {})
    assert convert_network_filter(view) is None
    assert "rejected, because connections must not bypass it" in faults(report)[0]
