"""The recipe `jwt_claims`, after the shipped filter `jwt_authn`."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest

from pymosn.config.typed import typed
from pymosn.filters.loading import load_filter
from pymosn.filters.stream.shipped import spec_of
from pymosn.testing import Request, Result, World

RECIPE = Path(__file__).parents[3] / "examples" / "filters" / "recipes" / "jwt_claims.py"
SECRET = b"a secret of thirty-two letters or more"
JWKS = {"keys": [{"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("="), "alg": "HS256"}]}
LATER = 4102444800
CONFIG = {
    "provider": "main",
    "headers": {"x-user": "sub", "x-tenant": "tenant"},
    "scopes": ["read"],
    "one_of": {"tenant": ["acme", "corp"]},
}


def ask(fields: list[tuple[str, str]], path: str = "/", **config: Any) -> Result:
    spec = spec_of("jwt_authn")
    assert spec.make is not None
    authn = {
        "providers": {"main": {"issuer": "i", "localJwks": {"inlineString": json.dumps(JWKS)}}},
        "rules": [{"match": {"prefix": "/free"}}, {"match": {"prefix": "/"}, "requires": {"providerName": "main"}}],
    }
    filters = [spec.make(typed(authn, spec.settings)), load_filter(RECIPE, "JwtClaims", {**CONFIG, **config})]
    return asyncio.run(World(filters).send(Request("GET", path, fields)))


def bearer(**claims: Any) -> list[tuple[str, str]]:
    whole = {"iss": "i", "exp": LATER, "sub": "eve", "tenant": "acme", "scope": "write read", **claims}
    return [("authorization", f"Bearer {jwt.encode(whole, SECRET, 'HS256')}")]


def test_claims_replace_what_the_client_sends() -> None:
    result = ask([*bearer(), ("x-user", "root"), ("X-User", "admin"), ("x-tenant", "corp")])
    upstream = result.upstream[0].headers
    assert (result.status, upstream.get_all("x-user"), upstream.get_all("x-tenant")) == (200, ["eve"], ["acme"])


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({}, 200),
        ({"scope": "read"}, 200),
        ({"scope": "reader"}, 403),
        ({"scope": "write,read"}, 403),
        ({"scope": ["read"]}, 403),
        ({"scope": None}, 403),
        ({"tenant": "other"}, 403),
        ({"tenant": "ACME"}, 403),
        ({"tenant": ["acme"]}, 403),
        ({"tenant": {"acme": 1}}, 403),
        ({"tenant": None}, 403),
        ({"sub": "a\r\nx-admin: yes"}, 403),
        ({"sub": "a\x00"}, 403),
        ({"exp": 1000000000}, 401),
        ({"iss": "other"}, 401),
    ],
    ids=str,
)
def test_policies(claims: dict[str, Any], status: int) -> None:
    assert ask(bearer(**claims)).status == status


@pytest.mark.parametrize("claims", [{"sub": {"a": 1}}, {"sub": ["a"]}, {"sub": None}, {"sub": True}])
def test_values_that_are_no_text(claims: dict[str, Any]) -> None:
    headers = ask([*bearer(**claims), ("x-user", "root")]).upstream
    assert not headers or "x-user" not in headers[0].headers


def test_text_beyond_ascii() -> None:
    assert ask(bearer(sub="Ренé 四")).upstream[0].headers["x-user"] == "Ренé 四"


@pytest.mark.parametrize(
    "value",
    [
        "\udcff\udcfe",
        "Bearer \udcff",
        "Bearer a.b.\udcff",
        "Bearer \u2028.a.b",
        "Bearer " + "a" * 6_000,
        "Bearer é.é.é",
        "",
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_odd_bytes_are_no_token(value: str) -> None:
    result = ask([("authorization", value)])
    assert (result.status, result.upstream) == (401, [])


def test_a_path_that_needs_no_token_has_no_claims() -> None:
    result = ask([("x-user", "root")], "/free")
    assert (result.status, result.upstream) == (403, [])
