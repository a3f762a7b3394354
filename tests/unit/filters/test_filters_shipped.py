"""What all shipped filters have in common: registered, described by the schema, settings rejected with a position."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest
from shipped_kit import shipped

from pymosn.api import StreamFilter
from pymosn.assembly.filters import check_filters
from pymosn.config.load import load_text
from pymosn.config.schema.stream_filters import stream_filter_settings
from pymosn.filters import stream
from pymosn.filters.spec import FilterSpec
from pymosn.filters.stream.shipped import FROM_FILES, SHIPPED, spec_of
from pymosn.testing import Request, run

CONFIG = """
servers:
- listeners:
  - name: l
    address: 127.0.0.1:1
    bind_port: true
    stream_filters:
    - type: {name}
      config: {config}
    filter_chains:
    - filters:
      - {{type: proxy, config: {{downstream_protocol: Http1, router_config_name: r}}}}
  routers:
  - router_config_name: r
    virtual_hosts:
    - domains: ["*"]
      per_filter_config: {host}
      routers:
      - match: {{prefix: /}}
        route: {{cluster_name: c}}
        per_filter_config: {route}
cluster_manager: {{clusters: [{{name: c, type: SIMPLE, lb_type: LB_RANDOM, hosts: [{{address: "127.0.0.1:2"}}]}}]}}
"""


def faults(name: str, config: str, host: str = "{}", route: str = "{}") -> list[str]:
    loaded = load_text(CONFIG.format(name=name, config=config, host=host, route=route), "c.yaml", yaml=True)
    if loaded.config is None:
        return [fault.text() for fault in loaded.faults]
    made = check_filters(loaded.config.servers[0].listeners, ".")
    return [fault.text() for fault in loaded.faults] + [f.placed(loaded.places, "c.yaml").text() for f in made]


def test_each_is_registered_everywhere() -> None:
    modules = [import_module(f"{stream.__name__}.{info.name}") for info in iter_modules(stream.__path__)]
    assert {module.SPEC.name for module in modules if hasattr(module, "SPEC")} == set(SHIPPED)
    for name in SHIPPED:
        spec = spec_of(name)
        assert isinstance(spec, FilterSpec)
        assert spec.name == name
        assert stream_filter_settings(name) is spec.settings
        assert (spec.make is None) == (name == "python")
        assert name in FROM_FILES or (isinstance(spec.make, type) and issubclass(spec.make, StreamFilter))
    assert {name for name in SHIPPED if spec_of(name).route} == {
        *("api_key_auth", "ext_authz", "fault", "json_edit", "transcoder"),
        *("local_rate_limit", "payload_limit", "redis_rate_limit", "token_budget"),
        *("cors", "external_authz", "jwt_authn", "ratelimit", "rbac"),
    }


@pytest.mark.parametrize(
    ("name", "config", "place", "text"),
    [
        ("ip_access", "{ips: [{action: deny, addrs: [10.0.0.0/33]}]}", "9:45", "ips[0].addrs[0]: not an IP address"),
        ("fault", "{abort: {percentage: 10, status: 99}}", "9:48", "abort.status: must be a status code"),
        ("fault", "{delay: {percentage: -1}}", "9:36", "delay.percentage: must be 0 or more"),
        ("fault", "{headers: [{name: a, value: '(', regex: true}]}", "9:43", "headers[0].value: not a regular expression"),
        ("gzip", "{gzip_level: 10}", "9:28", "gzip_level: must be 1 to 9"),
        ("payload_limit", "{http_status: 1}", "9:29", "http_status: must be a status code"),
        ("header_to_metadata", "{}", "9:15", "request_rules: at least one rule"),
        ("flowControlFilter", "{limit_key_type: HOST}", "9:32", "limit_key_type: must be one of"),
        ("cors", "{allow_origins: [app.example]}", "9:32", "allow_origins[0]: an origin is scheme://host"),
        ("ext_authz", "{cluster: nope}", "9:25", "cluster: unknown cluster"),
        ("response_cache", "{max_bytes: 5}", "9:15", "max_entry_bytes: must not be greater"),
        ("json_edit", "{response: {remove: [/~]}}", "9:36", "response.remove[0]: not a JSON Pointer"),
        ("response_cache", "{identity_header: [x-user]}", "9:", 'did you mean "identity_headers"?'),
        ("json_edit", "{respons: {remove: [a]}}", "9:", 'did you mean "response"?'),
        ("json_edit", "{response: {removes: [a]}}", "9:", 'did you mean "remove"?'),
        ("local_rate_limit", "{requests: 1, key: user}", "9:34", "key: must be one of"),
        ("api_key_auth", "{keys: [{client: a, key: 'b c'}]}", "9:40", "keys[0].key: must be visible ASCII"),
        ("api_key_auth", "{keyz: []}", "9:16", 'did you mean "keys"?'),
        ("redis_rate_limit", "{requests: 1, url: 'redis://a/b'}", "9:34", "url: the database must be a number"),
        ("token_budget", "{tokens: 1, header: x, reserve_default: 1}", "9:55", "reserve_default: only valid with `reserve`"),
        ("rbac", "{rules: {policies: {a: {permissions: [{matcher: {}}]}}}}", "9:", "matcher: unknown or unsupported key"),
        ("rbac", "{rules: {actoin: DENY}}", "9:24", 'did you mean "action"?'),
        ("jwt_authn", "{providers: {a: {fromCookies: x}}}", "9:32", "fromCookies: unknown or unsupported key"),
        (
            "jwt_authn",
            "{providers: {a: {remoteJwks: {httpUri: {uri: 'http://a/b', cluster: nope}}}}}",
            "9:83",
            "providers.a.remoteJwks.httpUri.cluster: unknown cluster",
        ),
    ],
)
def test_invalid_settings_are_faults_with_their_position(name: str, config: str, place: str, text: str) -> None:
    found = [fault for fault in faults(name, config) if text in fault]
    assert found, faults(name, config)
    assert found[0].startswith(f"c.yaml:{place}")
    assert ": error: servers[0].listeners[0].stream_filters[0].config" in found[0]


def test_settings_of_routes_are_checked_too() -> None:
    (fault,) = faults("mirror", "{}", route="{fault: {Abort: {percentage: 1, status: 1}}}")
    assert fault.startswith("c.yaml:21:36: error: servers[0].routers[0].virtual_hosts[0].routers[0].per_filter_config.fault")
    assert "must be a status code" in fault
    (fault,) = faults("mirror", "{}", host="{local_rate_limit: {requests: many}}")
    assert fault.startswith("c.yaml:17:")
    assert "per_filter_config.local_rate_limit.requests: expected a whole number" in fault
    (fault,) = faults("mirror", "{}", route="{gzip: {gzip_level: 3}}")
    assert "warning" in fault
    assert "no settings per route" in fault
    assert faults("mirror", "{}", route="{mine: {anything: 3}}") == []
    for route, text in (
        ("api_key_auth: {client: [acme]}", "client: unknown or unsupported key; rejected"),
        ("api_key_auth: {disabled: true, clients: [acme]}", "clients: no effect if `disabled` is set"),
        ("json_edit: {respons: {remove: [a]}}", "respons: unknown or unsupported key; rejected"),
        ("redis_rate_limit: {requests: 0}", "requests: must be 1 or more"),
        ("token_budget: {tokens: 1, header: ''}", "header: the name of a header is missing"),
    ):
        (fault,) = faults("mirror", "{}", route=f"{{{route}}}")
        assert ": error: servers[0].routers[0].virtual_hosts[0].routers[0].per_filter_config." in fault
        assert text in fault


def test_keys_of_envoy_are_the_same_in_both_spellings() -> None:
    policies = "{a: {permissions: [{any: true}], principals: [{any: true}]}}"
    for key in ("shadow_rules", "shadowRules", "ShadowRules"):
        assert faults("rbac", f"{{version: '1', {key}: {{policies: {policies}}}}}") == []
    (fault,) = faults("rbac", "{shadow_rules: {action: MAYBE}}")
    assert ".config.shadow_rules.action: must be one of" in fault


def test_mirror_takes_its_settings_in_any_case() -> None:
    result = run(shipped("mirror", {"Amplification": 3, "BROADCAST": True}), Request())
    assert result.exchange.variable("mirror_amplification") == "3"
    assert result.exchange.variable("mirror_broadcast") == "true"
