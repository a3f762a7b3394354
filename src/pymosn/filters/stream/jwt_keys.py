"""Key sets (RFC 7517), and the verification of tokens (RFC 7519) with them, by PyJWT."""

from __future__ import annotations

import json
from typing import Any, Final

#: Algorithms by type of key, for keys that name none. The algorithm in a token is never trusted alone.
_BY_KIND: Final[dict[str, tuple[str, ...]]] = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "secp256k1": ("ES256K",),
    "Ed25519": ("EdDSA",),
    "Ed448": ("EdDSA",),
    "oct": ("HS256", "HS384", "HS512"),
}
#: Number of verified tokens that are cached per key set.
REMEMBERED: Final = 1024


class TokenError(Exception):
    """A token is invalid; the text is the reason, for the client."""


class UnknownKey(TokenError):
    """The token names a key that is not in the set; a newer set may have it."""


class _Key:
    """One key. Raises ValueError if it cannot be used."""

    def __init__(self, jwk: Any) -> None:
        import jwt

        if not isinstance(jwk, dict):
            raise ValueError("a key must be an object")
        self.id = str(jwk.get("kid", ""))
        kind = str(jwk.get("crv") or jwk.get("kty"))
        named = jwk.get("alg")
        self.algorithms = [name for name in _BY_KIND.get(kind, ()) if named in (None, name)]
        if not self.algorithms or jwk.get("use", "sig") != "sig":
            raise ValueError(f"not a supported signature key: {kind}, {named}")
        try:
            self.key: Any = jwt.PyJWK(jwk, algorithm=self.algorithms[0]).key
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ValueError(f"key {self.id!r} cannot be read: {error}") from None


class KeySet:
    """The keys of one provider."""

    def __init__(self, text: str | bytes) -> None:
        """`text`: a JWKS; unsupported keys are skipped. Raises ValueError if none is left."""
        value = json.loads(text)
        keys = value.get("keys") if isinstance(value, dict) else None
        if not isinstance(keys, list):
            raise ValueError('a JWKS must be an object with an array "keys"')
        self._keys: list[_Key] = []
        problems: list[str] = []
        for jwk in keys:
            try:
                self._keys.append(_Key(jwk))
            except ValueError as error:
                problems.append(str(error))
        if not self._keys:
            raise ValueError("; ".join(problems) or "no keys")
        self._verified: dict[str, dict[str, Any]] = {}

    def verify(self, token: str, leeway: float, now: float) -> dict[str, Any]:
        """The claims of a token with a valid signature and valid times. `now`: seconds since 1970. Raises TokenError."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._verify(token)
            if len(self._verified) >= REMEMBERED:
                self._verified.clear()
            self._verified[token] = claims
        _check_times(claims, leeway, now)
        return claims

    def _verify(self, token: str) -> dict[str, Any]:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise TokenError("Jwt is not in the form of Header.Payload.Signature") from None
        key_id, algorithm = header.get("kid"), header.get("alg")
        named = [key for key in self._keys if not key_id or not key.id or key.id == key_id]
        if not named:
            raise UnknownKey("Jwks doesn't have key to match kid or alg from Jwt")
        candidates = [key for key in named if algorithm in key.algorithms]
        if not candidates:
            raise TokenError("Jwks doesn't have key to match kid or alg from Jwt")
        # The times are checked on each use of the token, other claims by the provider.
        options: Any = {f"verify_{claim}": False for claim in ("aud", "exp", "iat", "iss", "jti", "nbf", "sub")}
        for key in candidates:
            try:
                claims: dict[str, Any] = jwt.decode(token, key.key, [str(algorithm)], options=options)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, ValueError, TypeError):
                raise TokenError("Jwt cannot be read") from None
            return claims
        raise TokenError("Jwt verification fails")


def _check_times(claims: dict[str, Any], leeway: float, now: float) -> None:
    """`exp` and `nbf` (RFC 7519 sections 4.1.4 and 4.1.5). Raises TokenError."""
    for name in ("exp", "nbf"):
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TokenError(f"Jwt has no number in {name}")
        if name == "exp" and now >= value + leeway:
            raise TokenError("Jwt is expired")
        if name == "nbf" and now < value - leeway:
            raise TokenError("Jwt not yet valid")
