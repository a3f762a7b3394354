"""Decides by the claims of a token that `jwt_authn` has verified, and tells the upstream some of them."""

from typing import Any

import msgspec

from pymosn.api import Exchange, Reply, StreamFilter


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """`headers`: claims by the header that gets them. `scopes`: all are needed. `one_of`: allowed values by claim."""

    provider: str
    headers: dict[str, str] = {}
    scopes: list[str] = []
    one_of: dict[str, list[str]] = {}


class JwtClaims(StreamFilter):
    """Answers 403 to requests whose token does not have the required claims. Must come after `jwt_authn`."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.config = config

    # In the same phase as jwt_authn: a filter's on_request runs before every filter's on_route.
    def on_route(self, exchange: Exchange) -> Reply | None:
        headers = exchange.request.headers
        for header in self.config.headers:
            headers.remove(header)  # it may only come from a token
        verified = exchange.state.get("jwt_authn")
        claims = verified.get(self.config.provider) if isinstance(verified, dict) else None
        if not isinstance(claims, dict):
            return Reply(403, "a token is required\n")
        if not self._is_allowed(claims):
            return Reply(403, "the token does not allow this\n")
        for header, claim in self.config.headers.items():
            value = claims.get(claim)
            if isinstance(value, bool) or not isinstance(value, (str, int)):
                continue  # absent, or of a kind that upstreams would not expect
            try:
                headers[header] = str(value)
            except ValueError:  # a claim may contain any character
                return Reply(403, f"the claim {claim} cannot be forwarded\n")
        return None

    def _is_allowed(self, claims: dict[str, Any]) -> bool:
        scope = claims.get("scope", "")  # RFC 8693 section 4.2
        granted = scope.split(" ") if isinstance(scope, str) else []
        if not all(needed in granted for needed in self.config.scopes):
            return False
        return all(claims.get(claim) in allowed for claim, allowed in self.config.one_of.items())
