"""Names and what they stand for: protocols, filters, balancers."""

from __future__ import annotations

import difflib
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from a name in the configuration to what implements it. It belongs to whoever builds, never to a module."""

    def __init__(self, kind: str) -> None:
        """`kind`: what the names name, for messages: "protocol", "stream filter"."""
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Registers `entry`. Raises ValueError when the name is taken."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._entries[name] = entry

    def get(self, name: str) -> T | None:
        """What `name` stands for, or None."""
        return self._entries.get(name)

    def names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._entries)

    def explain_unknown(self, name: str) -> str:
        """A message for a name that is not here, with the nearest one that is."""
        near = difflib.get_close_matches(name, self._entries, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (known: {', '.join(self._entries) or 'none'})"
        return f"unknown {self.kind} {name!r}{hint}"
