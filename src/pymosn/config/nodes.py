"""Values with their places: what the JSON and the YAML parser make, and what the schema is read from."""

from typing import Any, Final

Scalar = str | int | float | bool | None

# Deeper nesting than any configuration has; it keeps recursion away from the interpreter's own limit.
DEEPEST: Final = 100
_INT64: Final = range(-(2**63), 2**64)


class Node:
    """A value and where it starts (line and column from 1).

    `value` is a scalar, a list of nodes for an array, or a list of entries (kind `object`).
    """

    __slots__ = ("column", "entries", "items", "kind", "line", "value")

    def __init__(self, kind: str, line: int, column: int, value: Scalar = None) -> None:
        self.kind = kind
        self.line = line
        self.column = column
        self.value = value
        self.items: list[Node] = []
        self.entries: list[Entry] = []

    def entry(self, key: str) -> "Entry | None":
        """The last entry of an object whose key is `key` in any case; an exact match is preferred."""
        found = None
        for entry in self.entries:
            if entry.key == key or (entry.key.lower() == key.lower() and (found is None or found.key != key)):
                found = entry
        return found


class Entry:
    """One key of an object, with its own place, and its value."""

    __slots__ = ("column", "key", "line", "node")

    def __init__(self, key: str, line: int, column: int, node: Node) -> None:
        self.key = key
        self.line = line
        self.column = column
        self.node = node


class ParseError(Exception):
    """The text is not JSON or not YAML. Carries the place, from 1; line 0 means the text as a whole."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Repeated:
    """A key that stands twice in one object."""

    __slots__ = ("column", "first_line", "key", "line")

    def __init__(self, key: str, line: int, column: int, first_line: int) -> None:
        self.key = key
        self.line = line
        self.column = column
        self.first_line = first_line


def kind_of(value: Scalar) -> str:
    """The word of JSON for a scalar's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string"


def plain(node: Node) -> Any:
    """The value without places, as `json.loads` gives it. Integers beyond 64 bits become floats, as in Go."""
    if node.kind == "object":
        return {entry.key: plain(entry.node) for entry in node.entries}
    if node.kind == "array":
        return [plain(item) for item in node.items]
    if type(node.value) is int and node.value not in _INT64:
        return float(node.value)
    return node.value
