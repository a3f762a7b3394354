"""Requires a valid JSON Web Token. Needs PyJWT (`pip install 'PyJWT[crypto]'`)."""

import jwt
import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`key`: a shared secret, or a public key in PEM. `claims`: maps claims to headers."""

    key: str
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    audience: str | None = None
    issuer: str | None = None
    leeway: float = 10.0
    claims: dict[str, str] = msgspec.field(default_factory=lambda: {"sub": "x-user"})


class JwtBearer(StreamFilter):
    """Answers 401 to requests without a valid bearer token, and adds claims of valid ones as headers."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        if not config.algorithms or "none" in config.algorithms:
            raise ValueError("algorithms must not be empty or contain `none`")
        self.config = config

    def on_request(self, exchange: Exchange) -> Reply | None:
        config = self.config
        headers = exchange.request.headers
        scheme, _, token = (headers.get("authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            return self._reject("")
        try:
            claims = jwt.decode(
                token.strip(),
                config.key,
                algorithms=config.algorithms,
                audience=config.audience,
                issuer=config.issuer,
                leeway=config.leeway,
                options={"require": ["exp"]},
            )
        except jwt.InvalidTokenError:
            return self._reject(', error="invalid_token"')
        for claim, header in config.claims.items():
            headers.remove(header)  # never trust a value from the client
            if claim in claims:
                headers[header] = str(claims[claim])
        return None

    def _reject(self, error: str) -> Reply:
        return Reply(401, "a valid token is needed\n", {"www-authenticate": f'Bearer realm="pymosn"{error}'})
