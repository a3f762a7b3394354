"""Registries of protocols, filters and balancers by name."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps configured names to implementations. Owned by the code that creates it; never global."""

    def __init__(self, kind: str) -> None:
        """`kind`: what the names are, for messages: "protocol", "stream filter"."""
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> None:
        """Registers `entry`. Raises ValueError if the name is already registered."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry

    def get(self, name: str) -> T | None:
        """The entry of `name`, or None."""
        return self._entries.get(name)

    def names(self) -> list[str]:
        """All names, in order of registration."""
        return list(self._entries)
