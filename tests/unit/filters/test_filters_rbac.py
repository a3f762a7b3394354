"""`rbac`: actions, principals, permissions, and what is refused because it is not built."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_kit import problems, shipped
from tests.kit.tls_facts import certificate, tls_info

from pymosn.api.exchange import Exchange
from pymosn.api.http import HttpRequest
from pymosn.api.network import Connection
from pymosn.api.tls import ClientCertificate
from pymosn.config.typed import typed
from pymosn.core.headers import HttpHeaders
from pymosn.core.message import CONNECT, CONNECT_HERE
from pymosn.filters.connection.rbac import RbacState
from pymosn.filters.errors import FilterConfigError
from pymosn.filters.stream.problems import Problems
from pymosn.filters.stream.rbac_policies import Policies, Rules
from pymosn.testing import Request, World, run

ANY = [{"any": True}]


def policy(permissions: Any = None, principals: Any = None) -> dict[str, Any]:
    return {"permissions": permissions or ANY, "principals": principals or ANY}


def rules(action: str, *policies: dict[str, Any]) -> dict[str, Any]:
    return {"action": action, "policies": {f"p{number}": each for number, each in enumerate(policies)}}


def is_met(permission: dict[str, Any] | None = None, principal: dict[str, Any] | None = None, **more: Any) -> bool:
    """Whether a policy with that permission and principal is about a certain request."""
    one = policy(None if permission is None else [permission], None if principal is None else [principal])
    fields = [("x-user", "Ann"), ("x-n", "7"), ("x-many", "a"), ("x-many", "b"), ("x-forwarded-for", "10.9.9.9, 10.1.1.1")]
    request = Request("GET", "/admin/x?y=1", fields)
    allowed = run(shipped("rbac", {"version": "1", "rules": rules("ALLOW", one), **more}), request).status == 200
    denied = run(shipped("rbac", {"version": "1", "rules": rules("DENY", one), **more}), request).status == 403
    assert allowed is denied
    return allowed


def header(**match: Any) -> dict[str, Any]:
    return {"header": {"name": "X-User", **match}}


@pytest.mark.parametrize(
    ("kind", "value"), [("exact", "/a%2fb"), ("contains", "%2f"), ("exact", "/a%2Fb"), ("suffix", "%2Fb")]
)
@pytest.mark.parametrize("path", ["/a%2fb", "/a%2Fb"])
def test_a_rule_that_denies_may_write_escapes_in_either_case(kind: str, value: str, path: str) -> None:
    for permission in (
        {"url_path": {"path": {kind: value}}},
        {"header": {"name": ":path", "string_match": {kind: value}}},
        {"not_rule": {"not_rule": {"url_path": {"path": {kind: value}}}}},
    ):
        made = shipped("rbac", {"version": "1", "rules": rules("DENY", policy([permission]))})
        assert run(made, Request("GET", path)).status == 403
        assert run(made, Request("GET", "/a/b")).status == 200


@pytest.mark.parametrize("rule", ["/a%2fb%3Fc", "/a%2Fb%3fc", "/a%2fb%3fc", "/a%2Fb%3Fc"])
@pytest.mark.parametrize(("action", "status"), [("DENY", 403), ("ALLOW", 200)])
def test_the_case_of_each_escape_in_a_path_makes_no_difference(rule: str, action: str, status: int) -> None:
    made = shipped("rbac", {"version": "1", "rules": rules(action, policy([{"url_path": {"path": {"exact": rule}}}]))})
    assert {run(made, Request("GET", path)).status for path in ("/a%2fb%3Fc", "/a%2Fb%3fc")} == {status}


def test_the_mark_of_an_empty_query_is_a_part_of_the_path_header() -> None:
    one = policy([{"header": {"name": ":path", "exact_match": "/mark?"}}])
    made = shipped("rbac", {"version": "1", "rules": rules("DENY", one)})
    assert [run(made, Request("GET", path)).status for path in ("/mark?", "/mark", "/mark?x")] == [403, 200, 200]


def without_path(method: bytes, path: bytes, tunnel: bytes) -> HttpRequest:
    request = HttpRequest(HttpHeaders())
    request.raw_method, request.raw_path, request.raw_tunnel = method, path, tunnel
    return request


@pytest.mark.parametrize(
    "request_head",
    [without_path(b"", b"", b""), without_path(b"CONNECT", b"/", CONNECT), without_path(b"CONNECT", b"/", CONNECT_HERE)],
    ids=["RPC", "CONNECT", "CONNECT that ends here"],
)
def test_what_has_no_path_is_denied_by_rules_about_paths_and_allowed_by_none(request_head: HttpRequest) -> None:
    exchange = Exchange(Connection())
    exchange.request = request_head
    header = {"name": ":path", "string_match": {"prefix": "/"}}
    for action, permission, name in (
        ("DENY", {"header": header}, "p0"),
        ("DENY", {"header": {**header, "invert_match": True}}, "p0"),
        ("ALLOW", {"header": header}, None),
        ("ALLOW", {"header": {**header, "invert_match": True}}, None),
        ("ALLOW", {"header": {"name": ":path", "present_match": True}}, None),
        ("DENY", {"url_path": {"path": {"prefix": "/"}}}, "p0"),
        ("ALLOW", {"url_path": {"path": {"prefix": "/"}}}, None),
        ("ALLOW", {"not_rule": {"url_path": {"path": {"prefix": "/"}}}}, None),
        ("DENY", {"not_rule": {"url_path": {"path": {"prefix": "/x"}}}}, "p0"),
    ):
        problems = Problems()
        config = typed(rules(action, policy([permission])), Rules)
        assert Policies(config, "", 0, problems).find(exchange) == name, (action, permission)
        problems.end()


def test_the_direct_address_is_that_of_the_proxy_whatever_it_says() -> None:
    connection = Connection()
    connection.remote_ip, connection.proxy_ip = "10.0.0.1", "192.0.2.1"
    copied = Connection()
    copied.copy_facts(connection)
    for one in (connection, copied):
        for key, address in (("direct_remote_ip", "192.0.2.1"), ("source_ip", "10.0.0.1"), ("remote_ip", "10.0.0.1")):
            principal = {key: {"address_prefix": address, "prefix_len": 32}}
            problems = Problems()
            found = Policies(typed(rules("DENY", policy(None, [principal])), Rules), "", 0, problems)
            exchange = Exchange(one)
            exchange.request = HttpRequest(HttpHeaders())
            assert found.find(exchange) == "p0", key
    connection.proxy_ip = None
    assert connection.direct_ip() == "10.0.0.1"


@pytest.mark.parametrize(
    "condition", [header(), {"not_rule": header()}, {"or_rules": {"rules": [{"Header": {"name": "x"}}]}}]
)
def test_conditions_on_headers_are_rejected_for_connections(condition: dict[str, Any]) -> None:
    with pytest.raises(FilterConfigError, match="a connection has no headers"):
        RbacState({"rules": rules("DENY", policy([condition]))})


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ({"any": True}, True),
        (header(exact_match="Ann"), True),
        (header(exactMatch="ann"), False),
        (header(prefix_match="A"), True),
        (header(suffix_match="nn"), True),
        (header(contains_match="x"), False),
        (header(safe_regex_match={"google_re2": {}, "regex": "A.."}), True),
        (header(safe_regex_match={"regex": "A."}), False),
        (header(safe_regex_match={"regex": "A|x"}), False),
        (header(string_match={"exact": "aNN", "ignore_case": True}), True),
        (header(exact_match="Ann", invert_match=True), False),
        (header(exact_match="Bob", invert_match=True), True),
        (header(present_match=True), True),
        (header(present_match=False), False),
        (header(present_match=True, invert_match=True), False),
        (header(), True),
        ({"header": {"name": "x-none", "present_match": False}}, True),
        ({"header": {"name": "x-none", "exact_match": "a", "invert_match": True}}, False),
        ({"header": {"name": "x-n", "range_match": {"start": 7, "end": 8}}}, True),
        ({"header": {"name": "x-n", "range_match": {"start": 0, "end": 7}}}, False),
        ({"header": {"name": "x-user", "range_match": {"start": 0, "end": 7}}}, False),
        ({"header": {"name": ":method", "exact_match": "GET"}}, True),
        ({"header": {"name": ":path", "prefix_match": "/admin/x?"}}, True),
        ({"header": {"name": ":authority", "exact_match": "test.example"}}, True),
        ({"url_path": {"path": {"exact": "/admin/x"}}}, True),
        ({"urlPath": {"path": {"prefix": "/admin", "ignoreCase": True}}}, True),
        ({"url_path": {"path": {"safe_regex": {"regex": "/admin/.*"}}}}, True),
        ({"url_path": {"path": {"suffix": "y=1"}}}, False),
    ],
    ids=str,
)
def test_conditions(condition: dict[str, Any], met: bool) -> None:
    assert is_met(permission=condition) is met
    assert is_met(principal=condition) is met
    assert is_met(permission={"not_rule": condition}) is not met
    assert is_met(principal={"notId": condition}) is not met
    assert is_met(permission={"and_rules": {"rules": [{"any": True}, condition]}}) is met
    assert is_met(principal={"and_ids": {"ids": [condition, {"any": True}]}}) is met
    assert is_met(permission={"orRules": {"rules": [condition, {"not_rule": {"any": True}}]}}) is met
    assert is_met(principal={"or_ids": {"ids": [condition, condition]}}) is met


def cidr(text: str, length: int) -> dict[str, Any]:
    return {"address_prefix": text, "prefix_len": length}


@pytest.mark.parametrize(
    ("principal", "hops", "met"),
    [
        ({"direct_remote_ip": cidr("192.0.2.0", 24)}, 0, True),
        ({"source_ip": cidr("192.0.2.1", 32)}, 0, True),
        ({"source_ip": cidr("192.0.3.0", 24)}, 0, False),
        ({"remote_ip": cidr("192.0.2.1", 32)}, 0, True),
        ({"remote_ip": cidr("10.9.9.9", 32)}, 0, False),
        ({"remote_ip": cidr("10.1.1.1", 32)}, 1, True),
        ({"remote_ip": cidr("10.9.9.9", 32)}, 1, False),
        ({"remote_ip": cidr("10.9.9.9", 32)}, 2, True),
        ({"remote_ip": cidr("192.0.2.1", 32)}, 3, True),
        ({"remoteIp": {"addressPrefix": "2001:db8::", "prefixLen": 32}}, 0, False),
    ],
    ids=str,
)
def test_addresses(principal: dict[str, Any], hops: int, met: bool) -> None:
    assert is_met(principal=principal, xff_num_trusted_hops=hops) is met


@pytest.mark.parametrize(
    ("entry", "address", "met"),
    [
        ("10.1.1.1:4711", "10.1.1.1", True),
        ("10.1.1.1:4711", "10.1.1.2", False),
        ("[2001:db8::1]:80", "2001:db8::1", True),
        ("[2001:db8::1]", "2001:db8::1", True),
        ("::ffff:10.1.1.1", "10.1.1.1", True),
    ],
)
def test_entries_of_proxies_may_have_a_port(entry: str, address: str, met: bool) -> None:
    principal = {"remote_ip": cidr(address, 128 if ":" in address else 32)}
    request = Request("GET", "/", [("x-forwarded-for", f"10.9.9.9, {entry}")])
    for action, status in (("ALLOW", 200 if met else 403), ("DENY", 403 if met else 200)):
        made = {"version": "1", "rules": rules(action, policy(None, [principal])), "xff_num_trusted_hops": 1}
        assert run(shipped("rbac", made), request).status == status


@pytest.mark.parametrize("entry", ["unknown", "10.1.1.1:", "10.1.1.1:99999", "_hidden"])
def test_an_entry_that_is_no_address_is_never_allowed_by_one(entry: str) -> None:
    request = Request("GET", "/", [("x-forwarded-for", entry)])
    for action in ("ALLOW", "DENY"):
        one = policy(None, [{"remote_ip": cidr("10.0.0.0", 8)}])
        made = {"version": "1", "rules": rules(action, one), "xff_num_trusted_hops": 1}
        assert run(shipped("rbac", made), request).status == 403


def test_destinations() -> None:
    assert is_met(permission={"destination_port": 80})
    assert not is_met(permission={"destinationPort": 81})
    assert is_met(permission={"destination_ip": cidr("192.0.2.2", 32)})


def test_permissions_and_principals_both_count() -> None:
    one = policy([{"url_path": {"path": {"prefix": "/admin"}}}], [{"header": {"name": "x-user", "exact_match": "ann"}}])
    filters = shipped("rbac", {"rules": rules("ALLOW", policy([{"destination_port": 1}]), one)})
    assert run(filters, Request("GET", "/admin", {"x-user": "ann"})).status == 200
    for request in (Request("GET", "/admin", {"x-user": "bob"}), Request("GET", "/", {"x-user": "ann"})):
        result = run(filters, request)
        assert (result.status, result.text, result.reason) == (403, "RBAC: access denied", "access_denied")


def test_no_rules_and_empty_rules() -> None:
    assert run(shipped("rbac", {}), Request()).status == 200
    assert run(shipped("rbac", {"rules": {"action": "ALLOW"}}), Request()).status == 403
    assert run(shipped("rbac", {"rules": {"action": "DENY"}}), Request()).status == 200


async def shadow() -> None:
    world = World(shipped("rbac", {"shadow_rules": rules("DENY", policy([{"url_path": {"path": {"exact": "/a"}}}]))}))
    assert [(await world.send(Request("GET", path))).status for path in ("/a", "/b", "/a")] == [200, 200, 200]
    assert world.counter("RbacFilter", "shadow_denied") == 2
    assert world.counter("RbacFilter", "shadow_allowed") == 1


def test_shadow_rules_only_count() -> None:
    import asyncio

    asyncio.run(shadow())


def test_log_only_logs() -> None:
    result = run(shipped("rbac", {"rules": rules("LOG", policy())}), Request("GET", "/a"))
    assert result.status == 200
    assert any("GET /a: policy p0" in line for line in result.log)


@pytest.mark.parametrize(
    ("permissions", "principals", "path"),
    [
        ([{"metadata": {}}], ANY, ".permissions[0].metadata.filter"),
        ([{"matcher": {}}], ANY, ".permissions[0]"),
        (ANY, [{"filter_state": {"key": "other", "string_match": {"exact": "a"}}}], ".principals[0].filter_state.key"),
        (ANY, [{"metadata": {"filter": "a", "path": [{"key": "b"}]}}], ".principals[0].metadata"),
        (ANY, [{"metadata": {"filter": "istio_authn"}}], ".principals[0].metadata.path"),
        ([], ANY, ".permissions"),
        ([{"header": {"name": "a", "prefix_match": ""}}], ANY, ".permissions[0].header.prefix_match"),
        ([{"header": {"name": "a", "suffix_match": ""}}], ANY, ".permissions[0].header.suffix_match"),
        ([{"header": {"name": "a", "exact_match": "b", "prefix_match": "c"}}], ANY, ".permissions[0].header.prefix_match"),
        ([{"header": {"name": "a", "treat_missing": True}}], ANY, ".permissions[0].header.treat_missing"),
        ([{"header": {"name": "", "exact_match": "b"}}], ANY, ".permissions[0].header.name"),
        ([{"any": False}], ANY, ".permissions[0].any"),
        ([{"url_path": {"path": {"safe_regex": {"regex": "("}}}}], ANY, ".permissions[0].url_path.path.safe_regex.regex"),
        ([{"url_path": {"path": {}}}], ANY, ".permissions[0].url_path.path"),
        ([{"destination_port": "80"}], ANY, ".permissions[0].destination_port"),
        (ANY, [{"remote_ip": {"address_prefix": "10.0.0.0"}}], ".principals[0].remote_ip"),
        (ANY, [{"remote_ip": cidr("10.0.0.0", 40)}], ".principals[0].remote_ip"),
        (ANY, [{"and_ids": {"ids": []}}], ".principals[0].and_ids.ids"),
        (ANY, [{"not_id": "x"}], ".principals[0].not_id"),
    ],
    ids=str,
)
def test_unsupported_settings_are_rejected(permissions: Any, principals: Any, path: str) -> None:
    config = {"rules": {"action": "DENY", "policies": {"p": {"permissions": permissions, "principals": principals}}}}
    found = [fault.partition(": ")[0] for fault in problems("rbac", config)]
    assert f".rules.policies.p{path}" in found or any(fault.startswith(f".rules.policies.p{path}") for fault in found)


def test_unknown_actions() -> None:
    assert problems("rbac", {"rules": {"action": "allow"}}) == [
        ".rules.action: must be one of ALLOW, DENY, LOG, not 'allow'"
    ]


def authenticated(name: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"authenticated": {} if name is None else {"principal_name": name}}


URIS, NAMES, SUBJECT = ["urn:one", "spiffe://a.example/x"], ["a.example"], "CN=client,O=Example"


@pytest.mark.parametrize(
    ("found", "name", "allowed", "denied"),
    [
        (None, None, False, False),
        # Anyone can make one that is not verified: it allows nothing, and a rule that denies its name applies.
        (certificate(is_verified=False, uris=URIS), None, False, True),
        (certificate(is_verified=False, uris=URIS), {"exact": "urn:one"}, False, True),
        (certificate(), None, True, True),
        (certificate(uris=URIS), {"exact": "spiffe://a.example/x"}, True, True),
        (certificate(uris=URIS), {"prefix": "spiffe://a.example/"}, True, True),
        (certificate(uris=URIS), {"exact": "spiffe://a.example/"}, False, False),
        (certificate(dns_names=NAMES), {"exact": "a.example"}, True, True),
        (certificate(), {"exact": SUBJECT}, True, True),
        (certificate(), {"safe_regex": {"regex": "CN=client,.*"}}, True, True),
        # A rule that allows takes the first kind of names, one that denies all of them.
        (certificate(uris=URIS, dns_names=NAMES), {"exact": "a.example"}, False, True),
        (certificate(uris=URIS), {"exact": SUBJECT}, False, True),
        # Names are compared as they are.
        (certificate(uris=["spiffe://a.example/x\r\n"]), {"exact": "spiffe://a.example/x"}, False, False),
        (certificate(uris=["spiffe://a.example/%78"]), {"exact": "spiffe://a.example/x"}, False, False),
        (certificate(dns_names=["a.example\0.evil.example"]), {"exact": "a.example"}, False, False),
    ],
)
def test_authenticated_clients(
    found: ClientCertificate | None, name: dict[str, Any] | None, allowed: bool, denied: bool
) -> None:
    def status(action: str, principal: dict[str, Any]) -> int:
        config = {"version": "1", "rules": rules(action, policy(None, [principal]))}
        # A header of the client makes no difference.
        request = Request("GET", "/", [("x-forwarded-client-cert", "URI=spiffe://a.example/x;DNS=a.example")])
        return run(shipped("rbac", config), request, client_tls=tls_info(found)).status

    principal = authenticated(name)
    assert (status("ALLOW", principal), status("DENY", principal)) == (200 if allowed else 403, 403 if denied else 200)
    opposite = {"not_id": principal}
    assert (status("ALLOW", opposite), status("DENY", opposite)) == (403 if denied else 200, 200 if allowed else 403)


def test_without_tls_nobody_is_authenticated() -> None:
    assert not is_met(principal=authenticated())


def test_unknown_keys_of_authenticated_are_rejected() -> None:
    config = {"version": "1", "rules": rules("ALLOW", policy(None, [{"authenticated": {"name": {"exact": "a"}}}]))}
    [problem] = problems("rbac", config)
    assert "authenticated.name: unknown or unsupported key" in problem
