"""Filters that decide who may do what: rbac, jwt_authn, ext_authz."""

from __future__ import annotations

from typing import Any, Final

from pymosn.config.schema import StreamFilter
from pymosn.control.xds.convert.filter_json import CONDITIONS, Known, as_json, check_route_settings, check_settings
from pymosn.control.xds.convert.route_settings import RouteSettings
from pymosn.control.xds.convert.values import runtime_fraction
from pymosn.control.xds.convert.view import View

_RULES: Final = "envoy.config.rbac.v3."
_JWT: Final = "envoy.extensions.filters.http.jwt_authn.v3."
_CORE: Final = "envoy.config.core.v3."

RBAC: Final[Known] = {
    **CONDITIONS,
    _RULES + "RBAC": ("action", "policies"),
    _RULES + "Policy": ("permissions", "principals"),
    _RULES + "Permission": (
        *("and_rules", "or_rules", "any", "header", "url_path", "destination_ip", "destination_port"),
        *("destination_port_range", "metadata", "sourced_metadata", "not_rule", "requested_server_name"),
    ),
    _RULES + "Permission.Set": ("rules",),
    _RULES + "Principal": (
        *("and_ids", "or_ids", "any", "authenticated", "source_ip", "direct_remote_ip", "remote_ip", "header"),
        *("url_path", "metadata", "filter_state", "sourced_metadata", "not_id"),
    ),
    _RULES + "Principal.Set": ("ids",),
    _RULES + "Principal.Authenticated": ("principal_name",),
    _RULES + "SourcedMetadata": ("metadata_matcher", "metadata_source"),
}
RBAC_FIELDS: Final = ("rules", "shadow_rules", "shadow_rules_stat_prefix")

_JWT_KNOWN: Final[Known] = {
    **CONDITIONS,
    _JWT + "JwtAuthentication": ("providers", "rules", "bypass_cors_preflight", "requirement_map", "strip_failure_response"),
    _JWT + "JwtProvider": (
        *("issuer", "audiences", "subjects", "require_expiration", "max_lifetime", "remote_jwks", "local_jwks", "forward"),
        *("from_headers", "from_params", "forward_payload_header", "pad_forward_payload_header", "payload_in_metadata"),
        *("normalize_payload_in_metadata", "clock_skew_seconds", "claim_to_headers"),
    ),
    _JWT + "JwtProvider.NormalizePayload": ("space_delimited_claims",),
    _JWT + "RemoteJwks": ("http_uri", "cache_duration"),
    _JWT + "JwtHeader": ("name", "value_prefix"),
    _JWT + "JwtClaimToHeader": ("header_name", "claim_name"),
    _JWT + "RequirementRule": ("match", "requires", "requirement_name"),
    _JWT + "JwtRequirement": (
        *("provider_name", "provider_and_audiences", "requires_any", "requires_all"),
        *("allow_missing_or_failed", "allow_missing"),
    ),
    _JWT + "ProviderWithAudiences": ("provider_name", "audiences"),
    _JWT + "JwtRequirementOrList": ("requirements",),
    _JWT + "JwtRequirementAndList": ("requirements",),
    _JWT + "PerRouteConfig": ("disabled", "requirement_name"),
    _CORE + "DataSource": ("inline_string", "inline_bytes"),
    _CORE + "HttpUri": ("uri", "cluster", "timeout"),
    "envoy.config.route.v3.RouteMatch": ("prefix", "path", "safe_regex", "path_separated_prefix", "case_sensitive"),
}


def rbac(view: View) -> StreamFilter:
    """An RBAC filter. It judges after the filters before it, such as jwt_authn, have seen the route."""
    known = {**RBAC, view.type_name: RBAC_FIELDS}
    config = as_json(view, known)
    return StreamFilter(type="rbac", config=check_settings(view, "rbac", {**config, "after_routing": True}))


def route_rbac(view: View) -> RouteSettings:
    """RBACPerRoute: other rules, or none."""
    with view:
        inner = view.inner("rbac")
        config = {} if inner is None else as_json(inner, {**RBAC, inner.type_name: RBAC_FIELDS})
    return RouteSettings("rbac", check_route_settings(view, "rbac", config))


def jwt_authn(view: View) -> StreamFilter:
    """A JwtAuthentication."""
    clears = [provider for provider in view.message.providers.values() if provider.clear_route_cache]
    known = dict(_JWT_KNOWN)
    if clears:
        known[_JWT + "JwtProvider"] += ("clear_route_cache",)
    config = as_json(view, known)
    for provider in config.get("providers", {}).values():
        provider.pop("clear_route_cache", None)
        local = provider.get("local_jwks")
        if local is not None and "inline_bytes" in local:
            local["inline_string"] = _text(view, local.pop("inline_bytes"))
    config["before_routing"] = bool(clears)
    return StreamFilter(type="jwt_authn", config=check_settings(view, "jwt_authn", config))


def _text(view: View, encoded: str) -> str:
    import base64

    try:
        return base64.b64decode(encoded).decode()
    except UnicodeDecodeError:
        view.fault("providers", "inline_bytes of a key set is not UTF-8")
        return ""


def route_jwt(view: View) -> RouteSettings:
    """PerRouteConfig of jwt_authn."""
    config = as_json(view, _JWT_KNOWN)
    return RouteSettings("jwt_authn", check_route_settings(view, "jwt_authn", config))


def ext_authz(view: View) -> StreamFilter:
    """An ExtAuthz, whose service speaks gRPC or HTTP."""
    with view:
        config: dict[str, Any] = {}
        timeout: float | None = None
        kind = view.which("services")
        service = view.inner(kind) if kind else None
        if service is None:
            view.fault("", "expected grpc_service or http_service")
        elif kind == "grpc_service":
            config["grpc"], timeout = grpc_service(service)
        else:
            config["http"], timeout = _http_service(service, config)
        version = view.enum("transport_api_version")
        if version not in ("V3", "AUTO"):
            view.fault("transport_api_version", f"{version} is not supported; expected V3")
        config["timeout"] = f"{0.2 if timeout is None else timeout:f}s"
        _read_decision(view, config)
        _read_scope(view, config)
    return StreamFilter(type="external_authz", config=check_settings(view, "external_authz", config))


def _read_decision(view: View, config: dict[str, Any]) -> None:
    """What is sent to the service, and what happens without an answer."""
    for name in ("failure_mode_allow", "failure_mode_allow_header_add", "include_peer_certificate", "include_tls_session"):
        config[name] = view.value(name)
    status = view.inner("status_on_error")
    if status is not None:
        with status:
            config["status_on_error"] = status.message.code
            status.enum("code")
    body = view.inner("with_request_body")
    if body is not None:
        with body:
            config["max_request_bytes"] = body.value("max_request_bytes")
            config["pack_as_bytes"] = body.value("pack_as_bytes")
            body.refuse("allow_partial_message", "not supported; a body is sent as a whole")
    for ours in ("allowed_headers", "disallowed_headers"):
        inner = view.inner(ours)
        if inner is not None:
            config.setdefault(ours, []).extend(patterns(inner))
    config["metadata_namespaces"] = view.values("metadata_context_namespaces")


def _read_scope(view: View, config: dict[str, Any]) -> None:
    """Which requests the service is asked about."""
    if enabled_share(view, "filter_enabled") < 100.0:
        view.fault("filter_enabled", "not supported below 100 %")
    condition = view.inner("filter_enabled_metadata")
    if condition is not None:
        config["enabled_metadata"] = as_json(condition, CONDITIONS)
    view.refuse("clear_route_cache", "not supported; the route is not selected again")


def patterns(view: View) -> list[dict[str, Any]]:
    """A ListStringMatcher as JSON."""
    found: list[dict[str, Any]] = as_json(view, CONDITIONS).get("patterns", [])
    return found


def grpc_service(view: View) -> tuple[dict[str, Any], float | None]:
    """A GrpcService in a cluster: the JSON of our filters, and its timeout in seconds."""
    with view:
        config: dict[str, Any] = {}
        view.refuse("google_grpc", "not supported; expected envoy_grpc")
        view.refuse("retry_policy", "not supported")
        inner = view.inner("envoy_grpc")
        if inner is None:
            if not view.has("google_grpc"):
                view.fault("envoy_grpc", "missing")
        else:
            with inner:
                config["cluster"] = inner.value("cluster_name")
                config["authority"] = inner.value("authority")
                inner.value("skip_envoy_headers")  # none are sent
        metadata: dict[str, str] = {}
        for item in view.items("initial_metadata"):
            with item:
                metadata[item.value("key")] = item.value("value")
        if metadata:
            config["metadata"] = metadata
        return config, view.seconds("timeout")


def _http_service(view: View, config: dict[str, Any]) -> tuple[dict[str, Any], float | None]:
    """An HttpService. `config`: of the filter, which gets the headers that are sent."""
    with view:
        made: dict[str, Any] = {"path_prefix": view.value("path_prefix")}
        timeout = None
        view.refuse("retry_policy", "not supported")
        server = view.inner("server_uri")
        if server is None:
            view.fault("server_uri", "missing")
        else:
            with server:
                server.value("uri")  # the cluster has the address
                made["cluster"] = server.value("cluster")
                timeout = server.seconds("timeout")
        request = view.inner("authorization_request")
        if request is not None:
            with request:
                inner = request.inner("allowed_headers")
                if inner is not None:
                    config["allowed_headers"] = patterns(inner)
                added: dict[str, str] = {}
                for item in request.items("headers_to_add"):
                    with item:
                        added[item.value("key")] = item.value("value")
                made["headers_to_add"] = added
        response = view.inner("authorization_response")
        if response is not None:
            _read_response(response, made)
        return made, timeout


_RESPONSE: Final = {
    "allowed_upstream_headers": "upstream_headers",
    "allowed_upstream_headers_to_append": "upstream_headers_to_append",
    "allowed_client_headers": "client_headers",
    "allowed_client_headers_on_success": "client_headers_on_success",
}


def _read_response(view: View, made: dict[str, Any]) -> None:
    with view:
        for name, ours in _RESPONSE.items():
            inner = view.inner(name)
            if inner is not None:
                made[ours] = patterns(inner)


def route_ext_authz(view: View) -> RouteSettings:
    """ExtAuthzPerRoute."""
    with view:
        config: dict[str, Any] = {"disabled": view.value("disabled")} if view.has("disabled") else {}
        inner = view.inner("check_settings")
        if inner is not None:
            with inner:
                config["context_extensions"] = inner.table("context_extensions")
                config["without_body"] = inner.value("disable_request_body_buffering")
                for name in ("with_request_body", "grpc_service", "http_service"):
                    inner.refuse(name, "not supported for a route")
    return RouteSettings("external_authz", check_route_settings(view, "external_authz", config))


def enabled_share(view: View, name: str) -> float:
    """The percentage in a field with a RuntimeFractionalPercent; 100 without it."""
    inner = view.inner(name)
    return 100.0 if inner is None else runtime_fraction(inner)
