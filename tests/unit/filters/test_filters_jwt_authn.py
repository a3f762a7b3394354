"""`jwt_authn`: tokens and where they are read from, local and remote keys, requirements."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from shipped_kit import problems, shipped
from tests.kit.hostile_errors import KINDS, make

from pymosn.filters.stream.jwt_keys import KeySet
from pymosn.filters.stream.jwt_token import TokenError
from pymosn.testing import Down, Request, Response, Result, World, run

ONE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TWO = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
ISSUER = "https://issuer.example"


def jwk(key: Any, kid: str = "", **more: str) -> dict[str, Any]:
    algorithm = jwt.algorithms.ECAlgorithm if key is CURVE else jwt.algorithms.RSAAlgorithm
    found = json.loads(algorithm.to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return {**found, **({"kid": kid} if kid else {}), **more}


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": list(keys)})


def token(key: Any = ONE, algorithm: str = "RS256", kid: str | None = None, **claims: Any) -> str:
    headers = None if kid is None else {"kid": kid}
    return jwt.encode({"iss": ISSUER, "exp": time.time() + 86400, **claims}, key, algorithm, headers=headers)


def settings(provider: dict[str, Any] | None = None, requires: Any = None, **rule: Any) -> dict[str, Any]:
    local = {"issuer": ISSUER, "localJwks": {"inlineString": jwks(jwk(ONE, "one"))}}
    return {
        "providers": {"p": local if provider is None else {**local, **provider}},
        "rules": [{"match": {"prefix": "/"}, "requires": requires or {"providerName": "p"}, **rule}],
    }


def ask(config: dict[str, Any], sent: str | None, target: str = "/", **headers: str) -> Result:
    fields = {**headers, **({} if sent is None else {"authorization": f"Bearer {sent}"})}
    return run(shipped("jwt_authn", config), Request("GET", target, fields))


def test_a_good_token() -> None:
    result = ask(settings(), token(sub="ann"))
    assert result.status == 200
    assert result.exchange.state["jwt_authn"]["p"]["sub"] == "ann"  # type: ignore[index]
    assert "authorization" not in result.upstream[0].headers
    assert "authorization" in ask(settings({"forward": True}), token()).upstream[0].headers


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (None, "Jwt is missing"),
        ("nonsense", "Jwt is not in the form of Header.Payload.Signature"),
        (token(TWO), "Jwt verification fails"),
        (token(TWO, kid="one"), "Jwt verification fails"),
        (token(ONE, kid="other"), "Jwks doesn't have key to match kid or alg from Jwt"),
        (token(CURVE, "ES256"), "Jwks doesn't have key to match kid or alg from Jwt"),
        (token(exp=time.time() - 61), "Jwt is expired"),
        (token(nbf=time.time() + 86400), "Jwt not yet valid"),
        (token(iss="somebody"), "Jwt issuer is not configured"),
        (token()[:-4] + "AAAA", "Jwt verification fails"),
        (jwt.encode({"iss": ISSUER}, None, "none"), "Jwks doesn't have key to match kid or alg from Jwt"),
        # The public key as a secret of HMAC.
        (jwt.encode({"iss": ISSUER}, "x" * 64, "HS256"), "Jwks doesn't have key to match kid or alg from Jwt"),
    ],
)
def test_other_tokens(sent: str | None, text: str) -> None:
    result = ask(settings(), sent)
    assert (result.status, result.text, result.reason, result.upstream) == (401, text, "unauthorized", [])
    assert result.headers["www-authenticate"] == ("Bearer" if sent is None else 'Bearer error="invalid_token"')


def part(raw: bytes) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 3000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"alg": "RS256", "alg": "none"}',
        b'{"exp": NaN}',
        b'{"exp": 1e999}',
        b'{"sub": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        '{"alg": "RS256"}'.encode("utf-16"),
        b"",
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_tokens_that_readers_understand_differently(raw: bytes) -> None:
    good = part(b'{"alg": "RS256"}')
    assert ask(settings(), f"{part(raw)}.{good}.{good}").text == "Jwt header is an invalid JSON"
    assert ask(settings(), f"{good}.{part(raw)}.{good}").text == "Jwt payload is an invalid JSON"


def test_clocks_may_differ() -> None:
    assert ask(settings(), token(exp=time.time() - 30)).status == 200
    assert ask(settings({"clockSkewSeconds": 5}), token(exp=time.time() - 30)).status == 401


def test_kinds_of_keys() -> None:
    secret = {"kty": "oct", "k": base64.urlsafe_b64encode(b"s" * 64).decode().rstrip("=")}
    unknown = {"kty": "new"}
    config = settings({"localJwks": {"inlineString": jwks(unknown, jwk(ONE, "one"), jwk(CURVE), secret)}})
    assert ask(config, token(kid="one")).status == 200
    assert ask(config, token()).status == 200
    assert ask(config, token(CURVE, "ES256", kid="any")).status == 200
    assert ask(config, token("s" * 64, "HS512")).status == 200
    config = settings({"localJwks": {"inlineString": jwks(jwk(ONE, alg="RS512"))}})
    assert [ask(config, token(ONE, algorithm)).status for algorithm in ("RS512", "RS256")] == [200, 401]


@pytest.mark.parametrize(
    ("audiences", "given", "status"),
    [
        ([], {}, 200),
        (["a", "b"], {"aud": "b"}, 200),
        (["a"], {"aud": ["x", "a"]}, 200),
        (["a"], {"aud": "x"}, 401),
        (["a"], {}, 401),
    ],
)
def test_audiences(audiences: list[str], given: dict[str, Any], status: int) -> None:
    assert ask(settings({"audiences": audiences}), token(**given)).status == status
    of_rule = {"providerAndAudiences": {"providerName": "p", "audiences": audiences}}
    assert ask(settings({"audiences": audiences and ["none"]}, of_rule), token(**given)).status == status


def test_tokens_in_the_query_and_in_other_headers() -> None:
    result = ask(settings(), None, f"/a?x=1&access_token={token()}&y=2")
    assert (result.status, result.upstream[0].query) == (200, "x=1&y=2")
    config = settings({"fromHeaders": [{"name": "X-Jwt", "valuePrefix": "jwt "}], "from_params": ["t"]})
    assert ask(config, None, "/", **{"x-jwt": f"JWT {token()}"}).status == 200
    assert ask(config, None, "/", **{"x-jwt": token()}).status == 401
    assert ask(config, None, f"/?t={token()}").status == 200
    assert ask(config, token()).text == "Jwt is missing"


def test_the_payload_for_the_upstream() -> None:
    config = settings({"forwardPayloadHeader": "x-claims"})
    config["rules"][0]["match"] = {"prefix": "/in"}
    result = ask(config, token(sub="ann"), "/in", **{"x-claims": "forged"})
    (value,) = result.upstream[0].headers.get_all("x-claims")
    assert json.loads(base64.urlsafe_b64decode(value + "=="))["sub"] == "ann"
    # Nor where no rule applies.
    for name in ("x-claims", "x_claims"):
        assert name not in ask(config, None, "/out", **{name: "forged"}).upstream[0].headers


@pytest.mark.parametrize(
    ("match", "path", "applies"),
    [
        ({"prefix": "/a"}, "/ab", True),
        ({"prefix": "/A"}, "/ab", False),
        ({"prefix": "/A", "caseSensitive": False}, "/ab", True),
        ({"path": "/a"}, "/a?x", True),
        ({"path": "/a"}, "/ab", False),
        ({"path": "/A", "case_sensitive": False}, "/a", True),
        ({"safeRegex": {"googleRe2": {}, "regex": "/a|/b"}}, "/b", True),
        ({"safeRegex": {"regex": "/a|/b"}}, "/bc", False),
    ],
    ids=str,
)
def test_matches(match: dict[str, Any], path: str, applies: bool) -> None:
    assert (ask(settings(match=match), None, path).status == 401) is applies


def test_the_first_rule_that_matches_counts() -> None:
    config = settings()
    config["rules"].insert(0, {"match": {"prefix": "/open"}})
    assert ask(config, None, "/open").status == 200
    assert ask(config, None, "/").status == 401


def two(requires: dict[str, Any]) -> dict[str, Any]:
    config = settings(None, requires)
    config["providers"]["q"] = {
        "issuer": "q",
        "localJwks": {"inlineString": jwks(jwk(TWO))},
        "fromHeaders": [{"name": "x-q"}],
    }
    return config


P, Q = {"providerName": "p"}, {"providerName": "q"}
MISSING: dict[str, Any] = {"allowMissing": {}}
FAILED: dict[str, Any] = {"allowMissingOrFailed": {}}


@pytest.mark.parametrize(
    ("requires", "good", "bad", "none", "other", "both"),
    [
        (P, 200, 401, 401, 401, 200),
        ({"requiresAny": {"requirements": [P, Q]}}, 200, 401, 401, 200, 200),
        ({"requiresAll": {"requirements": [P, Q]}}, 401, 401, 401, 401, 200),
        ({"requiresAny": {"requirements": [P, MISSING]}}, 200, 401, 200, 200, 200),
        ({"requires_any": {"requirements": [P, FAILED]}}, 200, 200, 200, 200, 200),
        ({"requiresAny": {"requirements": [MISSING]}}, 200, 401, 200, 200, 200),
        (MISSING, 200, 401, 200, 200, 200),
        (FAILED, 200, 200, 200, 200, 200),
        ({"requiresAll": {"requirements": [MISSING, Q]}}, 401, 401, 401, 200, 200),
    ],
    ids=str,
)
def test_requirements(requires: dict[str, Any], good: int, bad: int, none: int, other: int, both: int) -> None:
    config, q = two(requires), token(TWO, iss="q")
    assert ask(config, token()).status == good
    assert ask(config, token(TWO)).status == bad
    assert ask(config, None).status == none
    assert ask(config, None, "/", **{"x-q": q}).status == other
    assert ask(config, token(), "/", **{"x-q": q}).status == both


def test_a_token_that_was_good_before_expires() -> None:
    """What is remembered of a token is not remembered for longer than it is good."""

    keys = KeySet(jwks(jwk(ONE)))
    sent = token(exp=1000, nbf=500)
    for now in (495.0, 999.0, 1009.0):
        assert keys.verify(sent, 10.0, now).claims["exp"] == 1000
    for now, text in ((1010.0, "Jwt is expired"), (489.0, "Jwt not yet valid")):
        with pytest.raises(TokenError, match=text):
            keys.verify(sent, 10.0, now)
    with pytest.raises(TokenError, match="no valid time in exp"):
        keys.verify(_odd_times(), 10.0, 0.0)


def _odd_times() -> str:
    return jwt.api_jws.encode(json.dumps({"exp": "soon"}).encode(), ONE, "RS256")


# ---- keys elsewhere


class KeyServer:
    """Answers with a set of keys, and counts how often."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.text = jwks(*keys)
        self.asked: list[Request] = []
        self.is_down = False

    async def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        await asyncio.sleep(0)
        if self.is_down:
            raise Down("connect_refused")
        return Response(200, self.text)


def remote(server: KeyServer) -> World:
    source = {
        "httpUri": {"uri": "https://keys.example/a/jwks?v=1", "cluster": "keys", "timeout": "1s"},
        "cacheDuration": "60s",
    }
    config = settings({"localJwks": None, "remoteJwks": source})
    return World(shipped("jwt_authn", config), clusters={"keys": server})


async def statuses(world: World, *sent: str) -> list[int]:
    requests = [Request("GET", "/", {"authorization": f"Bearer {each}"}) for each in sent]
    return [(await world.send(request)).status for request in requests]


def test_remote_keys_are_fetched_once_and_kept() -> None:
    async def talk() -> None:
        server = KeyServer(jwk(ONE, "one"))
        world = remote(server)
        assert (await world.send(Request())).status == 401
        assert server.asked == []
        good = Request("GET", "/", {"authorization": f"Bearer {token()}"})
        results = await asyncio.gather(*(world.send(good) for _ in range(5)))
        assert [result.status for result in results] == [200] * 5
        (asked,) = server.asked
        assert (asked.path, asked.query, asked.headers["host"]) == ("/a/jwks", "v=1", "keys.example")
        await world.advance(59)
        assert await statuses(world, token()) == [200]
        assert len(server.asked) == 1
        await world.advance(2)
        assert await statuses(world, token(), token()) == [200, 200]
        assert len(server.asked) == 2

    asyncio.run(talk())


def test_a_new_key_is_found_before_the_set_is_old() -> None:
    async def talk() -> None:
        server = KeyServer(jwk(ONE, "one"))
        world = remote(server)
        assert await statuses(world, token(kid="one")) == [200]
        server.text = jwks(jwk(TWO, "two"))
        assert await statuses(world, token(TWO, kid="two")) == [401]  # it was fetched just now
        await world.advance(3)
        assert await statuses(world, token(TWO, kid="two"), token(kid="one")) == [200, 401]
        # Tokens with made-up keys do not make it ask each time.
        assert await statuses(world, *[token(TWO, kid=f"no {number}") for number in range(20)]) == [401] * 20
        assert len(server.asked) <= 3

    asyncio.run(talk())


def test_keys_that_cannot_be_had() -> None:
    async def talk() -> None:
        server = KeyServer(jwk(ONE))
        server.is_down = True
        world = remote(server)
        result = await world.send(Request("GET", "/", {"authorization": f"Bearer {token()}"}))
        assert (result.status, result.text) == (401, "Jwks remote fetch is failed")
        assert any("the keys of 'p' cannot be fetched" in line for line in result.log)
        asked = len(server.asked)
        assert await statuses(world, token()) == [401]
        assert len(server.asked) == asked
        server.is_down = False
        await world.advance(3)
        assert await statuses(world, token()) == [200]
        # Old keys are better than none.
        server.is_down = True
        await world.advance(100)
        assert await statuses(world, token(), token(TWO)) == [200, 401]
        server.is_down, server.text = False, "<html>"
        await world.advance(3)
        assert await statuses(world, token()) == [200]

    asyncio.run(talk())


def test_faults() -> None:
    rule = {"match": {"prefix": "/"}}
    config = {
        "providers": {
            "none": {},
            "both": {"localJwks": {"inlineString": "x"}, "remoteJwks": {}},
            "bad": {"localJwks": {"inlineString": "{}"}},
            "empty": {"localJwks": {"inlineString": jwks({"kty": "new"})}},
            "far": {"remoteJwks": {"httpUri": {"uri": "keys"}}},
        },
    }
    assert [fault.partition(": ")[0] for fault in problems("jwt_authn", config)] == [
        ".providers.none",
        ".providers.both",
        ".providers.bad.localJwks.inlineString",
        ".providers.empty.localJwks.inlineString",
        ".providers.far.remoteJwks.httpUri.uri",
        ".providers.far.remoteJwks.httpUri.cluster",
    ]
    rules = [
        {**rule, "requires": {"providerName": "q"}},
        {**rule, "requires": {}},
        {**rule, "requires": {"requiresAny": {"requirements": []}}},
        {"match": {"headers": []}, "requires": {"providerName": "p"}},
        {**rule, "requires": {"providerName": "p", "allowMissing": {}}},
    ]
    found = problems("jwt_authn", {**settings(), "rules": rules})
    assert [fault.partition(": ")[0] for fault in found] == [
        ".rules[0].requires.providerName",
        ".rules[1].requires",
        ".rules[2].requires.requiresAny.requirements",
        ".rules[3].match",
        ".rules[3].match.headers",
        ".rules[4].requires.allowMissing",
    ]


@pytest.mark.parametrize("kind", list(KINDS))
def test_whatever_the_library_raises_is_no_signature(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The libraries of the algorithms are extensions, and may panic."""

    def fails(*_: Any, **__: Any) -> Any:
        raise make(kind)

    keys = KeySet(jwks(jwk(ONE)))
    with monkeypatch.context() as patch:
        patch.setattr(jwt.PyJWS, "decode", fails)
        with pytest.raises(TokenError):
            keys.verify(token(), 0.0, time.time())
        assert ask(settings(), token()).status == 401
    with monkeypatch.context() as patch:
        patch.setattr(jwt, "PyJWK", fails)
        with pytest.raises(ValueError, match="cannot be read: "):
            KeySet(jwks(jwk(ONE)))
    assert keys.verify(token(), 0.0, time.time()).claims["iss"] == ISSUER
