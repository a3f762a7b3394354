"""Values with their locations: the result of the JSON and YAML parsers, from which the schema is read."""

from typing import Any, Final, NamedTuple

import msgspec

Scalar = str | int | float | bool | None

# More than any configuration needs, and below the interpreter's recursion limit.
DEEPEST: Final = 100
_INT64: Final = range(-(2**63), 2**64)


class Node(msgspec.Struct):
    """A value with its location: a scalar `value`, the `items` of an array, or the `entries` of an object."""

    kind: str
    line: int
    column: int
    value: Scalar = None
    items: "list[Node]" = []
    entries: "list[Entry]" = []

    def entry(self, key: str) -> "Entry | None":
        """The last entry with this key in any case; an exact match takes precedence."""
        found = None
        for entry in self.entries:
            if entry.key == key or (entry.key.lower() == key.lower() and (found is None or found.key != key)):
                found = entry
        return found


class Entry(msgspec.Struct):
    """A key of an object with its location, and its value."""

    key: str
    line: int
    column: int
    node: Node


class ParseError(Exception):
    """The text is not valid JSON or YAML. Line and column start at 1; line 0 means the whole text."""

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Repeated(NamedTuple):
    """A duplicate key of an object."""

    key: str
    line: int
    column: int
    first_line: int


def kind_of(value: Scalar) -> str:
    """JSON's name of a scalar's type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string"


def plain(node: Node) -> Any:
    """The value without locations, as from `json.loads`. Integers beyond 64 bits become floats, as in Go."""
    if node.kind == "object":
        return {entry.key: plain(entry.node) for entry in node.entries}
    if node.kind == "array":
        return [plain(item) for item in node.items]
    if type(node.value) is int and node.value not in _INT64:
        return float(node.value)
    return node.value
