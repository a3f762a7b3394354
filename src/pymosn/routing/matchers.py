"""Conditions on a request (key reference section 6.4)."""

from __future__ import annotations

import re

from pymosn.api.routing import RouteMatcher
from pymosn.core.chars import TARGET
from pymosn.core.message import RequestHead


def path_text(text: str) -> bytes:
    """A path from the configuration in the form that requests have: what cannot stand bare in a target is escaped."""
    return b"".join(bytes([byte]) if TARGET[byte] else b"%%%02X" % byte for byte in text.encode())


class AnyRequest(RouteMatcher):
    """A route without a match: everything."""

    def matches(self, head: RequestHead) -> bool:
        return True


class Prefix(RouteMatcher):
    """The path begins with a text, case-sensitively."""

    def __init__(self, prefix: str) -> None:
        self._prefix: bytes = path_text(prefix)
        self._is_root: bool = prefix == "/"

    def matches(self, head: RequestHead) -> bool:
        if self._is_root:
            return head.raw_path[0] == 47
        return head.raw_path.startswith(self._prefix)


class Path(RouteMatcher):
    """The path is a text; MOSN ignores its case, and so do we."""

    def __init__(self, path: str) -> None:
        self._path: bytes = path_text(path).lower()

    def matches(self, head: RequestHead) -> bool:
        return len(head.raw_path) == len(self._path) and head.raw_path.lower() == self._path


class PathRegex(RouteMatcher):
    """A regular expression is found anywhere in the path."""

    def __init__(self, pattern: str) -> None:
        """Raises re.error."""
        self._search = re.compile(pattern)

    def matches(self, head: RequestHead) -> bool:
        return self._search.search(head.path) is not None


class Header(RouteMatcher):
    """A header has a value, compared case-sensitively; several fields of one name are joined with a comma."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name.lower()
        self._value = value

    def matches(self, head: RequestHead) -> bool:
        values = head.headers.get_all(self._name)
        return bool(values) and ",".join(values) == self._value


class HeaderRegex(RouteMatcher):
    """A regular expression is found anywhere in a header's value."""

    def __init__(self, name: str, pattern: str) -> None:
        """Raises re.error."""
        self._name = name.lower()
        self._search = re.compile(pattern)

    def matches(self, head: RequestHead) -> bool:
        values = head.headers.get_all(self._name)
        return bool(values) and self._search.search(",".join(values)) is not None


class Method(RouteMatcher):
    """The request method; configurations write it as a header named `method`."""

    def __init__(self, method: str) -> None:
        self._method: bytes = method.encode()

    def matches(self, head: RequestHead) -> bool:
        return head.raw_method == self._method


class MethodRegex(RouteMatcher):
    """A regular expression is found in the request method."""

    def __init__(self, pattern: str) -> None:
        """Raises re.error."""
        self._search = re.compile(pattern)

    def matches(self, head: RequestHead) -> bool:
        return self._search.search(head.method) is not None


class AllOf(RouteMatcher):
    """Every one of several conditions, tried in order."""

    def __init__(self, matchers: list[RouteMatcher]) -> None:
        self._matchers = matchers

    def matches(self, head: RequestHead) -> bool:
        for matcher in self._matchers:  # noqa: SIM110 - a generator would be an object per request
            if not matcher.matches(head):
                return False
        return True
