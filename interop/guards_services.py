"""Tokens, and services that are asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from interop.guards_kit import (
    ANY,
    Guarded,
    ask,
    chain,
    field,
    guarded,
    of_route,
    rbac,
    typed,
    with_headers,
    wrapped,
)
from interop.xds_groups import Json, route

GUARDS: list[Guarded] = []

_UPGRADE: Final = [("upgrade", "websocket"), ("connection", "upgrade")]

_JWT_NAME: Final = "envoy.filters.http.jwt_authn"
_KEY: Final = ec.generate_private_key(ec.SECP256R1())
_OTHER_KEY: Final = ec.generate_private_key(ec.SECP256R1())


def _jwks() -> str:
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key()))
    return json.dumps({"keys": [{**key, "kid": "k", "alg": "ES256"}]})


def token(claims: Mapping[str, Any] | None = None, key: Any = _KEY, **headers: Any) -> str:
    """A token of the issuer, valid for an hour."""
    base = {"iss": "issuer", "aud": "guards", "sub": "me", "exp": time.time() + 3600}
    made = {name: value for name, value in {**base, **(claims or {})}.items() if value is not None}
    algorithm = "none" if key is None else "ES256"
    return jwt.encode(made, key, algorithm=algorithm, headers={"kid": "k", **headers})


_GOOD: Final = token()
_TOKENS: Final[dict[str, str]] = {
    "good": _GOOD,
    "expired": token({"exp": time.time() - 3600}),
    "early": token({"nbf": time.time() + 3600}),
    "no-exp": token({"exp": None}),
    "issuer": token({"iss": "other"}),
    "no-issuer": token({"iss": None}),
    "audience": token({"aud": "other"}),
    "audiences": token({"aud": ["other", "guards"]}),
    "no-audience": token({"aud": None}),
    "key": token(key=_OTHER_KEY),
    "kid": token(kid="unknown"),
    "none": token(key=None),
    "short": _GOOD[:-4],
    "padded": _GOOD + "=",
    "parts": _GOOD + ".x",
    "empty": "",
    "garbage": "a.b.c",
    "role": token({"role": "admin"}),
    "roles": token({"role": ["admin"]}),
}


def _provider(**more: Any) -> Json:
    return {
        "issuer": "issuer",
        "audiences": ["guards"],
        "local_jwks": {"inline_string": _jwks()},
        "claim_to_headers": [{"header_name": "x-claim-role", "claim_name": "role"}],
        "forward_payload_header": "x-payload",
        "payload_in_metadata": "claims",
        **more,
    }


def _jwt(*rules: Json, name: str = "envoy.filters.http.jwt_authn", **more: Any) -> Json:
    config = typed("jwt_authn.v3.JwtAuthentication", providers={"p": _provider()}, rules=list(rules), **more)
    return {"name": name, "typed_config": config}


def _rule(match: Json, requires: Json | None = None, **more: Any) -> Json:
    return {"match": match, **({"requires": requires} if requires else {}), **more}


_P: Final[Json] = {"provider_name": "p"}
_MAYBE: Final[Json] = {"requires_any": {"requirements": [_P, {"allow_missing": {}}]}}
_FAILED: Final[Json] = {"requires_any": {"requirements": [_P, {"allow_missing_or_failed": {}}]}}
_JWT_ROUTES: Final = [
    route("off", "/off", **of_route(typed("jwt_authn.v3.PerRouteConfig", disabled=True), _JWT_NAME)),
    route("map", "/map", **of_route(typed("jwt_authn.v3.PerRouteConfig", requirement_name="r"), _JWT_NAME)),
    route(
        "unknown", "/unknown",
        **of_route(typed("jwt_authn.v3.PerRouteConfig", requirement_name="none"), _JWT_NAME),
    ),
    route("wrong", "/wrong", **of_route(typed("jwt_authn.v3.PerRouteConfig", disabled=True), "other")),
    route("all", "/"),
]  # fmt: skip
_JWT: Final = _jwt(
    _rule({"path": "/open"}),
    _rule({"prefix": "/maybe"}, _MAYBE),
    _rule({"prefix": "/failed"}, _FAILED),
    _rule({"path_separated_prefix": "/sep"}, _P),
    _rule({"safe_regex": {"regex": "/re/[0-9]+"}}, _P),
    _rule({"prefix": "/folded", "case_sensitive": False}, _P),
    _rule({"prefix": "/secure"}, _P),
    requirement_map={"r": _P},
)
_JWT_PATHS: Final = (
    *("/secure", "/secure/x", "/secure?x", "/SECURE", "/%73ecure", "//secure", "/x/../secure", "/./secure", "/secure;x"),
    *(
        "/open",
        "/open/",
        "/open?x",
        "/open;x",
        "/open/../secure",
        "/maybe",
        "/failed",
        "/sep",
        "/sep/x",
        "/separate",
        "/sep?x",
    ),
    *(
        "/re/1",
        "/re/1?x",
        "/re/1/",
        "/FOLDED/x",
        "/folded",
        "/off",
        "/off/../secure",
        "/map",
        "/unknown",
        "/wrong",
        "/other",
    ),
    *("http://guards.test/secure", "/secure%2fx", "/secure%00", "/re/%31"),
)


def _bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {_TOKENS[name]}"}


_BY_TOKEN: Final = [
    *(ask(one) for one in _JWT_PATHS),
    *(ask(one, **_bearer("good")) for one in (*_JWT_PATHS[:3], "/maybe", "/failed", "/map", "/unknown", "/wrong")),
    *(ask("/secure", **_bearer(name)) for name in _TOKENS),
    *(ask("/maybe", **_bearer(name)) for name in _TOKENS),
    *(ask("/failed", **_bearer(name)) for name in ("expired", "none", "garbage", "key")),
    ask("/secure", authorization=f"bearer {_GOOD}"),
    ask("/secure", authorization=f"Bearer  {_GOOD}"),
    ask("/secure", authorization=_GOOD),
    ask("/secure", authorization=f"Basic x\nBearer {_GOOD}"),
    ask("/secure", authorization=f"Bearer {_TOKENS['key']}\nBearer {_GOOD}"),
    ask("/secure", authorization=f"Bearer {_GOOD}\nBearer {_TOKENS['key']}"),
    ask("/secure", authorization=f"Bearer {_GOOD}, Bearer {_TOKENS['key']}"),
    ask(f"/secure?access_token={_GOOD}"),
    ask(f"/secure?access_token={_TOKENS['expired']}"),
    ask(f"/secure?access_token={_TOKENS['expired']}&access_token={_GOOD}"),
    ask("/secure", "OPTIONS", origin="https://x.test", access_control_request_method="GET"),
    ask("/secure", "OPTIONS"),
    ask("/secure", is_h2=True),
    ask("/secure", is_h2=True, **_bearer("good")),
]
_ROLE: Final = field("x-claim-role", "exact", "admin")
_BY_CLAIM: Final = [
    ask("/secure", x_claim_role="admin"),
    ask("/secure", x_claim_role="admin", **_bearer("good")),
    ask("/secure", x_claim_role="x", **_bearer("role")),
    ask("/secure", **_bearer("role")),
    ask("/secure", **_bearer("roles")),
    ask("/maybe", x_claim_role="admin"),
    ask("/failed", x_claim_role="admin"),
    ask("/failed", x_claim_role="admin", **_bearer("key")),
    ask("/maybe", X_CLAIM_ROLE="admin"),
    with_headers("/maybe", [("x_claim_role", "admin")]),
    with_headers("/maybe", [("x-claim-role", "admin"), ("connection", "x-claim-role")]),
]
_METADATA: Final[Json] = {
    "metadata": {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "claims"}, {"key": "role"}],
        "value": {"string_match": {"exact": "admin"}},
    }
}
GUARDS += [
    guarded("jwt", chain(_JWT), _BY_TOKEN, _JWT_ROUTES),
    guarded("jwt-cors", chain(_jwt(_rule({"prefix": "/secure"}, _P), bypass_cors_preflight=True)), _BY_TOKEN, _JWT_ROUTES),
    guarded("jwt-claims", chain(_JWT, rbac("ALLOW", _ROLE)), _BY_CLAIM, _JWT_ROUTES),
    guarded("jwt-claims-deny", chain(_JWT, rbac("DENY", {"not_rule": _ROLE})), _BY_CLAIM, _JWT_ROUTES),
    guarded("jwt-metadata", chain(_JWT, rbac("ALLOW", (ANY, _METADATA))), _BY_CLAIM, _JWT_ROUTES),
    guarded("jwt-metadata-deny", chain(_JWT, rbac("DENY", (ANY, {"not_id": _METADATA}))), _BY_CLAIM, _JWT_ROUTES),
]

# ---- ext_authz


def _authz(cluster: str = "b", name: str = "envoy.filters.http.ext_authz", **more: Any) -> Json:
    service = {
        "server_uri": {"uri": "http://authz.test", "cluster": cluster, "timeout": "1s"},
        "authorization_request": {"allowed_headers": {"patterns": [{"prefix": "x-answer"}]}},
    }
    return {
        "name": name,
        "typed_config": typed("ext_authz.v3.ExtAuthz", http_service=service, transport_api_version="V3", **more),
    }


_ANSWERS: Final = ("200", "201", "204", "301", "302", "400", "401", "403", "404", "429", "500", "503", "reset")
_AUTHZ_ROUTES: Final = [
    route("off", "/off", **of_route(typed("ext_authz.v3.ExtAuthzPerRoute", disabled=True), "envoy.filters.http.ext_authz")),
    route("disabled", "/disabled", **of_route(wrapped(disabled=True), "envoy.filters.http.ext_authz")),
    route("wrong", "/wrong", **of_route(typed("ext_authz.v3.ExtAuthzPerRoute", disabled=True), "other")),
    route("all", "/"),
]
_BY_ANSWER: Final = [
    *(ask("/x", x_answers=one) for one in _ANSWERS),
    *(ask(one, x_answers="403") for one in ("/off", "/disabled", "/wrong", "/off/../x", "/x/../off", "/OFF", "/off;x")),
    ask("/x", "POST", x_answers="403"),
    ask("/x", "OPTIONS", x_answers="403"),
    ask("/x", x_answers="403", is_h2=True),
    with_headers("/x", [("x-answers", "403"), *_UPGRADE]),
    with_headers("/x", [("x-answers", "403"), ("connection", "x-answers")]),
]
GUARDS += [
    guarded("authz", chain(_authz()), _BY_ANSWER, _AUTHZ_ROUTES),
    guarded("authz-open", chain(_authz(failure_mode_allow=True)), _BY_ANSWER, _AUTHZ_ROUTES),
    guarded("authz-gone", chain(_authz("refusing")), _BY_ANSWER, _AUTHZ_ROUTES),
    guarded("authz-none", chain(_authz("nowhere")), _BY_ANSWER, _AUTHZ_ROUTES),
    guarded("authz-named", chain(_authz(name="mine")), _BY_ANSWER, _AUTHZ_ROUTES),
]
