"""Reports errors and warnings by path."""

from typing import Any

from pymosn.config.diagnostics import Diagnostics, Place, nearest


class Report:
    """Adds entries to the list with the location of the value, or of the nearest block around it."""

    def __init__(self, places: dict[str, Place], faults: Diagnostics) -> None:
        self._places = places
        self.faults = faults

    def error(self, path: str, message: str, value: Any = ..., suggestion: str | None = None) -> None:
        """Report an error at a path."""
        self.faults.error(self.place(path), path, message, value, suggestion)

    def warning(self, path: str, message: str, value: Any = ..., suggestion: str | None = None) -> None:
        """Report a warning at a path."""
        self.faults.warning(self.place(path), path, message, value, suggestion)

    def place(self, path: str) -> Place:
        """The location of a value, or of the nearest block around it if it is missing."""
        return nearest(self._places, path)

    def line(self, path: str) -> str:
        """The line of another value, for messages."""
        return f"line {self.place(path).line}"


class Seen:
    """Finds duplicates: the path of the first of equal keys."""

    def __init__(self) -> None:
        self._first: dict[Any, str] = {}

    def first(self, key: Any, path: str) -> str | None:
        """The path of an earlier `key`; None if it is new, and then recorded."""
        earlier = self._first.get(key)
        if earlier is None:
            self._first[key] = path
        return earlier
