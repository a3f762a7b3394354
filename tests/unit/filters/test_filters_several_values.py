"""Several values of one header, parameter or cookie in the shipped filters: docs/header-values.md."""

from __future__ import annotations

from typing import Any

import pytest
from shipped_kit import problems, shipped

from pymosn.api import Exchange, Reply, StreamFilter
from pymosn.core.headers import HttpHeaders, RepeatedField
from pymosn.testing import Request, Response, Result, World, make, run

Fields = list[tuple[str, str]]


def status(name: str, config: dict[str, Any], fields: Fields, target: str = "/", **more: Any) -> int:
    return run(shipped(name, config), Request("GET", target, fields), **more).status


# ---- headers, for filter authors


def test_joined_and_single() -> None:
    headers = HttpHeaders(b"A: 1\r\nb: 2\r\na:3\r\nc:\r\n")
    assert (headers.joined("A"), headers.joined("b"), headers.joined("c"), headers.joined("d")) == ("1,3", "2", "", None)
    assert (headers.single("b"), headers.single("c"), headers.single("d")) == ("2", "", None)
    with pytest.raises(RepeatedField, match="header a is given more than once"):
        headers.single("a")


def test_single_rejects_the_request_of_a_filter() -> None:
    class Key(StreamFilter):
        def on_request(self, exchange: Exchange) -> Reply | None:
            return None if exchange.request.headers.single("x-key") == "k" else Reply(401)

    assert run(make(Key), Request("GET", "/", {"x-key": "k"})).status == 200
    result = run(make(Key), Request("GET", "/", [("x-key", "k"), ("x-key", "k")]), on_error="skip")
    assert (result.status, result.reason, result.upstream) == (400, "repeated_field", [])


# ---- rbac


def rbac(action: str, header: dict[str, Any], negated: bool = False) -> dict[str, Any]:
    condition: dict[str, Any] = {"header": {"name": "x-a", **header}}
    principal = {"not_id": condition} if negated else condition
    policies = {"p": {"permissions": [{"any": True}], "principals": [principal]}}
    return {"version": "1", "rules": {"action": action, "policies": policies}}


@pytest.mark.parametrize("negated", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
@pytest.mark.parametrize(
    "match",
    [
        {"exact_match": "b"},
        {"prefix_match": "b"},
        {"suffix_match": "b"},
        {"contains_match": "b"},
        {"safe_regex_match": {"regex": "b"}},
        {"string_match": {"exact": "B", "ignore_case": True}},
    ],
    ids=lambda match: next(iter(match)),
)
def test_a_mixture_is_never_allowed(action: str, match: dict[str, Any], inverted: bool, negated: bool) -> None:
    """If one value would be rejected, no other value next to it changes that."""
    config = rbac(action, {**match, "invert_match": inverted}, negated)
    alone = {value: status("rbac", config, [("x-a", value)]) for value in ("b", "x")}
    assert sorted(alone.values()) == [200, 403]
    for first, second in (("b", "x"), ("x", "b")):
        assert status("rbac", config, [("x-a", first), ("x-a", second)]) == 403
    if action == "DENY" and not inverted and not negated:
        assert status("rbac", config, [("x-a", "x, b")]) == 403


@pytest.mark.parametrize("fields", [[("Cookie", "a=1"), ("cookie", "b=2")], [("cookie", "a=1; b=2")]])
def test_cookies_are_also_joined_with_semicolons(fields: Fields) -> None:
    for match in ({"exact_match": "a=1; b=2"}, {"safe_regex_match": {"regex": "a=1; ?b=2"}}):
        assert status("rbac", rbac("DENY", {"name": "cookie", **match}), fields) == 403


@pytest.mark.parametrize("lines", [["a , b"], ["a,b"], ["a,, b"], ["a", "", "b"], ["a,", "b"]])
@pytest.mark.parametrize("text", ["a,b", "a, b"])
def test_white_space_and_empty_elements_of_a_list_hide_nothing(lines: list[str], text: str) -> None:
    assert status("rbac", rbac("DENY", {"exact_match": text}), [("x-a", line) for line in lines]) == 403


@pytest.mark.parametrize("name", ["TE", "Trailer", "Transfer-Encoding", "Keep-Alive"])
def test_conditions_on_fields_that_filters_do_not_see_are_rejected(name: str) -> None:
    config = rbac("DENY", {"name": name, "present_match": True})
    assert any("no condition on it could match" in problem for problem in problems("rbac", config))


def test_ranges() -> None:
    for action, fields, expected in (
        ("DENY", ["9", "5"], 403),
        ("DENY", ["9,5"], 403),
        ("DENY", ["9", "x"], 200),
        ("ALLOW", ["5", "9"], 403),
        ("ALLOW", ["5"], 200),
    ):
        config = rbac(action, {"range_match": {"start": 1, "end": 7}})
        assert status("rbac", config, [("x-a", value) for value in fields]) == expected


def test_a_value_with_commas_is_one_value_for_a_rule_that_allows() -> None:
    agent = "Mozilla/5.0 (X11) Kit/1 (KHTML, like Gecko)"
    assert status("rbac", rbac("ALLOW", {"prefix_match": "Mozilla"}), [("x-a", agent)]) == 200
    assert status("rbac", rbac("DENY", {"prefix_match": "Mozilla"}, negated=True), [("x-a", agent)]) == 200
    assert status("rbac", rbac("DENY", {"prefix_match": "Mozilla", "invert_match": True}), [("x-a", agent)]) == 200


def test_only_ascii_letters_have_two_cases() -> None:
    config = rbac("ALLOW", {"string_match": {"exact": "kate", "ignore_case": True}})
    assert status("rbac", config, [("x-a", "KATE")]) == 200
    assert status("rbac", config, [("x-a", "\u212aate")]) == 403  # the Kelvin sign


@pytest.mark.parametrize(
    ("lines", "deny", "allow"),
    [
        (["10.0.0.1"], 403, 200),
        (["8.8.8.8"], 200, 403),
        (["8.8.8.8", "10.0.0.1"], 403, 200),
        (["10.0.0.1", "8.8.8.8"], 200, 403),
        (["10.0.0.1, 8.8.8.8"], 200, 403),
        (["10.0.0.1,"], 403, 200),
        (["unknown"], 403, 403),
        (["8.8.8.8", "\udcff"], 403, 403),
    ],
)
def test_forwarded_addresses(lines: list[str], deny: int, allow: int) -> None:
    """The nearest proxy's entry is the last one, over all lines; one that cannot be read could be any address."""
    fields = [("x-forwarded-for", line) for line in lines]
    for action, expected in (("DENY", deny), ("ALLOW", allow)):
        principal = {"remote_ip": {"address_prefix": "10.0.0.0", "prefix_len": 8}}
        policies = {"p": {"permissions": [{"any": True}], "principals": [principal]}}
        config = {"version": "1", "rules": {"action": action, "policies": policies}, "xff_num_trusted_hops": 1}
        assert status("rbac", config, fields) == expected


def test_a_key_in_two_spellings_is_an_error() -> None:
    config = rbac("DENY", {"exact_match": "a", "exactMatch": "b"})
    assert any("the same key as" in problem for problem in problems("rbac", config))


# ---- the others


def test_rate_limits() -> None:
    limiter = shipped("local_rate_limit", {"requests": 1, "per": "1h", "key": "header", "header": "x-a"})
    world = World(limiter)

    async def ask(*values: str) -> int:
        return (await world.send(Request("GET", "/", [("x-a", value) for value in values]))).status

    async def all_of_them() -> list[int]:
        return [await ask(*values) for values in (["a"], ["a"], ["a", "b"], ["b", "a"], ["b"], ["b"], [], ["c", "c"], ["c"])]

    import asyncio

    assert asyncio.run(all_of_them()) == [200, 429, 400, 400, 200, 429, 200, 400, 200]


def test_labels() -> None:
    config = {"request_rules": [{"header": "x-a", "on_header_present": {"key": "zone"}, "remove": True}]}
    result = run(shipped("header_to_metadata", config), Request("GET", "/", [("x-a", "1"), ("x-a", "2")]))
    assert (result.status, result.reason) == (400, "repeated_field")


def test_cors() -> None:
    for allow in ({"allow_origins": ["https://a.example"]}, {"allow_origins": ["*"]}, {"allow_origin_regexes": [".*"]}):
        for fields in (
            [("origin", "https://a.example"), ("origin", "https://b.example")],
            [("origin", "https://a.example, https://b.example")],
        ):
            result = run(shipped("cors", allow), Request("GET", "/", fields))
            assert "access-control-allow-origin" not in result.headers


def test_gzip_does_not_compress_what_is_compressed() -> None:
    config = {"content_types": ["text/html"], "encodings": ["gzip"]}
    for fields in ([("content-encoding", "identity"), ("content-encoding", "br")], [("content-encoding", "br")]):
        upstream = Response(200, "x" * 999, [("content-type", "text/html"), *fields])
        result = run(shipped("gzip", config), Request("GET", "/", {"accept-encoding": "gzip"}), upstream=upstream)
        assert result.headers.get_all("content-encoding") == [value for _, value in fields]


def test_the_service_of_ext_authz_sees_and_replaces_every_value() -> None:
    seen: list[Fields] = []

    def service(request: Request) -> Response:
        seen.append(request.headers.items())
        return Response(200, "", [("x-user", "ann")])

    config = {"cluster": "auth", "path": "/", "request_headers": ["x-key"], "headers_to_upstream": ["x-user", "x-group"]}
    fields = [("x-key", "1"), ("x-key", "2"), ("x-user", "root"), ("X-User", "admin"), ("x-group", "g"), ("x-group", "h")]
    result: Result = run(shipped("ext_authz", config), Request("GET", "/", fields), clusters={"auth": service})
    assert [value for name, value in seen[0] if name == "x-key"] == ["1", "2"]
    upstream = result.upstream[-1].headers
    assert (upstream.get_all("x-user"), upstream.get_all("x-group")) == (["ann"], [])


def test_ext_authz_describes_the_request_itself() -> None:
    for key, name in (
        ("request_headers", "X-Forwarded-Method"),
        ("request_headers", "x-forwarded-for"),
        ("request_headers", "Host"),
        ("headers_to_upstream", "content-length"),
        ("headers_to_client", "Transfer-Encoding"),
    ):
        (problem,) = problems("ext_authz", {"cluster": "auth", key: [name]})
        assert problem.startswith(f".{key}[0]: ")


def test_what_a_client_sends_does_not_open_failure_mode_allow() -> None:
    """Only a service that does not answer does."""
    config = {"cluster": "missing", "failure_mode_allow": True}
    assert status("ext_authz", config, []) == 403


def test_ip_access_takes_the_last_entry_of_all_lines() -> None:
    config = {"default_action": "deny", "header": "x-a", "ips": [{"action": "allow", "addrs": ["10.0.0.0/8"]}]}
    for lines, expected in (
        (["10.0.0.1"], 200),
        (["8.8.8.8", "10.0.0.1"], 200),
        (["10.0.0.1", "8.8.8.8"], 403),
        (["10.0.0.1, 8.8.8.8"], 403),
        (["10.0.0.1,"], 403),
        (["10.0.0.1", ""], 403),
    ):
        assert status("ip_access", config, [("x-a", line) for line in lines]) == expected
