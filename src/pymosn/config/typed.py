"""Converts raw (untyped) values of the configuration to schema blocks."""

from __future__ import annotations

from typing import Any, TypeVar

from pymosn.config.diagnostics import Diagnostics
from pymosn.config.nodes import Entry, Node, kind_of
from pymosn.config.read import Reader
from pymosn.filters.settings import Block

B = TypeVar("B", bound=Block)


def typed(value: object, cls: type[B], faults: Diagnostics | None = None) -> B:
    """A JSON value as a block: keys match in any case, durations become seconds, missing keys get their defaults.

    Errors are added to `faults`, by their path within `value`; loading has reported them in most cases.
    """
    return Reader("", faults or Diagnostics()).block(_node(value), cls, "")


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node("object", 0, 0, entries=[Entry(str(key), 0, 0, _node(inner)) for key, inner in value.items()])
    if isinstance(value, list):
        return Node("array", 0, 0, items=[_node(item) for item in value])
    return Node(kind_of(value), 0, 0, value)
