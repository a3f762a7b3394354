"""Reporting by path."""

from typing import Any

from pymosn.config.diagnostics import Diagnostics, Place, nearest


class Report:
    """Puts faults into the list under the place of the value, or of the nearest block around it."""

    def __init__(self, places: dict[str, Place], faults: Diagnostics) -> None:
        self._places = places
        self._faults = faults

    def error(self, path: str, message: str, value: Any = ..., suggestion: str | None = None) -> None:
        """Report an error at a path."""
        self._faults.error(self.place(path), path, message, value, suggestion)

    def warning(self, path: str, message: str, value: Any = ..., suggestion: str | None = None) -> None:
        """Report a warning at a path."""
        self._faults.warning(self.place(path), path, message, value, suggestion)

    def is_bad(self, path: str) -> bool:
        """True when a path, or something around it, could not be read."""
        return self._faults.is_bad(path)

    def has_bad_within(self, path: str) -> bool:
        """True when something below a path could not be read."""
        return self._faults.has_bad_within(path)

    def place(self, path: str) -> Place:
        """The place of a value; when the key is absent that of the block that should have it."""
        return nearest(self._places, path)

    def line(self, path: str) -> str:
        """Where something else stands, for the text of a message."""
        return f"line {self.place(path).line}"


class Seen:
    """Finds what occurs twice: the path of the first of equal keys."""

    def __init__(self) -> None:
        self._first: dict[Any, str] = {}

    def first(self, key: Any, path: str) -> str | None:
        """The path where `key` was seen before, None (and remembered) when it is new."""
        earlier = self._first.get(key)
        if earlier is None:
            self._first[key] = path
        return earlier
