"""Collects errors in a filter's settings; has the checks that several filters need."""

from __future__ import annotations

from collections.abc import Collection

from pymosn.core.chars import QUERY, all_in
from pymosn.core.headers import FRAMING, is_token, lower_name, to_bytes
from pymosn.core.uri import has_dot_segment, parse_target
from pymosn.filters.errors import FilterConfigError
from pymosn.routing.regex import PatternError, Regex


class Problems:
    """Errors by their path in the settings (`.rules[0].name`); `end` raises all of them at once."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, path: str, text: str) -> None:
        """Adds an error."""
        self._found.append((path, text))

    def require(self, condition: object, path: str, text: str) -> None:
        """Adds an error unless `condition` is true."""
        if not condition:
            self.add(path, text)

    def end(self) -> None:
        """Raises FilterConfigError if there are errors."""
        if self._found:
            raise FilterConfigError(self._found)

    def one_of(self, path: str, value: str, choices: Collection[str]) -> None:
        """Checks that a value is one of several."""
        self.require(value in choices, path, f"must be one of {', '.join(choices)}, not {value!r}")

    def status(self, path: str, status: int, lowest: int = 200) -> None:
        """Checks the status of a reply."""
        self.require(lowest <= status <= 599, path, f"must be a status code from {lowest} to 599, not {status}")

    def header(self, path: str, name: str) -> None:
        """Checks the name of a header."""
        text = f"not a header name: {name!r}" if name else "the name of a header is missing"
        self.require(is_token(to_bytes(name)), path, text)

    def changed_header(self, path: str, name: str) -> None:
        """Checks the name of a header that a filter sets or removes."""
        self.header(path, name)
        text = f"{name} is managed by the proxy and cannot be changed"
        self.require(lower_name(name) not in FRAMING | {b"host"}, path, text)

    def headers(self, path: str, names: list[str]) -> None:
        """Checks a list of header names."""
        for i, name in enumerate(names):
            self.header(f"{path}[{i}]", name)

    def changed_headers(self, path: str, names: list[str]) -> None:
        """Checks a list of the names of headers that a filter sets or removes."""
        for i, name in enumerate(names):
            self.changed_header(f"{path}[{i}]", name)

    def target(self, path: str, target: str) -> None:
        """Checks a path with an optional query that is sent to an upstream."""
        self.require(target.startswith("/"), path, f"must start with /, not {target!r}")
        text = f"must be percent-encoded ASCII without white space and control characters: {target!r}"
        self.require(all_in(to_bytes(target), QUERY), path, text)
        bare = parse_target(to_bytes(target)).path
        self.require(b"\\" not in bare, path, f"must not contain `\\` before the query: {target!r}")
        self.require(not has_dot_segment(bare), path, f"must not contain the segments `.` and `..`: {target!r}")

    def regex(self, path: str, pattern: str, folds: bool = False) -> Regex | None:
        """Compiles a regular expression for whole texts, as in Envoy. `folds`: it ignores case."""
        try:
            Regex(pattern)  # alone first: unbalanced brackets could be valid within the group below
            return Regex(f"{'(?i)' if folds else ''}\\A(?:{pattern})\\z")
        except PatternError as error:
            self.add(path, f"not a regular expression (RE2): {error}")
            return None
