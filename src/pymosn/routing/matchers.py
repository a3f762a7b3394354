"""Conditions on a request (key reference section 6.4)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from pymosn.api.exchange import Exchange
from pymosn.api.routing import RouteMatcher
from pymosn.api.variables import Variable, query_values
from pymosn.core.chars import TARGET, escape
from pymosn.core.headers import joined, lower_name, to_bytes, to_text
from pymosn.core.message import RequestHead
from pymosn.core.secrets import REDACTED, is_credential, is_secret_parameter
from pymosn.routing.regex import Regex, whole

#: The value of a `service` header match that accepts any service.
ANY_SERVICE: Final = ".*"
SLASH: Final[i64] = 47
#: The header that names the service of a call.
SERVICE: Final = "service"


def path_text(text: str) -> bytes:
    """A configured path, percent-encoded like request targets."""
    return escape(text.encode(), TARGET)


class AnyRequest(RouteMatcher):
    """Matches every request: a route without conditions."""

    def matches(self, exchange: Exchange) -> bool:
        return True

    def text(self) -> str:
        return "every request"


class Prefix(RouteMatcher):
    """The path has a prefix, case-sensitively."""

    def __init__(self, prefix: str) -> None:
        self.prefix: bytes = path_text(prefix)
        self._is_root: bool = prefix == "/"

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        if self._is_root:
            # Includes the `*` of an OPTIONS request for the whole server, but no RPC requests, which have no path.
            return len(path) > 0
        return path.startswith(self.prefix)

    def text(self) -> str:
        return f"path prefix is {self.prefix.decode()}"


class FoldedPrefix(RouteMatcher):
    """The path has a prefix, in which ASCII letters are equal in either case."""

    def __init__(self, prefix: str, is_separated: bool = False) -> None:
        """`is_separated`: nothing or a slash must follow."""
        self.folded: bytes = path_text(prefix).lower()
        self._is_separated = is_separated

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path.lower()
        return path.startswith(self.folded) and (not self._is_separated or ends_segment(path, len(self.folded)))

    def text(self) -> str:
        what = "begins with the segments" if self._is_separated else "prefix is"
        return f"path {what} {self.folded.decode()} (ignoring case)"


class SeparatedPrefix(Prefix):
    """The path is a prefix, or continues with a slash after it."""

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        return path.startswith(self.prefix) and ends_segment(path, len(self.prefix))

    def text(self) -> str:
        return f"path begins with the segments {self.prefix.decode()}"


def ends_segment(path: bytes, end: i64) -> bool:
    """Whether a segment of `path` ends at the offset `end`, which is at most its length."""
    size: i64 = len(path)
    return end == size or path[end] == SLASH


class Path(RouteMatcher):
    """The path is equal to a text, ignoring case as in MOSN."""

    def __init__(self, path: str) -> None:
        self.path: bytes = path_text(path)
        self.folded: bytes = self.path.lower()

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        return len(path) == len(self.folded) and path.lower() == self.folded

    def text(self) -> str:
        return f"path is {self.path.decode()} (ignoring case)"


class ExactPath(Path):
    """The path is equal to a text."""

    def matches(self, exchange: Exchange) -> bool:
        return exchange.request.raw_path == self.path

    def text(self) -> str:
        return f"path is {self.path.decode()}"


class PathRegex(RouteMatcher):
    """A regular expression matches a part of the path, or all of it."""

    def __init__(self, pattern: str, is_whole: bool = False) -> None:
        """Raises PatternError."""
        self.regex = Regex(whole(pattern) if is_whole else pattern)
        self._shown: str = f"/{pattern}/ as a whole" if is_whole else f"/{pattern}/"

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        return len(path) > 0 and self.regex.found_in(path)

    def text(self) -> str:
        return f"path matches {self._shown}"


class Text:
    """A condition on a value: equal to a text, case-sensitively, or a part of it matches a regular expression."""

    def __init__(self, value: str, is_regex: bool) -> None:
        """Raises PatternError."""
        self._value = value
        self._regex: Regex | None = Regex(value) if is_regex else None

    def accepts(self, value: str) -> bool:
        """Whether `value` satisfies the condition."""
        regex = self._regex
        return value == self._value if regex is None else regex.found_in(to_bytes(value))

    def exact(self) -> str | None:
        """The only accepted value; None for a regular expression."""
        return self._value if self._regex is None else None

    def text(self, is_secret: bool = False) -> str:
        """A description, to follow the name of the value. `is_secret`: it must not show the value."""
        value = REDACTED if is_secret else self._value
        return f"is {value!r}" if self._regex is None else f"matches /{value}/"


def header_value(request: RequestHead, name: str) -> str | None:
    """The value of a request's header, where `service` of a gRPC call is the service in its path; several are joined."""
    if request.has_call_status and name == SERVICE:
        return request.service() or None
    return request.route_value(name)


class Header(RouteMatcher):
    """A header has a value; several fields with one name are joined with commas."""

    def __init__(self, name: str, value: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self.name = to_text(lower_name(name))
        self.expected = Text(value, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        value = header_value(exchange.request, self.name)
        return value is not None and self.expected.accepts(value)

    def text(self) -> str:
        return f"header {self.name} {self.expected.text(is_credential(self.name))}"

    def why_not(self, exchange: Exchange) -> str:
        value = header_value(exchange.request, self.name)
        shown = REDACTED if is_credential(self.name) else value
        found = "header is absent" if value is None else f"value is {shown!r}"
        return f"does not match: {self.text()} ({found})"


def service_of(request: RequestHead) -> str:
    """The service that a call names, by a header or, with gRPC, by its path; empty without one."""
    return request.service() if request.has_call_status else request.route_value(SERVICE) or ""


class Service(RouteMatcher):
    """MOSN's fast path for RPC: the single header `service` has this value, or is not empty if the value is `.*`."""

    def __init__(self, value: str) -> None:
        self.value = value

    def matches(self, exchange: Exchange) -> bool:
        service = service_of(exchange.request)
        return bool(service) and self.value in (service, ANY_SERVICE)

    def text(self) -> str:
        return "header service is present" if self.value == ANY_SERVICE else f"header service is {self.value!r}"


class Method(RouteMatcher):
    """The request method; configurations specify it as a header named `method`."""

    def __init__(self, method: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self._expected = Text(method, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        return self._expected.accepts(exchange.request.method)

    def text(self) -> str:
        return f"method {self._expected.text()}"


class Upgrade(RouteMatcher):
    """The protocol that the client asks to upgrade to, and may; configurations specify it as a header named `upgrade`."""

    def __init__(self, protocol: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self._expected = Text(protocol, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        protocol = exchange.request.upgrade
        return len(protocol) > 0 and self._expected.accepts(protocol)

    def text(self) -> str:
        return f"header upgrade {self._expected.text()}"


def header_condition(name: str, value: str, is_regex: bool = False) -> RouteMatcher:
    """A header match of the configuration, where `method` is the request method. Raises PatternError."""
    if name.lower() == "upgrade":
        return Upgrade(value if is_regex else value.lower(), is_regex)
    return Method(value, is_regex) if name.lower() == "method" else Header(name, value, is_regex)


class QueryParameter(RouteMatcher):
    """A query parameter has a value, after decoding; several parameters with one name are joined with commas."""

    def __init__(self, name: str, value: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self._name = name
        self._expected = Text(value, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        value = joined(query_values(exchange.request.raw_query, self._name))
        return value is not None and self._expected.accepts(value)

    def text(self) -> str:
        return f"query parameter {self._name} {self._expected.text(is_secret_parameter(self._name))}"


class VariableTest:
    """One item of a chain of variables; `is_or`: how it is joined with the next."""

    def __init__(self, name: str, value: str, is_regex: bool, is_or: bool) -> None:
        """Raises PatternError."""
        self.variable = Variable(name)
        self.expected = Text(value, is_regex)
        self.is_or = is_or

    def accepts(self, exchange: Exchange) -> bool:
        """Whether the variable has an accepted value."""
        value = self.variable.value(exchange)
        return value is not None and self.expected.accepts(value)

    def found_in(self, exchange: Exchange) -> str | None:
        """The value of the variable, to be shown."""
        value = self.variable.value(exchange)
        return REDACTED if value and is_credential(self.variable.name) else value


class Variables(RouteMatcher):
    """A chain of tests joined with `and` and `or`, evaluated from left to right without precedence as in MOSN."""

    def __init__(self, tests: list[VariableTest]) -> None:
        self._tests = tests

    def matches(self, exchange: Exchange) -> bool:
        result = True
        is_or = False
        for test in self._tests:
            if is_or:
                result = result or test.accepts(exchange)
            else:
                result = result and test.accepts(exchange)
            is_or = test.is_or
        return result

    def text(self) -> str:
        parts: list[str] = []
        for test in self._tests:
            parts.append(f"variable {test.variable.name} {test.expected.text(is_credential(test.variable.name))}")
            parts.append("or" if test.is_or else "and")
        return " ".join(parts[:-1])

    def why_not(self, exchange: Exchange) -> str:
        values = ", ".join([f"{test.variable.name} is {test.found_in(exchange)!r}" for test in self._tests])
        return f"does not match: {self.text()} ({values})"


class AllOf(RouteMatcher):
    """All of several conditions, evaluated in order."""

    def __init__(self, matchers: list[RouteMatcher]) -> None:
        self.matchers = matchers

    def matches(self, exchange: Exchange) -> bool:
        for matcher in self.matchers:  # noqa: SIM110 - a generator would be an object per request
            if not matcher.matches(exchange):
                return False
        return True

    def text(self) -> str:
        return " and ".join([matcher.text() for matcher in self.matchers])

    def why_not(self, exchange: Exchange) -> str:
        for matcher in self.matchers:
            if not matcher.matches(exchange):
                return matcher.why_not(exchange)
        return super().why_not(exchange)
