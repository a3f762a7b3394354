"""Conditions on a request (key reference section 6.4)."""

from __future__ import annotations

from typing import Final

from pymosn.api.exchange import Exchange
from pymosn.api.routing import RouteMatcher
from pymosn.api.variables import Variable, query_argument
from pymosn.core.chars import TARGET
from pymosn.core.headers import lower_text, to_bytes
from pymosn.routing.regex import Regex

#: The value of a `service` header match that any service meets.
ANY_SERVICE: Final = ".*"


def path_text(text: str) -> bytes:
    """A path from the configuration in the form that requests have: what cannot stand bare in a target is escaped."""
    return b"".join(bytes([byte]) if TARGET[byte] else b"%%%02X" % byte for byte in text.encode())


class AnyRequest(RouteMatcher):
    """A route without a match: everything."""

    def matches(self, exchange: Exchange) -> bool:
        return True

    def text(self) -> str:
        return "every request"


class Prefix(RouteMatcher):
    """The path begins with a text, case-sensitively."""

    def __init__(self, prefix: str) -> None:
        self.prefix: bytes = path_text(prefix)
        self._is_root: bool = prefix == "/"

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        if self._is_root:
            # The `*` of an OPTIONS request for the whole server goes where every path goes; an RPC request has none.
            return len(path) > 0
        return path.startswith(self.prefix)

    def text(self) -> str:
        return f"the path begins with {self.prefix.decode()}"


class Path(RouteMatcher):
    """The path is a text; MOSN ignores its case, and so do we."""

    def __init__(self, path: str) -> None:
        self.path: bytes = path_text(path)
        self.folded: bytes = self.path.lower()

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        return len(path) == len(self.folded) and path.lower() == self.folded

    def text(self) -> str:
        return f"the path is {self.path.decode()} in any case"


class PathRegex(RouteMatcher):
    """A regular expression is found anywhere in the path."""

    def __init__(self, pattern: str) -> None:
        """Raises PatternError."""
        self.regex = Regex(pattern)

    def matches(self, exchange: Exchange) -> bool:
        path = exchange.request.raw_path
        return len(path) > 0 and self.regex.found_in(path)

    def text(self) -> str:
        return f"/{self.regex.pattern}/ is found in the path"


class Text:
    """What a value is compared with: itself, case-sensitively, or a regular expression found anywhere in it."""

    def __init__(self, value: str, is_regex: bool) -> None:
        """Raises PatternError."""
        self._value = value
        self._regex: Regex | None = Regex(value) if is_regex else None

    def accepts(self, value: str) -> bool:
        """Whether a value is as wanted."""
        regex = self._regex
        return value == self._value if regex is None else regex.found_in(to_bytes(value))

    def exact(self) -> str | None:
        """The one value that is as wanted; None for a regular expression."""
        return self._value if self._regex is None else None

    def text(self) -> str:
        """In words, to follow the name of what is compared."""
        return f"is {self._value!r}" if self._regex is None else f"matches /{self._value}/"


class Header(RouteMatcher):
    """A header has a value; several fields of one name are joined with a comma."""

    def __init__(self, name: str, value: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self.name = lower_text(name)
        self.wanted = Text(value, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        values = exchange.request.headers.get_all(self.name)
        return bool(values) and self.wanted.accepts(",".join(values))

    def text(self) -> str:
        return f"header {self.name} {self.wanted.text()}"

    def why_not(self, exchange: Exchange) -> str:
        values = exchange.request.headers.get_all(self.name)
        found = f"it is {','.join(values)!r}" if values else "there is none"
        return f"not so: {self.text()} ({found})"


class Service(RouteMatcher):
    """MOSN's fast path for RPC: the one header `service` has this value, or is merely not empty where `.*` is wanted."""

    def __init__(self, value: str) -> None:
        self.value = value

    def matches(self, exchange: Exchange) -> bool:
        service = exchange.request.headers.get("service")
        return bool(service) and self.value in (service, ANY_SERVICE)

    def text(self) -> str:
        return "there is a header service" if self.value == ANY_SERVICE else f"header service is {self.value!r}"


class Method(RouteMatcher):
    """The request method; configurations write it as a header named `method`."""

    def __init__(self, method: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self._wanted = Text(method, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        return self._wanted.accepts(exchange.request.method)

    def text(self) -> str:
        return f"the method {self._wanted.text()}"


def header_condition(name: str, value: str, is_regex: bool = False) -> RouteMatcher:
    """A header match of the configuration, in which `method` stands for the request method. Raises PatternError."""
    return Method(value, is_regex) if name.lower() == "method" else Header(name, value, is_regex)


class QueryParameter(RouteMatcher):
    """A query parameter has a value, decoded; of several of one name the first counts."""

    def __init__(self, name: str, value: str, is_regex: bool = False) -> None:
        """Raises PatternError."""
        self._name = name
        self._wanted = Text(value, is_regex)

    def matches(self, exchange: Exchange) -> bool:
        value = query_argument(exchange.request.raw_query, self._name)
        return value is not None and self._wanted.accepts(value)

    def text(self) -> str:
        return f"query parameter {self._name} {self._wanted.text()}"


class VariableTest:
    """One item of a chain of variables; `is_or`: how it is joined to the next."""

    def __init__(self, name: str, value: str, is_regex: bool, is_or: bool) -> None:
        """Raises PatternError."""
        self.variable = Variable(name)
        self.wanted = Text(value, is_regex)
        self.is_or = is_or

    def accepts(self, exchange: Exchange) -> bool:
        """Whether the variable has a value, and the right one."""
        value = self.variable.value(exchange)
        return value is not None and self.wanted.accepts(value)


class Variables(RouteMatcher):
    """A chain of tests, joined with `and` and `or` from left to right without precedence, as in MOSN."""

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
            parts.append(f"variable {test.variable.name} {test.wanted.text()}")
            parts.append("or" if test.is_or else "and")
        return " ".join(parts[:-1])

    def why_not(self, exchange: Exchange) -> str:
        values = ", ".join([f"{test.variable.name} is {test.variable.value(exchange)!r}" for test in self._tests])
        return f"not so: {self.text()} ({values})"


class AllOf(RouteMatcher):
    """Every one of several conditions, tried in order."""

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
