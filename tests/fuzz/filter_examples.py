"""Valid settings of every shipped filter, and mutations of them: what a person could write by mistake."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from hypothesis import strategies as st
from tests.unit.filters.grpc_shop import descriptor_set

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"
JWKS = json.dumps({"keys": [{"kty": "oct", "k": SECRET, "kid": "one", "alg": "HS256"}]})
HEADER_CONDITIONS: list[dict[str, Any]] = [
    {"name": "x-a", "exact_match": "b"},
    {"name": ":authority", "safe_regex_match": {"google_re2": {}, "regex": "a.*"}},
    {"name": "x-a", "range_match": {"start": 1, "end": 5}, "invert_match": True},
    {"name": "x-a", "string_match": {"prefix": "b", "ignore_case": True}},
    {"name": "x-a", "present_match": True},
]
CIDR = {"address_prefix": "10.0.0.0", "prefix_len": 8}
POLICY = {
    "permissions": [
        {"and_rules": {"rules": [{"header": each} for each in HEADER_CONDITIONS]}},
        {"not_rule": {"url_path": {"path": {"suffix": "x"}}}},
        {"or_rules": {"rules": [{"destination_port": 80}, {"destination_ip": CIDR}]}},
    ],
    "principals": [{"remote_ip": CIDR}, {"not_id": {"direct_remote_ip": CIDR}}, {"or_ids": {"ids": [{"any": True}]}}],
}
SHOP = base64.b64encode(descriptor_set().SerializeToString()).decode()
FLOW = {"resource": "/a", "threshold": 5, "statIntervalInMs": 100}

#: By the name of the filter. Each chain must work as it is.
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "fault": [
        {
            "delay": {"percentage": 100, "fixed_delay": "1ns"},
            "abort": {"percentage": 50, "status": 503},
            "upstream_cluster": "service",
            "headers": [{"name": "x-a", "value": "b.*", "regex": True}, {"name": "method", "value": "GET"}],
        }
    ],
    "fault_tolerance": [
        {
            "enabled": True,
            "exceptionTypes": [502, 504],
            "timeWindow": 1000,
            "leastWindowCount": 5,
            "exceptionRateMultiple": 2.0,
            "maxIpCount": 1,
            "recoverTime": 3000,
        }
    ],
    "payload_limit": [{"max_entity_size ": 3, "http_status": 413}],
    "gzip": [{"gzip_level": 6, "content_length": 1, "content_types": ["text/plain"], "encodings": ["gzip"]}],
    "header_to_metadata": [
        {
            "request_rules": [
                {
                    "header": "x-a",
                    "on_header_present": {"key": "k", "value": ""},
                    "on_header_missing": {"key": "k", "value": "v"},
                    "remove": True,
                }
            ]
        }
    ],
    "ip_access": [{"default_action": "deny", "header": "x-a", "ips": [{"action": "allow", "addrs": ["10.0.0.0/8", "::1"]}]}],
    "flowControlFilter": [
        {
            "global_switch": True,
            "monitor": False,
            "limit_key_type": "PATH",
            "action": {"status": 509, "body": "limited"},
            "rules": [
                FLOW,
                {**FLOW, "controlBehavior": 1, "maxQueueingTimeMs": 1},
                {**FLOW, "tokenCalculateStrategy": 1, "warmUpPeriodSec": 10, "warmUpColdFactor": 3},
                {**FLOW, "relationStrategy": 1, "refResource": "/"},
            ],
        }
    ],
    "mirror": [{"amplification": 2, "broadcast": False}],
    "jwt_authn": [
        {
            "providers": {
                "one": {
                    "issuer": "i",
                    "audiences": ["a"],
                    "localJwks": {"inlineString": JWKS},
                    "forward": True,
                    "fromHeaders": [{"name": "authorization", "valuePrefix": "Bearer "}],
                    "fromParams": ["token"],
                    "forwardPayloadHeader": "x-claims",
                    "clockSkewSeconds": 5,
                },
                "two": {"localJwks": {"inlineString": JWKS}},
            },
            "rules": [
                {"match": {"prefix": "/free"}},
                {"match": {"safeRegex": {"regex": "/r.*"}}, "requires": {"providerName": "two"}},
                {
                    "match": {"path": "/a", "caseSensitive": False},
                    "requires": {"requiresAll": {"requirements": [{"providerName": "one"}, {"allowMissing": {}}]}},
                },
                {
                    "match": {"prefix": "/"},
                    "requires": {
                        "requiresAny": {
                            "requirements": [
                                {"providerAndAudiences": {"providerName": "two", "audiences": ["a"]}},
                                {"allowMissingOrFailed": {}},
                            ]
                        }
                    },
                },
            ],
        },
        {
            "providers": {
                "far": {
                    "issuer": "i",
                    "remoteJwks": {
                        "httpUri": {"uri": "https://keys.example/a?b", "cluster": "keys", "timeout": "1s"},
                        "cacheDuration": "5s",
                    },
                }
            },
            "rules": [{"match": {"prefix": "/"}, "requires": {"providerName": "far"}}],
        },
    ],
    "rbac": [
        {
            "version": "1",
            "rules": {"action": action, "policies": {"p": POLICY}},
            "shadow_rules": {"action": "DENY", "policies": {"p": POLICY}},
            "xff_num_trusted_hops": 1,
        }
        for action in ("ALLOW", "DENY")
    ],
    "cors": [
        {
            "allow_origins": ["https://app.example"],
            "allow_origin_regexes": ["https://.*"],
            "allow_methods": ["GET"],
            "allow_headers": ["x-a"],
            "expose_headers": ["x-b"],
            "max_age": "1h",
            "allow_credentials": True,
        }
    ],
    "ext_authz": [
        {
            "cluster": "auth",
            "path": "/check",
            "timeout": "1s",
            "failure_mode_allow": False,
            "status_on_error": 503,
            "request_headers": ["authorization", "x-a"],
            "headers_to_upstream": ["x-user"],
            "headers_to_client": ["location"],
        }
    ],
    "local_rate_limit": [
        {
            "requests": 100000,
            "per": "1s",
            "burst": 100000,
            "key": key,
            "max_keys": 3,
            "status": 429,
            "body": "x",
            **({"header": "x-a"} if key == "header" else {}),
        }
        for key in ("header", "client")
    ],
    "dubbo_stream": [{"subset": "x-a"}],
    "grpc_metric": [{"methods": True, "max_names": 3}],
    "api_key_auth": [
        {
            "keys": [{"client": "a", "key": SECRET}, {"client": "b", "sha256": "0" * 64}],
            "headers": ["x-a", "authorization"],
            "query_parameters": ["token"],
            "client_header": "x-user",
            "forward": False,
        }
    ],
    "redis_rate_limit": [
        {
            "url": "redis://127.0.0.1:1/0",
            "requests": 5,
            "per": "1s",
            "key": key,
            "without_header": "client",
            "name": "n",
            "status": 429,
            "body": "x",
            "username": "u",
            "password": SECRET,
            "timeout": "20ms",
            "max_connections": 2,
            "on_redis_error": error,
            "prefix": "p:",
            "response_headers": True,
            **({"header": "x-a"} if key == "header" else {}),
        }
        for key, error in (("header", "allow"), ("client", "deny"))
    ],
    "token_budget": [
        {
            "tokens": 1000000,
            "per": "1h",
            "count": count,
            "key": "header",
            "header": "x-a",
            "without_header": "client",
            "token_size": 4.0,
            "reserve": count == "total",
            "cut": True,
            "max_keys": 5,
            "name": "n",
            **({"reserve_default": 5, "max_body": 1000} if count == "total" else {}),
        }
        for count in ("total", "output")
    ],
    "response_cache": [
        {
            "max_bytes": 100000,
            "max_entry_bytes": 1000,
            "max_variants": 3,
            "max_ttl": "1h",
            "wait": "1s",
            "key_headers": ["x-a"],
            "identity_headers": ["x-key"],
            "ignored_cookies": ["lang"],
            "unkeyed": ["x-id"],
            "cache_status": "edge",
        }
    ],
    "json_edit": [
        {
            "request": {"remove": ["a"], "set": {"/b": 1}},
            "response": {"remove": ["/a/*/b", "c"], "set": {"d": None}},
            "max_bytes": 1000,
            "pass_types": ["text/plain", "image/*"],
        }
    ],
    "grpc_web": [{}],
    "grpc_json_transcoder": [
        {
            "proto_descriptor_bin": SHOP,
            "services": ["shop.Shop"],
            "print_options": {
                "add_whitespace": True,
                "always_print_primitive_fields": defaults,
                "always_print_enums_as_ints": defaults,
                "preserve_proto_field_names": defaults,
                "stream_newline_delimited": defaults,
            },
            "match_incoming_request_route": defaults,
            "auto_mapping": True,
            "ignored_query_parameters": ["token"],
            "ignore_unknown_query_parameters": defaults,
            "ignore_unknown_fields": defaults,
            "reject_unknown_method": defaults,
            "max_request_body_size": 1000,
            "max_response_body_size": 1000,
        }
        for defaults in (False, True)
    ],
    "external_authz": [
        {
            "grpc": {"cluster": "auth", "authority": "auth.local", "metadata": {"x-b": "c"}},
            "timeout": "200ms",
            "failure_mode_allow": False,
            "status_on_error": 503,
            "allowed_headers": [{"prefix": "x-"}],
            "disallowed_headers": [{"exact": "x-secret"}],
            "max_request_bytes": 100,
            "pack_as_bytes": True,
            "metadata_namespaces": ["a"],
        },
        {
            "http": {
                "cluster": "auth",
                "path_prefix": "/check",
                "headers_to_add": {"x-b": "c"},
                "upstream_headers": [{"exact": "x-user"}],
                "client_headers": [{"safe_regex": {"regex": "loc.*"}}],
            },
            "failure_mode_allow": True,
            "failure_mode_allow_header_add": True,
        },
    ],
    "ratelimit": [
        {
            "grpc": {"cluster": "auth"},
            "domain": "d",
            "timeout": "20ms",
            "rate_limits": [
                {
                    "actions": [
                        {"request_headers": {"header_name": "x-a", "descriptor_key": "k", "skip_if_absent": True}},
                        {"remote_address": {}},
                        {"generic_key": {"descriptor_value": "v"}},
                    ]
                }
            ],
            "status": 429,
            "response_headers": {"x-b": "c"},
            "failure_mode_deny": deny,
            "status_on_error": 500,
        }
        for deny in (False, True)
    ],
    "istio.stats": [
        {
            "reporter": reporter,
            "disable_host_header_fallback": True,
            "metrics": [
                {"name": "requests_total", "dimensions": {"host": "request.host"}, "tags_to_remove": ["reporter"]},
                {"name": "response_bytes", "drop": True},
            ],
            "tcp_reporting_duration": "5s",
            "max_label_sets": 5,
        }
        for reporter in ("source", "destination", "waypoint")
    ],
    "peer_metadata": [
        {
            "downstream_discovery": True,
            "upstream_discovery": True,
            "downstream_propagation": True,
            "upstream_propagation": True,
            "skip_external_clusters": True,
            "additional_labels": ["region"],
        }
    ],
    "health_check": [{"headers": [{"name": ":path", "string_match": {"exact": "/health"}}]}],
}
#: `per_filter_config` of the filters whose routes have other settings than the listener.
ROUTES: dict[str, dict[str, Any]] = {
    "ext_authz": {"disabled": True},
    "external_authz": {"disabled": False, "context_extensions": {"a": "b"}, "without_body": True},
    "jwt_authn": {"disabled": False, "requirementName": "a"},
    "ratelimit": {"rate_limits": [{"stage": 0, "actions": [{"generic_key": {"descriptor_value": "v"}}]}]},
    "api_key_auth": {"disabled": False, "clients": ["a"]},
    "redis_rate_limit": {"requests": 5, "per": "1s", "key": "header", "header": "x-a", "disabled": False},
}

NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 599, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, 1e308, -0.0, 5e-324, float("nan"), float("inf")]
)
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["", "*", "(", "1s", "-1s", "1e9h", "10.0.0.0/8", "x\ny", "\ud800", "\0", "content-length", "host", "X_A", "a" * 5000]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> list[list[Any]]:
    """The paths of all values within a JSON value."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    return [[key, *rest] for key in keys for rest in ([], *places(value[key]))]


def mutated(config: dict[str, Any], picks: list[tuple[int, int, Any, str]]) -> dict[str, Any]:
    """`config` with some values replaced, removed, or under another key as well."""
    changed = copy.deepcopy(config)
    for at, kind, value, name in picks:
        found = places(changed)
        if not found:
            break
        *outer, key = found[at % len(found)]
        holder: Any = changed
        for step in outer:
            holder = holder[step]
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[name] = holder[key]
        else:
            holder[key] = value
    return changed


PICKS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 5), VALUES, TEXTS), min_size=1, max_size=3)
