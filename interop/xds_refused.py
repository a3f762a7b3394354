"""Resources that Envoy accepts and that pymosn rejects, because it cannot do what they say."""

from __future__ import annotations

from typing import NamedTuple

from interop.xds_groups import Group, Json, header, route, to, virtual_host, with_header


class Refused(NamedTuple):
    """A listener and its routes, of which one is rejected. `path`: the end of the path of the fault."""

    path: str
    group: Group


def _template() -> Json:
    kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
    config = {"@type": kind, "path_template": "/one/{x}"}
    return {"path_match_policy": {"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": config}}


def _of(name: str, path: str, routes: list[Json], table: Json | None = None, **more: Json | str) -> Refused:
    return Refused(path, Group(f"refused-{name}", [virtual_host(name, routes, ["*"], **more)], [], table=table or {}))


def _manager(name: str, path: str, **hcm: Json | bool) -> Refused:
    return Refused(path, Group(f"refused-{name}", [virtual_host(name, [route(name, "/")], ["*"])], [], hcm=hcm))


_RETRY = {"retry_on": "5xx", "retriable_request_headers": [{"name": "x-again", "present_match": True}]}
_VARIABLE = {"request_headers_to_add": [header("x-virtual", "%VIRTUAL_CLUSTER_NAME%")]}

REFUSED = [
    _of("template", "match.path_match_policy", [route("template", _template())]),
    _of("internal", "internal_only_headers", [route("internal", "/")], {"internal_only_headers": ["x-internal"]}),
    _of("external", "require_tls", [route("external", "/")], require_tls="EXTERNAL_ONLY"),
    _of("requests", "retry_policy.retriable_request_headers", [route("requests", "/", to("a", retry_policy=_RETRY))]),
    _of("hedge", "hedge_policy", [route("hedge", "/", to("a", hedge_policy={"hedge_on_per_try_timeout": True}))]),
    _of("internal-redirect", "internal_redirect_policy", [route("redirect", "/", to("a", internal_redirect_policy={}))]),
    _of("metadata", "match.dynamic_metadata", [route("metadata", {
        "prefix": "/", "dynamic_metadata": [{"filter": "x", "path": [{"key": "k"}], "value": {"present_match": True}}]})]),
    _of("variable", "request_headers_to_add[0].header.value", [route("variable", "/", to("a"), **_VARIABLE)]),
    _of("header-kind", "match.headers[0]", [route("kind", with_header("x", {"string_match": {"custom": {
        "name": "envoy.string_matcher.lua", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.string_matcher.lua.v3.Lua",
            "source_code": {"inline_string": "function envoy_match(text) return true end"}}}}}))]),
]  # fmt: skip
