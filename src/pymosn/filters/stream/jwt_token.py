"""Tokens in the compact form of RFC 7515: three parts, read strictly, before anything is done with them.

The library that verifies signatures reads leniently (characters that are not base64url, repeated members, NaN), and so do
upstreams that read a forwarded token again. What two readers could understand differently is rejected here.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from pymosn.core.json_text import parse_json

#: A part without padding (RFC 7515 section 2).
_PART: Final = re.compile(r"[A-Za-z0-9_-]*")
#: The members of a header that change how the rest is read (RFC 7515 section 4.1.11, RFC 7516 section 4.1.3, RFC 7797).
_NOT_SUPPORTED: Final = ("crit", "zip", "b64")
#: Seconds since 1970 that a time may have; more is an error of the issuer.
_LATEST: Final = 1e12

_FORM: Final = "Jwt is not in the form of Header.Payload.Signature"


class TokenError(Exception):
    """A token is invalid; the text is the reason, for the client."""


class Token:
    """A token whose signature has not been verified: header and claims are what it says about itself.

    `payload` is the second part as received; `key_id` is empty if the header names no key.
    """

    def __init__(self, text: str) -> None:
        """Raises TokenError."""
        parts = text.split(".")
        if len(parts) != 3 or not all(map(_PART.fullmatch, parts)):
            raise TokenError(_FORM)
        self.text = text
        self.payload = parts[1]
        header = _object(parts[0], "Jwt header is an invalid JSON")
        self.claims = _object(parts[1], "Jwt payload is an invalid JSON")
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str):
            raise TokenError("Jwt header [alg] field is missing or not a string")
        if not isinstance(key_id, str):
            raise TokenError("Jwt header [kid] field is not a string")
        if any(name in header for name in _NOT_SUPPORTED):
            raise TokenError("Jwt header has an extension that is not supported")
        self.algorithm = algorithm
        self.key_id = key_id
        _check_claims(self.claims)


def _object(part: str, problem: str) -> dict[str, Any]:
    """The JSON object in a part of a token. Raises TokenError."""
    try:
        value = parse_json(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8"))
    except ValueError:  # of base64, UTF-8 or JSON
        raise TokenError(problem) from None
    if not isinstance(value, dict):
        raise TokenError(problem)
    return value


def _check_claims(claims: dict[str, Any]) -> None:
    """The types of the registered claims that decide about access (RFC 7519 section 4.1). Raises TokenError."""
    for name in ("exp", "nbf", "iat"):
        if name in claims and not _is_time(claims[name]):
            raise TokenError(f"Jwt has no valid time in {name}")
    audiences = claims.get("aud", [])
    listed = audiences if isinstance(audiences, list) else [audiences]
    if not all(isinstance(audience, str) for audience in listed):
        raise TokenError("Jwt has no valid audience in aud")
    if not isinstance(claims.get("iss", ""), str):
        raise TokenError("Jwt has no valid issuer in iss")


def _is_time(value: object) -> bool:
    """Whether a value is a NumericDate (RFC 7519 section 2)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LATEST
