"""Conditions with Envoy's semantics: on texts, header fields, the query, and a share of the requests.

They differ from those of `matchers`, which are MOSN's: a regular expression has to match the whole text, a missing header
fulfills nothing but a condition on its absence, and a query is compared as the client has written it.
"""

from __future__ import annotations

import random
from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.grpc import is_grpc
from pymosn.api.routing import RouteMatcher
from pymosn.core.headers import lower_name, to_bytes, to_text
from pymosn.core.message import CONNECT, RequestHead
from pymosn.core.secrets import REDACTED, is_credential, is_secret_parameter
from pymosn.routing.regex import Regex, whole

#: Names of parts of a request that conditions on headers may use.
PSEUDO: Final = (":authority", ":method", ":path", ":scheme")
#: Fields that routes do not see, because they concern one hop.
UNSEEN: Final = ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding")

#: Headers whose fields Envoy joins with commas when it reads a request; of all others, one field has to fulfill a condition.
JOINED: Final = frozenset(
    (
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-type",
        "expect",
        "grpc-accept-encoding",
        "grpc-timeout",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
        "x-client-trace-id",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-request-id",
    )
)


def fold(text: str) -> str:
    """`text` with ASCII letters in lower case. `str.lower` makes other characters equal to them (the Kelvin sign, K)."""
    return to_text(to_bytes(text).lower())


class TextTest:
    """A condition on a text."""

    def accepts(self, text: str) -> bool:
        """Whether `text` fulfills it."""
        raise NotImplementedError

    def exact(self) -> str | None:
        """The only accepted text; None if there may be others."""
        return None

    def text(self, is_secret: bool) -> str:
        """The condition in words, to follow the name of the text. `is_secret`: it must not show the expected text."""
        raise NotImplementedError


class Exact(TextTest):
    """Equal to a text."""

    def __init__(self, expected: str, folds: bool = False) -> None:
        """`folds`: ASCII letters are equal in either case."""
        self._expected: str = fold(expected) if folds else expected
        self._folds = folds

    def accepts(self, text: str) -> bool:
        return (fold(text) if self._folds else text) == self._expected

    def exact(self) -> str | None:
        return None if self._folds else self._expected

    def text(self, is_secret: bool) -> str:
        return f"is {REDACTED if is_secret else self._expected!r}"


class Part(TextTest):
    """Begins with a text, ends with it, or contains it."""

    def __init__(self, kind: str, expected: str, folds: bool = False) -> None:
        """`kind`: prefix, suffix or contains. `folds`: ASCII letters are equal in either case."""
        self._kind = kind
        self._expected: str = fold(expected) if folds else expected
        self._folds = folds

    def accepts(self, text: str) -> bool:
        if self._folds:
            text = fold(text)
        if self._kind == "prefix":
            return text.startswith(self._expected)
        return text.endswith(self._expected) if self._kind == "suffix" else self._expected in text

    def text(self, is_secret: bool) -> str:
        words = {"prefix": "begins with", "suffix": "ends with"}.get(self._kind, "contains")
        return f"{words} {REDACTED if is_secret else self._expected!r}"


class WholeRegex(TextTest):
    """A regular expression matches the whole text."""

    def __init__(self, pattern: str, folds: bool = False) -> None:
        """Raises PatternError. `folds`: ASCII letters are equal in either case."""
        self._pattern = pattern
        self._regex = Regex(whole(f"(?i){pattern}" if folds else pattern))

    def accepts(self, text: str) -> bool:
        return self._regex.found_in(to_bytes(text))

    def text(self, is_secret: bool) -> str:
        return f"matches /{REDACTED if is_secret else self._pattern}/ as a whole"


class InRange(TextTest):
    """A decimal integer in a half-open range."""

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._end = end

    def accepts(self, text: str) -> bool:
        digits = text[1:] if text.startswith(("-", "+")) else text
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            return False
        return self._start <= int(text) < self._end

    def text(self, is_secret: bool) -> str:
        return f"is a number from {self._start} to {self._end - 1}"


def part_of(request: RequestHead, name: str) -> str | None:
    """The value of a header, whose fields are joined with commas, or of one of `PSEUDO`; None without it."""
    if not name.startswith(":"):
        if name == "upgrade":
            return request.upgrade or None
        return request.headers.joined(name)
    if name == ":path":
        return to_text(request.raw_target())
    if name == ":method":
        return request.method
    return request.host if name == ":authority" else request.scheme


def values_of(request: RequestHead, name: str) -> list[str]:
    """What conditions compare: the value of each field of a name, all fields of one in `JOINED`, or a part in `PSEUDO`."""
    if name in JOINED or name == "upgrade" or name.startswith(":"):
        value = part_of(request, name)
        return [] if value is None else [value]
    return request.headers.get_all(name)


class HeaderTest(RouteMatcher):
    """One of the values of a header, or of a part of the request, fulfills a condition."""

    def __init__(self, name: str, test: TextTest, inverts: bool = False, missing_is_empty: bool = False) -> None:
        """`inverts`: none must fulfill it. `missing_is_empty`: otherwise a missing header never matches."""
        self.name = to_text(lower_name(name))
        self.test = test
        self._inverts = inverts
        self._missing_is_empty = missing_is_empty

    def matches(self, exchange: Exchange) -> bool:
        values = values_of(exchange.request, self.name)
        if not values:
            return self._missing_is_empty and self.test.accepts("") is not self._inverts
        for value in values:
            if self.test.accepts(value):
                return not self._inverts
        return self._inverts

    def exact(self) -> str | None:
        """The only value that matches; None if there may be others, or none at all."""
        return None if self._inverts or self._missing_is_empty else self.test.exact()

    def text(self) -> str:
        words = self.test.text(is_credential(self.name))
        return f"header {self.name} {'has no value that ' if self._inverts else ''}{words}"

    def why_not(self, exchange: Exchange) -> str:
        values = values_of(exchange.request, self.name)
        shown = repr(REDACTED) if is_credential(self.name) else " and ".join([repr(value) for value in values])
        found = f"value is {shown}" if values else "header is absent"
        return f"does not match: {self.text()} ({found})"


class HeaderPresence(RouteMatcher):
    """A header exists, or does not."""

    def __init__(self, name: str, is_expected: bool) -> None:
        self._name = to_text(lower_name(name))
        self._is_expected = is_expected

    def matches(self, exchange: Exchange) -> bool:
        return (part_of(exchange.request, self._name) is not None) is self._is_expected

    def text(self) -> str:
        return f"header {self._name} is {'present' if self._is_expected else 'absent'}"


class Constant(RouteMatcher):
    """The same for every request: a condition that its settings leave no choice."""

    def __init__(self, result: bool) -> None:
        self._result = result

    def matches(self, exchange: Exchange) -> bool:
        return self._result

    def text(self) -> str:
        return "every request" if self._result else "no request"


def query_value(query: bytes | None, name: bytes) -> bytes | None:
    """The first value of a parameter as it is in the query, without decoding; None without the parameter."""
    if query is None:
        return None
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if key == name:
            return value
    return None


class QueryTest(RouteMatcher):
    """The first value of a query parameter, as it is in the query, fulfills a condition; without one it has to exist."""

    def __init__(self, name: str, test: TextTest | None, is_expected: bool = True) -> None:
        """`is_expected`: with a `test` always true; else whether the parameter must exist, or be absent."""
        self._name = name
        self._raw_name: bytes = to_bytes(name)
        self._test = test
        self._is_expected = is_expected

    def matches(self, exchange: Exchange) -> bool:
        value = query_value(exchange.request.raw_query, self._raw_name)
        if value is None or self._test is None:
            return (value is not None) is self._is_expected and (self._test is None or value is not None)
        return self._test.accepts(to_text(value))

    def text(self) -> str:
        if self._test is None:
            return f"query parameter {self._name} is {'present' if self._is_expected else 'absent'}"
        return f"query parameter {self._name} {self._test.text(is_secret_parameter(self._name))}"


class Share(RouteMatcher):
    """A percentage of the requests. A request has one random number for all routes, as in Envoy."""

    def __init__(self, percent: float) -> None:
        self._percent = percent

    def matches(self, exchange: Exchange) -> bool:
        if exchange.draw < 0.0:
            exchange.draw = random.random() * 100.0
        return exchange.draw < self._percent

    def text(self) -> str:
        return f"{self._percent:g} % of the requests"


class GrpcRequests(RouteMatcher):
    """The content type is that of gRPC."""

    def matches(self, exchange: Exchange) -> bool:
        value = exchange.request.headers.get_raw(b"content-type")
        return value is not None and is_grpc(value)

    def text(self) -> str:
        return "gRPC request"


class CertificateTest(RouteMatcher):
    """Whether the client has presented a certificate, and a configured CA has signed it. None: it does not matter."""

    def __init__(self, is_presented: bool | None, is_verified: bool | None) -> None:
        self._is_presented = is_presented
        self._is_verified = is_verified

    def matches(self, exchange: Exchange) -> bool:
        tls = exchange.connection.tls
        certificate = None if tls is None else tls.certificate
        if self._is_presented is not None and self._is_presented != (certificate is not None):
            return False
        is_verified = certificate is not None and certificate.is_verified
        return self._is_verified is None or self._is_verified == is_verified

    def text(self) -> str:
        parts = []
        if self._is_presented is not None:
            parts.append("client certificate presented" if self._is_presented else "no client certificate presented")
        if self._is_verified is not None:
            parts.append("client certificate verified" if self._is_verified else "no verified client certificate")
        return ", ".join(parts)


class ConnectRequests(RouteMatcher):
    """The method is CONNECT."""

    def matches(self, exchange: Exchange) -> bool:
        return exchange.request.raw_method == CONNECT

    def text(self) -> str:
        return "CONNECT request"
