"""Key sets (RFC 7517), and the verification of tokens (RFC 7519) with them, by PyJWT."""

from __future__ import annotations

from typing import Any, Final

from pymosn.core.errors import type_name
from pymosn.core.json_text import parse_json
from pymosn.filters.stream.jwt_token import Token, TokenError

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


class UnknownKey(TokenError):
    """The token names a key that is not in the set; a newer set may have it."""


class _Key:
    """One key. Raises ValueError if it cannot be used."""

    def __init__(self, jwk: Any) -> None:
        import jwt

        if not isinstance(jwk, dict):
            raise ValueError("a key must be an object")
        self.id = jwk.get("kid", "")
        if not isinstance(self.id, str):
            raise ValueError("the kid of a key must be a string")
        kind = str(jwk.get("crv") or jwk.get("kty"))
        named = jwk.get("alg")
        self.algorithms = [name for name in _BY_KIND.get(kind, ()) if named in (None, name)]
        if not self.algorithms or jwk.get("use", "sig") != "sig":
            raise ValueError(f"not a supported signature key: {kind}, {named}")
        try:
            key: Any = jwt.PyJWK(jwk, algorithm=self.algorithms[0]).key
            self._key: Any = key.public_key() if hasattr(key, "public_key") else key
        except BaseException as error:  # whatever the libraries let through, also a panic; its text may contain the key
            raise ValueError(f"key {self.id!r} cannot be read: {type_name(error)}") from None

    def has_signed(self, token: Token) -> bool:
        """Whether the signature of a token is valid, for an algorithm of this key."""
        import jwt

        try:
            jwt.PyJWS().decode(token.text, self._key, [token.algorithm])
        except BaseException:  # not only `PyJWTError`: the library of the algorithm has its own, and may panic
            return False
        return True


class KeySet:
    """The keys of one provider."""

    def __init__(self, text: str | bytes) -> None:
        """`text`: a JWKS; unsupported keys are skipped. Raises ValueError if none is left."""
        value = parse_json(text)
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
        self._verified: dict[str, Token] = {}

    def verify(self, text: str, leeway: float, now: float) -> Token:
        """A token with a valid signature and valid times. `now`: seconds since 1970. Raises TokenError."""
        token = self._verified.get(text)
        if token is None:
            token = Token(text)
            self._check_signature(token)
            if len(self._verified) >= REMEMBERED:
                self._verified.clear()
            self._verified[text] = token
        _check_times(token.claims, leeway, now)
        return token

    def _check_signature(self, token: Token) -> None:
        named = [key for key in self._keys if not token.key_id or not key.id or key.id == token.key_id]
        if not named:
            raise UnknownKey("Jwks doesn't have key to match kid or alg from Jwt")
        candidates = [key for key in named if token.algorithm in key.algorithms]
        if not candidates:
            raise TokenError("Jwks doesn't have key to match kid or alg from Jwt")
        if not any(key.has_signed(token) for key in candidates):
            raise TokenError("Jwt verification fails")


def _check_times(claims: dict[str, Any], leeway: float, now: float) -> None:
    """`exp` and `nbf` (RFC 7519 sections 4.1.4 and 4.1.5). Raises TokenError."""
    if "exp" in claims and now >= claims["exp"] + leeway:
        raise TokenError("Jwt is expired")
    if "nbf" in claims and now < claims["nbf"] - leeway:
        raise TokenError("Jwt not yet valid")
