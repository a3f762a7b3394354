"""What a peer's certificate must be, besides valid: one of some names, as in Envoy's matchers, or of some fingerprints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pymosn.api.tls import ClientCertificate
from pymosn.core.regex import compiled

#: Kinds of subject alternative names; the empty one matches each of them.
URI: Final = "uri"
DNS: Final = "dns"
IP: Final = "ip"
EMAIL: Final = "email"
KINDS: Final = ("", URI, DNS, IP, EMAIL)
#: How a pattern is compared.
EXACT: Final = "exact"
PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
CONTAINS: Final = "contains"
REGEX: Final = "regex"


class NamePattern(NamedTuple):
    """A pattern for one kind of name. `how`: such as EXACT; a regular expression (RE2) must match the whole name.

    An exact DNS name is compared without case, and with the wildcards of the certificate: `*.example.com` has one label.
    """

    kind: str
    how: str
    value: str
    ignores_case: bool = False


class PeerRules:
    """Which certificates are accepted; without rules all are. Immutable."""

    def __init__(self, uris: Iterable[str], names: Iterable[NamePattern], hashes: Iterable[str]) -> None:
        """`uris`: it must have one of them, without case. `names`: one of its names must match. `hashes`: it must have one
        of these fingerprints (SHA-256, in lower-case hexadecimal). Empty ones demand nothing.

        Raises PatternError for an invalid regular expression.
        """
        self._uris = frozenset([uri.lower() for uri in uris])
        self._checks = [_Check(pattern) for pattern in names]
        self._hashes = frozenset(hashes)

    def accepts(self, certificate: ClientCertificate) -> bool:
        """Whether a certificate, which is valid, fulfils all rules."""
        if self._hashes and certificate.fingerprint not in self._hashes:
            return False
        if self._uris and not any(uri.lower() in self._uris for uri in certificate.uris):
            return False
        return not self._checks or self._has_name(certificate)

    def _has_name(self, certificate: ClientCertificate) -> bool:
        for check in self._checks:
            for kind, names in (
                (URI, certificate.uris),
                (DNS, certificate.dns_names),
                (IP, certificate.ips),
                (EMAIL, certificate.emails),
            ):
                if check.kind in ("", kind) and any(check.matches(name) for name in names):
                    return True
        return False


class _Check:
    """One pattern, compiled."""

    def __init__(self, pattern: NamePattern) -> None:
        self.kind = pattern.kind
        self._how = pattern.how
        self._is_name = pattern.kind == DNS and pattern.how == EXACT
        self._ignores_case = pattern.ignores_case or self._is_name
        self._value = pattern.value.lower() if self._ignores_case else pattern.value
        self._regex: Any = None
        if pattern.how == REGEX:
            self._regex = compiled(f"(?i:{pattern.value})" if pattern.ignores_case else pattern.value)

    def matches(self, name: str) -> bool:
        """Whether it matches one name of a certificate."""
        text = name.lower() if self._ignores_case else name
        value = self._value
        how = self._how
        if how == EXACT:
            return text == value or (self._is_name and _covers(text, value))
        if how == PREFIX:
            return text.startswith(value)
        if how == SUFFIX:
            return text.endswith(value)
        if how == CONTAINS:
            return value in text
        return self._regex.fullmatch(name.encode()) is not None


def _covers(pattern: str, name: str) -> bool:
    """Whether a wildcard of a certificate covers a name: `*.example.com` has exactly one more label."""
    if not pattern.startswith("*."):
        return False
    label, dot, rest = name.partition(".")
    return bool(label and dot) and rest == pattern[2:]
