"""Collecting what is wrong with a filter's settings, and the checks that several filters need."""

from __future__ import annotations

from pymosn.core.headers import is_token, to_bytes
from pymosn.filters.stream.python import FilterConfigError
from pymosn.routing.regex import PatternError, Regex


class Problems:
    """What is wrong, by its path in the settings (`.rules[0].name`); raised all at once by `end`."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []

    def add(self, path: str, text: str) -> None:
        """One more."""
        self._found.append((path, text))

    def end(self) -> None:
        """Raises FilterConfigError when there was one."""
        if self._found:
            raise FilterConfigError(self._found)

    def status(self, path: str, status: int, lowest: int = 200) -> None:
        """A status that a reply may have."""
        if not lowest <= status <= 599:
            self.add(path, f"must be a status code from {lowest} to 599, not {status}")

    def header(self, path: str, name: str) -> None:
        """The name of a header field."""
        if not is_token(to_bytes(name)):
            self.add(path, f"not a header name: {name!r}" if name else "the name of a header is missing")

    def regex(self, path: str, pattern: str) -> Regex | None:
        """A regular expression that must match the whole of a text, as in Envoy."""
        try:
            Regex(pattern)  # by itself: in the group below, brackets that do not match might
            return Regex(f"\\A(?:{pattern})\\z")
        except PatternError as error:
            self.add(path, f"not a regular expression (RE2): {error}")
            return None
