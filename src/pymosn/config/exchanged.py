"""Which blocks of a configuration are other objects than in the one before.

Blocks are replaced and never changed, so they are compared by identity, without bytecode for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from operator import is_, is_not
from typing import Generic, TypeVar

T = TypeVar("T")


def exchanged(before: Sequence[T], after: Sequence[T]) -> list[tuple[T, T]] | None:
    """The items that are other objects, before and after; None if there are more or less items."""
    if before is after:
        return []
    if len(before) != len(after):
        return None
    return list(compress(zip(before, after, strict=True), map(is_not, before, after)))


def exchanged_in(before: Mapping[str, T], after: Mapping[str, T]) -> list[tuple[str, T, T]] | None:
    """The items that are other objects, with their keys; None if there are others by key, or in another order."""
    if before is after:
        return []
    if len(before) != len(after) or not (all(map(is_, before, after)) or list(before) == list(after)):
        return None
    items = zip(before, before.values(), after.values(), strict=True)
    return list(compress(items, map(is_not, before.values(), after.values())))


class Watched(Generic[T]):
    """Finds whether a list has changed in items that matter, at the cost of those that were exchanged."""

    def __init__(self, matters: Callable[[T], bool]) -> None:
        self._matters = matters
        self._last: Sequence[T] | None = None

    def has_changed(self, items: Sequence[T]) -> bool:
        """Whether one of them, or of those that it had before, may be another object since the last call."""
        before, self._last = self._last, items
        pairs = None if before is None else exchanged(before, items)
        return pairs is None or any(self._matters(item) for pair in pairs for item in pair)
